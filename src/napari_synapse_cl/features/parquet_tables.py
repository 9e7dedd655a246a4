"""Tables of features in Parquet: a file, or a folder of files that together are one table.

No PyTorch in here: the window imports it.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from napari_synapse_cl.data.tables.folders import read_files, schema_of
from napari_synapse_cl.data.tables.typed import from_arrow
from napari_synapse_cl.errors import InputError

KEY = "napari_synapse_cl"
"""Under which the record is kept, in files of any format."""
_ATTRIBUTES = b"PANDAS_ATTRS"
"""Under which pandas keeps the attributes of a table in a Parquet file, as JSON."""
Record = dict[str, Any]
Table = tuple[pd.DataFrame, Record]


def check_column(column: pd.Series) -> None:
    """Check that a column goes into Parquet.

    Raises
    ------
    InputError
        If it holds values of several types, or numbers of a type that there is not.
    """
    import pyarrow as pa

    try:
        pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        raise InputError(
            f"the column {column.name} holds {_held(column)}, which do not go into a column of "
            "Parquet: make it all text or all numbers, or save the table as CSV"
        ) from None


def write_parquet_table(table: pd.DataFrame, record: Record, path: Path) -> None:
    """Write a table and its record to a file."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    for name in table.columns:
        check_column(table[name])
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    notes = {**(arrow.schema.metadata or {}), **notes_of(record)}
    # Arrow itself opens no file whose name is not UTF-8.
    with path.open("wb") as file:
        write_table(arrow.replace_schema_metadata(notes), file, write_page_checksum=True)


def notes_of(record: Record) -> dict[bytes, bytes]:
    """Return what a Parquet file says beside its columns, for its record to be found again."""
    return {_ATTRIBUTES: json.dumps({KEY: record}).encode()}


def read_parquet_table(path: Path, columns: list[str] | None = None) -> Table:
    """Read a table and its record, of a file or a folder of files.

    Parameters
    ----------
    columns
        Those to read; all without them.
    """
    arrow = read_files(path, columns)
    attributes = json.loads((arrow.schema.metadata or {}).get(_ATTRIBUTES, b"{}"))
    return from_arrow(arrow), attributes.get(KEY, {})


def columns_of_parquet(path: Path) -> list[str]:
    """Return the names of the columns of a file, or of a folder of files."""
    return list(schema_of(path).names)


def _held(column: pd.Series) -> str:
    """Say of which types the values of a column are."""
    kinds = sorted({type(value).__name__ for value in column.dropna()})
    return f"values of the types {', '.join(kinds)}" if len(kinds) > 1 else f"{kinds[0]} numbers"
