"""Marks of points are kept in a file at once, and found again if they were not saved with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Points

from napari_synapse_cl.errors import reason
from napari_synapse_cl.system.files import read_record, safe_name, write_json
from napari_synapse_cl.widgets import session
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layers.features import ROWS_KEY, VOLUME_KEY

FOLDER = "labels"
"""Beside the settings: marks of each layer until they are saved with it."""
DECIMALS = 3
"""Of positions by which points are known again."""


class Keeper:
    """Keeps the marks of one column, with the positions of their points, in a file of its own.

    Parameters
    ----------
    what
        What is kept, as in "the labels".
    tell
        Is called with what happened, in words.
    """

    def __init__(self, what: str, tell: Callable[[str], None]) -> None:
        self._what = what
        self._tell = tell
        self._writer = LatestOnly(_write)
        self._writer.failed.connect(self._on_failure)

    def keep(self, layer: Points, column: str, marks: np.ndarray, more: Mapping[str, Any]) -> None:
        """Write the marks of a layer's points in the background.

        Parameters
        ----------
        marks
            ``(n,)``, None or False where there is none.
        more
            What is written beside them, as plain types.
        """
        path = _file(layer, column)
        if path is not None:
            about = {"layer": layer.name, "column": column, **more}
            self._writer.ask(path, about, layer.data, marks)

    def _on_failure(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            raise error
        self._tell(f"{self._what} could not be saved beside the settings: {reason(error)}")


def kept_of(layer: Points, column: str) -> dict[str, Any]:
    """Return what was written for a column of a layer; nothing where nothing was."""
    return read_record(_file(layer, column))


def found_again(kept: Mapping[str, Any], layer: Points) -> tuple[np.ndarray, list[Any]]:
    """Return ``(m,)`` int64 rows of the points that were marked, and their marks."""
    try:
        marks = {tuple(one[:3]): one[3] for one in kept.get("labels", [])}
    except (TypeError, IndexError):
        marks = {}
    if not marks:
        return np.empty(0, np.int64), []
    places = np.round(np.asarray(layer.data), DECIMALS)
    near = np.flatnonzero(np.isin(places[:, 0], [place[0] for place in marks]))
    rows = [row for row in near.tolist() if tuple(places[row].tolist()) in marks]
    return np.array(rows, np.int64), [marks[tuple(places[row].tolist())] for row in rows]


def _file(layer: Points, column: str) -> Path | None:
    if session.FILE is None:
        return None
    rows = layer.metadata.get(ROWS_KEY, {})
    known = [rows.get("path"), layer.name, layer.metadata.get(VOLUME_KEY), column]
    digest = hashlib.sha256(json.dumps(known, default=str).encode()).hexdigest()[:16]
    return session.FILE.with_name(FOLDER) / f"{safe_name(layer.name)}-{digest}.json"


def _write(path: Path, about: dict[str, Any], places: np.ndarray, marks: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    marked = {row: mark for row, mark in enumerate(marks.tolist()) if mark not in (None, False)}
    near = np.round(places[list(marked)], DECIMALS).tolist()
    kept = [[*place, mark] for place, mark in zip(near, marked.values(), strict=True)]
    write_json(path, {**about, "labels": kept})
