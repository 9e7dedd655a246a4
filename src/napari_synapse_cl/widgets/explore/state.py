"""What is explored: the points of a layer that have vectors, and what is found of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points
from qtpy.QtCore import Signal

from napari_synapse_cl.widgets.explore.coloring import Coloring
from napari_synapse_cl.widgets.explore.rows import Rows
from napari_synapse_cl.widgets.explore.sources import Spaces, among, of_rows

if TYPE_CHECKING:
    from napari_synapse_cl.features.neighbours import Metric, Space
    from napari_synapse_cl.features.vectors import VectorTable

MOST_FRAMED = 10_000
"""Points that napari frames without being still for long; of more that are selected it frames
none."""


BEFOREHAND = ("adding", "removing", "changing")
"""What napari says is about to be done to points."""


def frame(layer: Points, rows: np.ndarray) -> None:
    """Select points of a layer, and frame them in the viewer; none where they are too many.

    napari's setter looks through all columns, of which there may be a thousand; its set of what is
    selected tells of each point that comes and goes, and holds all it tells until the last one: of
    ten thousand Python then looks through all that it holds.
    """
    framed = rows.tolist() if len(rows) <= MOST_FRAMED else []
    selected = layer.selected_data
    before, after = set(selected), set(framed)
    with selected.events.items_changed.blocked():
        selected.clear()
        selected.update(framed)
    if before != after:
        selected.events.items_changed.emit(tuple(after - before), tuple(before - after))
    # It copies what is selected for the frames each time: once while slicing is enough.
    layer.refresh(thumbnail=False, data_displayed=False, extent=False, highlight=False)
    layer.events.highlight()


class Exploration(Rows):
    """Rows of a table, which are the points of a layer, and what is found of them.

    What is selected here and in the viewer is the same. All is for the window's thread, unless it
    says otherwise.

    Attributes
    ----------
    selected
        Sorted int64 row numbers.
    order, order_title, scores
        Which rows are shown one after the other, int64; after what they are ordered; and a number
        for each of those that are shown, None without.
    rows_before
        ``(n,)`` int64, which row each was before rows came or went, -1 for new ones; else None.
    """

    rows_changed = Signal()
    """Emitted when there are other rows: another table, points added or deleted."""
    selected_changed = Signal()
    order_changed = Signal()
    """Emitted when other rows are shown, or in another order."""
    ordered = Signal()
    """Emitted when another order was asked for, and not when points come or go."""
    moved = Signal()
    """Emitted when points lie elsewhere."""
    outdated = Signal()
    """Emitted when the layer was given other features: its vectors are to be read again."""

    def _clear(self) -> None:
        super()._clear()
        self.selected = np.empty(0, np.int64)
        self.order = np.empty(0, np.int64)
        self.order_title = ""
        self.scores: np.ndarray | None = None
        self.rows_before: np.ndarray | None = None
        self._spaces = Spaces()

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
        self._coloring = Coloring.of_layer(layer)
        self._tell_all()

    def leave(self) -> None:
        """Explore nothing."""
        if self.layer is None:
            return
        self._colorer.forget()
        self._unfollow()
        self._clear()
        self._tell_all()

    def _unfollow(self) -> None:
        if self.layer is None:
            return
        self.layer.events.data.disconnect(self._on_data)
        self.layer.events.features.disconnect(self._on_features)
        self.layer.selected_data.events.items_changed.disconnect(self._on_selection)
        self.hidden = frozenset()
        self._show()

    def _tell_all(self) -> None:
        self.rows_changed.emit()
        self.selected_changed.emit()
        self.order_changed.emit()
        self.colors_changed.emit()

    def select(self, rows: Sequence[int] | np.ndarray) -> None:
        """Select rows, here and in the viewer; rows that there are not are left out."""
        rows, chosen = np.asarray(rows, np.int64), np.zeros(self.n, bool)
        chosen[rows[(rows >= 0) & (rows < self.n)]] = True
        # Where most of a million are selected NumPy's unique takes seconds.
        rows = np.flatnonzero(chosen)
        if np.array_equal(rows, self.selected) or self.layer is None:
            return
        self.selected = rows
        with self._own():
            frame(self.layer, rows)
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
        self.ordered.emit()

    def space(self, metric: Metric, vectors: VectorTable | None = None) -> Space:
        """Return the vectors of the rows that have one; of a million in seconds, in any thread."""
        vectors = vectors or self.vectors
        assert vectors is not None
        return self._spaces.of(vectors, metric)

    def _selected_in_layer(self) -> np.ndarray:
        assert self.layer is not None
        # napari may keep those selected that a shorter list of points no longer has.
        chosen, n = self.layer.selected_data, len(self.layer.data)
        return np.array(sorted(row for row in chosen if row < n), np.int64)

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
        self.rows_before = np.where(kept < before, kept, -1)
        self._coloring = self._coloring.of_rows(self.rows_before)
        self._tell_all()
        if self.color_column is not None:
            self.color_by(self.color_column)
