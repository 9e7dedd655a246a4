"""Columns whose cells have types: they keep them, beside missing cells and behind other tables."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_synapse_cl.data import pd
from napari_synapse_cl.data.tables.columns import as_text, is_nullable
from napari_synapse_cl.system.files import check_swelling

if TYPE_CHECKING:
    import pyarrow as pa

_CELL = 8
"""Bytes that a number takes in memory."""
_EXACT = 2**53
"""Beyond it not every integer is a float."""


def read_parquet(path: Path, **options: Any) -> pa.Table:
    """Read a Parquet file, unless by what it says of itself it is made to fill the memory.

    Parameters
    ----------
    path
        The file. Arrow itself opens none whose name is not UTF-8.
    **options
        As ``pyarrow.parquet.read_table`` takes them.

    Raises
    ------
    ValueError
        If it unpacks to many times its size.
    """
    from pyarrow import parquet

    with path.open("rb") as file:
        told = parquet.read_metadata(file)
        pages = sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups))
        # Of values that repeat the pages say how often.
        check_swelling(max(pages, _CELL * told.num_rows * told.num_columns), path)
        file.seek(0)
        return parquet.read_table(file, partitioning=None, **options)


def from_arrow(table: pa.Table) -> pd.DataFrame:
    """Return a table of Arrow as one of pandas: integers and booleans beside nulls stay such."""
    import pyarrow as pa

    nullable: dict[Any, Any] = {
        pa.from_numpy_dtype(name.lower()): pd.api.types.pandas_dtype(name)
        for name in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
    }
    nullable[pa.bool_()] = pd.BooleanDtype()
    # pandas notes here which columns it had as nullable ones.
    notes = (table.schema.pandas_metadata or {}).get("columns", ())
    noted = {
        note["name"] for note in notes if str(note["numpy_type"])[:1] in "IU" or _is_boolean(note)
    }
    frame = table.to_pandas(types_mapper=nullable.get)
    for number, (name, dtype) in enumerate(zip(frame.columns, frame.dtypes, strict=True)):
        if dtype in nullable.values() and name not in noted:
            column = frame.iloc[:, number]
            if not column.isna().any():
                frame.isetitem(number, column.to_numpy(dtype.numpy_dtype))
    return frame


def from_cells(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a table of rows of cells that have types, some of which may lack a column."""
    held = list(rows)
    names = list(dict.fromkeys(name for row in held for name in row))
    return pd.DataFrame(
        {name: settled(_objects([row.get(name) for row in held])) for name in names}
    )


def settled(column: pd.Series) -> pd.Series:
    """Return a column of any objects as one of their type, if they have but one.

    Integers keep their digits whatever is beside them; numbers with a fraction make float64 of
    integers that it holds exactly. What is of several types stays as it is.
    """
    if column.dtype != object:
        return column
    missing = column.isna().to_numpy(bool)
    kinds = set(map(_kind, column[~missing]))
    if not kinds:
        return pd.Series(np.full(len(column), np.nan), index=column.index, name=column.name)
    if kinds == {"bool"}:
        whole = not missing.any()
        return column.astype(bool) if whole else _nullable(column, missing, "boolean")
    if kinds == {"int"}:
        return _integers(column, missing)
    if kinds <= {"int", "float"}:
        exact = all(abs(v) <= _EXACT for v in column[~missing] if _kind(v) == "int")
        return column.astype(float) if exact else column
    return column.infer_objects() if len(kinds) == 1 else column


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of several tables one after the other.

    Where a table lacks a column its cells are missing. Where tables have a column as numbers and
    as text, or as integers and as fractions, it becomes text, by which each keeps its digits.
    """
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    if all(table.dtypes.equals(tables[0].dtypes) for table in tables):
        return pd.concat(tables, ignore_index=True)
    return pd.DataFrame({name: _joined_column(tables, name) for name in names})


def in_objects(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table for who cannot take pandas' nullable columns, such as napari.

    Integers and booleans some of which are missing become objects of Python with NaN between them;
    `settled` undoes it.
    """
    plain = table.copy(deep=False)
    for name, column in table.items():
        if is_nullable(column):
            held = column.notna()
            objects = column.astype(object).where(held, np.nan)
            plain[name] = settled(objects) if held.all() else objects
    return plain


def _kind(cell: Any) -> object:
    if isinstance(cell, bool | np.bool_):
        return "bool"
    if isinstance(cell, int | np.integer):
        return "int"
    return "float" if isinstance(cell, float | np.floating) else type(cell)


def _integers(column: pd.Series, missing: np.ndarray) -> pd.Series:
    held = [int(value) for value in column[~missing]]
    low, high = min(held), max(held)
    kind: Any = "int64" if low >= -(2**63) and high < 2**63 else "uint64"
    if kind == "uint64" and (low < 0 or high >= 2**64):
        return column.map(str, na_action="ignore")
    if not missing.any():
        return column.astype(kind)
    return _nullable(column, missing, "Int64" if kind == "int64" else "UInt64")


def _nullable(column: pd.Series, missing: np.ndarray, dtype: str) -> pd.Series:
    kind: Any = dtype
    return column.where(~missing, pd.NA).astype(kind)


def _objects(cells: list[Any]) -> pd.Series:
    values = np.empty(len(cells), dtype=object)
    # One by one, since cells may be lists.
    for number, cell in enumerate(cells):
        values[number] = cell
    return pd.Series(values)


def _joined_column(tables: Sequence[pd.DataFrame], name: Hashable) -> pd.Series:
    parts = [
        table[name] if name in table.columns else pd.Series([None] * len(table), dtype=object)
        for table in tables
    ]
    held = [part for part in parts if part.notna().any()]
    kinds = {_family(part) for part in held}
    if len(kinds) > 1 and kinds <= {"bool", "int", "float", "text"}:
        return pd.concat([_texts(part) for part in parts], ignore_index=True)
    if kinds <= {"int", "bool"} and kinds:
        objects = [part.astype(object).where(part.notna(), None) for part in parts]
        return settled(pd.concat(objects, ignore_index=True))
    # What holds nothing has a type all the same, which would count.
    empty = {id(part) for part in parts} - {id(part) for part in held}
    dtype = held[0].dtype if held and len({part.dtype for part in held}) == 1 else None
    if dtype is not None and dtype.kind != "O":
        parts = [
            pd.Series([None] * len(part), dtype=_with_gaps(dtype)) if id(part) in empty else part
            for part in parts
        ]
    return pd.concat(parts, ignore_index=True)


def _with_gaps(dtype: Any) -> Any:
    """Return what a missing value can be kept as beside those of a type."""
    return dtype if dtype.kind not in "iub" or not isinstance(dtype, np.dtype) else object


def _family(column: pd.Series) -> str:
    if column.dtype == object:
        kinds = set(map(_kind, column.dropna()))
        return "text" if kinds == {str} else "other"
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "other"
    if pd.api.types.is_string_dtype(column.dtype):
        return "text"
    return {"b": "bool", "i": "int", "u": "int", "f": "float"}.get(column.dtype.kind, "other")


def _texts(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), None).map(as_text, na_action="ignore")


def _is_boolean(note: Mapping[str, Any]) -> bool:
    return note["numpy_type"] == "boolean"
