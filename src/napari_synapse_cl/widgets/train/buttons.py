"""The buttons of a training, its menu of settings, and which of these its form shows."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QFileDialog, QGridLayout, QMenu, QPushButton, QToolButton, QWidget

from napari_synapse_cl.config import (
    RECIPES,
    Config,
    DeviceConfig,
    ModelConfig,
    about_recipe,
    read_recipe,
    read_settings,
    recipe_settings,
)
from napari_synapse_cl.runs.bin import KEPT_DAYS
from napari_synapse_cl.widgets.forms import crop_settings
from napari_synapse_cl.widgets.look import bare, button, telling
from napari_synapse_cl.widgets.session import SharedSettings, save_settings
from napari_synapse_cl.widgets.train.questions import UNDO

N_COLUMNS = 12
START_KEYS, STOP_KEYS = "Ctrl+Return", "Ctrl+."
DISCARD = "Discard …"

ESSENTIAL = ("crop_size", "batch_size", "num_epochs", "learning_rate", "pretrained")
GROUPS = {
    "Data": ("voxel_size",),
    **crop_settings.GROUPS,
    "Model": tuple(name for name in ModelConfig.model_fields if name != "pretrained"),
    "Objective": ("objective", "temperature", "momentum", "queue_size", "texture_weight"),
    "Positives": ("cell_column", "positive_distance", "positive_share"),
    "Training": (
        "weight_decay",
        "warmup_fraction",
        "clip_norm",
        "backbone_lr_factor",
        "unfreezing_fraction",
        "seed",
    ),
    "Validation": ("validation_fraction", "label_column", "best_metric", "early_stopping"),
    "Device": tuple(DeviceConfig.model_fields),
    "Augmentation": crop_settings.ESSENTIAL_AUGMENTATION,
    **crop_settings.MORE_AUGMENTATION,
    "Output": ("output", "export", "tensorboard", "cache_dir", "cache_limit"),
}
PLACEHOLDERS = {
    **crop_settings.PLACEHOLDERS,
    "voxel_size": "that of the layer",
    "output": "a new folder in ~/synapse_cl_runs",
    "pretrained": "none: random weights",
    "cache_dir": "the run folder",
    "label_column": "none",
    "cell_column": "none, a column, or segmentation",
    "export": "none, or pt safetensors onnx",
}
OF_ONE_RUN = {"output", "voxel_size", "label_column", "cell_column"}
"""Settings that the next run should not have, nor another volume."""

FILES = "Settings (*.json)"


class TrainButtons(QWidget):
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
        super().__init__()
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
        self.discard = button(DISCARD)
        grid = bare(QGridLayout(self), 4)
        for one, row, column, width in (
            (start, 0, 0, 3),
            (self.pause, 0, 3, 3),
            (self.stop, 0, 6, 3),
            (self.detach, 0, 9, 3),
            (self.runs, 1, 0, 3),
            (self.extract, 1, 3, 4),
            (self.discard, 1, 8, 4),
        ):
            grid.addWidget(one, row, column, 1, width)
        for column in range(N_COLUMNS):
            grid.setColumnStretch(column, 1)
        for keys, pressed in ((START_KEYS, start), (STOP_KEYS, self.stop)):
            # A button forgets its own key when its text changes.
            QShortcut(QKeySequence(keys), self, pressed.click)

    def offer_undo(self, is_offered: bool) -> None:
        """Let the button that discards take that back, or discard again."""
        self.discard.setText(UNDO if is_offered else DISCARD)
        self.discard.setToolTip(
            "<qt>Take the run out of the bin again, to where it was</qt>"
            if is_offered
            else "<qt>End it and give up what it has made. Once an epoch has ended this is asked "
            f"about, and can be undone for {KEPT_DAYS} days.</qt>"
        )


class SettingsMenu(QToolButton):
    """Saves and loads settings as files that the command line accepts too.

    Parameters
    ----------
    settings
        Where settings are loaded to.
    config
        Returns the settings to save.
    """

    def __init__(
        self, settings: SharedSettings, names: list[str], config: Callable[[], Config]
    ) -> None:
        super().__init__()
        self._settings = settings
        self._names = names
        self._config = config
        self.setText("⋯")
        self.setAccessibleName("Settings menu")
        self.setToolTip("Save, load or set back the settings")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self.save_action = menu.addAction("Save settings …", self._save)
        self.save_action.setToolTip("As a file that “synapse-cl --config” accepts too")
        self.load_action = menu.addAction("Load settings …", self._load)
        self.load_action.setToolTip("From such a file, or the config.json of a run")
        self.recipes = menu.addMenu("Recipe")
        self.recipes.setToolTipsVisible(True)
        for name in RECIPES:
            action = self.recipes.addAction(name.capitalize(), partial(self._take_recipe, name))
            action.setToolTip(f"<qt>{about_recipe(name)}</qt>")
        self.default_action = menu.addAction("Default settings", self._set_back)
        self.setMenu(menu)

    def _save(self) -> None:
        with telling():
            config = self._config()
            chosen, _ = QFileDialog.getSaveFileName(self, "Save settings", "settings.json", FILES)
            if chosen:
                path = Path(chosen)
                path = path if path.suffix else path.with_suffix(".json")
                save_settings(config, self._names, path)
                show_info(f"Saved {path}. The command line takes it with --config.")

    def _load(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Load settings", "", FILES)
        if chosen:
            with telling():
                self._settings.load(read_settings(Path(chosen)), self._names)

    def _take_recipe(self, name: str) -> None:
        self._settings.load(read_recipe(name), recipe_settings())
        show_info(f"Recipe {name}. {about_recipe(name)}")

    def _set_back(self) -> None:
        self._settings.load({}, self._names)
