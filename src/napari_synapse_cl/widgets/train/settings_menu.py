"""A menu with which settings are saved, loaded and set back."""

from collections.abc import Callable
from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QFileDialog, QMenu, QToolButton

from napari_synapse_cl.config import Config, read_settings
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets.forms.shared import SharedSettings, save_settings
from napari_synapse_cl.widgets.look import tell

FILES = "Settings (*.json)"


class SettingsMenu(QToolButton):
    """Saves and loads settings as files that the command line accepts too.

    Parameters
    ----------
    settings
        Where settings are loaded to.
    names
        Which settings.
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
        self.setToolTip("Save, load or set back the settings")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self.save_action = menu.addAction("Save settings …", self._save)
        self.save_action.setToolTip("As a file that “synapse-cl --config” accepts too")
        self.load_action = menu.addAction("Load settings …", self._load)
        self.load_action.setToolTip("From such a file, or the config.json of a run")
        self.default_action = menu.addAction("Default settings", self._set_back)
        self.setMenu(menu)

    def _save(self) -> None:
        try:
            config = self._config()
            chosen, _ = QFileDialog.getSaveFileName(self, "Save settings", "settings.json", FILES)
            if chosen:
                path = Path(chosen)
                path = path if path.suffix else path.with_suffix(".json")
                save_settings(config, self._names, path)
                show_info(f"Saved {path}. The command line takes it with --config.")
        except InputError as error:
            tell(error)

    def _load(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Load settings", "", FILES)
        if chosen:
            try:
                self._settings.load(read_settings(Path(chosen)), self._names)
            except InputError as error:
                tell(error)

    def _set_back(self) -> None:
        self._settings.load({}, self._names)
