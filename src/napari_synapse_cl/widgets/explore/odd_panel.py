"""Find the odd ones, and strike out those that are no synapses."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.widgets.button_rows import Buttons
from napari_synapse_cl.widgets.explore.controls import ColumnChoice, MetricBox
from napari_synapse_cl.widgets.explore.labelling.marks import StruckOut
from napari_synapse_cl.widgets.explore.search import Search
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.layers.features import free_name
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import button, expected, paragraph, sentence, tell, telling

if TYPE_CHECKING:
    from napari_synapse_cl.features.neighbours import Metric, Neighbours, Step

N_NEIGHBOURS = 15


@dataclass(frozen=True, eq=False)
class Oddness:
    """How odd rows are."""

    state: Exploration
    vectors: Any
    """What the rows are numbers in; others are of no use by then."""
    column: str | None
    labels: np.ndarray | None
    """``(n,)`` texts, empty where there is none: by them, or by distances alone."""
    metric: Metric
    neighbours: Neighbours | None = None
    """Of all rows with a vector."""
    values: np.ndarray | None = None
    """``(n,)`` float64, the larger the odder; NaN where that is not known."""
    words: str = ""


class OddPanel(QWidget):
    """Shows the rows that are unlike their neighbours first, and strikes rows out.

    Attributes
    ----------
    struck
        What is struck out.
    by_box
        By what it is told how odd a row is.
    """

    told = Signal(str)
    """Emitted with what happened, in words."""
    struck_one = Signal()
    """Emitted when what is selected was struck out."""

    def __init__(self, state: Exploration) -> None:
        super().__init__()
        self._state = state
        self.struck = StruckOut(state)
        self.by_box = ColumnChoice(state, "By distance to neighbours", "By neighbours’")
        self.by_box.setAccessibleName("How odd")
        self.by_box.setToolTip(
            f"<qt>By the mean distance of the {N_NEIGHBOURS} nearest, or by the share of them that "
            "has another class in a column: where that is large the class may be wrong</qt>"
        )
        self.metric_box = MetricBox(
            "Wrong ones that are alike are near each other, and may be odd by the one and not by "
            "the other."
        )
        self.find_button = button("", clicked=self._find_or_stop)
        self.column_button = button(
            "Add as column", "Keep how odd each is as a column of the layer", self.add_column
        )
        self.strike_button = button("", clicked=self.strike)
        self.undo_button = button("Undo", "Take back the last one (Ctrl+Z)", self.struck.undo)
        self.redo_button = button("Redo", "Do it again (Ctrl+Shift+Z)", self.struck.redo)
        self.count = paragraph()
        self._found: Oddness | None = None
        self._search = Search(_look)
        self._search.done.connect(self._show)
        self._search.failed.connect(lambda error: tell(expected(error)))
        self._search.told.connect(self.told)
        self._search.changed.connect(self._update)
        # With napari the panel is closed without a word.
        self.destroyed.connect(self._search.stop)
        self.struck.changed.connect(self._update)
        self.struck.told.connect(self.told)
        state.selected_changed.connect(self._update)
        state.rows_changed.connect(self._forget)
        layout = bare(QVBoxLayout(self))
        layout.addWidget(Buttons((self.by_box, self.metric_box)))
        layout.addWidget(Buttons((self.find_button, self.column_button)))
        layout.addWidget(Buttons((self.strike_button, self.undo_button, self.redo_button)))
        layout.addWidget(self.count)
        self._update()

    def find(self) -> None:
        """Show the odd ones first."""
        state, column = self._state, self.by_box.column
        if state.vectors is None:
            return
        labels = None
        if column is not None:
            cells = state.column(column).astype(object)
            labels = cells.map(str, na_action="ignore").where(cells.notna(), "").to_numpy(str)
        known, metric = self._found, self.metric_box.chosen
        again = None if known is None or known.metric != metric else known.neighbours
        self._search.start(Oddness(state, state.vectors, column, labels, metric, again))

    def strike(self) -> None:
        """Strike out what is selected, or have it back where all of it is struck out."""
        rows = self._state.selected
        if not len(rows):
            self.told.emit("nothing is selected that could be struck out")
            return
        with telling():
            self.struck.assign(rows, not self._are_struck())
            self.struck_one.emit()

    def add_column(self) -> None:
        """Keep how odd rows are as a column."""
        found = self._found
        if found is None:
            return
        name = "outlier_distance" if found.column is None else "label_disagreement"
        name = free_name(name, self._state.column_names)
        record = {
            "found": "outliers",
            "vectors": list(found.vectors.names),
            "neighbours": N_NEIGHBOURS,
            "distance": found.metric,
            "label_column": found.column,
        }
        self._state.set_column(name, found.values, record)
        self.told.emit(f"how odd each is stands in the column {name}")

    def release(self) -> None:
        """Look for nothing any more."""
        self._search.stop()

    def _find_or_stop(self) -> None:
        if self._search.is_running:
            self._search.stop()
            self.told.emit("stopped")
        else:
            self.find()

    def _are_struck(self) -> bool:
        rows = self._state.selected
        return bool(len(rows)) and bool(self.struck.values[rows].all())

    def _show(self, found: Oddness) -> None:
        if found.vectors is not self._state.vectors:
            return
        assert found.values is not None
        self._found = found
        rows = np.flatnonzero(np.isfinite(found.values))
        rows = rows[np.argsort(-found.values[rows], kind="stable")]
        title = "far from neighbours" if found.column is None else f"unlike in {found.column}"
        self._state.set_order(rows, title, found.values[rows])
        self.told.emit(found.words)
        self._update()

    def _forget(self) -> None:
        self._found = None
        self._search.stop()
        self._update()

    def _update(self) -> None:
        is_running, is_there = self._search.is_running, self._state.vectors is not None
        self.find_button.setText("Stop" if is_running else "Show odd ones")
        self.find_button.setToolTip(
            "End the search" if is_running else "Show what is least like its neighbours first"
        )
        self.find_button.setEnabled(is_there)
        self.column_button.setEnabled(self._found is not None)
        self.strike_button.setText("Have back" if self._are_struck() else "Strike out")
        self.strike_button.setToolTip(
            "<qt>Strike out what is selected, or have it back (X, while the gallery has the "
            "focus)</qt>"
        )
        self.strike_button.setEnabled(bool(len(self._state.selected)))
        self.undo_button.setEnabled(self.struck.can_undo)
        self.redo_button.setEnabled(self.struck.can_redo)
        n = self.struck.n
        text = "nothing is struck out"
        if n:
            text = (
                f"{n:,} struck out, as the column {self.struck.column} says: no training learns "
                "from them; features are extracted all the same"
            )
        self.count.setText(f"<small>{sentence(text)}</small>")


def _look(asked: Oddness) -> Generator[Step, None, Oddness]:
    """Find how odd rows are, and yield how far that is.

    Raises
    ------
    InputError
        If that cannot be told.
    """
    from napari_synapse_cl.features.neighbours import disagreement, find_neighbours, oddness
    from napari_synapse_cl.features.vectors import check_classes

    vectors = asked.vectors
    rows = vectors.rows
    if len(rows) < 2:
        raise InputError("odd ones are told from others, and there are no two with a vector")
    if asked.labels is not None:
        known = asked.labels[rows]
        known = known[known != ""]
        if len(np.unique(known)) < 2:
            raise InputError(f"neighbours cannot disagree in {asked.column}: it has no two classes")
        check_classes(known, asked.column)
    near = asked.neighbours
    if near is None:
        near = yield from find_neighbours(asked.state.space(asked.metric, vectors), N_NEIGHBOURS)
    values = np.full(len(vectors.values), np.nan)
    if asked.labels is None:
        values[rows] = oddness(near)[0]
        words = f"{counted(len(rows), 'row')}, those farthest from their neighbours first"
    else:
        values[rows] = disagreement(near, asked.labels[rows])
        n, n_against = np.isfinite(values).sum(), (values > 1 / 2).sum()
        words = (
            f"of {counted(int(n), 'row')} with a class in {asked.column}, {n_against:,} have more "
            "neighbours of another class than of their own"
        )
    return replace(asked, neighbours=near, values=values, words=words)
