"""A training as it is shown: plots, a progress bar, and a line that says how far it is."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_synapse_cl.runs.events import (
    EpochDone,
    Message,
    Paused,
    Progress,
    Resumed,
    Started,
    StepDone,
)
from napari_synapse_cl.runs.following import MetricsRead
from napari_synapse_cl.runs.metrics import step_events
from napari_synapse_cl.training.estimates import forecast
from napari_synapse_cl.widgets.look import MARK, MARK_COLOR, bare, paragraph, sentence

TELL_SECONDS = 1.0
"""Least time between two changes of bar and text: each has the whole window composed anew."""
PACE_SECONDS = 300.0
"""How far back the pace is looked at, at least."""
LEAST_STEPS = 3
"""Steps that are timed before anything is said of the time that is left."""


class Pace:
    """How long steps take, with what happens between them; the first is not like the others."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start to measure, with the next step."""
        self._done, self._spent = 0, 0.0
        self._marks = [(self._done, self._spent)]
        self._last: tuple[int, float] | None = None

    def interrupt(self) -> None:
        """Leave out the time until the next step, and that step."""
        self._last = None

    def take(self, step: int) -> None:
        """Note that a step is done now."""
        now = time.monotonic()
        if self._last is not None:
            self._done += step - self._last[0]
            self._spent += now - self._last[1]
        self._last = step, now
        self._marks.append((self._done, self._spent))
        if self._spent - self._marks[0][1] > 2 * PACE_SECONDS:
            # Many at once: it would take long to look for old ones in each step.
            self._marks = self._marks[len(self._marks) // 2 :]

    def left(self, steps: int) -> str:
        """Say how long further steps will take: a range while few were timed."""
        first, start = self._marks[0]
        n, seconds = self._done - first, self._spent - start
        if n < LEAST_STEPS:
            return "measuring how long it takes"
        return f"{forecast(steps * seconds / n, 1 + 2 / n)} left"


if TYPE_CHECKING:
    from napari_synapse_cl.widgets.train.monitor import Monitor


class RunView(QWidget):
    """Shows what a training tells.

    Parameters
    ----------
    viewer
        Its theme gives the colours.

    Attributes
    ----------
    started
        What the training told at its start, None before.
    step
        The last step that is done.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.bar = QProgressBar()
        self.bar.setFormat("%v of %m")
        self.bar.setToolTip("Steps that are done")
        self.warning = paragraph()
        self.warning.setStyleSheet(f"color: {MARK_COLOR}")
        self.warning.hide()
        self.started: Started | None = None
        self.step = 0
        self._pace = Pace()
        self._attached = False
        self._told = -TELL_SECONDS
        layout = bare(QVBoxLayout(self))
        layout.addWidget(self.bar)
        layout.addWidget(self.warning)

    @cached_property
    def monitor(self) -> Monitor:
        """The plots: made when they are first shown, or told something."""
        # pyqtgraph and the plots take a good part of the time in which the dock should open.
        from napari_synapse_cl.widgets.train.monitor import Monitor

        monitor = Monitor(self._viewer)
        layout = self.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.addWidget(monitor, stretch=1)
        return monitor

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Have plots to show."""
        _ = self.monitor
        super().showEvent(event)

    def begin(self, *, attached: bool = False) -> None:
        """Wait for another training.

        Parameters
        ----------
        attached
            Whether it will tell its steps from the first on, also those that are done already.
        """
        self._attached = attached
        self.started = None
        self.step = 0
        self.bar.reset()
        self.warning.hide()

    def take(self, event: Any) -> str | None:
        """Show an event, and return what it means in words, if anything."""
        match event:
            case Message(text, "warning"):
                # A notification is gone after a while.
                self.warning.setText(MARK + sentence(text))
                self.warning.show()
            case Progress(task, done, total):
                self.bar.setMaximum(total)
                self.bar.setValue(done)
                return f"{task.capitalize()}: {done} of {total}"
            case Started():
                self._on_start(event)
                return f"Training on {event.device} in {event.precision}."
            case StepDone():
                self.monitor.add_step(event)
                return self._on_step(event)
            case EpochDone():
                self.monitor.add_epoch(event)
            case MetricsRead(steps):
                self.monitor.add_metrics(event)
                if steps and len(steps["step"]):
                    (last,) = step_events({name: rows[-1:] for name, rows in steps.items()})
                    return self._on_step(last)
            case Paused():
                self._pace.interrupt()
                return "Paused."
            case Resumed():
                self._pace.interrupt()
                return "Training goes on."
        return None

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        if "monitor" in vars(self):
            self.monitor.follow_theme()

    def _on_start(self, event: Started) -> None:
        self.started = event
        self.step = event.step
        self._pace.begin()
        self.monitor.begin(Path(event.run), 0 if self._attached else event.step)
        self.bar.setMaximum(event.total_steps)
        self.bar.setValue(event.step)

    def _on_step(self, event: StepDone) -> str | None:
        self.step = event.step
        if self.started is None:
            return None
        self._pace.take(event.step)
        total = self.started.total_steps
        now = time.monotonic()
        if now - self._told < TELL_SECONDS and event.step < total:
            return None
        self._told = now
        self.bar.setValue(event.step)
        epochs = -(-total // self.started.steps_per_epoch)
        pace = "" if event.step == total else f" · {self._pace.left(total - event.step)}"
        memory = "GPU memory" if self.started.device.startswith("cuda") else "memory"
        return (
            f"Epoch {event.epoch} of {epochs} · step {event.step} of {total} · "
            f"loss {event.loss:.3f}\n"
            f"{event.crops_per_second:.1f} crops/s{pace} · {event.memory_gib:.1f} GiB of {memory}"
        )
