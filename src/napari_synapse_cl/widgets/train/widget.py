"""The dock widget "Train contrastive"."""

from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDialog, QTabWidget

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.events import (
    CheckpointSaved,
    Discarded,
    Finished,
    Paused,
    Progress,
    Resumed,
    Started,
)
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.listing import KEPT_DAYS, BinnedRun
from napari_synapse_cl.widgets import look
from napari_synapse_cl.widgets.base import JobWidget, run_folder, runs_folder
from napari_synapse_cl.widgets.forms.crop_settings import label_layers_of
from napari_synapse_cl.widgets.jobs.child import how_to_cut
from napari_synapse_cl.widgets.jobs.inputs import ContinuedRun, RunInputs
from napari_synapse_cl.widgets.jobs.job import AttachedJob, ChildJob, Job
from napari_synapse_cl.widgets.layers.boxes import LabelBoxes, VolumePair
from napari_synapse_cl.widgets.layers.taking import LayerData, take
from napari_synapse_cl.widgets.layouts import SteadyText
from napari_synapse_cl.widgets.look import open_dock, tell, telling
from napari_synapse_cl.widgets.train.controls import (
    ClosingGuard,
    ContinueDialog,
    TrainButtons,
    Undo,
    confirm_discard,
    open_run,
)
from napari_synapse_cl.widgets.train.progress import RunView
from napari_synapse_cl.widgets.train.setup import SettingsPage, VolumeList

PLAN_MS = 150
"""How long the settings must rest before the plan is made anew."""
STATUS_LINES = 3
READY = "Ready. The sample under File ▸ Open Sample is a place to begin."
NOW_READY = "Ready."


class TrainWidget(JobWidget):
    """Fine-tune a network on the synapses of a points layer and watch it learn."""

    menu_name = look.TRAIN
    kind = "training"
    ended_early = "Ended before the first step; there is no network."

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.page = SettingsPage(self.session)
        self.form, self.summary = self.page.form, self.page.summary
        self.presets, self.settings_menu = self.page.presets, self.page.menu
        self.label_boxes = LabelBoxes(self, partial(label_layers_of, self.form), self.form.changed)
        self.volume_list = VolumeList(self.session.volumes, self._chosen_pair)
        self.add_row("", self.volume_list)
        self.rows.addRow(self.presets)
        self.view = RunView(viewer)
        self.buttons = buttons = TrainButtons(self.start_button)
        self.pause_button, self.stop_button = buttons.pause, buttons.stop
        self.discard_button, self.extract_button = buttons.discard, buttons.extract
        self.runs_button, self.detach_button = buttons.runs, buttons.detach
        self.tabs = QTabWidget()
        self._paused = self._ending = self._discarding = False
        self._past: Path | None = None
        self._undo = Undo()
        self._refused = False
        self._config: Config | None = None
        self._taken: list[LayerData] | None = None
        self._guard = ClosingGuard(self, self._is_own, self._leave)
        self._plan_timer = QTimer(self, singleShot=True, interval=PLAN_MS, timeout=self._show_plan)
        self._lay_out()
        self._connect()
        self.status.setText(READY)
        self.update_buttons()
        self._take_preset()
        self._plan_timer.start()

    def make_job(self) -> Job:
        """Return the training that the form describes."""
        several = self.take_several()
        self._config = config = self.page.config()
        folder = run_folder(config.output)
        return ChildJob(RunInputs(several, config, folder, partial(how_to_cut, config)))

    def take_several(self) -> list[LayerData]:
        """Return what a training needs of the volumes that are listed and the chosen one.

        Raises
        ------
        InputError
            If they cannot be used.
        """
        if self._chosen_pair() is None:
            # This says which layer is missing.
            self.take_layers()
        pairs = self.volume_list.pairs()
        return [take(*pair, **self.label_boxes.of(pair.image)) for pair in pairs]

    def run(self, make_job: Any, past: Path | None = None) -> None:
        """Run a training and show it, or say why that cannot be.

        Parameters
        ----------
        past
            The folder of a run that was begun before, None for a new one.
        """
        before = self.job
        super().run(make_job)
        self._refused = self.job is None
        if self.job is not None and self.job is not before:
            self._paused = self._ending = self._discarding = False
            self._past, self._undo.binned = past, None
            self.view.begin(attached=isinstance(self.job, AttachedJob))
            self.tabs.setCurrentWidget(self.view)
            self._guard.watch()
            self.update_buttons()

    def continue_run(self, folder: Path) -> None:
        """Ask how far a run is to go on, and let it."""
        try:
            run = open_run(folder)
        except InputError as error:
            tell(error)
            return
        dialog = ContinueDialog(run, self)
        if dialog.exec() == QDialog.DialogCode.Accepted:
            self.run(lambda: ChildJob(ContinuedRun(folder, dialog.config())), past=folder)
        dialog.deleteLater()

    def attach(self, folder: Path) -> None:
        """Show a training that another process runs, or has run."""
        self.run(lambda: AttachedJob(folder), past=folder)

    def on_event(self, event: Any) -> None:
        """Plot losses and say how far the training is."""
        text = self.view.take(event)
        match event:
            case Started(run=run) if Path(run).parent != runs_folder():
                self.session.add_run_place(Path(run))
            case CheckpointSaved(path) if not self._discarding:
                self.session.keep_checkpoint(path)
            case Paused() | Resumed():
                self._paused = isinstance(event, Paused)
                self.update_buttons()
            case Finished() if self._discarding:
                return
            case Finished():
                self._on_training_end(event)
                return
            case BinnedRun():
                self._undo.binned = event
                self.view.begin()
                self.session.forget_checkpoint(str(event.origin))
                self.tell_end(
                    f"Discarded: the run is in the bin, {event.path}, for {KEPT_DAYS} days."
                )
                return
            case Discarded(run):
                self.view.begin()
                self.session.forget_checkpoint(run)
                self.tell_end("Discarded: nothing of this training was kept.")
                return
        if text is None:
            return
        if not self._ending:
            self.status.setText(text)
        task = event.task.capitalize() if isinstance(event, Progress) else "Training"
        self.show_progress(self.view.bar.value(), self.view.bar.maximum(), task)

    def on_end(self) -> None:
        """Be ready for the next training."""
        self._paused = self._ending = self._discarding = False
        self._plan_timer.start()

    def update_buttons(self) -> None:
        """Enable the buttons that do something now."""
        super().update_buttons()
        idle = self.job is None
        attached = isinstance(self.job, AttachedJob)
        self.pause_button.setText("Resume" if self._paused else "Pause")
        for button in (self.pause_button, self.stop_button):
            button.setEnabled(not idle and not self._ending)
        self.detach_button.setEnabled(attached)
        can_undo = idle and self._undo.is_possible
        self.buttons.offer_undo(can_undo)
        self.discard_button.setEnabled(can_undo or (not idle and not self._ending))
        self.extract_button.setEnabled(idle and self.session.last_checkpoint is not None)

    def follow_theme(self) -> None:
        """Plot in the colours of the viewer's theme."""
        self.view.follow_theme()

    def release(self) -> None:
        """End the job and measurements cleanly, when the dock is closed."""
        super().release()
        self._plan_timer.stop()
        self._taken = None
        self.summary.release()
        self._guard.release()

    def hold(self) -> None:
        """Plan anew, when the widget is docked once more."""
        self._plan_timer.start()

    def _lay_out(self) -> None:
        # First, so that the tab key comes to it before what is below.
        self.tabs.setCornerWidget(self.settings_menu)
        self.tabs.addTab(self.page, "Settings")
        self.tabs.addTab(self.view, "Progress")
        self.body.addWidget(self.tabs, stretch=1)
        self.body.addWidget(self.buttons)
        self.body.addWidget(SteadyText(self.status, STATUS_LINES))

    def _connect(self) -> None:
        self.pause_button.clicked.connect(self._pause_or_resume)
        self.stop_button.clicked.connect(self._stop)
        self.detach_button.clicked.connect(self._detach)
        self.discard_button.clicked.connect(self._discard_or_undo)
        self.runs_button.clicked.connect(partial(open_dock, self.viewer, look.RUNS))
        self._undo.ended.connect(self._on_undone)
        self.summary.usable.connect(self._on_usable)
        self.extract_button.clicked.connect(self._open_extraction)
        self.form.changed.connect(self._plan_timer.start)
        self.page.asked_for.connect(partial(self.tabs.setCurrentWidget, self.page))
        self.image_box.layer_changed.connect(self._take_preset)
        for box in (self.image_box, self.points_box):
            box.layer_changed.connect(self.volume_list.refresh)
            box.layer_changed.connect(self._take_anew)
            box.content_changed.connect(self._take_anew)
        self.label_boxes.changed.connect(self._take_anew)
        self.volume_list.changed.connect(self._take_anew)
        self.session.checkpoint_changed.connect(self.update_buttons)

    def _take_preset(self) -> None:
        self.presets.take_from(self.image_box.layer)

    def _chosen_pair(self) -> VolumePair | None:
        image, points = self.image_box.layer, self.points_box.layer
        return None if image is None or points is None else VolumePair(image, points)

    def _take_anew(self) -> None:
        self._taken = None
        self._plan_timer.start()

    def _show_plan(self) -> None:
        if self.is_released:
            return
        try:
            # It takes a while of many points, and is the same whatever the form says.
            if self._taken is None:
                self._taken = self.take_several()
            self.page.show_plan(self._taken, measure=self.job is None)
        except InputError as error:
            self.summary.show_problem(error)

    def _on_usable(self, usable: bool) -> None:
        if usable and (self._refused or self.status.text() == READY):
            # What was wrong, or missing, is so no longer.
            self._refused = False
            self.status.setText(NOW_READY)
        elif not usable and self.status.text() == NOW_READY:
            self._refused = True
            self.status.setText("")

    def _pause_or_resume(self) -> None:
        self.request("resume" if self._paused else "pause")

    def _stop(self) -> None:
        self._begin_to_end()
        self.request("stop")

    def _discard_or_undo(self) -> None:
        if self.job is None:
            self.discard_button.setEnabled(False)
            self._undo.begin()
            return
        view, job = self.view, self.job
        folder = Path(view.started.run) if view.started is not None else self._past
        if folder is None or (view.last is None and self._past is None):
            # Nothing to regret was made yet.
            self._begin_to_end(discarding=True)
            self.request("discard")
            return
        epochs = 0 if view.last is None else view.last.epoch
        if confirm_discard(self, view.seconds, epochs) and self.job is job:
            self._begin_to_end(discarding=True)
            with telling():
                job.discard_later(folder)

    def _begin_to_end(self, *, discarding: bool = False) -> None:
        self._ending, self._discarding = True, discarding
        self.status.setText("Ending after the present step …")
        self.update_buttons()

    def _on_undone(self, folder: Path | None) -> None:
        # Another training may have been started meanwhile.
        if folder is not None and self.job is None:
            self._offer(RunFolder(folder))
            self.status.setText(f"The run is back in {folder}.")
        self.update_buttons()

    def _offer(self, run: RunFolder) -> None:
        """Offer the network of a run's best epoch, or else of its last step."""
        best = run.best_checkpoint
        self.session.keep_checkpoint(str(best if best.exists() else run.last_checkpoint))

    def _on_training_end(self, event: Finished) -> None:
        run = RunFolder(Path(event.checkpoint).parents[1])
        self._offer(run)
        how = "is complete" if event.outcome == "completed" else f"stopped at step {event.step}"
        text = f"Training {how}. The network is in {self.session.last_checkpoint}"
        self.tell_end(text)
        show_info(text)
        started, view = self.view.started, self.view
        # The run's own settings name the files that were found, and not what was asked for.
        if self._is_own() and self._config and started is not None and started.step == 0:
            self.summary.learn_pace(self._config, started.batch_size, view.step, view.seconds)

    def _is_own(self) -> bool:
        return isinstance(self.job, ChildJob)

    def _leave(self) -> None:
        assert self.job is not None
        self.tell_end("The training goes on by itself; attach to it to see it.")
        self.job.leave()

    def _detach(self) -> None:
        assert self.job is not None
        self.tell_end("Detached; the training goes on without this window.")
        self.job.end_soon()

    def _open_extraction(self) -> None:
        widget = open_dock(self.viewer, look.EXTRACT)
        widget.extract_by(self.session.last_checkpoint, self.image_box.layer, self.points_box.layer)
