"""Follow a training that another process runs, from its folder, and give it commands there.

A file works on every system and over a shared disk, so also for a job on a cluster.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np

from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.runs.events import (
    COMMANDS,
    Control,
    Event,
    Finished,
    Message,
    Paused,
    Resumed,
    Started,
)
from napari_synapse_cl.runs.folder import RunFolder, RunStatus
from napari_synapse_cl.runs.health import HealthCheck
from napari_synapse_cl.runs.metrics import (
    EPOCH_COLUMNS,
    STEP_COLUMNS,
    MetricsTail,
    epoch_events,
    step_events,
)
from napari_synapse_cl.system.folder_lock import remove_quietly
from napari_synapse_cl.system.words import counted

PATIENCE = 2.0
"""In seconds: how long a run that was just begun may take to say so."""

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class MetricsRead:
    """Rows of a run's metrics that were not read before; one float array a column."""

    steps: dict[str, np.ndarray]
    epochs: dict[str, np.ndarray]


def follow(
    folder: RunFolder, control: Control, interval: float = 0.5
) -> Iterator[Event | MetricsRead]:
    """Tell what a training does that another process runs, until it ends or `control` says stop.

    It begins with `Started` and all metrics there are, also if the training has ended, and begins
    anew when another process goes on with it.

    Parameters
    ----------
    control
        Ends the following; the training is not touched.
    interval
        Seconds between two looks.

    Yields
    ------
    Event or MetricsRead
        `Started`, `Paused`, `Resumed`, warnings of the health check, and at the end `Finished`.

    Raises
    ------
    InputError
        If the folder holds no training.
    JobError
        If the training failed, its process died, or the folder was removed.
    """
    status = _first_status(folder, control)
    reading: _Reading | None = None
    while status is not None:
        died = False
        if status.is_alive() is False and not status.has_ended:
            # It may have ended well between the two looks.
            before, status = status, folder.status() or status
            died = status == before
        if reading is None or reading.is_of_another_process(status):
            reading = _Reading(folder, status)
            yield reading.started()
        news = reading.news(status)
        if news is None:
            reading = None
            continue
        yield from news
        if status.has_ended or died:
            ended = reading.end(status)
            yield from reading.lost(ended)
            yield ended
            return
        if control.wait_for_stop(interval):
            return
        if not folder.holds_run:
            raise JobError(f"the run folder {folder.path} is no longer there: it was removed")
        # It cannot be read in the moment in which it is replaced on a shared disk.
        status = folder.status() or status


def _first_status(folder: RunFolder, control: Control) -> RunStatus | None:
    if not folder.holds_run:
        raise InputError(f"{folder.path} holds no run; name the folder that a training made")
    deadline = monotonic() + PATIENCE
    while (status := folder.status()) is None:
        if monotonic() > deadline:
            raise InputError(
                f"the run in {folder.path} says nothing of a training; it may have been ended "
                "before it began"
                + (", or its status.json is damaged" if folder.has_status else "")
                + ". Continue it in the table of runs, or start a new one"
            )
        if control.wait_for_stop(0.05):
            return None
    return status


class _Reading:
    """What was read of a training since one process began or went on with it."""

    def __init__(self, folder: RunFolder, status: RunStatus) -> None:
        self._folder = folder
        self._begun = status
        self._steps = MetricsTail(folder.steps_file, STEP_COLUMNS)
        self._epochs = MetricsTail(folder.epochs_file, EPOCH_COLUMNS)
        self._health = HealthCheck()
        self._paused = False
        self._n_damaged = 0
        self._last_step = status.step
        self._saved_step = status.step

    def is_of_another_process(self, status: RunStatus) -> bool:
        begun = self._begun
        return replace(status, state=begun.state, message=begun.message) != begun

    def started(self) -> Started:
        event = self._begun.as_started(str(self._folder.path))
        self._health.take(event)
        return event

    def news(self, status: RunStatus) -> list[Event | MetricsRead] | None:
        """Return what is new, or None if the metrics have been written anew."""
        steps, epochs = self._steps.read(), self._epochs.read()
        if steps is None or epochs is None:
            return None
        news: list[Event | MetricsRead] = []
        n_damaged = self._steps.n_damaged + self._epochs.n_damaged
        if n_damaged > self._n_damaged:
            self._n_damaged = n_damaged
            what = counted(n_damaged, "row")
            news.append(
                Message(f"{what} of this run's metrics are damaged, and not shown", "warning")
            )
        if len(steps["step"]) or len(epochs["step"]):
            news.append(MetricsRead(steps, epochs))
            self._last_step = max(self._last_step, _last(steps))
            # A checkpoint is written after each epoch.
            self._saved_step = max(self._saved_step, _last(epochs))
            news += self._health.catch_up(step_events(steps), epoch_events(epochs))
        if (status.state == "paused") != self._paused:
            self._paused = not self._paused
            news.append(Paused() if self._paused else Resumed())
        return news

    def lost(self, ended: Finished) -> Iterator[Message]:
        """Yield a warning of each file that lacks the last rows of a completed training."""
        last = max(self._last_step, self._saved_step)
        told = {
            self._folder.steps_file: self._last_step,
            self._folder.epochs_file: self._saved_step,
        }
        # The last step ends an epoch.
        if ended.outcome == "completed":
            for file, step in told.items():
                if step < last or not step:
                    yield Message(
                        f"{file} does not tell of the end of the training: it is gone, or was cut",
                        "warning",
                    )

    def end(self, status: RunStatus) -> Finished:
        """Return how the training ended.

        Raises
        ------
        JobError
            If it did not end well.
        """
        if status.state == "completed" or status.state == "stopped":
            return Finished(status.state, self._last_step, str(self._folder.last_checkpoint))
        if status.state == "failed":
            raise JobError(status.message)
        kept = (
            f"Its last checkpoint may be that of step {self._saved_step}; go on from there"
            if self._folder.last_checkpoint.exists()
            else "It had no checkpoint yet; begin again"
        )
        raise JobError(
            f"the process {status.pid} that trained in {self._folder.path} ended without a word "
            f"after step {self._last_step}: it was killed, or memory had run out. {kept} "
            "in the table of runs"
        )


def _last(rows: dict[str, np.ndarray]) -> int:
    return int(rows["step"][-1]) if len(rows["step"]) else 0


@contextmanager
def following_commands(folder: RunFolder, control: Control) -> Iterator[None]:
    """Pass on the commands that are sent to a run, as long as the block runs.

    Commands that were sent before are forgotten.

    Parameters
    ----------
    folder
        The run's; see :meth:`~napari_synapse_cl.runs.folder.RunFolder.send`.
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
        # Windows removes none that somebody writes to; the next beginning forgets what it says.
        remove_quietly(file)


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
