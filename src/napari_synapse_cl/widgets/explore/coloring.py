"""Colours of rows by a column, and what they mean: classes that can be hidden, or a scale."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from napari.layers import Points

from napari_synapse_cl.data import pd
from napari_synapse_cl.widgets.layers.features import colors_of

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
        colors = np.round(np.asarray(layer.face_color) * 255).astype(np.uint8)
        return cls(colors, codes=np.full(len(colors), -1))

    @classmethod
    def of_values(cls, values: pd.Series) -> Coloring:
        """Return colours of the cells of a column; of rows without a value they are grey."""
        found = colors_of(values.reset_index(drop=True))
        meaning, scale = found.legend, None
        colors = np.round(found.rgba * 255).astype(np.uint8)
        missing = found.rgba[:, 3] == 0
        colors[missing] = GREY
        entries: list[Entry] = []
        if not meaning.of_numbers:
            counts = np.bincount(found.codes[~missing], minlength=len(meaning.texts)).tolist()
            entries = list(map(Entry, meaning.texts, meaning.colors, counts))
        elif meaning.texts:
            scale = Scale(meaning.texts[0], meaning.texts[-1], meaning.colors)
        codes = np.where(missing, len(entries), found.codes)
        if meaning.n_missing:
            entries.append(Entry(NO_VALUE, "#808080", meaning.n_missing))
        return cls(colors, tuple(entries), scale, codes)

    def visible(self, hidden: Collection[str]) -> np.ndarray:
        """Return ``(N,)`` bool, the rows that no hidden label belongs to."""
        # What is of no entry is shown.
        shown = np.array([*(entry.label not in hidden for entry in self.legend), True])
        return np.asarray(shown[self.codes])
