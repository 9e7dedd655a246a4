"""What is explored: the points of a layer that have vectors, and what is found of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points
from qtpy.QtCore import QObject, Signal

from napari_synapse_cl.data import pd
from napari_synapse_cl.widgets.explore.coloring import Coloring, Entry, Scale
from napari_synapse_cl.widgets.explore.sources import Spaces, among, of_rows
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, is_channel

if TYPE_CHECKING:
    from napari_synapse_cl.features.neighbours import Metric, Space
    from napari_synapse_cl.features.vectors import VectorTable

MOST_FRAMED = 10_000
"""Points that napari frames without being still for long; of more that are selected it frames
none."""


BEFOREHAND = ("adding", "removing", "changing")
"""What napari says is about to be done to points."""


class Exploration(QObject):
    """Rows of a table, which are the points of a layer, and what is found of them.

    What is selected here and in the viewer is the same. All is for the window's thread, unless it
    says otherwise.

    Attributes
    ----------
    layer
        The points; None where nothing is explored.
    vectors
        Their vectors, a row a point, in the order of the layer: `rows` are those that have one.
    selected
        Sorted int64 row numbers.
    order, order_title, scores
        Which rows are shown one after the other, int64; after what they are ordered; and a number
        for each of those that are shown, None without.
    color_column
        The column that colours stand for, None for the layer's own.
    hidden
        Labels of the legend that are not shown.
    """

    rows_changed = Signal()
    """Emitted when there are other rows: another table, points added or deleted."""
    selected_changed = Signal()
    order_changed = Signal()
    """Emitted when other rows are shown, or in another order."""
    colors_changed = Signal()
    """Emitted when colours, the legend, or what is hidden changes."""
    columns_changed = Signal(str)
    """Emitted with the name of a column that is new or has other values; empty for any of them."""
    moved = Signal()
    """Emitted when points lie elsewhere."""
    outdated = Signal()
    """Emitted when the layer was given other features: its vectors are to be read again."""

    def __init__(self) -> None:
        super().__init__()
        self._is_own = False
        self._clear()

    def _clear(self) -> None:
        self.layer: Points | None = None
        self.vectors: VectorTable | None = None
        self.selected = np.empty(0, np.int64)
        self.order = np.empty(0, np.int64)
        self.order_title = ""
        self.scores: np.ndarray | None = None
        self.color_column: str | None = None
        self._coloring = Coloring(np.empty((0, 4), np.uint8))
        self.hidden: frozenset[str] = frozenset()
        self._frame: Any = None
        self._spaces = Spaces()

    @property
    def n(self) -> int:
        """How many rows there are."""
        return 0 if self.vectors is None else len(self.vectors.values)

    def explore(self, layer: Points, vectors: VectorTable) -> None:
        """Explore the points of a layer, in place of what was explored.

        Parameters
        ----------
        vectors
            A row for each point of the layer.
        """
        self._unfollow()
        self._clear()
        self.layer, self.vectors = layer, vectors
        self._frame = layer.features
        layer.events.data.connect(self._on_data)
        layer.events.features.connect(self._on_features)
        layer.selected_data.events.items_changed.connect(self._on_selection)
        self.selected = self._selected_in_layer()
        self.order = np.arange(self.n)
        self._color()
        self._tell_all()

    def leave(self) -> None:
        """Explore nothing."""
        if self.layer is None:
            return
        self._unfollow()
        self._clear()
        self._tell_all()

    def _unfollow(self) -> None:
        if self.layer is None:
            return
        self.layer.events.data.disconnect(self._on_data)
        self.layer.events.features.disconnect(self._on_features)
        self.layer.selected_data.events.items_changed.disconnect(self._on_selection)
        self._show(np.ones(len(self.layer.data), bool))

    def _tell_all(self) -> None:
        self.rows_changed.emit()
        self.selected_changed.emit()
        self.order_changed.emit()
        self.colors_changed.emit()

    def select(self, rows: Sequence[int] | np.ndarray) -> None:
        """Select rows, here and in the viewer; rows that there are not are left out."""
        rows = np.unique(np.asarray(rows, np.int64))
        rows = rows[(rows >= 0) & (rows < self.n)]
        if np.array_equal(rows, self.selected) or self.layer is None:
            return
        self.selected = rows
        with self._own():
            # napari's setter looks through all columns, of which there may be a thousand.
            framed = rows.tolist() if len(rows) <= MOST_FRAMED else []
            self.layer.selected_data.replace_selection(framed)
            self.layer.refresh(thumbnail=False, data_displayed=False, extent=False)
        self.selected_changed.emit()

    @property
    def selected_vectors(self) -> np.ndarray:
        """Sorted int64 numbers of the selected rows that have a vector."""
        if self.vectors is None:
            return self.selected
        return self.selected[among(self.selected, self.vectors.rows)]

    def set_order(self, rows: np.ndarray, title: str, scores: np.ndarray | None = None) -> None:
        """Show some rows, or all, one after the other.

        Parameters
        ----------
        rows
            ``(m,)`` row numbers.
        title
            After what they are ordered, as in "similar to 3".
        scores
            ``(m,)``, a number for each.
        """
        self.order, self.order_title, self.scores = np.asarray(rows, np.int64), title, scores
        self.order_changed.emit()

    @property
    def column_names(self) -> list[str]:
        """Names of the columns that are no channels of a vector."""
        if self.layer is None:
            return []
        names = map(str, self.layer.features.columns)
        return [name for name in names if not is_channel(name)]

    def column(self, name: str) -> pd.Series:
        """Return the n cells of a column; KeyError if there is none of this name."""
        assert self.layer is not None
        columns = self.layer.features.columns
        named = {str(column): column for column in columns}
        return self.layer.features[named[name]]

    def set_column(self, name: str, values: Any, record: dict[str, Any] | None = None) -> None:
        """Add a column to the layer's features, or give it other values.

        Parameters
        ----------
        values
            n of them.
        record
            Where they come from, in plain types; the layer's metadata keep it.
        """
        layer = self.layer
        assert layer is not None
        column = pd.Series(values, index=range(self.n), name=name)
        with self._own():
            if name in layer.features.columns:
                # Assigned, a table of a thousand columns is looked through.
                layer.features[name] = column
                layer.events.features()
            else:
                layer.features = layer.features.assign(**{name: column})
            if record is not None:
                origins = {**layer.metadata.get(METADATA_KEY, {}), name: record}
                layer.metadata = {**layer.metadata, METADATA_KEY: origins}
        self._frame = layer.features
        self._tell_column(name)

    def _tell_column(self, name: str) -> None:
        self.columns_changed.emit(name)
        if self.color_column is not None and name in ("", self.color_column):
            kept = self.color_column if self.color_column in self.column_names else None
            self.color_by(kept)

    def color_by(self, name: str | None) -> None:
        """Colour all rows by a column, here and in the viewer; None leaves the layer's colours.

        Labels that are hidden stay so where the new legend has them.
        """
        self.color_column = name
        self._color()
        self._show(self.visible)
        self.colors_changed.emit()

    def toggle(self, label: str) -> None:
        """Hide the rows of a label in the legend, here and in the viewer, or show them again."""
        self.hidden = self.hidden ^ {label}
        self._show(self.visible)
        self.colors_changed.emit()

    @property
    def colors(self) -> np.ndarray:
        """``(n, 4)`` uint8, without regard to what is hidden."""
        return self._coloring.colors

    @property
    def legend(self) -> tuple[Entry, ...]:
        """What colours of classes mean, rows without a value last."""
        return self._coloring.legend

    @property
    def scale(self) -> Scale | None:
        """What colours of numbers mean, if they do."""
        return self._coloring.scale

    @property
    def visible(self) -> np.ndarray:
        """``(n,)`` bool, the rows that are not hidden."""
        return self._coloring.visible(self.hidden)

    def _color(self) -> None:
        """Find the colours of all rows, and give them to the layer."""
        assert self.layer is not None
        if self.color_column is None:
            self._coloring = Coloring.of_layer(self.layer)
        else:
            self._coloring = Coloring.of_values(self.column(self.color_column))
            self.layer.face_color = self.colors / 255
        self.hidden &= {entry.label for entry in self.legend}

    def _show(self, shown: np.ndarray) -> None:
        assert self.layer is not None
        if not np.array_equal(self.layer.shown, shown):
            self.layer.shown = shown

    def space(self, metric: Metric, vectors: VectorTable | None = None) -> Space:
        """Return the vectors of the rows that have one; of a million in seconds, in any thread."""
        vectors = vectors or self.vectors
        assert vectors is not None
        return self._spaces.of(vectors, metric)

    @contextmanager
    def _own(self) -> Iterator[None]:
        """Do not listen to the layer meanwhile: what changes is told otherwise."""
        before, self._is_own = self._is_own, True
        try:
            yield
        finally:
            self._is_own = before

    def _selected_in_layer(self) -> np.ndarray:
        assert self.layer is not None
        chosen = self.layer.selected_data
        return np.sort(np.fromiter(chosen, np.int64, len(chosen)))

    def _on_selection(self, event: Any = None) -> None:
        assert self.layer is not None
        # While points are deleted, what is selected counts otherwise already.
        if self._is_own or len(self.layer.data) != self.n:
            return
        selected = self._selected_in_layer()
        if not np.array_equal(selected, self.selected):
            self.selected = selected
            self.selected_changed.emit()

    def _on_features(self, event: Any = None) -> None:
        assert self.layer is not None
        # Moved points make this event too, and their table is the same.
        if self._is_own or self.layer.features is self._frame:
            return
        self._frame = self.layer.features
        self._tell_column("")
        self.outdated.emit()

    def _on_data(self, event: Any) -> None:
        assert self.layer is not None
        assert self.vectors is not None
        if event.action in BEFOREHAND:
            return
        n, before = len(self.layer.data), self.n
        self._frame = self.layer.features
        if n == before:
            self.moved.emit()
            return
        removed = np.asarray(event.data_indices, np.int64)
        if n < before and len(removed) != before - n:
            # napari takes the last away, whatever was deleted.
            removed = np.arange(n, before)
        kept = np.delete(np.arange(before), removed) if n < before else np.arange(n)
        self.vectors = of_rows(self.vectors, kept)
        numbers = np.full(before, -1)
        numbers[kept[kept < before]] = np.flatnonzero(kept < before)
        shown = numbers[self.order]
        if self.scores is not None:
            self.scores = self.scores[shown >= 0]
        # Those that were added come last; of a choice of rows they are none.
        added = np.arange(before, n) if len(self.order) == before else np.empty(0, np.int64)
        if self.scores is not None and len(added):
            self.scores = np.concatenate([self.scores, np.full(len(added), np.nan)])
        self.order = np.concatenate([shown[shown >= 0], added])
        self.selected = self._selected_in_layer()
        self._color()
        self._tell_all()
