"""Colours of rows by a column, and what they mean: classes that can be hidden, or a scale."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from napari.layers import Points

from napari_synapse_cl.data import pd
from napari_synapse_cl.widgets.layers.features import N_COLORS, class_color, colors_of

NO_VALUE = "no value"
"""What the legend calls rows that have none."""
GREY = (128, 128, 128, 255)


@dataclass(frozen=True)
class Entry:
    """A class in the legend."""

    label: str
    color: str
    """As #rrggbb."""
    count: int
    """Rows of it."""


@dataclass(frozen=True)
class Scale:
    """What colours of numbers mean."""

    low: str
    high: str
    colors: tuple[str, ...]
    """From the lowest to the highest, as #rrggbb."""


@dataclass(frozen=True)
class Coloring:
    """Colours of N rows."""

    colors: np.ndarray
    """``(N, 4)`` uint8."""
    legend: tuple[Entry, ...] = ()
    """Classes, the one of rows without a value last."""
    scale: Scale | None = None
    """Of numbers."""
    codes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """``(N,)`` int64, which entry of the legend a row belongs to; -1 for none."""

    @classmethod
    def of_layer(cls, layer: Points) -> Coloring:
        """Return the colours that points have, which need not mean anything."""
        colors = _in_bytes(np.asarray(layer.face_color))
        return cls(colors, codes=np.full(len(colors), -1))

    @classmethod
    def of_values(cls, values: pd.Series, palette: Mapping[str, str] | None = None) -> Coloring:
        """Return colours of the cells of a column; of rows without a value they are grey.

        Parameters
        ----------
        palette
            Colours, as #rrggbb, of some classes.
        """
        found = colors_of(values.reset_index(drop=True))
        meaning, scale = found.legend, None
        colors = _in_bytes(found.rgba)
        missing = found.rgba[:, 3] == 0
        colors[missing] = GREY
        entries: list[Entry] = []
        if not meaning.of_numbers:
            counts = np.bincount(found.codes[~missing], minlength=len(meaning.texts)).tolist()
            entries = list(map(Entry, meaning.texts, meaning.colors, counts))
            entries = _with_palette(entries, palette or {})
            for code, (entry, first) in enumerate(zip(entries, meaning.colors, strict=True)):
                if entry.color != first:
                    rgb = bytes.fromhex(entry.color.removeprefix("#"))
                    colors[found.codes == code, :3] = list(rgb)
        elif meaning.texts:
            scale = Scale(meaning.texts[0], meaning.texts[-1], meaning.colors)
        codes = np.where(missing, len(entries), found.codes)
        if meaning.n_missing:
            entries.append(Entry(NO_VALUE, "#808080", meaning.n_missing))
        return cls(colors, tuple(entries), scale, codes)

    def of_rows(self, rows: np.ndarray) -> Coloring:
        """Return the colours of some rows; -1 stands for a new one, which is grey."""
        is_new = rows < 0
        colors, codes = self.colors[rows], self.codes[rows]
        colors[is_new], codes[is_new] = GREY, -1
        return replace(self, colors=colors, codes=codes)

    def visible(self, hidden: Collection[str]) -> np.ndarray:
        """Return ``(N,)`` bool, the rows that no hidden label belongs to."""
        # What is of no entry is shown.
        shown = np.array([*(entry.label not in hidden for entry in self.legend), True])
        return np.asarray(shown[self.codes])


def _in_bytes(rgba: np.ndarray) -> np.ndarray:
    """Return colours from 0 to 1 as uint8; NumPy's own rounding takes many times as long."""
    return (rgba * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _with_palette(entries: list[Entry], palette: Mapping[str, str]) -> list[Entry]:
    """Return classes with the colours of a palette, and with others that are none of these."""
    given = {entry.label: palette[entry.label] for entry in entries if entry.label in palette}
    taken = set(given.values())
    others = (color for color in map(class_color, range(N_COLORS)) if color not in taken)
    found = []
    for entry in entries:
        color = given.get(entry.label)
        if color is None:
            # There are as many classes as colours at least: then these come again.
            color = next(others, entry.color) if taken else entry.color
        found.append(replace(entry, color=color))
    return found
