"""What the widgets of one viewer tell each other."""

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject, Signal

from napari_synapse_cl.widgets.forms import shared
from napari_synapse_cl.widgets.forms.shared import SharedSettings
from napari_synapse_cl.widgets.layers.chosen import ChosenVolumes


class Session(QObject):
    """Jobs and results of one viewer; it outlives the widgets, which may be closed and reopened.

    Parameters
    ----------
    viewer
        The viewer.

    Attributes
    ----------
    checkpoint_changed
        Emitted when there is another last checkpoint, or none any more.
    last_checkpoint
        What the last training left.
    settings
        The settings that several forms show.
    volumes
        Which layers belong together.
    running
        Kinds of job that run at present.
    """

    checkpoint_changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.last_checkpoint: Path | None = None
        self.running: set[str] = set()
        self.settings = SharedSettings(shared.FILE)
        self.volumes = ChosenVolumes(viewer.layers)

    def begin(self, kind: str, finished: Any) -> None:
        """Note that a job runs, until its worker's signal `finished`."""
        self.running.add(kind)
        finished.connect(lambda: self.running.discard(kind))

    def keep_checkpoint(self, path: str) -> None:
        """Remember the checkpoint that a training left, and tell the other widgets."""
        self.last_checkpoint = Path(path)
        self.checkpoint_changed.emit()

    def forget_checkpoint(self, folder: str) -> None:
        """Forget the last checkpoint if it was in a folder that has been removed."""
        if self.last_checkpoint is not None and self.last_checkpoint.is_relative_to(folder):
            self.last_checkpoint = None
            self.checkpoint_changed.emit()


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
