"""What a training is steered by: its buttons, and questions before it goes on or is given up."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent, QObject, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QMainWindow,
    QMessageBox,
    QPushButton,
    QSpinBox,
    QWidget,
)

from napari_synapse_cl.config import Config, read_settings
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.listing import BIN, KEPT_DAYS, BinnedRun, put_back
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.system.words import counted, duration
from napari_synapse_cl.widgets.button_rows import Buttons
from napari_synapse_cl.widgets.forms.editors import LARGEST_INT
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.look import ask, button, expected, main_window_of, paragraph, tell

DISCARD, STOP, LEAVE = "Discard the run", "Stop", "Detach"
UNDO = "Undo discard"
QUESTION = "A training is running. What should become of it?"
DETAILS = (
    f"“{STOP}” ends it after the step that is under way and saves a checkpoint; it can be "
    f"continued later. “{LEAVE}” lets it run on; “Attach” in the table of runs shows it again."
)


@dataclass(frozen=True)
class EndedRun:
    """A run that can go on."""

    folder: Path
    """The run folder."""
    config: Config
    """Its settings."""
    step: int
    """Steps that it has done."""
    epochs: int
    """Whole epochs that it has done."""


def open_run(folder: Path) -> EndedRun:
    """Return the run in a folder.

    Raises
    ------
    InputError
        If there is none, or it is running.
    """
    run = RunFolder(folder)
    if not run.holds_run:
        raise InputError(
            f"{folder} holds no run; choose the folder of one, with run.json and config.json in it"
        )
    status = run.status()
    if status is not None and not status.has_ended and status.is_alive():
        raise InputError(f"the run in {folder} is running; attach to it to see it, or to stop it")
    config = Config.from_values(read_settings(run.config_file))
    try:
        steps, epochs = read_metrics(run.steps_file), read_metrics(run.epochs_file)
    except OSError as error:
        raise InputError(
            f"cannot read the metrics of the run in {folder}: {reason(error)}"
        ) from None
    return EndedRun(
        folder,
        config,
        step=int(steps["step"][-1]) if steps and len(steps["step"]) else 0,
        epochs=int(epochs["epoch"][-1]) if epochs and len(epochs["epoch"]) else 0,
    )


class ContinueDialog(QDialog):
    """Asks how far a run is to go on.

    Parameters
    ----------
    parent
        The widget it stands before.
    """

    def __init__(self, run: EndedRun, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Continue a run")
        self._run = run
        about = paragraph(
            f"The run in {run.folder}\nhas done {run.epochs} of {run.config.num_epochs} epochs "
            f"({run.step} steps). It goes on from its last checkpoint, with its own data and "
            "settings."
        )
        self.epochs_box = QSpinBox()
        self.epochs_box.setRange(run.epochs + 1, LARGEST_INT)
        self.epochs_box.setValue(run.config.num_epochs)
        self.epochs_box.setToolTip(
            "<qt>Epochs in all, those that are done included. More than were planned make the "
            "learning rate fall later.</qt>"
        )
        self.batch_box = QSpinBox()
        self.batch_box.setRange(2, run.config.batch_size)
        self.batch_box.setValue(run.config.batch_size)
        self.batch_box.setToolTip(
            "<qt>It can be lowered, where memory ran out; the epoch that was under way then begins "
            "anew.</qt>"
        )
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.continue_button = self.buttons.addButton(
            "Continue", QDialogButtonBox.ButtonRole.AcceptRole
        )
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        layout = QFormLayout(self)
        layout.addRow(about)
        layout.addRow("Train until epoch", self.epochs_box)
        layout.addRow("Batch size", self.batch_box)
        layout.addRow(self.buttons)

    def config(self) -> Config:
        """Return the settings with which the run is to go on."""
        changed = {
            "num_epochs": self.epochs_box.value(),
            "batch_size": self.batch_box.value(),
            "output": self._run.folder,
            "resume": True,
        }
        return Config.from_values({**self._run.config.as_json(), **changed})


def confirm_discard(parent: QWidget, seconds: float, epochs: int) -> bool:
    """Ask whether a training is to be discarded.

    Parameters
    ----------
    seconds, epochs
        How much would go; no epochs where that is not known yet.
    """
    question = (
        f"{duration(seconds)} of training would go, {counted(epochs, 'epoch')}."
        if epochs
        else "The whole run would go, with everything it had done before."
    )
    details = (
        f"The run moves to the bin, the folder {BIN} beside its own, and stays there for "
        f"{KEPT_DAYS} days. Until then it can be put back: by “{UNDO}”, or in the table of runs."
    )
    answers = {DISCARD: QMessageBox.ButtonRole.DestructiveRole}
    return ask(parent, "Discard a run", question, details, answers) == DISCARD


class Undo(QObject):
    """Takes the run that was discarded last out of the bin again.

    Attributes
    ----------
    binned
        That run, None if there is none to put back.
    """

    ended = Signal(object)
    """Emitted with the folder that the run is back in, None if it could not be put back."""

    def __init__(self) -> None:
        super().__init__()
        self.binned: BinnedRun | None = None
        self._moves = LatestOnly(put_back)
        self._moves.done.connect(self._on_moved)
        self._moves.failed.connect(self._on_failed)

    @property
    def is_possible(self) -> bool:
        """Whether there is a run to put back."""
        return self.binned is not None

    def begin(self) -> None:
        """Put it back."""
        self._moves.ask(self.binned)

    def _on_moved(self, folder: Path) -> None:
        show_info(f"The run is back in {folder}.")
        if self.binned is not None and self.binned.origin == folder:
            self.binned = None
        self.ended.emit(folder)

    def _on_failed(self, error: Exception) -> None:
        tell(expected(error))
        self.ended.emit(None)


class ClosingGuard(QObject):
    """Asks, once napari's window is about to close, unless nothing runs or nobody sees the window.

    Parameters
    ----------
    widget
        A widget docked in the window.
    is_running
        Returns whether there is something to ask about.
    leave
        Lets it run on.
    """

    def __init__(
        self, widget: QWidget, is_running: Callable[[], bool], leave: Callable[[], None]
    ) -> None:
        super().__init__(widget)
        # Its window is not kept: that would stay in memory with the widget.
        self._widget = widget
        self._is_running = is_running
        self._leave = leave

    def watch(self) -> None:
        """Watch the window that the widget is docked in now."""
        if (window := main_window_of(self._widget)) is not None:
            window.installEventFilter(self)

    def release(self) -> None:
        """Watch no window."""
        if (window := main_window_of(self._widget)) is not None:
            window.removeEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Ask before the window is closed; hold the event back if it should stay open."""
        if (
            event.type() == QEvent.Type.Close
            and isinstance(watched, QMainWindow)
            and _is_closed_by_a_person(watched)
            and self._is_running()
        ):
            roles = QMessageBox.ButtonRole
            answers = {STOP: roles.AcceptRole, LEAVE: roles.AcceptRole}
            answer = ask(watched, "Close napari", QUESTION, DETAILS, answers, STOP)
            if answer is None:
                event.ignore()
                return True
            if answer == LEAVE:
                self._leave()
        return False


def _is_closed_by_a_person(window: QMainWindow) -> bool:
    """Whether someone sees what is closed; a program closes the canvas before the window."""
    return window.isVisible() and getattr(window, "_qt_viewer", window).isVisible()


START_KEYS, STOP_KEYS = "Ctrl+Return", "Ctrl+."
OFFER_DISCARD = "Discard …"


class TrainButtons(Buttons):
    """Two rows of buttons; what ends a training for good lies apart from what keeps it.

    Parameters
    ----------
    start
        The button that starts a training.

    Attributes
    ----------
    pause, stop, detach, discard
        For a training that runs.
    runs, extract
        For what comes before and after.
    """

    def __init__(self, start: QPushButton) -> None:
        start.setToolTip(f"Train on the chosen layers with these settings ({START_KEYS})")
        self.pause = button("Pause", "Wait after the present step, or go on")
        self.stop = button(
            "Stop",
            "<qt>End after the present step and keep the network as it is then; the run can be "
            f"continued later ({STOP_KEYS})</qt>",
        )
        self.detach = button(
            "Detach",
            "<qt>Show it here no longer and let it go on; “Attach” in the table of runs shows it "
            "again</qt>",
        )
        self.runs = button(
            "Runs …",
            "<qt>The trainings so far as a table: continue one, attach to one that runs, compare "
            "them</qt>",
        )
        self.extract = button(
            "Extract features", "Put features of the trained network onto the points"
        )
        self.discard = button(OFFER_DISCARD)
        super().__init__(
            (start, self.pause, self.stop, self.detach),
            (self.runs, self.extract, None, self.discard),
        )
        for keys, pressed in ((START_KEYS, start), (STOP_KEYS, self.stop)):
            # A button forgets its own key when its text changes.
            QShortcut(QKeySequence(keys), self, pressed.click)

    def offer_undo(self, is_offered: bool) -> None:
        """Let the button that discards take that back, or discard again."""
        self.discard.setText(UNDO if is_offered else OFFER_DISCARD)
        self.discard.setToolTip(
            "<qt>Take the run out of the bin again, to where it was</qt>"
            if is_offered
            else "<qt>End it and give up what it has made. Once an epoch has ended this is asked "
            f"about, and can be undone for {KEPT_DAYS} days.</qt>"
        )
