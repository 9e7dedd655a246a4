"""The file that a shard leaves behind: its rows with their features, and what failed in it.

It says what it was made by and what it holds, so that a whole one is told from a damaged one or
another's. All parts together are one Parquet dataset.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_synapse_cl.errors import disk_in_words, reason
from napari_synapse_cl.pipeline.shards.plan import Places, Plan
from napari_synapse_cl.system.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa

KEY = b"napari_synapse_cl_part"
"""Under which a part keeps what it says of itself."""


@dataclass(frozen=True)
class About:
    """What a part says of itself."""

    plan: str
    """The key of the plan."""
    shard: int
    sha256: str
    """Of the row numbers and the features."""
    failed: list[tuple[int, str]]
    """Rows of the table that have no features, and why."""
    fewer_at_once: bool = False
    """Whether memory ran out, so that crops went through the network in smaller batches."""
    components: str = ""
    """Which principal components are behind the features, none if empty."""


def write_part(
    places: Places, plan: Plan, about: About, columns: "pa.Table", values: np.ndarray
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

    table = columns
    for name, column in zip(plan.names, np.ascontiguousarray(values.T), strict=True):
        table = table.append_column(name, pa.array(column))
    rows = columns[plan.row].to_numpy()
    write_table(table, replace(about, sha256=_hash(rows, values)), places.part(about.shard))


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


def glance(places: Places, plan: Plan, shard: int) -> About | None:
    """Return what the part of a shard says of itself, None if there is none of this plan."""
    from pyarrow import parquet

    path = places.part(shard)
    try:
        with path.open("rb") as file:
            told = parquet.ParquetFile(file)
            about = _about(told.schema_arrow)
            n_rows = told.metadata.num_rows
    # Of a damaged file Arrow says so in many ways.
    except Exception:
        return None
    is_own = about is not None and (about.plan, about.shard) == (plan.key, shard)
    return about if is_own and n_rows == plan.sizes[shard] else None


def read_part(
    places: Places, plan: Plan, shard: int
) -> tuple["pa.Table", np.ndarray, About] | None:
    """Return a part, its ``(n, C)`` float32 features and what it says; None if it isn't whole."""
    from pyarrow import parquet

    if glance(places, plan, shard) is None:
        return None
    try:
        with places.part(shard).open("rb") as file:
            table = parquet.ParquetFile(file, page_checksum_verification=True).read()
        about = _about(table.schema)
        values = np.empty((len(table), len(plan.names)), np.float32)
        for target, name in zip(values.T, plan.names, strict=True):
            target[:] = table[name].to_numpy()
        rows = table[plan.row].to_numpy()
    except Exception:
        return None
    if about is None or about.sha256 != _hash(rows, values):
        return None
    return table, values, about


def missing_shards(places: Places, plan: Plan, *, read: bool) -> list[int]:
    """Return the shards that have no whole part.

    Parameters
    ----------
    read
        Whether all of each part is read and checked, or only what it says of itself.
    """
    look = read_part if read else glance
    return [shard for shard in range(plan.n_shards) if look(places, plan, shard) is None]


def _about(schema: "pa.Schema") -> About | None:
    content = json.loads((schema.metadata or {}).get(KEY, b"null"))
    if content is None:
        return None
    return About(**{**content, "failed": [(int(row), str(why)) for row, why in content["failed"]]})


def _hash(rows: np.ndarray, values: np.ndarray) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(rows, np.int64).tobytes())
    digest.update(np.ascontiguousarray(values, np.float32).tobytes())
    return digest.hexdigest()
