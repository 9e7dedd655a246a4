"""Find the positions in a table, by the names of its columns or as the user says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.tables.conventions import (
    Source,
    by_name,
    column_named,
    find_partners,
    find_positions,
    split_columns,
    unit_of,
)
from napari_synapse_cl.data.tables.files import read_table
from napari_synapse_cl.data.tables.neuroglancer import VOXEL_SIZE
from napari_synapse_cl.data.tables.reading import AS_FOUND, Mapping, Reading
from napari_synapse_cl.data.tables.values import numbers, triples
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import VoxelSize

_IN_NM = {"nm": 1.0, "um": 1000.0}


@dataclass(frozen=True)
class PositionTable:
    """A table with the positions that were found in it.

    Attributes
    ----------
    table
        As it was read: all rows and columns.
    positions
        ``(M, 3)`` float64 z, y, x in the unit of the reading, NaN in rows that have none.
    partners
        The same of both sides of the synapses, as far as the table has them: "presynapse" and
        "postsynapse", or "side_1" and "side_2" where it is not known which is which.
    reading
        How the positions were read.
    n_missing
        Rows without a position.
    """

    table: pd.DataFrame
    positions: np.ndarray
    partners: dict[str, np.ndarray]
    reading: Reading
    n_missing: int


def open_table(path: Path, mapping: Mapping = AS_FOUND) -> PositionTable:
    """Read a table of positions in any format, see `read_table` and `interpret`."""
    return interpret(read_table(path, columns=mapping.columns), str(path), mapping)


def interpret(table: pd.DataFrame, name: str, mapping: Mapping = AS_FOUND) -> PositionTable:
    """Find the positions in a table.

    Parameters
    ----------
    table
        One row a synapse.
    name
        How to call the table in messages.
    mapping
        What the user says about how positions are written.

    Raises
    ------
    InputError
        If there are no columns of positions or no rows with one, or a position is not a number.
    """
    columns = by_name(table.columns)
    sources = _given(table, mapping.columns, name) if mapping.columns else find_positions(columns)
    if not sources:
        raise InputError(_nothing_found(table, name))
    if table.empty:
        raise InputError(f"{name} holds no synapses: it has a header and no rows")
    unit, voxel_size = _unit(sources[0], mapping, table, name)
    positions = _midpoints([_values(table, source, unit, name) for source in sources])
    missing = np.isnan(positions).any(axis=1)
    if missing.all():
        raise InputError(f"{name} holds no synapses: none of its {len(table)} rows has a position")
    middle = "midpoints, " if len(sources) > 1 else ""
    reading = Reading(
        columns=tuple(str(column) for source in sources for column in source.columns),
        convention=middle + sources[0].order,
        unit="nm" if unit in _IN_NM else "voxels",
        voxel_size=voxel_size,
        is_explicit=mapping.is_explicit,
    )
    partners = {
        role: _values(table, source, partner_unit, name)
        for role, source in find_partners(columns).items()
        if ((partner_unit := _unit(source, mapping, table, name)[0]) in _IN_NM) == (unit in _IN_NM)
    }
    return PositionTable(
        # What was found out about the file has gone into the reading.
        table=_without_notes(table),
        positions=positions,
        partners=partners,
        reading=reading,
        n_missing=int(missing.sum()),
    )


def _given(table: pd.DataFrame, names: tuple[str, ...], name: str) -> tuple[Source, ...]:
    """Return the columns that the user names."""
    if len(names) == 1:
        column = column_named(table.columns, names[0])
        if column is not None:
            return (Source((column,), "x, y, z"),)
        if source := split_columns(by_name(table.columns), names[0]):
            return (source,)
    if len(names) not in (1, 3):
        raise InputError(
            "--position_columns takes three names, of the columns that hold z, y and x in that "
            f"order, or one, of a column of arrays x, y, z; it got {', '.join(names)}"
        )
    found = [column_named(table.columns, n) for n in names]
    if None in found:
        absent = ", ".join(n for n, column in zip(names, found, strict=True) if column is None)
        raise InputError(
            f"{name} has no column {absent}, which --position_columns names; it has " + _list(table)
        )
    return (Source(tuple(found), "z, y, x", unit_of(names)),)


def _nothing_found(table: pd.DataFrame, name: str) -> str:
    # Someone who gives two of the three misses the third, and not another convention.
    missing = [axis for axis in "zyx" if axis not in by_name(table.columns)]
    return (
        f"{name} has no column {', '.join(missing)}: columns z, y, x are needed, or others that "
        f"--position_columns names in the order z, y, x; found {_list(table)}"
    )


def _list(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns)) or "none"


def _unit(
    source: Source, mapping: Mapping, table: pd.DataFrame, name: str
) -> tuple[str, VoxelSize | None]:
    """Return the unit of the numbers in some columns, and what voxels they count in."""
    if mapping.unit in _IN_NM and mapping.voxel_size:
        raise InputError(
            f"the positions in {name} cannot be in {mapping.unit} (--position_unit) and in voxels "
            "of another size (--position_voxel_size): give one of them"
        )
    if mapping.unit != "auto" or mapping.voxel_size:
        return mapping.unit.replace("auto", "voxels"), mapping.voxel_size
    if source.unit:
        return source.unit, None
    return "voxels", table.attrs.get(VOXEL_SIZE)


def _values(table: pd.DataFrame, source: Source, unit: str, name: str) -> np.ndarray:
    """Return ``(M, 3)`` z, y, x in voxels or nm; rows that lack one of these have none."""
    for column in source.columns:
        if (table.columns == column).sum() > 1:
            raise InputError(f"{name} has more than one column {column}: leave one of them")
    if len(source.columns) == 1:
        values = triples(table[source.columns[0]], name)
    else:
        values = np.stack([numbers(table[column], name) for column in source.columns], axis=1)
    values[np.isnan(values).any(axis=1)] = np.nan
    axes: Literal[1, -1] = -1 if source.order == "x, y, z" else 1
    return np.ascontiguousarray(values[:, ::axes]) * _IN_NM.get(unit, 1.0)


def _midpoints(sides: list[np.ndarray]) -> np.ndarray:
    """Return what lies halfway between two sides; where one is missing the other stands for it."""
    first, last = sides[0], sides[-1]
    whole = np.where(np.isnan(first), last, first)
    return (whole + np.where(np.isnan(last), first, last)) / 2


def _without_notes(table: pd.DataFrame) -> pd.DataFrame:
    plain = table.copy(deep=False)
    plain.attrs = {key: value for key, value in table.attrs.items() if key != VOXEL_SIZE}
    return plain
