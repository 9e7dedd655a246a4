"""Labels that a person gives to rows: which, how often, taken back, and kept in a file at once."""

from __future__ import annotations

from collections import Counter

import numpy as np

from napari_synapse_cl.data import pd
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.widgets.explore.labelling.keeping import Keeper, found_again, kept_of
from napari_synapse_cl.widgets.explore.labelling.marks import Marks
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.layers.features import class_color, is_channel

COLUMN = "label"


class Labels(Marks):
    """The column of labels of what is explored, and the classes that there are.

    Labels are texts, None where there is none. Every change is written to a file at once, and found
    again when the same points are explored without that column.

    Attributes
    ----------
    classes
        Names of the classes, in the order of the keys 1 to 9.
    """

    def __init__(self, state: Exploration) -> None:
        super().__init__(state, COLUMN)
        self.classes: list[str] = []
        self._counts: tuple[np.ndarray, Counter[str | None]] | None = None
        self._keeper = Keeper("the labels", self.told.emit)

    def _read(self) -> np.ndarray:
        values = np.full(self._state.n, None, object)
        if self.column in self._state.column_names:
            cells = self._state.column(self.column).astype(object)
            texts = cells.map(str, na_action="ignore")
            known = (cells.notna() & (texts != "")).to_numpy(bool)
            values[known] = texts.to_numpy(object)[known]
        return values

    @property
    def counts(self) -> dict[str, int]:
        """How many rows each class has."""
        counts = self._counted()
        return {name: counts[name] for name in self.classes}

    def _counted(self) -> Counter[str | None]:
        values = self.values
        if self._counts is None or self._counts[0] is not values:
            # Of a million most have none; without pandas, which no dock needs to open.
            self._counts = values, Counter(name for name in values.tolist() if name is not None)
        return self._counts[1]

    def color_of(self, name: str) -> str:
        """Return the colour of a class, as #rrggbb."""
        return self._state.palette[name]

    def set_color(self, name: str, color: str) -> None:
        """Give a class a colour, as #rrggbb."""
        self._state.palette[name] = color
        if self._state.color_column == self.column:
            self._state.color_by(self.column)
        self._save()
        self.changed.emit()

    def add_class(self, name: str) -> None:
        """Add a class, if there is none of this name."""
        if name and name not in self.classes:
            self._know([name])
            self._save()
            self.changed.emit()

    def rename(self, old: str, new: str) -> None:
        """Call a class otherwise; under a name that is there both become one."""
        if not new or new == old or old not in self.classes:
            return
        place = self.classes.index(old)
        if new in self.classes:
            self.classes.remove(old)
        else:
            self.classes[place] = new
            self._state.palette[new] = self._state.palette.pop(old)
        rows = np.flatnonzero(self.values == old)
        if len(rows):
            self.assign(rows, new)
        else:
            self._save()
            self.changed.emit()

    def use(self, column: str) -> None:
        """Label in another column.

        Raises
        ------
        InputError
            If that holds something else than labels.
        """
        state = self._state
        if is_channel(column) or not column:
            raise InputError(f"a column of labels cannot be called {column or 'nothing'}")
        if column in state.column_names and state.column(column).dtype.kind in "fiumMc":
            raise InputError(f"the column {column} holds numbers or dates, and no labels")
        self.column, self.classes = column, []
        self._begin()

    def _apply(self, rows: np.ndarray, marks: np.ndarray) -> None:
        values, counts = self.values.copy(), self._counted().copy()
        counts.subtract(values[rows].tolist())
        counts.update(marks.tolist())
        values[rows] = marks
        self._know([name for name in pd.unique(marks) if name is not None])
        self._counts = values, counts
        self._write(values)
        self._save()

    def _know(self, names: list[str]) -> None:
        """Take names among the classes, each with a colour that no other has."""
        palette = self._state.palette
        for name in names:
            if name not in self.classes:
                self.classes.append(name)
            if name not in palette:
                taken = {palette[one] for one in self.classes if one in palette}
                colors = map(class_color, range(len(self.classes) + len(taken) + 1))
                palette[name] = next(c for c in colors if c not in taken)

    def _on_rows(self) -> None:
        if self._state.layer is not self._layer:
            self.column, self.classes = COLUMN, []
        super()._on_rows()

    def _begin(self) -> None:
        self._forget_steps()
        self._values = None
        if self._layer is not None:
            self._find_again()
            found = self._counted().items()
            self._know(sorted(name for name, n in found if name is not None and n > 0))
        self.changed.emit()

    def _find_again(self) -> None:
        """Take labels from the file that were not saved with the layer."""
        assert self._layer is not None
        kept = kept_of(self._layer, self.column)
        try:
            classes = [(str(name), str(color)) for name, color in kept.get("classes", [])]
        except (TypeError, ValueError):
            return
        for name, color in classes:
            self._state.palette.setdefault(name, color)
            self._know([name])
        if self._state.layer is None:
            return
        there = self.values
        numbers, marks = found_again(kept, self._layer)
        found = np.array([str(mark) for mark in marks], object)
        is_new = [there[row] is None for row in numbers.tolist()]
        if any(is_new):
            self._undone.clear()
            numbers, found = numbers[is_new], found[is_new]
            self._done.append((numbers, there[numbers], found))
            self._apply(numbers, found)
            n = counted(len(numbers), "label")
            self.told.emit(f"{n} of before, not saved with the layer, found again: Undo takes back")

    def _save(self) -> None:
        """Write labels with the positions of their points, which tell them again."""
        if self._layer is not None:
            classes = [(name, self._state.palette[name]) for name in self.classes]
            self._keeper.keep(self._layer, self.column, self.values, {"classes": classes})
