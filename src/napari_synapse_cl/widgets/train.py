"""The dock widget "Train contrastive"."""

import time
from functools import partial
from typing import Any

from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QGridLayout, QPushButton

from napari_synapse_cl.config import AugmentationConfig, Config, ModelConfig
from napari_synapse_cl.context import context_shape
from napari_synapse_cl.events import (
    CheckpointSaved,
    Discarded,
    EpochDone,
    Finished,
    Paused,
    Progress,
    Resumed,
    Started,
    StepDone,
)
from napari_synapse_cl.widgets.base import JobWidget, run_folder, scrolling
from napari_synapse_cl.widgets.form import SHARED, Form
from napari_synapse_cl.widgets.inputs import RunInputs
from napari_synapse_cl.widgets.job import Job
from napari_synapse_cl.widgets.layers import LayerData
from napari_synapse_cl.widgets.plot import LossPlot

ESSENTIAL = (
    "crop_size",
    "batch_size",
    "num_epochs",
    "learning_rate",
    "temperature",
    "pretrained",
    "output",
)
GROUPS = {
    "Augmentation": tuple(AugmentationConfig.model_fields),
    "Network": tuple(name for name in ModelConfig.model_fields if name != "pretrained"),
    "Optimisation": ("weight_decay", "warmup_fraction", "validation_fraction", "seed"),
    "Device and disk": ("device", "precision", "cache_limit", "cache_dir"),
}
PLACEHOLDERS = {
    "output": "a new folder in ~/synapse_cl_runs",
    "pretrained": "none: random weights",
    "cache_dir": "the run folder",
}


class TrainWidget(JobWidget):
    """Fine-tune a network on the synapses of a points layer and watch it learn.

    Parameters
    ----------
    viewer
        The viewer it is docked in.
    """

    kind = "training"
    ended_early = "Ended before the first step; there is no network."

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.form = Form(ESSENTIAL, GROUPS, PLACEHOLDERS)
        self.form.share(SHARED, self.session)
        self.pause_button = QPushButton("Pause")
        self.stop_button = QPushButton("Stop and keep")
        self.discard_button = QPushButton("Discard")
        self.plot = LossPlot(viewer)
        self._paused = False
        self._ending = False
        self._discarding = False
        self._pace = Pace()
        self._started: Started | None = None
        self._set_tooltips()
        self.pause_button.clicked.connect(self._pause_or_resume)
        self.stop_button.clicked.connect(partial(self._end, "stop"))
        self.discard_button.clicked.connect(partial(self._end, "discard"))
        buttons = QGridLayout()
        for i, button in enumerate(
            (self.start_button, self.pause_button, self.stop_button, self.discard_button)
        ):
            buttons.addWidget(button, i // 2, i % 2)
        self.body.addWidget(scrolling(self.form), stretch=1)
        self.body.addLayout(buttons)
        self.body.addWidget(self.status)
        self.body.addWidget(self.plot, stretch=1)
        self.status.setText("Ready. The sample under File ▸ Open Sample is a place to begin.")
        self.update_buttons()

    def make_job(self) -> Job:
        """Return the training that the form describes."""
        data = self.take_layers()
        config = self.form.config(train_only=True)
        self.plot.clear_losses()
        self._paused = self._ending = self._discarding = False
        self._started = None
        folder = run_folder(config.output)
        return Job(RunInputs(data, config, folder, partial(_crop_shape, data, config)))

    def on_event(self, event: Any) -> None:
        """Plot losses and say how far the training is."""
        match event:
            case Progress(task, done, total):
                self.status.setText(f"{task.capitalize()}: {done} of {total}")
                self.show_progress(done, total, task.capitalize())
            case Started():
                self._started = event
                self._pace.begin(event.step)
                self.status.setText(f"Training on {event.device} in {event.precision}.")
                self.show_progress(event.step, event.total_steps, "Training")
            case StepDone():
                self._on_step(event)
            case EpochDone():
                self.plot.add_epoch(event)
            case CheckpointSaved(path) if not self._discarding:
                self.session.keep_checkpoint(path)
            case Paused() | Resumed():
                self._paused = isinstance(event, Paused)
                self._pace.interrupt()
                self.status.setText("Paused." if self._paused else "Training goes on.")
                self.update_buttons()
            case Finished() if not self._discarding:
                self._on_training_end(event)
            case Discarded(run):
                self.session.forget_checkpoint(run)
                self.tell_end("Discarded: nothing of this training was kept.")

    def on_end(self) -> None:
        """Be ready for the next training."""
        self._paused = self._ending = self._discarding = False

    def update_buttons(self) -> None:
        """Enable the buttons that do something now."""
        super().update_buttons()
        running = self.job is not None and not self._ending
        self.pause_button.setText("Resume" if self._paused else "Pause")
        for button in (self.pause_button, self.stop_button, self.discard_button):
            button.setEnabled(running)

    def follow_theme(self) -> None:
        """Plot in the colours of the viewer's theme."""
        self.plot.follow_theme()

    def _set_tooltips(self) -> None:
        self.start_button.setToolTip("Train on the chosen layers with the settings above")
        self.pause_button.setToolTip("Wait after the present step, or go on")
        self.stop_button.setToolTip("End after the present step and keep the network as it is then")
        self.discard_button.setToolTip("End and remove everything this training has written")

    def _pause_or_resume(self) -> None:
        self.request("resume" if self._paused else "pause")

    def _end(self, command: str) -> None:
        self._ending = True
        self._discarding = command == "discard"
        self.request(command)
        self.status.setText("Ending after the present step …")
        self.update_buttons()

    def _on_step(self, event: StepDone) -> None:
        self.plot.add_step(event)
        if self._started is None:
            return
        total = self._started.total_steps
        self._pace.take(event.step)
        epochs = -(-total // self._started.steps_per_epoch)
        left = self._pace.seconds_for(total - event.step)
        if not self._ending:
            self.status.setText(
                f"Epoch {event.epoch} of {epochs} · step {event.step} of {total} · "
                f"loss {event.loss:.3f}\n"
                f"{event.crops_per_second:.1f} crops/s · {duration(left)} left"
            )
        self.show_progress(event.step, total)

    def _on_training_end(self, event: Finished) -> None:
        self.session.keep_checkpoint(event.checkpoint)
        how = "is complete" if event.outcome == "completed" else f"stopped at step {event.step}"
        text = f"Training {how}. The network is in {event.checkpoint}"
        self.tell_end(text)
        show_info(text)


class Pace:
    """How long a step takes: a mean that forgets slowly."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, step: int) -> None:
        """Start to measure at a step."""
        self._step = step
        self._seconds: float | None = None
        self._last: float | None = time.monotonic()

    def interrupt(self) -> None:
        """Leave out the time until the next step."""
        self._last = None

    def take(self, step: int) -> None:
        """Note that a step is done now."""
        now = time.monotonic()
        if self._last is not None and step > self._step:
            seconds = (now - self._last) / (step - self._step)
            before = seconds if self._seconds is None else self._seconds
            self._seconds = 0.9 * before + 0.1 * seconds
        self._step, self._last = step, now

    def seconds_for(self, steps: int) -> float:
        """Return how long further steps will take."""
        return steps * (self._seconds or 0.0)


def duration(seconds: float) -> str:
    """Return a length of time in words: "45 s", "12 min", "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _crop_shape(data: LayerData, config: Config) -> tuple[int, int, int]:
    return context_shape(config.crop_size, config, data.voxel_size or (1.0, 1.0, 1.0))
