"""Vectors of the points of a layer: from its columns, or from the table whose rows they are.

What reads tables takes longer to import than a dock should to open: it is imported when there is
something to read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Points

from napari_synapse_cl.data import pd
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.tables.columns import prefix_of
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, ROWS_KEY, is_channel
from napari_synapse_cl.widgets.layers.voxels import voxels_in

if TYPE_CHECKING:
    from napari_synapse_cl.features.neighbours import Metric, Space
    from napari_synapse_cl.features.vectors import VectorTable


@dataclass(frozen=True)
class Choice:
    """A vector that the points of a layer have."""

    name: str
    size: int
    """How many numbers it has."""
    origin: str
    """What it was read from, in words; empty where that is not known."""
    path: Path | None = None
    """The table that holds it; None if the layer's columns do."""

    @property
    def text(self) -> str:
        """It in words: "L20_mean, 96 numbers"."""
        where = "" if self.path is None else f", of {self.path.name}"
        return f"{self.name}, {counted(self.size, 'number')}{where}"


def choices_of(layer: Points | None) -> list[Choice]:
    """Return the vectors that the points of a layer have."""
    if layer is None:
        return []
    held = Counter(prefix_of(str(n)) for n in layer.features.columns if is_channel(n))
    found = [Choice(name, size, _origin(layer, name)) for name, size in held.items()]
    rows = layer.metadata.get(ROWS_KEY, {})
    path = Path(rows["path"]) if rows else None
    more = rows.get("vectors", {}).items()
    return [*found, *(Choice(name, size, _origin(layer, name), path) for name, size in more)]


def _origin(layer: Points, name: str) -> str:
    records = layer.metadata.get(METADATA_KEY, {})
    record = records.get(name, {}) if isinstance(records, dict) else {}
    checkpoint = record.get("checkpoint") if isinstance(record, dict) else None
    if not checkpoint:
        return ""
    path = Path(str(checkpoint))
    # The checkpoints of all runs are called alike.
    run = path.parents[1].name if path.parent.name == "checkpoints" else ""
    return f"network {path.name}" + (f" of the run {run}" if run else "")


@dataclass(frozen=True)
class Request:
    """What vectors are read of, as it was at one moment."""

    layer: Points
    choice: Choice
    features: pd.DataFrame
    positions: np.ndarray
    """``(n, 3)`` z, y, x, in voxels of the volume where there is one."""
    metadata: dict[str, Any]
    before: VectorTable | None
    """What was read of the layer before, which stands for what is read if it is the same."""

    @classmethod
    def of(
        cls, layer: Points, image: Image | None, choice: Choice, before: VectorTable | None
    ) -> Request:
        """Return a request for the vectors of a layer.

        Raises
        ------
        InputError
            If its points are not 3D.
        """
        if layer.ndim != 3:
            raise InputError(
                f"the layer {layer.name} holds {layer.ndim}D points; 3D ones are needed"
            )
        is_volume = image is not None and image.ndim == 3 and not image.rgb
        positions = voxels_in(image, layer, layer.data) if is_volume else np.array(layer.data)
        features = layer.features.copy(deep=False)
        return cls(layer, choice, features, positions, dict(layer.metadata), before)


def read(request: Request) -> tuple[Request, VectorTable]:
    """Return the vectors that are asked for, a row a point; for a worker.

    Raises
    ------
    InputError
        If they cannot be read, or the table is no longer that whose rows the points are.
    """
    before, found = request.before, _read(request)
    if (
        before is not None
        and found.names == before.names
        and np.array_equal(found.values, before.values, equal_nan=True)
        and np.array_equal(found.by_hand, before.by_hand, equal_nan=True)
    ):
        return request, before
    return request, found


def _read(request: Request) -> VectorTable:
    from napari_synapse_cl.features.vectors import as_vectors, open_vectors

    choice, features = request.choice, request.features.rename(columns=str)
    records = request.metadata.get(METADATA_KEY, {})
    positions = pd.DataFrame(request.positions, columns=list(AXES))
    if choice.path is None:
        try:
            table = features.drop(columns=list(AXES), errors="ignore")
            table = pd.concat([positions, table], axis=1)
            found = as_vectors(table, {"records": records}, [choice.name], descriptors=True)
        except (TypeError, ValueError):
            raise InputError(
                f"the vector {choice.name} of {request.layer.name} holds something that is no "
                "number"
            ) from None
        return found
    rows = request.metadata[ROWS_KEY]
    if rows["column"] not in features:
        raise InputError(
            f"{request.layer.name} has no column {rows['column']} any more, which says which rows "
            f"of {choice.path.name} its points are: open the table again"
        )
    numbers = features[rows["column"]].to_numpy(np.int64, copy=True)
    found = open_vectors(choice.path, [choice.name], descriptors=True)
    if len(numbers) and numbers.max() >= len(found.table):
        raise InputError(
            f"{choice.path} has {counted(len(found.table), 'row')} now, fewer than when it was "
            "opened: open it again"
        )
    # A point that was added got the row number of another.
    numbers[pd.Series(numbers).duplicated()] = len(found.table)
    found = of_rows(replace(found, record={"records": records}), numbers)
    return replace(found, table=found.table.assign(**positions))


def of_rows(vectors: VectorTable, rows: np.ndarray) -> VectorTable:
    """Return the vectors of some rows; those beyond the last are new, and have none.

    Parameters
    ----------
    rows
        ``(M,)`` row numbers.
    """
    n = len(vectors.values)

    def some(values: np.ndarray) -> np.ndarray:
        found = np.full((len(rows), values.shape[1]), np.nan, values.dtype)
        found[rows < n] = values[rows[rows < n]]
        return found

    return replace(
        vectors,
        table=vectors.table.reindex(rows).reset_index(drop=True),
        values=some(vectors.values),
        by_hand=some(vectors.by_hand),
        histogram=some(vectors.histogram),
    )


class Spaces:
    """The last vectors that were brought to one scale; it may be asked from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: tuple[VectorTable, Metric, Space] | None = None

    def of(self, vectors: VectorTable, metric: Metric) -> Space:
        """Return the rows that have a vector, among which near ones are looked for."""
        from napari_synapse_cl.features.neighbours import Space

        with self._lock:
            kept = self._kept
            if kept is None or kept[0] is not vectors or kept[1] != metric:
                # What is kept goes first: both would take twice the memory.
                self._kept = kept = None
                kept = self._kept = (vectors, metric, Space(vectors.scaled(), metric))
            return kept[2]


def among(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return ``(m,)`` bool, which rows are among others that ascend, of which there may be many."""
    if not len(others):
        return np.zeros(len(rows), bool)
    return np.asarray(others[np.searchsorted(others, rows).clip(max=len(others) - 1)] == rows)
