"""The map of a report: where each row is drawn, and the classes that colour it."""

import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.tables.columns import FEATURE_COLUMN, as_text
from napari_synapse_cl.features import projections
from napari_synapse_cl.features.neighbours import Step
from napari_synapse_cl.system.words import counted

GRID = 9999
"""Positions are whole numbers from 0 to this, which is finer than a screen."""
MOST_CLASSES = 12
"""That are told apart by a colour; of more the rarest become one."""
MOST_COLUMNS = 16
N_RANGES = 5
"""That numbers are divided into, with as many rows each."""
BLANK = -1
LONGEST = 80
"""Characters of a cell that are shown."""


@dataclass(frozen=True)
class Classes:
    """A column by which dots are coloured."""

    name: str
    labels: tuple[str, ...]
    codes: np.ndarray
    """``(N,)`` int64, the class of each row, `BLANK` where it has none."""
    are_ranges: bool = False
    """Whether the classes have an order."""

    def as_json(self) -> dict[str, Any]:
        """Return it for the page."""
        return {
            "name": self.name,
            "labels": self.labels,
            "codes": self.codes.tolist(),
            "ranges": self.are_ranges,
        }


def classes_of(name: str, cells: pd.Series) -> Classes | None:
    """Return the classes of a column; None if it tells none, or each row apart.

    Parameters
    ----------
    cells
        Of any type; blank ones are in no class.
    """
    known = cells.notna().to_numpy(bool) & (cells.astype(object).map(str) != "").to_numpy(bool)
    codes = np.full(len(cells), BLANK)
    n_different = int(cells[known].nunique())
    if n_different < 2:
        return None
    is_fraction = cells.dtype.kind == "f"
    if is_fraction and n_different > MOST_CLASSES:
        codes[known], labels = _ranges(cells[known].to_numpy(float))
        return Classes(name, labels, codes, are_ranges=True) if len(labels) > 1 else None
    if n_different > max(MOST_CLASSES, known.sum() / 2):
        return None
    texts = cells[known].astype(object).map(as_text)
    counts = texts.value_counts()
    kept = sorted(counts.index) if len(counts) <= MOST_CLASSES else list(counts.index)
    others = kept[MOST_CLASSES - 1 :] if len(kept) > MOST_CLASSES else []
    kept = kept[: MOST_CLASSES - 1] if others else kept
    numbers = {text: number for number, text in enumerate(kept)}
    codes[known] = [numbers.get(text, len(kept)) for text in texts]
    labels = tuple(map(short, kept))
    labels += (f"{counted(len(others), 'other', 'others')}",) if others else ()
    return Classes(name, labels, codes)


def short(text: str) -> str:
    """Return a text, the end of a long one left out."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _ranges(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.full(len(values), BLANK), ()
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, N_RANGES + 1)))
    codes = np.searchsorted(edges[1:-1], values, side="right")
    codes[~np.isfinite(values)] = BLANK
    return codes, tuple(f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges.tolist()))


def columns_of(table: pd.DataFrame, first: list[Classes]) -> tuple[list[Classes], list[str]]:
    """Return what dots can be coloured by, and the names of columns there was no room for.

    Parameters
    ----------
    table
        The N rows that are drawn.
    first
        Classes that come before those of other columns, whose names they have or not.
    """
    found, left_out = list(first), []
    taken = {classes.name for classes in first}
    for name, cells in table.items():
        name = str(name)
        if name in AXES or name in taken or FEATURE_COLUMN.fullmatch(name):
            continue
        classes = classes_of(name, cells)
        if classes is None:
            continue
        if len(found) < MOST_COLUMNS:
            found.append(classes)
        else:
            left_out.append(name)
    return found, left_out


def names_of(table: pd.DataFrame) -> tuple[str, list[str]] | None:
    """Return the first column whose cells tell all rows apart, as text; None if there is none.

    Of integers no digit is lost, which a browser would lose from 2⁵³ on.
    """
    for name, cells in table.items():
        is_number = name in AXES or cells.dtype.kind in "fbM"
        if is_number or cells.isna().any() or not cells.is_unique:
            continue
        return str(name), [short(as_text(cell)) for cell in cells.astype(object)]
    return None


def on_grid(positions: np.ndarray) -> dict[str, list[int]]:
    """Return positions ``(N, 2)`` as whole numbers, with the same scale in both directions."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    spread = float((high - low).max()) or 1.0
    middle = (low + high) / 2
    scaled = np.rint((positions - middle) / spread * GRID + GRID / 2).astype(int)
    return {"x": scaled[:, 0].tolist(), "y": (GRID - scaled[:, 1]).tolist()}


def umap_positions(values: np.ndarray, seed: int) -> Generator[Step, None, np.ndarray]:
    """Make a map of vectors, and yield how far that is.

    Parameters
    ----------
    values
        ``(N, C)`` float32, finite.

    Returns
    -------
    numpy.ndarray
        ``(N, 2)`` float32.

    Raises
    ------
    JobError
        If the process ends without a map.
    """
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", projections.__name__, str(seed)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    steps = projections.conversation(process, values)
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            return end.value
        yield "making a map", done, total, "epoch"
