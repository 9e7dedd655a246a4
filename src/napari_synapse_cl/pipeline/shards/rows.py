"""Which rows of a table lie together in space, and the files that tell workers theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.pipeline.shards.plan import ROW
from napari_synapse_cl.pipeline.shards.table import OWN, PARTNER, PLACE, VOLUME
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import replacing

ALL = slice(None)
CUBE = 64
"""Voxels along each axis that stand for a chunk where a volume has none."""


def in_space(dataset: Dataset, chosen: np.ndarray | slice = ALL) -> np.ndarray:
    """Return the rows that lie inside, or those of some positions, in the order of shards."""
    positions = dataset.positions
    voxels, rows = positions.voxels[chosen], positions.rows[chosen]
    numbers = np.zeros(len(voxels), np.int64)
    if positions.volumes is not None:
        numbers = positions.volumes[chosen]
    codes = np.zeros(len(numbers), np.uint64)
    for number, part in enumerate(dataset.parts):
        own = numbers == number
        chunk = getattr(part.volume.array, "chunk", None) or (CUBE,) * 3
        codes[own] = morton(voxels[own] // np.array(chunk))
    # The last is looked at first; rows of a chunk stay in their order, in which all are.
    keys = (codes,) if positions.volumes is None else (codes, numbers)
    return np.asarray(rows[np.lexsort(keys)])


def morton(places: np.ndarray) -> np.ndarray:
    """Return numbers by whose order places that follow each other lie near each other.

    Parameters
    ----------
    places
        ``(N, 3)`` int64, each at least 0 and below 2²¹.

    Returns
    -------
    numpy.ndarray
        ``(N,)`` uint64: the bits of z, y and x in turn.
    """
    codes = np.zeros(len(places), np.uint64)
    for bit in range(21):
        for axis in range(3):
            has = (places[:, axis].astype(np.uint64) >> np.uint64(bit)) & np.uint64(1)
            codes |= has << np.uint64(3 * bit + 2 - axis)
    return codes


def write_rows(
    places: Places, dataset: Dataset, own: pd.DataFrame, order: np.ndarray, sizes: list[int]
) -> None:
    """Write the rows of each shard, where they lie and their own columns.

    Parameters
    ----------
    own
        The columns of all rows of the table that are kept.
    order, sizes
        Rows in the order of shards, and how many each has.
    """
    import pyarrow as pa

    positions = dataset.positions
    # Of each row of the table, which position it has.
    index = np.full(len(dataset.table), -1)
    index[positions.rows] = np.arange(len(positions.rows))
    # Texts come in pieces, in all of which each shard would look for its own.
    table = pa.Table.from_pandas(own, preserve_index=False).combine_chunks()
    # By these pandas reads integers beside blanks as what they are; Arrow drops them on the way.
    notes = table.schema.metadata
    table = table.rename_columns([f"{OWN}{name}" for name in table.column_names])
    first = 0
    for shard, size in enumerate(sizes):
        rows = order[first : first + size]
        first += size
        at = index[rows]
        voxels = np.where(at[:, None] >= 0, positions.voxels[at], -1)
        columns: dict[str, np.ndarray] = {ROW: rows}
        columns |= dict(zip(PLACE, voxels.T, strict=True))
        if positions.volumes is not None:
            columns[VOLUME] = np.where(at >= 0, positions.volumes[at], 0)
        for name, places_of in positions.partners.items():
            for axis, values in zip("zyx", places_of[at].T, strict=True):
                columns[f"{PARTNER}{name}_{axis}"] = values
        some = table.take(pa.array(rows))
        for name, values in columns.items():
            some = some.append_column(name, pa.array(values))
        _write(some.replace_schema_metadata(notes), places.rows(shard))


def _write(table: Any, path: Path) -> None:
    from pyarrow import parquet

    with replacing(path) as temporary, temporary.open("wb") as file:
        parquet.write_table(table, file, write_page_checksum=True)
