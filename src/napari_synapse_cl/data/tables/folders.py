"""Folders of Parquet files that together are one table, as an extraction in shards leaves them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from napari_synapse_cl.data.tables.typed import read_parquet
from napari_synapse_cl.system.files import sha256_of

if TYPE_CHECKING:
    import pyarrow as pa

COMMON = "_common_metadata"
"""The file in such a folder that holds columns and record of the table."""


def is_table(path: Path) -> bool:
    """Return whether a path is that of a folder of files that are one table."""
    return (path / COMMON).is_file()


def files_of(path: Path) -> list[Path]:
    """Return the files of a table: itself, or those in the folder that is one table."""
    # Names with a dot before them are of files that somebody was killed while writing.
    return sorted(path.glob("[!._]*.parquet")) if path.is_dir() else [path]


def table_with(path: Path) -> Path:
    """Return the folder, of a file that is a part of the table in it; else the path itself."""
    folder = path.parent
    return folder if is_table(folder) and path in files_of(folder) else path


def hash_of_table(path: Path) -> str:
    """Return the SHA-256 of a table's file; of a folder of files that of all of theirs in turn."""
    if not path.is_dir():
        return sha256_of(path)
    return hashlib.sha256("".join(map(sha256_of, files_of(path))).encode()).hexdigest()


def schema_of(path: Path) -> pa.Schema:
    """Return the columns of a file or of a folder of files, and what is noted of them."""
    from pyarrow.parquet import read_schema

    with (path / COMMON if path.is_dir() else path).open("rb") as file:
        return read_schema(file)


def read_files(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a file, or all files of a folder as one table, with what is noted of it.

    Parameters
    ----------
    columns
        Those to read; all without them.

    Raises
    ------
    ValueError
        If a file unpacks to many times its size.
    """
    import pyarrow as pa

    # Of files without check sums none are missed.
    tables = [
        read_parquet(file, columns=columns, page_checksum_verification=True)
        for file in files_of(path)
    ]
    return pa.concat_tables(tables).replace_schema_metadata(schema_of(path).metadata)
