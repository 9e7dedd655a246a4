"""A training as it is shown: plots, a progress bar, and a line that says how far it is."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_synapse_cl.config import Config, read_settings
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.events import (
    EpochDone,
    Finished,
    Message,
    Paused,
    Progress,
    Resumed,
    Started,
    StepDone,
)
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.following import MetricsRead
from napari_synapse_cl.runs.health import HealthCheck, better, does_it_learn
from napari_synapse_cl.runs.metrics import epoch_events, read_metrics, step_events
from napari_synapse_cl.training.estimates import forecast
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layouts import SteadyText, bare, scrolling
from napari_synapse_cl.widgets.look import MARK, MARK_COLOR, paragraph, sentence

PLOT_LINES = 9
"""Height of a plot with its legend and axes, in lines of text."""
VERDICT_LINES = 4
UNKNOWN = "Does it learn? After the first epoch it says here what is found again."
LATEST_STEPS = 1000
"""So many of the past tell whether a warning still holds; the window would stand still for more."""
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
    seconds
        How long the steps took that are done, those of earlier sessions included.
    first, last, best
        What was measured after these epochs; None before the first has ended.
    verdict
        Says whether it learns.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.bar = QProgressBar()
        self.bar.setFormat("%v of %m")
        self.bar.setToolTip("Steps that are done")
        self.bar.setAccessibleName("Steps that are done")
        self.warning = paragraph()
        self.warning.setStyleSheet(f"color: {MARK_COLOR}")
        self.warning.hide()
        self.verdict = paragraph(selectable=True)
        self.verdict.setToolTip(
            "<qt>Whether views of held-out synapses are told apart from all others. By chance one "
            "is found.</qt>"
        )
        self._pace = Pace()
        self._told = -TELL_SECONDS
        self._imports = LatestOnly(import_module)
        self._imports.done.connect(self._show_plots)
        # Whoever makes the plots is told what is wrong.
        self._imports.failed.connect(self._show_plots)
        # What a plot needs at least may be more than there is room for.
        page = QWidget()
        self._plots = bare(QVBoxLayout(page), 2)
        self._plots.addWidget(self.warning)
        layout = bare(QVBoxLayout(self), 2)
        layout.addWidget(self.bar)
        layout.addWidget(SteadyText(self.verdict, VERDICT_LINES))
        self._area = scrolling(page)
        # Where all of it scrolls, one plot with its axes is still seen at once.
        self._area.setMinimumHeight(PLOT_LINES * self.fontMetrics().lineSpacing())
        layout.addWidget(self._area, stretch=1)
        self.begin()

    @cached_property
    def monitor(self) -> Monitor:
        """The plots: made when they are first shown, or told something."""
        # pyqtgraph and the plots take a good part of the time in which the dock should open.
        from napari_synapse_cl.widgets.train.monitor import Monitor

        monitor = Monitor(self._viewer)
        self._plots.addWidget(monitor, stretch=1)
        # What comes late would be reached last by Tab.
        order = [self._area, monitor.log_box, monitor.export_button, monitor.fold]
        for one, following in pairwise(order):
            self.setTabOrder(one, following)
        return monitor

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Have plots to show, once what draws them is imported without holding up the window."""
        super().showEvent(event)
        if "monitor" not in vars(self):
            self._imports.ask("napari_synapse_cl.widgets.train.monitor")

    def _show_plots(self, _: Any) -> None:
        if self.isVisible():
            _ = self.monitor

    def begin(self, *, attached: bool = False) -> None:
        """Wait for another training, and show nothing of the one before.

        Parameters
        ----------
        attached
            Whether it will tell its steps from the first on, also those that are done already.
        """
        self._attached = attached
        self._forget()
        self.bar.reset()
        self._warn("")
        if "monitor" in vars(self):
            self.monitor.clear()

    def take(self, event: Any) -> str | None:
        """Show an event, and return what it means in words, if anything."""
        match event:
            case Message(text, "warning"):
                # A notification is gone after a while.
                self._warn(text)
            case Progress(task, done, total):
                self.bar.setMaximum(total)
                self.bar.setValue(done)
                return f"{task.capitalize()}: {done} of {total}"
            case Started():
                self._on_start(event)
                self._mind_health(event)
                return f"Training on {event.device} in {event.precision}."
            case StepDone():
                self.monitor.add_step(event)
                self._spend(event.crops_per_second)
                self._mind_health(event)
                return self._on_step(event)
            case EpochDone():
                self.monitor.add_epoch(event)
                self._on_epoch(event, is_best=event.best)
                self._mind_health(event)
                self._judge()
            case MetricsRead(steps):
                self._take_metrics(event)
                if steps and len(steps["step"]):
                    (last,) = step_events({name: rows[-1:] for name, rows in steps.items()})
                    return self._on_step(last)
            case Finished():
                self._judge(at_the_end=True)
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

    def _forget(self) -> None:
        self.started: Started | None = None
        self.step = 0
        self.seconds = 0.0
        self.first: EpochDone | None = None
        self.last: EpochDone | None = None
        self.best: EpochDone | None = None
        self._metric = "validation_loss"
        self._health = HealthCheck()
        self._of_health: set[str] = set()
        self.verdict.setText(UNKNOWN)

    def _on_start(self, event: Started) -> None:
        self._forget()
        self.started = event
        self.step = event.step
        self._pace.begin()
        run = RunFolder(Path(event.run))
        # Whoever trains says what is wrong with them.
        with suppress(InputError):
            self._metric = Config.from_values(read_settings(run.config_file)).best_metric
        self.monitor.begin(run.path, event.n_validation)
        self.bar.setMaximum(event.total_steps)
        self.bar.setValue(event.step)
        if event.step and not self._attached:
            files = (run.steps_file, run.epochs_file)
            self._take_metrics(MetricsRead(*(_until(read_metrics(f), event.step) for f in files)))

    def _take_metrics(self, metrics: MetricsRead) -> None:
        self.monitor.add_metrics(metrics)
        self._spend(metrics.steps.get("crops_per_second", ()))
        epochs = list(epoch_events(metrics.epochs))
        for epoch in epochs:
            self._on_epoch(epoch, is_best=better(epoch, self.best, self._metric))
        latest = {name: rows[-LATEST_STEPS:] for name, rows in metrics.steps.items()}
        self._mind_health(*step_events(latest), *epochs)
        self._judge()

    def _spend(self, crops_per_second: ArrayLike) -> None:
        rates = np.asarray(crops_per_second, float)
        if self.started is not None:
            self.seconds += float((self.started.batch_size / rates[rates > 0]).sum())

    def _on_epoch(self, event: EpochDone, *, is_best: bool) -> None:
        self.first = self.first or event
        self.last = event
        if is_best:
            self.best = event

    def _judge(self, *, at_the_end: bool = False) -> None:
        """Say whether it learns; at the end also which epoch's network is offered."""
        if self.first is None or self.last is None or self.started is None:
            return
        text = does_it_learn(self.first, self.last, self.started.n_validation)
        if at_the_end and self.best is not None:
            value = getattr(self.best, self._metric)
            told = "" if value is None else f" ({self._metric.replace('_', ' ')} {value:.3g})"
            text += f" The best was epoch {self.best.epoch}{told}: its network is offered."
        self.verdict.setText(text)

    def _mind_health(self, *events: Any) -> None:
        """Take back a warning of the training's health that holds no longer."""
        self._health.catch_up(events)
        self._of_health |= self._health.holding
        shown = self.warning.text().removeprefix(MARK)
        gone = self._of_health - self._health.holding
        if any(shown == sentence(text) for text in gone):
            self._warn("")

    def _warn(self, text: str) -> None:
        self.warning.setText(MARK + sentence(text) if text else "")
        self.warning.setVisible(bool(text))

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
        # A bar paints itself at once otherwise, and has the window composed for that alone.
        self.bar.setUpdatesEnabled(False)
        self.bar.setValue(event.step)
        self.bar.setUpdatesEnabled(True)
        self.monitor.redraw_now()
        epochs = -(-total // self.started.steps_per_epoch)
        pace = "" if event.step == total else f" · {self._pace.left(total - event.step)}"
        memory = "GPU memory" if self.started.device.startswith("cuda") else "memory"
        return (
            f"Epoch {event.epoch} of {epochs} · step {event.step} of {total} · "
            f"loss {event.loss:.3f}\n"
            f"{event.crops_per_second:.1f} crops/s{pace} · {event.memory_gib:.1f} GiB of {memory}"
        )


def _until(rows: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
    """Return the rows of steps that count: those after it are taken again."""
    return {name: values[rows["step"] <= step] for name, values in rows.items()}
