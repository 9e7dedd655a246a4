"""Save what a viewer holds as a session, open it again, and remember what was opened lately."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari.layers import Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.system.environment import settings_folder
from napari_synapse_cl.system.files import keep_record, read_record
from napari_synapse_cl.widgets.layers.boxes import VolumePair
from napari_synapse_cl.widgets.look import EXTRACT, OPEN, PREVIEW, TRAIN, dock_of, open_dock
from napari_synapse_cl.widgets.open_data.session_file import Gathered, Missing, Restored, gather
from napari_synapse_cl.widgets.session import Session, session_of

_FOLDER = settings_folder()
FILE = None if _FOLDER is None else _FOLDER / "recent.json"
"""Where it is kept; None where there is no place for it."""
MOST = 8
"""Uses of “Open data” that are remembered."""

Use = dict[str, str]
"""What stood in the fields of “Open data”, by their names; empty ones are left out."""


def recent_uses() -> list[Use]:
    """Return what was opened lately, the last first."""
    listed = read_record(FILE).get("opened")
    return [use for use in (listed if isinstance(listed, list) else []) if _is_use(use)][:MOST]


def remember_use(use: Use) -> None:
    """Put what was opened in the first place; other ways to read the same are no other use."""

    def files(use: Use) -> list[str | None]:
        return [use.get(name) for name in ("image", "synapses")]

    others = [other for other in recent_uses() if files(other) != files(use)]
    _remember(opened=[use, *others][:MOST])


def last_session() -> Path | None:
    """Return the file of the session that was saved or opened last, if it is there still."""
    named = read_record(FILE).get("session")
    if not isinstance(named, str):
        return None
    path = Path(named)
    with suppress(OSError):
        return path if path.is_file() else None
    return None


def remember_session(path: Path) -> None:
    """Remember a session that was saved or opened."""
    _remember(session=str(path.absolute()))


def _is_use(use: Any) -> bool:
    return (
        isinstance(use, dict)
        and bool(use.get("image"))
        and all(isinstance(value, str) for value in use.values())
    )


def _remember(**changed: Any) -> None:
    keep_record(FILE, {**read_record(FILE), **changed})


DOCKS = (OPEN, TRAIN, PREVIEW, EXTRACT)
BOXES = ("image_box", "points_box")
"""Where docks have a choice of a layer."""
OF_EXTRACTION = ("checkpoint", "network")
FILTER = "Session (*.json)"


def save_session(viewer: Viewer) -> None:
    """Ask where to save the session, from napari's menu."""
    open_dock(viewer, OPEN).ask_save()


def open_session(viewer: Viewer) -> None:
    """Ask for a session and open it, from napari's menu."""
    open_dock(viewer, OPEN).ask_open()


def ask_file(parent: QWidget, title: str, start: Path | None, *, saving: bool) -> Path | None:
    """Ask for the file of a session; one without a suffix gets that of JSON."""
    ask = QFileDialog.getSaveFileName if saving else QFileDialog.getOpenFileName
    chosen, _ = ask(parent, title, "session.json" if start is None else str(start), FILTER)
    if not chosen:
        return None
    return Path(chosen) if Path(chosen).suffix else Path(chosen + ".json")


def gather_session(viewer: Any, session: Session) -> Gathered:
    """Take what a session keeps of a viewer as it is now."""
    layers, active = viewer.layers, viewer.layers.selection.active
    volumes, dims, camera = session.volumes, viewer.dims, viewer.scene.camera
    chosen = {image.name: volumes.labels_of(image) for image in layers if volumes.labels_of(image)}
    return gather(
        layers,
        labels={
            image: {kind: layer.name for kind, layer in labels.items()}
            for image, labels in chosen.items()
        },
        listed=[[pair.image.name, pair.points.name] for pair in volumes.listed],
        network=None if session.last_checkpoint is None else str(session.last_checkpoint),
        docks=[_dock(widget) for widget in _open_docks(viewer)],
        selected=None if active is None else active.name,
        view={
            "point": [float(value) for value in dims.point],
            "ndisplay": dims.ndisplay,
            "center": [float(value) for value in camera.center],
            "angles": [float(value) for value in camera.angles],
            "zoom": float(camera.zoom),
        },
    )


class Restoring:
    """Puts what a session holds into a viewer, as a :class:`~.session_file.SessionJob` tells it.

    Attributes
    ----------
    said
        What came of it.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._session = session_of(viewer)
        self._layers: dict[str, Layer] = {}
        self._missing: list[str] = []
        self.said: list[tuple[str, Level]] = []

    def take(self, event: Any) -> bool:
        """Take what the job tells; return whether that was the last."""
        match event:
            case Restored(name, layer):
                self._add(name, layer)
            case Missing(name, why):
                self._missing.append(f"{name} ({why})")
            case dict():
                self._finish(event)
                return True
        return False

    def _add(self, name: str, layer: Any) -> None:
        try:
            made = Layer.create(*layer)
        except (TypeError, ValueError, KeyError) as error:
            self._missing.append(f"{name} (its entry in the session is damaged: {error})")
            return
        self._layers[name] = self._viewer.add_layer(made)
        if isinstance(made, Labels):
            made.editable = False

    def _finish(self, content: Mapping[str, Any]) -> None:
        for part in (self._pair, self._take_network, self._look, self._open_docks):
            try:
                part(content)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._missing.append(f"a part of the session, which is damaged ({error})")
        self.said.append((f"Opened {len(self._layers)} layers of the session", "info"))
        if self._missing:
            self.said.append((f"Not opened: {'; '.join(self._missing)}", "warning"))

    def _pair(self, content: Mapping[str, Any]) -> None:
        for name, labels in content["labels"].items():
            for kind, label in labels.items():
                if name in self._layers and label in self._layers:
                    self._session.volumes.choose_labels(
                        self._layers[name], kind, self._layers[label]
                    )
        for image, points in content["listed"]:
            if image in self._layers and points in self._layers:
                pair = VolumePair(self._layers[image], self._layers[points])
                self._session.volumes.add(pair)

    def _take_network(self, content: Mapping[str, Any]) -> None:
        network = content["network"]
        if network is None:
            return
        if Path(network).is_file():
            self._session.keep_checkpoint(network)
        else:
            self._missing.append(f"the network of the last training (there is no {network})")

    def _look(self, content: Mapping[str, Any]) -> None:
        if content["selected"] in self._layers:
            self._viewer.layers.selection.active = self._layers[content["selected"]]
        view, dims, camera = content["view"], self._viewer.dims, self._viewer.scene.camera
        dims.ndisplay = view["ndisplay"]
        if len(view["point"]) == dims.ndim:
            dims.set_point(range(dims.ndim), view["point"])
        camera.center, camera.zoom = view["center"], view["zoom"]
        camera.angles = view["angles"]

    def _open_docks(self, content: Mapping[str, Any]) -> None:
        """Open the docks one by one: the window is drawn and answers between them."""
        kept = [dock for dock in content["docks"] if dock["name"] in DOCKS]
        # That which was in front comes last.
        kept.sort(key=lambda dock: bool(dock["front"]))

        def open_next() -> None:
            if kept:
                self._restore(kept.pop(0))
                QTimer.singleShot(0, open_next)

        QTimer.singleShot(0, open_next)

    def _restore(self, dock: Mapping[str, Any]) -> None:
        widget = open_dock(self._viewer, dock["name"])
        for name in BOXES:
            layer = self._layers.get(str(dock.get(name)))
            if layer is not None and hasattr(widget, name):
                getattr(widget, name).choose(layer)
        if dock["name"] == EXTRACT:
            network = dock.get("network")
            if dock.get("checkpoint"):
                widget.form.editor("checkpoint").line_edit.value = str(dock["checkpoint"])
            if network in widget.form.editor("network").choices:
                widget.form.editor("network").value = network


def _open_docks(viewer: Any) -> list[Any]:
    widgets = viewer.window.dock_widgets.values()
    return [w for w in widgets if getattr(w, "menu_name", None) in DOCKS and not w.is_released]


def _dock(widget: Any) -> dict[str, Any]:
    """Return what is kept of a dock: the layers that are chosen in it, and the network."""
    boxes = [name for name in BOXES if hasattr(widget, name)]
    layers = {name: getattr(widget, name).layer for name in boxes}
    kept = {name: layer.name for name, layer in layers.items() if layer is not None}
    if widget.menu_name == EXTRACT:
        kept["checkpoint"] = widget.form.editor("checkpoint").line_edit.value
        kept["network"] = widget.form.editor("network").value
    dock = dock_of(widget)
    front = dock is not None and not dock.visibleRegion().isEmpty()
    return {"name": widget.menu_name, "front": front, **kept}
