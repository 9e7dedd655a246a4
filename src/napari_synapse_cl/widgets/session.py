"""What the widgets of one viewer tell each other, and the settings that they share."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from napari_synapse_cl.config import Config, possible_value, read_settings, recipe_values
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.system.environment import settings_folder
from napari_synapse_cl.system.files import keep_record, read_record, write_json
from napari_synapse_cl.widgets.layers.boxes import ChosenVolumes

_FOLDER = settings_folder()
FILE = None if _FOLDER is None else _FOLDER / "settings.json"
"""Where the settings wait for the next start of napari; None where there is no place for them."""
PLACES = "runs.json"
"""The file beside it with the places of runs."""
MOST_PLACES = 100
FIRST_RECIPE = "quick"
"""What settings are before anybody has changed any: the defaults would take a day on many
computers."""
SAVE_MS = 1000
"""Least time between two writes of that file."""


class SharedSettings(QObject):
    """Values of settings, always possible ones; a setting that is not among them has its default.

    Parameters
    ----------
    file
        Where they are kept from one start of napari to the next. What it holds that cannot be
        used, a damaged file included, is passed over. None where they cannot be kept.

    Attributes
    ----------
    is_loading
        Whether what changes is taken from elsewhere, and not filled in.
    """

    changed = Signal(str, object)
    """Emitted with the name and the value of a setting that was given another, or loaded."""
    loaded = Signal()
    """Emitted when settings were taken from elsewhere; :meth:`undo` brings back those before."""

    def __init__(self, file: Path | None) -> None:
        super().__init__()
        self._file = file
        self._changed: set[str] = set()
        self._before: dict[str, Any] = {}
        self.is_loading = False
        self._values = self._read()
        self._timer = QTimer(self, singleShot=True, interval=SAVE_MS, timeout=self.keep)
        QCoreApplication.instance().aboutToQuit.connect(self.keep)
        if file is None or not file.exists():
            first = recipe_values(FIRST_RECIPE)
            self._put({name: value for name, value in first.items() if value != self[name]})

    def __getitem__(self, name: str) -> Any:
        return self._values.get(name, Config.model_fields[name].default)

    def is_set(self, name: str) -> bool:
        """Return whether someone has chosen a value, be it the default."""
        return name in self._values

    def set(self, name: str, value: Any) -> None:
        """Give a setting a value, and tell everyone who shows it.

        Raises
        ------
        InputError
            If the setting cannot have this value.
        """
        value = possible_value(name, value)
        if value != self[name] or not self.is_set(name):
            self._put({name: value})
            self.changed.emit(name, value)

    def load(self, values: dict[str, Any], names: list[str]) -> None:
        """Take settings from elsewhere; those that are not among the values get their defaults.

        Parameters
        ----------
        values
            Settings by name, as :func:`~napari_synapse_cl.config.read_settings` returns them.

        Raises
        ------
        InputError
            If one of them cannot be used; nothing has changed then.
        """
        checked = Config.from_values({name: values[name] for name in names if name in values})
        self._replace({name: getattr(checked, name) for name in names})

    @property
    def can_undo(self) -> bool:
        """Whether :meth:`undo` would change anything."""
        return not self.matches(self._before)

    def undo(self) -> None:
        """Bring back the settings from before the last :meth:`load`; once more, take that back."""
        self._replace(self._before)

    def matches(self, values: dict[str, Any]) -> bool:
        """Return whether settings have these values."""
        return all(self[name] == value for name, value in values.items())

    def _replace(self, values: dict[str, Any]) -> None:
        if not self.matches(values):
            self._before = {name: self[name] for name in values}
        self._put({name: value for name, value in values.items() if value != self[name]})
        self.is_loading = True
        for name, value in values.items():
            # Also those that are as before: what was typed for one may not have been possible.
            self.changed.emit(name, value)
        self.is_loading = False
        self.loaded.emit()

    def _put(self, values: dict[str, Any]) -> None:
        self._values |= values
        self._changed |= values.keys()
        if values:
            self._timer.start()

    def keep(self) -> None:
        """Write the settings that have changed here where the next start of napari finds them.

        Others are left as another window, or another napari, has written them meanwhile.
        """
        if not self._changed or self._file is None:
            return
        fields = Config.model_fields
        kept = {**self._read(), **{name: self[name] for name in self._changed}}
        self._changed.clear()
        changed = {name: value for name, value in kept.items() if value != fields[name].default}
        keep_record(self._file, json.loads(json.dumps(changed, default=str)))

    def _read(self) -> dict[str, Any]:
        """Return what is kept; what cannot be used, a damaged file included, is passed over."""
        found: dict[str, Any] = {}
        with suppress(InputError):
            for name, value in ({} if self._file is None else read_settings(self._file)).items():
                with suppress(InputError):
                    found[name] = possible_value(name, value)
        return found


def save_settings(config: Config, names: list[str], path: Path) -> None:
    """Write settings to a JSON file that ``--config`` of the command line reads.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    try:
        write_json(path, config.model_dump(mode="json", include=set(names)))
    except OSError as error:
        raise InputError(f"cannot write the settings to {path}: {reason(error)}") from None


class Session(QObject):
    """Jobs and results of one viewer; it outlives the widgets, which may be closed and reopened.

    Attributes
    ----------
    last_checkpoint
        What the last training left.
    settings
        The settings that several forms show.
    volumes
        Which layers belong together.
    running
        Kinds of job that run at present.
    run_places
        Run folders, and folders of runs, that were used beside the one for all; they outlive
        napari.
    """

    checkpoint_changed = Signal()
    """Emitted when there is another last checkpoint, or none any more."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.last_checkpoint: Path | None = None
        self.running: set[str] = set()
        self.run_places = _kept_places()
        self.settings = SharedSettings(FILE)
        self.volumes = ChosenVolumes(viewer.layers)

    def begin(self, kind: str, finished: Any) -> None:
        """Note that a job runs, until its worker's signal `finished`."""
        self.running.add(kind)
        finished.connect(lambda: self.running.discard(kind))

    def add_run_place(self, folder: Path) -> None:
        """Remember a run folder, or a folder of runs, for the table of runs."""
        folder = folder.absolute()
        self.run_places = [*(place for place in self.run_places if place != folder), folder]
        _keep_places([*(place for place in _kept_places() if place != folder), folder])

    def forget_run_place(self, folder: Path) -> None:
        """Remember a folder no longer, in which there is no run."""
        self.run_places = [place for place in self.run_places if place != folder]
        _keep_places([place for place in _kept_places() if place != folder])

    def keep_checkpoint(self, path: str) -> None:
        """Remember the checkpoint that a training left, and tell the other widgets."""
        self.last_checkpoint = Path(path)
        self.checkpoint_changed.emit()

    def forget_checkpoint(self, folder: str) -> None:
        """Forget the last checkpoint if it was in a folder that has been removed."""
        if self.last_checkpoint is not None and self.last_checkpoint.is_relative_to(folder):
            self.last_checkpoint = None
            self.checkpoint_changed.emit()


def _kept_places() -> list[Path]:
    """Return the places of runs that were used last; none where they are not kept."""
    found = read_record(FILE and FILE.with_name(PLACES)).get("places")
    places = found if isinstance(found, list) else []
    return [Path(place) for place in places if isinstance(place, str)]


def _keep_places(places: list[Path]) -> None:
    kept = {"places": [str(place) for place in places[-MOST_PLACES:]]}
    keep_record(FILE and FILE.with_name(PLACES), kept)


_SESSIONS: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()


def session_of(viewer: Any) -> Session:
    """Return the session of a viewer.

    Parameters
    ----------
    viewer
        The viewer, or the proxy of it that napari gives to plugins.
    """
    viewer = getattr(viewer, "__wrapped__", viewer)
    if viewer not in _SESSIONS:
        _SESSIONS[viewer] = Session(viewer)
    return _SESSIONS[viewer]
