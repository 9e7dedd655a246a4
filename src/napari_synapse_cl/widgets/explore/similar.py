"""Find the rows most like some, or like a place in the volume, and least like others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_synapse_cl.system.words import counted
from napari_synapse_cl.widgets.button_rows import Buttons
from napari_synapse_cl.widgets.explore.controls import MetricBox
from napari_synapse_cl.widgets.explore.place import Place, PlaceReader
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layers.features import free_name
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import button, expected, tell

if TYPE_CHECKING:
    from napari_synapse_cl.features.neighbours import Metric

MOST = 1000
"""Rows that are ranked: nobody looks at more."""
COLUMN = "similarity"


@dataclass(frozen=True, eq=False)
class Query:
    """What is looked for."""

    state: Exploration
    vectors: Any
    """What the rows are numbers in; others are of no use by then."""
    like: np.ndarray
    unlike: np.ndarray
    metric: Metric
    place: Place | None = None
    """What is looked for beside these rows."""


class SimilarPanel(QWidget):
    """Buttons that look for rows like those that are selected.

    Attributes
    ----------
    like, unlike
        Row numbers of what was asked for.
    place
        What was asked for where no row is.
    """

    told = Signal(str)
    """Emitted with what was found, in words."""

    def __init__(self, state: Exploration, places: PlaceReader) -> None:
        super().__init__()
        self._state = state
        self.places = places
        self.place: Place | None = None
        self.like = self.unlike = np.empty(0, np.int64)
        self.find_button = button(
            "Find similar",
            "<qt>Show the crops most similar to those that are selected, the most similar "
            "first</qt>",
            self.find,
        )
        self.unlike_button = button(
            "Not like these",
            "<qt>Look again, for what is like those before, and unlike those that are selected "
            "now</qt>",
            self.exclude,
        )
        self.metric_box = MetricBox(
            "The score is the mean cosine, or minus the mean distance; of what it is to be unlike "
            "it is taken away."
        )
        self.column_button = button(
            "Add as column",
            "<qt>Keep the scores as a column of the layer; rows that are not shown have none</qt>",
            self.add_column,
        )
        self._found: tuple[Query, np.ndarray, np.ndarray] | None = None
        self._searcher = LatestOnly(_search)
        self._searcher.done.connect(self._show)
        self._searcher.failed.connect(lambda error: tell(expected(error)))
        # The first question would wait for it.
        self._preparer = LatestOnly(_prepare)
        layout = bare(QVBoxLayout(self))
        layout.addWidget(Buttons((self.find_button, self.unlike_button, places.button)))
        layout.addWidget(Buttons((self.metric_box, self.column_button)))
        self.metric_box.activated.connect(self._ask)
        places.read.connect(self._find_like_place)
        places.told.connect(self.told)
        state.selected_changed.connect(self._update)
        state.rows_changed.connect(self._forget)
        self._update()

    def find(self) -> None:
        """Look for rows like those that are selected."""
        self.like, self.unlike = self._state.selected_vectors, np.empty(0, np.int64)
        self.place = None
        self._ask()

    def exclude(self) -> None:
        """Look again, for rows unlike those that are selected."""
        self.unlike = np.union1d(self.unlike, np.setdiff1d(self._state.selected_vectors, self.like))
        self._ask()

    def add_column(self) -> None:
        """Keep the scores of what was found as a column."""
        if self._found is None:
            return
        query, rows, scores = self._found
        values = np.full(self._state.n, np.nan)
        values[rows] = scores
        name = free_name(COLUMN, self._state.column_names)
        self._state.set_column(
            name,
            values,
            {
                "found": "similar",
                "vectors": list(query.vectors.names),
                "like": query.like.tolist(),
                "unlike": query.unlike.tolist(),
                **({} if query.place is None else {"place": list(query.place.voxel)}),
                "distance": query.metric,
            },
        )
        self.told.emit(f"the scores are the column {name}")

    def release(self) -> None:
        """Look for nothing any more."""
        self.places.release()
        self._searcher.forget()
        self._preparer.forget()

    def _find_like_place(self, place: Place) -> None:
        if place.vectors is self._state.vectors:
            self.like = self.unlike = np.empty(0, np.int64)
            self.place = place
            self._ask()

    def _ask(self) -> None:
        if not len(self.like) and self.place is None:
            if len(self._state.selected):
                self.told.emit("what is selected has no vector, or one that is not finite")
            return
        metric = self.metric_box.chosen
        vectors = self._state.vectors
        query = Query(self._state, vectors, self.like, self.unlike, metric, self.place)
        self._searcher.ask(query)

    def _show(self, found: tuple[Query, np.ndarray, np.ndarray]) -> None:
        query, rows, scores = found
        if query.vectors is not self._state.vectors:
            return
        self._found = found
        title = f"similar to {_named(query.like) if query.place is None else query.place}"
        if len(query.unlike):
            title += f", unlike {_named(query.unlike)}"
        # First what was asked for: by it one judges the others.
        order = np.concatenate([query.like, rows])
        none = np.full(len(query.like), np.nan)
        self._state.set_order(order, title, np.concatenate([none, scores]))
        text = f"{counted(len(rows), 'row')} {title}"
        if len(rows):
            text += f", with scores from {scores[0]:.2f} to {scores[-1]:.2f}".replace("-", "−")
        self.told.emit(text)
        self._update()

    def _forget(self) -> None:
        self.like = self.unlike = np.empty(0, np.int64)
        self.place = self._found = None
        self._searcher.forget()
        self._update()
        if self._state.vectors is not None:
            metric = self.metric_box.chosen
            self._preparer.ask(self._state, self._state.vectors, metric)

    def _update(self) -> None:
        is_selected = bool(len(self._state.selected))
        self.find_button.setEnabled(is_selected)
        is_asked = bool(len(self.like)) or self.place is not None
        self.unlike_button.setEnabled(is_selected and is_asked)
        self.column_button.setEnabled(self._found is not None)


def _named(rows: np.ndarray) -> str:
    return str(rows[0]) if len(rows) == 1 else counted(len(rows), "row")


def _prepare(state: Exploration, vectors: Any, metric: Metric) -> None:
    """Bring vectors to one scale."""
    if len(vectors.rows):
        state.space(metric, vectors)


def _search(query: Query) -> tuple[Query, np.ndarray, np.ndarray]:
    """Return the rows most similar to some, and their scores."""
    space = query.state.space(query.metric, query.vectors)
    known = query.vectors.rows
    like, unlike = (np.searchsorted(known, some) for some in (query.like, query.unlike))
    wanted = space.points[like]
    if query.place is not None:
        from napari_synapse_cl.features.vectors import Scaling

        scaling = Scaling.of(query.vectors.values[known], query.vectors.sizes)
        wanted = scaling.apply(query.place.values)
    numbers, scores = space.similar(
        wanted, space.points[unlike], MOST, np.union1d(like, unlike).tolist()
    )
    return query, known[numbers], scores
