"""A training that another process runs, watched from its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_synapse_cl.control import Command, Control
from napari_synapse_cl.errors import JobError, reason
from napari_synapse_cl.training.following import follow
from napari_synapse_cl.training.runs import RunFolder
from napari_synapse_cl.widgets.job import Job


class AttachedJob(Job):
    """Follows a run; its end in this window leaves the run as it is.

    Parameters
    ----------
    folder
        The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = RunFolder(folder)
        self._control = Control()

    def events(self) -> Iterator[Any]:
        """Yield what the run tells in its folder, from its first step on, until it ends."""
        try:
            yield from follow(self._folder, self._control)
        except (OSError, RuntimeError) as error:
            raise JobError(f"the run in {self._folder.path} cannot be followed: {error}") from error

    def request(self, command: Command) -> None:
        """Pause, resume, stop or discard the run, by way of its folder."""
        try:
            self._folder.send(command)
        except OSError as error:
            raise JobError(
                f"the run in {self._folder.path} cannot be told to {command}: {reason(error)}"
            ) from None

    def end_soon(self) -> None:
        """Look at the run no longer."""
        self._control.request("stop")

    def leave(self) -> None:
        """Look at the run no longer."""
        self.end_soon()
