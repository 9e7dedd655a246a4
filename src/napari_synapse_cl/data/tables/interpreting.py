"""Find the positions in a table, by the names of its columns or as the user says.

What is missing in a column of numbers and what is wrong are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_synapse_cl.data import pd
from napari_synapse_cl.data.tables.columns import as_numbers, is_missing_word
from napari_synapse_cl.data.tables.conventions import (
    AS_FOUND,
    Mapping,
    Reading,
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
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import VoxelSize

_IN_NM = {"nm": 1.0, "um": 1000.0}

_NUMBER = r"(?P<{}>-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_GAP = r"(?:\s*[,;]\s*|\s+)"
_TRIPLE = rf"^\s*[\[(]?\s*{_GAP.join(_NUMBER.format(n) for n in 'abc')}\s*[\])]?\s*$"
"""Three numbers as NumPy, Python or a spreadsheet writes them: [1 2 3], (1, 2, 3), 1; 2; 3."""


@dataclass(frozen=True)
class PositionTable:
    """A table with the positions that were found in it."""

    table: pd.DataFrame
    """As it was read: all rows and columns."""
    positions: np.ndarray
    """``(M, 3)`` float64 z, y, x in the unit of the reading, NaN in rows that have none."""
    partners: dict[str, np.ndarray]
    """The same of both sides of the synapses, as far as the table has them: "presynapse" and
    "postsynapse", or "side_1" and "side_2" where it is not known which is which."""
    reading: Reading
    """How the positions were read."""
    n_missing: int
    """Rows without a position."""


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


def numbers(column: pd.Series, name: str) -> np.ndarray:
    """Return a column as ``(M,)`` float64, NaN where a cell is empty or says so, as NA does.

    Parameters
    ----------
    column
        Numbers, or text that says numbers.
    name
        How to call the table in messages.

    Raises
    ------
    InputError
        If something in it is not a finite number.
    """
    values = as_numbers(column)
    _refuse(column, ~np.isfinite(values), name, "a number")
    return values


def triples(column: pd.Series, name: str) -> np.ndarray:
    """Return a column of arrays of three numbers, or of texts of them, as ``(M, 3)``; NaN if empty.

    Parameters
    ----------
    column
        Lists, tuples, arrays or text.
    name
        How to call the table in messages.

    Raises
    ------
    InputError
        If something in it is not three finite numbers.
    """
    values = np.full((len(column), 3), np.nan)
    held = column.notna().to_numpy()
    if held.any() and isinstance(column[held].iloc[0], str):
        values[held] = _parsed(column[held])
    elif held.any():
        values[held] = [_floats(value) for value in column[held]]
    _refuse(column, ~np.isfinite(values).all(axis=1), name, "three numbers")
    return values


def _parsed(texts: pd.Series) -> np.ndarray:
    """Return the three numbers that each text says, NaN where it does not."""
    # Several times as fast as pandas, which matters for a million synapses of two sides.
    import pyarrow as pa
    from pyarrow import compute

    groups = compute.extract_regex(pa.array(texts.astype(str), pa.string()), _TRIPLE)
    return np.stack(
        [
            compute.struct_field(groups, name).cast(pa.float64()).to_numpy(zero_copy_only=False)
            for name in "abc"
        ],
        axis=1,
    )


def _floats(value: Any) -> tuple[float, float, float]:
    if isinstance(value, str):
        # The three letters of "abc" would do for three values.
        return (np.nan,) * 3
    try:
        a, b, c = value
        return float(a), float(b), float(c)
    except (TypeError, ValueError):
        return (np.nan,) * 3


def _refuse(column: pd.Series, bad: np.ndarray, name: str, wanted: str) -> None:
    """Raise an error if there is anything in what could not be read as a number."""
    rows = np.flatnonzero(bad & column.notna().to_numpy())
    rows = rows[[not is_missing_word(cell) for cell in column.iloc[rows]]]
    if rows.size:
        more = f" (and {rows.size - 1} more)" if rows.size > 1 else ""
        raise InputError(
            f"{name}: {column.name} in data row {rows[0] + 1}{more} is not {wanted}: "
            f"{column.iloc[rows[0]]}"
        )
