"""Feature vectors of a table: a vector is one thing, however many columns it takes.

The columns ``L20_mean_000``, ``L20_mean_001`` … are the vector ``L20_mean``, and ``hand_…`` are
``hand``; a second extraction is another, as in ``L20_mean_v2``. No PyTorch in here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.dataset import VOLUME_COLUMN
from napari_synapse_cl.data.parts import AXES, FAR_APART
from napari_synapse_cl.data.tables.columns import (
    FEATURE_COLUMN,
    FEATURE_DTYPE,
    as_numbers,
    as_text,
    prefix_of,
)
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.tables import is_parquet, read_table, table_columns
from napari_synapse_cl.system.words import counted, listing

BY_HAND = "hand"
HISTOGRAM = "hist_"
"""What the channels of the histogram of a whole crop are called among the descriptors."""
TINY = 1e-6
"""Spread, as a share of the largest value, that a channel has from rounding in float32 alone."""
ROWS_AT_ONCE = 2**16
MOST_LONE = 10
"""Classes that may have a label or two each."""


def vectors_in(columns: Iterable[str]) -> dict[str, list[str]]:
    """Return the columns of each vector among columns, principal components left out."""
    found: dict[str, list[str]] = {}
    for column in columns:
        match = FEATURE_COLUMN.fullmatch(column)
        if match is not None and match["channel"] is not None:
            found.setdefault(prefix_of(column), []).append(column)
    return found


@dataclass(frozen=True)
class Scaling:
    """How vectors are brought to one scale: standardised, and several that are joined count alike.

    A vector then has a mean square length of 1, and several together have their number. Pooled
    features of a network have a large direction in common, before which differences would vanish.
    """

    mean: np.ndarray
    factor: np.ndarray
    """``(C,)`` float64; a channel that is constant has the factor 0."""

    @classmethod
    def of(cls, values: np.ndarray, sizes: Sequence[int]) -> Self:
        """Return the scaling by which vectors have these properties.

        Parameters
        ----------
        values
            ``(N, C)`` float32, at least one row, all finite.
        sizes
            Channels of each of the vectors that are joined, C in all.
        """
        total, square, largest = (np.zeros(values.shape[1]) for _ in range(3))
        parts = [values[i : i + ROWS_AT_ONCE] for i in range(0, len(values), ROWS_AT_ONCE)]
        for part in parts:
            total += part.sum(axis=0, dtype=np.float64)
            np.maximum(largest, np.abs(part).max(axis=0), out=largest)
        mean = total / len(values)
        for part in parts:
            square += np.square(part - mean).sum(axis=0)
        deviation = np.sqrt(square / len(values))
        lengths = np.sqrt(np.repeat(sizes, sizes))
        varies = deviation > TINY * largest
        return cls(mean, np.divide(1, deviation * lengths, out=np.zeros_like(mean), where=varies))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return ``(N, C)`` float32 of vectors ``(N, C)``."""
        scaled = np.empty(values.shape, np.float32)
        for i in range(0, len(values), ROWS_AT_ONCE):
            part = slice(i, i + ROWS_AT_ONCE)
            scaled[part] = (values[part] - self.mean) * self.factor
        return scaled


@dataclass(frozen=True)
class VectorTable:
    """A table of features with M rows, its vectors apart from its other columns."""

    table: pd.DataFrame
    """All columns that are no channels of a vector, as they were read."""
    record: dict[str, Any]
    """Where the features come from; empty where that is not known."""
    names: tuple[str, ...]
    """Of the vectors that were asked for."""
    columns: tuple[str, ...]
    sizes: tuple[int, ...]
    """Their C columns, and how many each of them has."""
    values: np.ndarray
    """``(M, C)`` float32."""
    by_hand: np.ndarray
    """``(M, K)`` float32, descriptors that no network made; no columns where there are none."""
    histogram: np.ndarray
    """Likewise, of them the intensity histogram of the whole crop."""
    columns_by_hand: tuple[str, ...] = ()
    """The K columns of the descriptors."""

    @cached_property
    def rows(self) -> np.ndarray:
        """``(N,)`` int64, the rows whose vectors are whole: all numbers are finite."""
        return np.flatnonzero(_are_finite(self.values))

    @property
    def n_blank(self) -> int:
        """How many rows have no vector."""
        return len(self.table) - len(self.rows)

    def scaled(self) -> np.ndarray:
        """Return ``(N, C)`` float32, the vectors of `rows`, brought to one scale."""
        whole = self.values if not self.n_blank else self.values[self.rows]
        return Scaling.of(whole, self.sizes).apply(whole)

    def record_of(self, name: str) -> dict[str, Any]:
        """Return where one vector comes from; empty where that is not known."""
        # Tables that the window saved hold the records of several extractions.
        found = self.record.get("records", {}).get(name) if "records" in self.record else None
        found = found if "records" in self.record else self.record
        return found if isinstance(found, dict) else {}

    @cached_property
    def extent(self) -> tuple[int, ...] | None:
        """Size of a crop along z, y, x in voxels that positions count in, None if not known."""
        record = self.record_of(self.names[0])
        found = record.get("extent", record.get("crop_size"))
        if not isinstance(found, list) or len(found) != 3:
            return None
        return tuple(int(n) for n in found)

    @cached_property
    def places(self) -> np.ndarray:
        """``(M, 3)`` int64, z, y, x in voxels; those of other volumes are far apart.

        A row without a position is at the least int64.
        """
        positions = np.stack([as_numbers(self.table[axis]) for axis in AXES], axis=1)
        known = np.isfinite(positions).all(axis=1)
        places = np.full(positions.shape, np.iinfo(np.int64).min)
        places[known] = nearest_voxel(positions[known])
        if VOLUME_COLUMN in self.table and known.any():
            numbers = pd.factorize(self.table[VOLUME_COLUMN])[0][known].astype(np.int64)
            places[known, 0] += numbers * (int(np.ptp(places[known])) + FAR_APART)
        return places

    @property
    def placed(self) -> np.ndarray:
        """``(M,)`` bool, which rows have a position."""
        return np.asarray(self.places[:, 0] != np.iinfo(np.int64).min)

    def labels(self, column: str) -> np.ndarray:
        """Return ``(M,)`` objects, the cells of a column, None where one is blank.

        Raises
        ------
        InputError
            If there is no such column.
        """
        if column not in self.table.columns:
            raise InputError(
                f"the feature table has no column {column}; it has "
                f"{listing([str(name) for name in self.table.columns])}"
            )
        cells = self.table[column].astype(object)
        texts = cells.map(as_text, na_action="ignore")
        return cells.where(cells.notna() & (texts != ""), None).to_numpy()

    def written(self, rows: np.ndarray, others: pd.DataFrame) -> pd.DataFrame:
        """Return some rows as a table that :func:`as_vectors` takes.

        Parameters
        ----------
        rows
            ``(n,)`` row numbers.
        others
            n rows: the columns that are no channels.
        """
        parts = {self.columns: self.values}
        # Descriptors may be what is looked at.
        if not set(self.columns_by_hand) <= set(self.columns):
            parts[self.columns_by_hand] = self.by_hand
        channels = [
            pd.DataFrame(values[rows], columns=list(columns), index=others.index)
            for columns, values in parts.items()
        ]
        return pd.concat([others, *channels], axis=1)

    def free_name(self, name: str) -> str:
        """Return a name for a new column: this one, or with a version that is not there yet."""
        version, found = 1, name
        while found in self.table.columns:
            version += 1
            found = f"{name}_v{version}"
        return found

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return ``(M,)`` of what is told of `rows`: NaN elsewhere, and None of objects."""
        is_number = values.dtype.kind in "iuf"
        # Numbers beside blanks stay whole ones where they are.
        blank, kind = (np.nan, np.float64) if values.dtype.kind == "f" else (None, object)
        told = np.full(len(self.table), blank, kind)
        told[self.rows] = values.tolist() if is_number and kind is object else values
        return told


def open_vectors(
    path: Path, names: Sequence[str] = (), *, descriptors: bool = False
) -> VectorTable:
    """Read vectors of a feature table; of a Parquet file no other channels are read.

    Parameters
    ----------
    path
        A table in one of the formats of :mod:`napari_synapse_cl.features.tables`.
    names
        Vectors that are joined; without any the only one.
    descriptors
        Whether all descriptors are read too, not the intensity histogram alone.

    Raises
    ------
    InputError
        If the table cannot be read, has no such vector, or several of which none is named.
    """
    # The names in an h5ad file are not to be had alone.
    first = table_columns(path) if is_parquet(path) else None
    some = None if first is None else _needed(first, names, path, descriptors)
    table, record = read_table(path, some)
    return as_vectors(table, record, _chosen(vectors_in(table.columns), names, path), descriptors)


def as_vectors(
    table: pd.DataFrame, record: dict[str, Any], names: Sequence[str], descriptors: bool
) -> VectorTable:
    """Return vectors of a table that has been read.

    Parameters
    ----------
    table
        M rows, with all columns of these vectors.
    record
        Where the features come from.
    names
        Vectors that are joined.
    descriptors
        Whether all descriptors are taken too, not the intensity histogram alone.

    Raises
    ------
    ValueError
        If a cell of a channel is no number.
    """
    there = vectors_in(table.columns)
    columns = [column for name in names for column in there[name]]
    values = {
        "values": columns,
        "by_hand": _by_hand(there) if descriptors else [],
        "histogram": _histogram(there),
    }
    others = table.drop(columns=[column for names in there.values() for column in names])
    return VectorTable(
        table=others,
        record=record,
        names=tuple(names),
        columns=tuple(columns),
        columns_by_hand=tuple(values["by_hand"]),
        sizes=tuple(len(there[name]) for name in names),
        **{n: np.ascontiguousarray(table[some], FEATURE_DTYPE) for n, some in values.items()},
    )


def check_classes(labels: np.ndarray, column: str | None) -> None:
    """Check that the labels of a column are those of classes, and no names of single rows.

    Parameters
    ----------
    labels
        Those that are known, as strings.

    Raises
    ------
    InputError
        If they are such names.
    """
    n = len(np.unique(labels))
    if n > MOST_LONE and 2 * n > len(labels):
        raise InputError(
            f"the column {column} has {n:,} different labels in {len(labels):,} rows: these tell "
            "rows apart, and no classes"
        )


def _needed(
    columns: Sequence[str], names: Sequence[str], path: Path, descriptors: bool
) -> list[str]:
    there = vectors_in(columns)
    channels = {column for vector in there.values() for column in vector}
    wanted = {column for name in _chosen(there, names, path) for column in there[name]}
    wanted |= set(_by_hand(there) if descriptors else _histogram(there))
    return [column for column in columns if column not in channels or column in wanted]


def _chosen(there: dict[str, list[str]], names: Sequence[str], path: Path) -> tuple[str, ...]:
    """Return the names of the vectors to look at."""
    if not there:
        raise InputError(
            f"{path} holds no feature vectors: their columns are named as L20_mean_000 or "
            "hand_hist_00"
        )
    held = listing([f"{name} ({counted(len(c), 'number')})" for name, c in there.items()])
    for name in names:
        if name not in there:
            raise InputError(f"{path} has no vector {name}; it has {held}")
    if not names and len(there) > 1:
        raise InputError(f"{path} has the vectors {held}: name those to look at with --vectors")
    return tuple(dict.fromkeys(names)) or tuple(there)


def _by_hand(there: dict[str, list[str]]) -> list[str]:
    """Return the columns of the first descriptors."""
    return next((c for name, c in there.items() if name.startswith(BY_HAND)), [])


def _histogram(there: dict[str, list[str]]) -> list[str]:
    # That of the centre is hand_centre_hist_….
    prefix = next((name for name in there if name.startswith(BY_HAND)), BY_HAND)
    return [column for column in _by_hand(there) if column.startswith(f"{prefix}_{HISTOGRAM}")]


def _are_finite(values: np.ndarray) -> np.ndarray:
    """Return ``(M,)`` bool, in parts: all at once would take as much memory again."""
    parts = [values[i : i + ROWS_AT_ONCE] for i in range(0, len(values), ROWS_AT_ONCE)]
    return np.concatenate([np.empty(0, bool), *(np.isfinite(p).all(axis=1) for p in parts)])
