"""Write what a training tells into its run folder."""

from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.events import Discarded, Event, Finished, Paused, Resumed, Started
from napari_synapse_cl.training.runs import RunFolder
from napari_synapse_cl.training.status import RunStatus, State
from napari_synapse_cl.training.tensorboard import TensorBoardLog


class Recorder:
    """Keep metrics and status of a run up with its events.

    As a context manager it notes how the training ended, also if it did so with an error or because
    nobody asked for more events. In the latter case nothing stays of one without a checkpoint.

    Parameters
    ----------
    folder
        The run's.
    status
        What holds at the beginning.
    tensorboard
        Is told everything too.
    """

    def __init__(
        self, folder: RunFolder, status: RunStatus, tensorboard: TensorBoardLog | None = None
    ) -> None:
        self._folder = folder
        self._status = status
        self._tensorboard = tensorboard
        self._removed = False

    def __enter__(self) -> Self:
        self._folder.write_status(self._status)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What ended the training is to be told, not that its folder takes no status either.
        with suppress(JobError):
            if isinstance(error, GeneratorExit) and not self._folder.last_checkpoint.exists():
                self._folder.discard()
            elif error is None or isinstance(error, GeneratorExit):
                self._become("stopped")
            else:
                self._become("failed", _in_words(error))

    def record(self, event: Event) -> None:
        """Note an event.

        Raises
        ------
        JobError
            If it cannot be written.
        """
        match event:
            case Started():
                self._take(event)
                self._folder.record(event)
            case Paused():
                self._become("paused")
            case Resumed():
                self._become("running")
            case Finished(outcome):
                self._become(outcome)
            case Discarded():
                self._removed = True
            case _:
                self._folder.record(event)
        if self._tensorboard is not None:
            with self._folder.being_written():
                self._tensorboard.record(event)

    def _take(self, started: Started) -> None:
        """Note what the training came to be, once all crops were seen."""
        self._status = self._status.of_training(started)
        self._folder.write_status(self._status)

    def _become(self, state: State, message: str = "") -> None:
        """Change the status, unless the training has ended or was removed."""
        if not self._status.has_ended and not self._removed:
            self._status = replace(self._status, state=state, message=message)
            self._folder.write_status(self._status)


def _in_words(error: BaseException) -> str:
    if isinstance(error, InputError | JobError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted within a step; what came after the last checkpoint is lost"
    return f"it ended unexpectedly: {type(error).__name__}: {error}"
