"""Rows that are the points of a layer: their columns, and their colours by one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points
from qtpy.QtCore import QObject, Signal

from napari_synapse_cl.data import pd
from napari_synapse_cl.widgets.explore.coloring import Coloring, Entry, Scale
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, free_name, is_channel

if TYPE_CHECKING:
    from napari_synapse_cl.features.vectors import VectorTable

AT_ONCE = 50_000
"""Rows that are coloured at once; more are in a worker."""


class Rows(QObject):
    """The points of a layer as rows of a table, coloured here and in the viewer.

    Attributes
    ----------
    layer
        The points; None where there are none.
    vectors
        Their vectors, a row a point, in the order of the layer: `rows` are those that have one.
    color_column
        The column that colours stand for, None for the layer's own.
    hidden
        Labels of the legend that are not shown.
    palette
        Colours of classes by their labels, as #rrggbb, in place of those that they get by turns.
    """

    colors_changed = Signal()
    """Emitted when colours, the legend, or what is hidden changes."""
    columns_changed = Signal(str)
    """Emitted with the name of a column that is new or has other values; empty for any of them."""

    def __init__(self) -> None:
        super().__init__()
        self._is_own = self._hides = False
        self.palette: dict[str, str] = {}
        self._colorer = LatestOnly(_colored)
        self._colorer.done.connect(self._take_colors)
        self._clear()

    def _clear(self) -> None:
        self.layer: Points | None = None
        self.vectors: VectorTable | None = None
        self.color_column: str | None = None
        self._coloring = Coloring(np.empty((0, 4), np.uint8))
        self.hidden: frozenset[str] = frozenset()
        self._frame: Any = None

    @property
    def n(self) -> int:
        """How many rows there are."""
        return 0 if self.vectors is None else len(self.vectors.values)

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

    def own_name(self, name: str, found: str) -> str:
        """Return a name for a column: this one, if there is none or what is there is ours too.

        Parameters
        ----------
        found
            What the record of ours says under "found".
        """
        assert self.layer is not None
        records = self.layer.metadata.get(METADATA_KEY, {})
        known = records.get(name) if isinstance(records, dict) else None
        if isinstance(known, dict) and known.get("found") == found:
            return name
        return free_name(name, self.column_names)

    def remove_column(self, name: str) -> None:
        """Remove a column from the layer's features, and what is known of it."""
        layer = self.layer
        assert layer is not None
        with self._own():
            layer.features = layer.features.drop(columns=[name])
            kept = dict(layer.metadata.get(METADATA_KEY, {}))
            kept.pop(name, None)
            layer.metadata = {**layer.metadata, METADATA_KEY: kept}
        self._frame = layer.features
        self._tell_column(name)

    def color_by(self, name: str | None) -> None:
        """Colour all rows by a column, here and in the viewer; None leaves the layer's colours.

        Labels that are hidden stay so where the new legend has them.
        """
        assert self.layer is not None
        # Classes keep their colours for as long as one looks at them, whoever comes or goes.
        kept = {one.label: one.color for one in self.legend} if name == self.color_column else {}
        self.color_column = name
        if name is None:
            self._coloring = Coloring.of_layer(self.layer)
            self._tell_colors()
        elif self.n <= AT_ONCE:
            self._give_colors(Coloring.of_values(self.column(name), {**kept, **self.palette}))
        else:
            palette = {**kept, **self.palette}
            self._colorer.ask(self.vectors, name, self.column(name).copy(), palette)

    def toggle(self, label: str) -> None:
        """Hide the rows of a label in the legend, here and in the viewer, or show them again."""
        self.hidden = self.hidden ^ {label}
        self._tell_colors()

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

    def _take_colors(self, found: tuple[Any, str, Coloring]) -> None:
        vectors, name, coloring = found
        if vectors is self.vectors and name == self.color_column:
            self._give_colors(coloring)

    def _give_colors(self, coloring: Coloring) -> None:
        assert self.layer is not None
        self._coloring = coloring
        # In double precision it would take twice the time, and napari makes it single anyway.
        self.layer.face_color = self.colors / np.float32(255)
        self._tell_colors()

    def _tell_colors(self) -> None:
        self.hidden &= {entry.label for entry in self.legend}
        self._show()
        self.colors_changed.emit()

    def _show(self) -> None:
        """Hide in the viewer what is hidden; what a person hides there otherwise stays so."""
        assert self.layer is not None
        if self.hidden or self._hides:
            self.layer.shown = self.visible
        self._hides = bool(self.hidden)

    def _tell_column(self, name: str) -> None:
        self.columns_changed.emit(name)
        if self.color_column is not None and name in ("", self.color_column):
            self.color_by(self.color_column if self.color_column in self.column_names else None)

    @contextmanager
    def _own(self) -> Iterator[None]:
        """Do not listen to the layer meanwhile: what changes is told otherwise."""
        before, self._is_own = self._is_own, True
        try:
            yield
        finally:
            self._is_own = before


def _colored(
    vectors: Any, name: str, values: pd.Series, palette: dict[str, str]
) -> tuple[Any, str, Coloring]:
    return vectors, name, Coloring.of_values(values, palette)
