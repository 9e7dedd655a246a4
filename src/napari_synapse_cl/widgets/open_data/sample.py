"""File ▸ Open Sample: the synthetic EM volume and its synapses, drawn while the window lives on."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any

from napari import current_viewer
from napari.utils import progress
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QCoreApplication, QEventLoop

from napari_synapse_cl.data.sample.storage import sample_events
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.runs.events import Message, Progress, from_line
from napari_synapse_cl.widgets.jobs.child import PYTHON, WINDOWS_FLAGS, step_back
from napari_synapse_cl.widgets.jobs.job import Job, JobWorker
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, RECIPE
from napari_synapse_cl.widgets.look import CALM, NORMAL, sentence, set_spinner_speed
from napari_synapse_cl.widgets.open_data.layers import LayerTuple, sample_layers

PROGRAM = "napari_synapse_cl.data.sample.storage"
CLOSED = "the window was closed before the sample volume was drawn"

_awaited: list[Job] = []
"""The job that is waited for, if there is one."""


class SampleJob(Job):
    """Reads or draws the sample volume; tells how far that is, and at last the sample."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._is_wanted = True

    def events(self) -> Iterator[Any]:
        """Yield messages and progress, and then the sample.

        Raises
        ------
        JobError
            If it cannot be drawn.
        """
        try:
            for told in sample_events(self._draw):
                if not self._is_wanted:
                    return
                yield told
        except OSError as error:
            raise JobError(f"the sample volume cannot be drawn: {error}") from error

    def end_soon(self) -> None:
        """End the process that draws."""
        self._is_wanted = False
        if self._process is not None:
            self._process.kill()

    def _draw(self, file: Path, seed: int) -> Iterator[Progress]:
        command = [*PYTHON, "-m", PROGRAM, str(file), str(seed)]
        last = ""
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            creationflags=WINDOWS_FLAGS,
        ) as process:
            self._process = process
            step_back(process)
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    last = line.strip() or last
                    with suppress(ValueError):
                        event = from_line(line)
                        if isinstance(event, Progress):
                            yield event
            finally:
                # It is also left when nobody waits any more.
                if not self._is_wanted:
                    process.kill()
        if process.returncode:
            raise JobError(f"the sample volume cannot be drawn: {last}")


def open_sample() -> list[LayerTuple]:
    """Return the sample as an Image layer and a Points layer, both in nanometres.

    The image says that a quick look suits it. napari wants them at once, and drawing them takes
    long: until they are there, the window's events are handled in here.

    Raises
    ------
    InputError
        If it is being opened already.
    JobError
        If it cannot be drawn, or the window was closed meanwhile.
    """
    if _awaited:
        raise InputError("the sample volume is being opened already: it will be there soon")
    job = SampleJob()
    _awaited.append(job)
    try:
        sample = _wait_for(job)
    finally:
        _awaited.remove(job)
    image, points = sample_layers(sample.image, sample.synapses, sample.voxel_size)
    image[1]["metadata"] = {METADATA_KEY: {RECIPE: "quick"}}
    return [image, points]


def _wait_for(job: SampleJob) -> Any:
    """Return the last that a job tells, with its messages and progress shown."""
    told: list[Any] = []
    failed: list[Exception] = []
    bar = progress(total=0, desc="Opening the sample volume")

    def hear(event: Any) -> None:
        match event:
            case Message(text, level):
                (show_warning if level == "warning" else show_info)(sentence(text))
            case Progress(task, done, total):
                if bar.total != total:
                    bar.set_description(task.capitalize())
                    bar.total = total
                bar.update(done - bar.n)
            case _:
                told.append(event)

    try:
        if QCoreApplication.instance() is None:
            for event in job.events():
                hear(event)
        else:
            _run(job, hear, failed.append)
    finally:
        job.end_soon()
        bar.close()
    if failed:
        raise failed[0]
    if not told:
        raise JobError(CLOSED)
    return told[-1]


def _run(job: Job, hear: Any, fail: Any) -> None:
    """Run a job in a thread and handle events until it ends, or the window is closed."""
    loop = QEventLoop()
    worker = JobWorker(job)
    worker.yielded.connect(lambda event: hear(event))
    worker.errored.connect(lambda error: fail(error))
    worker.finished.connect(loop.quit)
    viewer = current_viewer()
    if viewer is not None:
        window = viewer.window._qt_window
        window.destroyed.connect(loop.quit)
        set_spinner_speed(window.centralWidget(), CALM)
    worker.start()
    # In a context of its own, or napari took whatever is opened meanwhile for the sample.
    Context().run(loop.exec)
    if viewer is not None:
        # The window may be gone.
        with suppress(RuntimeError):
            set_spinner_speed(window.centralWidget(), NORMAL)
