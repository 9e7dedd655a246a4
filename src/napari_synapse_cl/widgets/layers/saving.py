"""Save a Points layer with its features to a file."""

from pathlib import Path
from typing import Any

from napari.layers import Layer, Points
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.system.files import safe_name
from napari_synapse_cl.widgets.latest import Latest
from napari_synapse_cl.widgets.look import tell

FILTERS = ("CSV (*.csv)", "Parquet (*.parquet)", "NumPy (*.npz)", "AnnData (*.h5ad)")


class Exporter(QObject):
    """Asks for a file and writes a layer to it, in a worker.

    Parameters
    ----------
    parent
        The window that asks.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._window = parent
        self._writer = Latest(_write_points)
        self._writer.done.connect(self._on_done)
        self._writer.failed.connect(self._on_failure)

    def export(self, layer: Layer | None) -> None:
        """Ask where to save a layer, and save it there."""
        if not isinstance(layer, Points):
            tell(InputError("select the Points layer whose features are to be saved"))
            return
        chosen, filter_ = QFileDialog.getSaveFileName(
            self._window,
            "Save points with features",
            f"{safe_name(layer.name)}.csv",
            ";;".join(FILTERS),
        )
        if not chosen:
            return
        path = Path(chosen)
        if not path.suffix:
            path = path.with_suffix(filter_.rpartition("*")[2].rstrip(")") or ".csv")
        data, state, _ = layer.as_layer_data_tuple()
        self._writer.ask(str(path), data.copy(), {**state, "features": layer.features.copy()})

    def _on_done(self, paths: list[str]) -> None:
        show_info(f"Saved {', '.join(paths)}.")

    def _on_failure(self, error: Exception) -> None:
        if not isinstance(error, InputError | JobError):
            raise error
        tell(error)


def _write_points(*arguments: Any) -> list[str]:
    # Formats of tables take longer to import than a dock should to open.
    from napari_synapse_cl.widgets.layers.files import write_points

    return write_points(*arguments)
