"""Commands to a running training through a file in its folder.

A file works on every system and over a shared disk, so also for a job on a cluster.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_synapse_cl.control import COMMANDS, Control
from napari_synapse_cl.training.runs import RunFolder

POLL_SECONDS = 0.2


@contextmanager
def following_commands(folder: RunFolder, control: Control) -> Iterator[None]:
    """Pass on the commands that are sent to a run, as long as the block runs.

    Commands that were sent before are forgotten.

    Parameters
    ----------
    folder
        The run's; see :meth:`~napari_synapse_cl.training.runs.RunFolder.send`.
    control
        What they are passed to.
    """
    file = folder.commands_file
    file.unlink(missing_ok=True)
    done = threading.Event()
    thread = threading.Thread(target=_pass_on, args=(file, control, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        file.unlink(missing_ok=True)


def _pass_on(file: Path, control: Control, done: threading.Event) -> None:
    offset = 0
    while not done.wait(POLL_SECONDS):
        try:
            with file.open("rb") as source:
                source.seek(offset)
                new = source.read()
        # It is not there until something is sent.
        except OSError:
            continue
        lines = new[: new.rfind(b"\n") + 1]
        offset += len(lines)
        for line in lines.decode("utf-8", errors="replace").split():
            if line in COMMANDS:
                control.request(line)
