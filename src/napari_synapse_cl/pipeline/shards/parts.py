"""The file that a shard leaves behind: its rows with their features, and what failed in it.

It says what it was made by and what it holds, so that a whole one is told from a damaged one or
another's. All parts together are one Parquet dataset.
"""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_synapse_cl.errors import disk_in_words, reason
from napari_synapse_cl.pipeline.shards.plan import About
from napari_synapse_cl.pipeline.shards.table import KEY, TablePlan, about_in
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa


def write_part(
    places: Places, plan: TablePlan, about: About, columns: "pa.Table", values: np.ndarray
) -> None:
    """Write the part of a shard under a temporary name, and give it its own.

    Parameters
    ----------
    about
        What it says of itself; its hash is made here.
    columns
        The columns before the features, the row numbers among them.
    values
        The features, ``(n, C)`` float32.

    Raises
    ------
    JobError
        If it cannot be written.
    """
    import pyarrow as pa

    made = [pa.array(column) for column in np.ascontiguousarray(values.T)]
    # At once: column after column would take a time that grows by the square of their number.
    table = pa.Table.from_arrays(
        [*columns.columns, *made], names=[*columns.column_names, *plan.names]
    ).replace_schema_metadata(columns.schema.metadata)
    rows = columns[plan.row].to_numpy()
    path = plan.part(places, about.shard)
    write_table(table, replace(about, sha256=_hash(rows, values)), path)


def write_table(table: "pa.Table", about: About, path: Path) -> None:
    """Write a part that is a table of Arrow already."""
    from pyarrow import parquet

    notes = {**(table.schema.metadata or {}), KEY: json.dumps(asdict(about)).encode()}
    with (
        disk_in_words(lambda error: f"cannot write the features {path}: {reason(error)}"),
        replacing(path) as temporary,
        temporary.open("wb") as file,
    ):
        parquet.write_table(table.replace_schema_metadata(notes), file, write_page_checksum=True)


def read_part(
    places: Places, plan: TablePlan, shard: int
) -> tuple["pa.Table", np.ndarray, About] | None:
    """Return a part, its ``(n, C)`` float32 features and what it says; None if it isn't whole."""
    from pyarrow import parquet

    if plan.glance(places, shard) is None:
        return None
    try:
        with plan.part(places, shard).open("rb") as file:
            table = parquet.ParquetFile(file, page_checksum_verification=True).read()
        about = about_in(table.schema)
        values = np.empty((len(table), len(plan.names)), np.float32)
        for target, name in zip(values.T, plan.names, strict=True):
            target[:] = table[name].to_numpy()
        rows = table[plan.row].to_numpy()
    except Exception:
        return None
    if about is None or about.sha256 != _hash(rows, values):
        return None
    return table, values, about


def missing_shards(places: Places, plan: TablePlan, *, read: bool) -> list[int]:
    """Return the shards that have no whole part.

    Parameters
    ----------
    read
        Whether all of each part is read and checked, or only what it says of itself.
    """

    def look(shard: int) -> object:
        return read_part(places, plan, shard) if read else plan.glance(places, shard)

    return [shard for shard in range(plan.n_shards) if look(shard) is None]


def _hash(rows: np.ndarray, values: np.ndarray) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(rows, np.int64).tobytes())
    digest.update(np.ascontiguousarray(values, np.float32).tobytes())
    return digest.hexdigest()
