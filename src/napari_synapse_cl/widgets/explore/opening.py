"""Feature tables that become points, and points that the viewer looks at."""

from pathlib import Path
from typing import Any

from napari.layers import Points
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layers.voxels import in_world
from napari_synapse_cl.widgets.look import button

FILTER = "Feature tables (*.parquet *.csv *.npz *.h5ad)"
STYLE = {"border_color": "white", "size": 14, "opacity": 0.6}
"""Of points that come from a table, in voxels of it."""


class TableOpener(QObject):
    """Opens feature tables as points whose vectors stay in the file.

    Parameters
    ----------
    parent
        The window that is asked in.

    Attributes
    ----------
    button
        Asks for a file.
    """

    opened = Signal(object)
    """Emitted with the Points layer that was added."""
    failed = Signal(object)
    """Emitted with the exception."""
    told = Signal(str)

    def __init__(self, viewer: Any, parent: QWidget) -> None:
        super().__init__(parent)
        self._viewer, self._window = viewer, parent
        self.button = button(
            "Table …",
            "<qt>Open a feature table of up to a million rows: its positions become a Points "
            "layer, its vectors stay out of the layer’s columns</qt>",
            self._ask,
        )
        self._reader = LatestOnly(_read_rows)
        self._reader.done.connect(self._add)
        self._reader.failed.connect(self.failed)

    def open(self, path: Path) -> None:
        """Open a table."""
        self.told.emit(f"Reading {path.name} …")
        self._reader.ask(path)

    def release(self) -> None:
        """Add nothing any more."""
        self._reader.forget()

    def _ask(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self._window, "Open a feature table", "", FILTER)
        if chosen:
            self.open(Path(chosen))

    def _add(self, found: Any) -> None:
        data, keywords, _ = found
        self.opened.emit(self._viewer.add_layer(Points(data, **{**STYLE, **keywords})))


def look_at(viewer: Any, layer: Points, row: int) -> None:
    """Have a viewer look at a point, in its slice, as closely as it looks now."""
    world = in_world(layer, layer.data[row], viewer.dims.units)
    ndim = viewer.dims.ndim
    viewer.dims.set_point(range(ndim - 3, ndim), world)
    shown = [axis - ndim for axis in viewer.dims.displayed]
    camera = viewer.scene.camera
    before = (camera.center[0],) if len(shown) == 2 else ()
    camera.center = (*before, *(world[axis] for axis in shown))


def _read_rows(path: Path) -> Any:
    # Formats of tables take longer to import than a dock should to open.
    from napari_synapse_cl.widgets.layers.files import read_rows

    return read_rows(path)
