"""The dialogs in which a run is continued, or given up with all it had done before."""

from dataclasses import dataclass
from pathlib import Path

from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLabel,
    QMessageBox,
    QSpinBox,
    QWidget,
)

from napari_synapse_cl.config import Config, read_settings
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.widgets.forms.editors import LARGEST_INT


@dataclass(frozen=True)
class EndedRun:
    """A run that can go on.

    Attributes
    ----------
    folder
        The run folder.
    config
        Its settings.
    step
        Steps that it has done.
    epochs
        Whole epochs that it has done.
    """

    folder: Path
    config: Config
    step: int
    epochs: int


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
    run
        The run.
    parent
        The widget it stands before.
    """

    def __init__(self, run: EndedRun, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Continue a run")
        self._run = run
        about = QLabel(
            f"The run in {run.folder}\nhas done {run.epochs} of {run.config.num_epochs} epochs "
            f"({run.step} steps). It goes on from its last checkpoint, with its own data and "
            "settings."
        )
        about.setWordWrap(True)
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


def confirm_discard(parent: QWidget) -> bool:
    """Ask whether a run is to be removed that was not begun just now."""
    box = QMessageBox(
        QMessageBox.Icon.Warning,
        "Discard a run",
        "Remove the whole run, with everything it had done before?",
        parent=parent,
    )
    discard = box.addButton("Discard the run", QMessageBox.ButtonRole.DestructiveRole)
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    box.exec()
    clicked = box.clickedButton()
    box.deleteLater()
    return clicked is discard
