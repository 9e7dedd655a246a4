"""Points that stand for all rows of a group, such as the synapses of a neuron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Signal

from napari_synapse_cl.data import pd
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.widgets.explore.controls import ColumnChoice
from napari_synapse_cl.widgets.explore.opening import STYLE
from napari_synapse_cl.widgets.explore.state import Exploration, frame
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, VOLUME_KEY

if TYPE_CHECKING:
    from napari_synapse_cl.features.pooling import Pooled
    from napari_synapse_cl.features.vectors import VectorTable

POOLED_KEY = "napari_synapse_cl_pooled"
"""Where the metadata of points say of which layer they are groups, by which column."""
GEOMETRY = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


class Pooler(QObject):
    """Makes points of groups of what is explored, and selects the rows of those selected.

    A point lies at the row that is most typical of its group, whose crop is shown for it. Being
    points with vectors of their own, all that can be done with rows can be done with groups.

    Attributes
    ----------
    box
        Chooses the column that names the group of a row.
    """

    opened = Signal(object)
    """Emitted with the Points layer that was added."""
    failed = Signal(object)
    """Emitted with the exception."""
    told = Signal(str)

    def __init__(self, viewer: Any, state: Exploration) -> None:
        super().__init__()
        self._viewer, self._state = viewer, state
        self._groups: tuple[Any, np.ndarray, pd.Index] | None = None
        self.box = ColumnChoice(state, "One by one", "Pooled by")
        self.box.setAccessibleName("Pooling")
        self.box.setToolTip(
            "<qt>Column that names what each belongs to, such as its neuron: the mean vectors of "
            "these become a layer of their own, and are explored</qt>"
        )
        self.box.chosen.connect(self.pool)
        self._worker = LatestOnly(_pool)
        self._worker.done.connect(self._add)
        self._worker.failed.connect(self.failed)
        state.selected_changed.connect(self._select)

    def pool(self) -> None:
        """Pool the vectors over the column that is chosen."""
        state, by = self._state, self.box.column
        if by is None or state.layer is None or state.vectors is None:
            return
        columns = pd.DataFrame({name: state.column(name) for name in state.column_names})
        # What is explored stays as it is until there is something else.
        self.box.choose(None)
        self.told.emit(f"pooling by {by} …")
        self._worker.ask(state.layer, state.vectors, columns, by)

    def release(self) -> None:
        """Add nothing any more."""
        self._worker.forget()
        self._groups = None

    def _add(self, found: tuple[Points, VectorTable | None, str, Pooled]) -> None:
        layer, vectors, by, pooled = found
        if vectors is None or vectors is not self._state.vectors:
            return
        about = layer.as_layer_data_tuple()[1]
        records = {name: {**vectors.record_of(name), "pooled_by": by} for name in vectors.names}
        metadata = {METADATA_KEY: records, POOLED_KEY: {"layer": layer.name, "column": by}}
        if VOLUME_KEY in layer.metadata:
            metadata[VOLUME_KEY] = layer.metadata[VOLUME_KEY]
        geometry = {name: about[name] for name in GEOMETRY}
        points = Points(
            layer.data[pooled.typical],
            name=f"{layer.name} by {by}",
            features=pooled.table,
            metadata=metadata,
            **{**STYLE, **geometry},
        )
        self.opened.emit(self._viewer.add_layer(points))
        if pooled.n_without:
            n = counted(pooled.n_without, "row")
            verb = "is" if pooled.n_without == 1 else "are"
            show_info(f"{n} with no value in {by} {verb} left out.")

    def _select(self) -> None:
        """Select the rows of the groups that are selected, in their own layer."""
        layer = self._state.layer
        pooled = None if layer is None else layer.metadata.get(POOLED_KEY)
        if pooled is None or pooled["layer"] not in self._viewer.layers:
            return
        source, column = self._viewer.layers[pooled["layer"]], pooled["column"]
        if not isinstance(source, Points) or column not in source.features:
            return
        if self._groups is None or self._groups[0] is not source.features:
            codes, names = pd.factorize(source.features[column])
            self._groups = source.features, codes, pd.Index(names)
        _, codes, names = self._groups
        chosen = self._state.column(column).iloc[self._state.selected]
        wanted = names.get_indexer(pd.Index(chosen))
        rows = np.flatnonzero(np.isin(codes, wanted[wanted >= 0]))
        frame(source, rows)
        if len(self._state.selected):
            n = counted(len(self._state.selected), "group")
            self.told.emit(f"{n} of {counted(len(rows), 'row')} of {source.name}")


def _pool(layer: Points, vectors: Any, columns: pd.DataFrame, by: str) -> Any:
    from napari_synapse_cl.features.pooling import pool

    return layer, vectors, by, pool(vectors, columns, by)
