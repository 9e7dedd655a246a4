"""What a training is set to: a preset, or by hand, and from and to files."""

from collections.abc import Callable, Mapping
from pathlib import Path

from napari.layers import Image
from napari.utils.notifications import show_info
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMenu,
    QToolButton,
    QWidget,
)

from napari_synapse_cl.config import (
    Config,
    DeviceConfig,
    ModelConfig,
    about_recipe,
    presets,
    read_recipe,
    read_settings,
    recipe_settings,
    recipe_values,
)
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets.forms import crop_settings
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, RECIPE
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import ChoiceBox, button, telling
from napari_synapse_cl.widgets.session import SharedSettings, save_settings

ESSENTIAL = (
    "crop_size",
    "batch_size",
    "num_steps",
    "num_epochs",
    "learning_rate",
    "pretrained",
)
GROUPS = {
    "Data": ("voxel_size",),
    **crop_settings.GROUPS,
    "Model": tuple(name for name in ModelConfig.model_fields if name != "pretrained"),
    "Objective": ("objective", "temperature", "momentum", "queue_size", "texture_weight"),
    "Positives": ("cell_column", "positive_distance", "positive_share"),
    "Training": (
        "epoch_steps",
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
    "cell_column": "a column, or segmentation",
    "export": "pt safetensors onnx bioimageio",
}
OF_ONE_RUN = {"output", "voxel_size", "label_column", "cell_column"}
"""Settings that the next run should not have, nor another volume."""

FILES = "Settings (*.json)"
CHANGED = ", changed"


class _Choice(ChoiceBox):
    """A choice that the wheel, meant for what is around it, does not change."""

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Leave it to what is around."""
        event.ignore()


class Presets(QWidget):
    """The choice of a preset, with the time that each takes here, and what brings settings back.

    Parameters
    ----------
    settings
        Those that a preset decides.

    Attributes
    ----------
    box
        The presets; settings that were changed by hand stand before them.
    undo_button
        Brings back the settings from before others were taken.
    """

    chosen = Signal()
    """Emitted when settings are compared with another preset."""

    def __init__(self, settings: SharedSettings) -> None:
        super().__init__()
        self._settings = settings
        self._titles = presets()
        self._times: dict[str | None, str] = {}
        self.name = min(self._titles, key=self._n_changed)
        self.box = _Choice(n_letters=0)
        self.box.setAccessibleName("Preset")
        self.box.activated.connect(self._on_choice)
        tip = "<qt>Bring back the settings from before these were taken</qt>"
        self.undo_button = button("Undo", tip, settings.undo)
        self.undo_button.hide()
        layout = bare(QHBoxLayout(self), 4)
        label = QLabel("Preset")
        label.setBuddy(self.box)
        layout.addWidget(label)
        layout.addWidget(self.box, stretch=1)
        layout.addWidget(self.undo_button)
        self._timer = QTimer(self, singleShot=True, interval=0, timeout=self._follow)
        settings.changed.connect(self._timer.start)
        settings.loaded.connect(self._on_load)
        self._follow()

    @property
    def is_changed(self) -> bool:
        """Whether settings differ from those of the preset."""
        return self._n_changed(self.name) > 0

    @property
    def title(self) -> str:
        """What the preset is called."""
        return self._titles[self.name]

    def configs(self, config: Config) -> dict[str, Config]:
        """Return the settings of a training under each preset that goes with its other settings."""
        found, plain = {}, config.model_dump(exclude_unset=True)
        for name in self._titles:
            try:
                found[name] = Config.from_values({**plain, **recipe_values(name)})
            except InputError:
                continue
        return found

    def show_times(self, times: Mapping[str | None, str]) -> None:
        """Say how long a training takes with each preset; None stands for the settings as are."""
        self._times = dict(times)
        self._show()

    def choose(self, name: str) -> None:
        """Take the settings of a preset."""
        self._settings.load(read_recipe(name), recipe_settings())

    def take_from(self, layer: Image | None) -> None:
        """Choose what suits a layer, the first time that it is met and unless much was chosen."""
        about = {} if layer is None else layer.metadata.get(METADATA_KEY, {})
        name = about.pop(RECIPE, None) if isinstance(about, dict) else None
        if name in self._titles and not self.is_changed:
            self.choose(name)
            # Nothing is lost that is not chosen again with a click.
            self.undo_button.hide()

    def _n_changed(self, name: str) -> int:
        values = recipe_values(name)
        return sum(self._settings[setting] != value for setting, value in values.items())

    def _follow(self) -> None:
        same = [name for name in self._titles if not self._n_changed(name)]
        if same:
            self.name = same[0]
        self._show()
        self.chosen.emit()

    def _on_load(self) -> None:
        self.name = min(self._titles, key=self._n_changed)
        self._follow()
        self.undo_button.setVisible(self._settings.can_undo)

    def _show(self) -> None:
        shown: list[tuple[str, str | None, str]] = []
        if self.is_changed:
            shown.append((self.title + CHANGED, None, "These settings, as they were changed"))
        shown += [(title, name, about_recipe(name)) for name, title in self._titles.items()]
        texts = [" · ".join(filter(None, (t, self._times.get(name)))) for t, name, _ in shown]
        if self.box.count() != len(shown):
            self.box.clear()
            self.box.addItems(texts)
        for row, (text, (_, name, about)) in enumerate(zip(texts, shown, strict=True)):
            self.box.setItemText(row, text)
            self.box.setItemData(row, name)
            self.box.setItemData(row, f"<qt>{about}</qt>", Qt.ItemDataRole.ToolTipRole)
        self.box.setCurrentIndex(0 if self.is_changed else self.box.findData(self.name))
        self.box.setToolTip(self.box.currentData(Qt.ItemDataRole.ToolTipRole))

    def _on_choice(self, row: int) -> None:
        name = self.box.itemData(row)
        if name is not None:
            self.choose(name)


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
        self.setAccessibleName("Settings: save, load or set back")
        self.setToolTip("Save, load or set back the settings")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        # The arrow of a menu would lie on the last dot.
        self.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self.save_action = menu.addAction("Save settings …", self._save)
        self.save_action.setToolTip("As a file that “synapse-cl --config” accepts too")
        self.load_action = menu.addAction("Load settings …", self._load)
        self.load_action.setToolTip("From such a file, or the config.json of a run")
        self.default_action = menu.addAction("Default settings", self._set_back)
        self.default_action.setToolTip("All as the command line has them; Undo takes it back")
        self.setMenu(menu)

    def _save(self) -> None:
        with telling():
            config = self._config()
            chosen, _ = QFileDialog.getSaveFileName(self, "Save settings", "settings.json", FILES)
            if chosen:
                path = Path(chosen)
                path = path if path.suffix else path.with_suffix(".json")
                save_settings(config, self._names, path)
                show_info(f"Saved {path}. The command line takes it too.")

    def _load(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Load settings", "", FILES)
        if chosen:
            with telling():
                self._settings.load(read_settings(Path(chosen)), self._names)

    def _set_back(self) -> None:
        self._settings.load({}, self._names)
