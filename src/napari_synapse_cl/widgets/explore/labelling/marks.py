"""What a person writes into a column, row by row, and takes back, such as what is struck out."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Points
from qtpy.QtCore import QObject, Signal

from napari_synapse_cl.data import pd
from napari_synapse_cl.data.parts import STRUCK_OUT
from napari_synapse_cl.data.tables.columns import truths_said
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.widgets.explore.labelling.keeping import Keeper, found_again, kept_of
from napari_synapse_cl.widgets.explore.state import Exploration

Step = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows, and their marks before and after."""


class Marks(QObject):
    """A column of what is explored that a person fills in, with a way back.

    Parameters
    ----------
    column
        Its name.

    Attributes
    ----------
    column
        Its name; the column is there from the first mark on.
    """

    changed = Signal()
    """Emitted when marks are others."""
    told = Signal(str)
    """Emitted with what happened, in words."""

    def __init__(self, state: Exploration, column: str) -> None:
        super().__init__()
        self._state = state
        self.column = column
        self._done: list[Step] = []
        self._undone: list[Step] = []
        self._layer: Points | None = None
        self._values: np.ndarray | None = None
        self._is_own = False
        state.rows_changed.connect(self._on_rows)
        state.columns_changed.connect(self._on_column)

    @property
    def values(self) -> np.ndarray:
        """``(n,)``, the mark of each row; not to be written into."""
        if self._values is None:
            self._values = self._read()
        return self._values

    @property
    def can_undo(self) -> bool:
        """Whether :meth:`undo` would change anything."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether :meth:`redo` would change anything."""
        return bool(self._undone)

    def assign(self, rows: np.ndarray, mark: Any) -> None:
        """Give rows a mark."""
        before = self.values[rows]
        after = np.full(len(rows), mark, before.dtype)
        # One comes to a row that has it without a step.
        if len(rows) and not (before == after).all():
            self._undone.clear()
            self._done.append((rows, before, after))
            self._apply(rows, after)

    def undo(self) -> None:
        """Take back what was done last."""
        if self._done:
            step = self._done.pop()
            self._undone.append(step)
            self._apply(step[0], step[1])

    def redo(self) -> None:
        """Do again what was taken back last."""
        if self._undone:
            step = self._undone.pop()
            self._done.append(step)
            self._apply(step[0], step[2])

    def _read(self) -> np.ndarray:
        """Return the marks that the column holds, if it is there."""
        raise NotImplementedError

    def _apply(self, rows: np.ndarray, marks: np.ndarray) -> None:
        """Give each of some rows its mark."""
        values = self.values.copy()
        values[rows] = marks
        self._write(values)

    def _write(self, values: np.ndarray) -> None:
        self._values = values
        self._is_own = True
        # Of a million objects pandas would make texts of its own each time.
        self._state.set_column(self.column, pd.Series(values, dtype=values.dtype))
        self._is_own = False
        self.changed.emit()

    def _begin(self) -> None:
        """Look at another layer, or another column."""
        self._forget_steps()
        self._values = None
        self.changed.emit()

    def _forget_steps(self) -> None:
        self._done.clear()
        self._undone.clear()

    def _on_rows(self) -> None:
        self._values = None
        if self._state.layer is not self._layer or self._layer is None:
            self._layer = self._state.layer
            self._begin()
            return
        if self._state.rows_before is not None and (self._done or self._undone):
            # They count rows as they were.
            self._forget_steps()
            self.told.emit(
                f"points came or went: what was changed in {self.column} before can no longer be "
                "undone"
            )
        self.changed.emit()

    def _on_column(self, name: str) -> None:
        if name in ("", self.column) and not self._is_own:
            self._values = None
            self.changed.emit()


class StruckOut(Marks):
    """Rows that a person has struck out, since they are no synapses: no training learns from them.

    The column is of booleans; what it says otherwise, in words that are understood, counts too.
    Every change is written to a file at once, and found again when the same points are explored
    without that column.
    """

    def __init__(self, state: Exploration) -> None:
        super().__init__(state, STRUCK_OUT)
        self._keeper = Keeper("what is struck out", self.told.emit)

    @property
    def n(self) -> int:
        """How many are."""
        return int(self.values.sum())

    def assign(self, rows: np.ndarray, mark: Any) -> None:
        """Strike rows out, or have them back.

        Raises
        ------
        InputError
            If the column is there and holds something else than yes and no.
        """
        if self.column in self._state.column_names and self._said() is None:
            raise InputError(
                f"the column {self.column} of this layer holds something else than True, False "
                "and blanks: call it otherwise before anything is struck out"
            )
        super().assign(rows, mark)

    def _apply(self, rows: np.ndarray, marks: np.ndarray) -> None:
        super()._apply(rows, marks)
        if self._layer is not None:
            self._keeper.keep(self._layer, self.column, self.values, {})

    def _begin(self) -> None:
        super()._begin()
        if self._layer is None or self.column in self._state.column_names:
            return
        rows, _ = found_again(kept_of(self._layer, self.column), self._layer)
        if len(rows):
            self.assign(rows, True)
            self.told.emit(
                f"{counted(len(rows), 'row')} struck out before, not saved with the layer, found "
                "again: Undo takes back"
            )

    def _read(self) -> np.ndarray:
        is_there = self.column in self._state.column_names
        said = self._said() if is_there else None
        return np.zeros(self._state.n, bool) if said is None else said

    def _said(self) -> np.ndarray | None:
        return truths_said(self._state.column(self.column))

    def _on_rows(self) -> None:
        before = self._state.rows_before
        if before is not None and self._state.layer is self._layer:
            # napari gives points that are added what the last of the others has.
            self._values = None
            added = np.flatnonzero((before < 0) & self.values)
            if len(added):
                self._apply(added, np.zeros(len(added), bool))
        super()._on_rows()
