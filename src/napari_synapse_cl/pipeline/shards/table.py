"""The rows of a table that are extracted in shards, some thousand that lie together in space."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from napari_synapse_cl.data.parts import Positions
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.pipeline.shards.plan import ROW, About, Plan, Worker
from napari_synapse_cl.runs.events import Wrote
from napari_synapse_cl.runs.shards import Places

if TYPE_CHECKING:
    import pyarrow as pa

KEY = b"napari_synapse_cl_part"
"""Under which a part keeps what it says of itself."""
PLACE = ("at_z", "at_y", "at_x")
"""Columns of the voxel of a row, in the files of the plan; -1 where it lies outside."""
VOLUME = "of_volume"
PARTNER = "partner_"
OWN = "own_"
"""Before the names of the table's own columns in those files."""


@dataclass(frozen=True, kw_only=True)
class TablePlan(Plan):
    """An extraction of the features of a table in shards."""

    kind: ClassVar[str] = "table"
    what: ClassVar[str] = "features"
    unit: ClassVar[str] = "crop"

    network_size: list[float] | None
    """Voxel size along z, y, x in nm that the network knows."""
    voxel_size: list[float] | None
    """Voxel size of the crops along z, y, x in nm, None where it is not known."""
    name: str
    """How to call the data in messages."""
    partners: list[str]
    """Names of the positions that there are for each synapse."""
    columns: list[tuple[int | str, list[str]]]
    """What the features are of, and the names of their columns, in their order."""
    n_inside: int
    """Rows that have crops: those of the first shards."""
    row: str
    """Name of the column of row numbers."""

    @property
    def names(self) -> list[str]:
        """The columns of all features."""
        return [name for _, names in self.columns for name in names]

    @property
    def at_once(self) -> int:
        """How many crops go through the network at once where memory suffices."""
        from napari_synapse_cl.pipeline.shards.worker import usually_at_once

        return usually_at_once(self.settings())

    def part(self, places: Places, shard: int) -> Path:
        """Return where what a shard has made goes."""
        return places.part(shard)

    def glance(self, places: Places, shard: int) -> About | None:
        """Return what the part of a shard says of itself, None if there is none of this plan."""
        from pyarrow import parquet

        path = self.part(places, shard)
        try:
            with path.open("rb") as file:
                told = parquet.ParquetFile(file)
                about = about_in(told.schema_arrow)
                n_rows = told.metadata.num_rows
        # Of a damaged file Arrow says so in many ways.
        except Exception:
            return None
        is_own = about is not None and (about.plan, about.shard) == (self.key, shard)
        return about if is_own and n_rows == self.sizes[shard] else None

    def open_worker(self, places: Places, ordinal: int | None = None) -> Worker:
        """Open network and volumes for shard after shard."""
        # Whoever plans for a cluster computes nothing itself.
        from napari_synapse_cl.pipeline.shards.worker import TableWorker

        return TableWorker(places, self, ordinal)

    def result(self, places: Places) -> Wrote:
        """Return the folder of the parts."""
        return Wrote("features", str(places.features))


def about_in(schema: "pa.Schema") -> About | None:
    """Return what the columns of a part say of it."""
    content = json.loads((schema.metadata or {}).get(KEY, b"null"))
    if content is None:
        return None
    return About(**{**content, "failed": [(int(row), str(why)) for row, why in content["failed"]]})


@dataclass(frozen=True)
class ShardRows:
    """The rows of a shard."""

    rows: np.ndarray
    """``(n,)`` int64, which rows of the table they are."""
    positions: Positions
    """Of those that lie inside; their ``rows`` are numbers within the shard."""
    own: "pa.Table"
    """Their own columns."""


def read_rows(places: Places, plan: TablePlan, shard: int) -> ShardRows:
    """Return the rows of a shard.

    Raises
    ------
    InputError
        If they cannot be read.
    """
    from pyarrow import parquet

    path = places.rows(shard)
    try:
        table = parquet.ParquetFile(path, page_checksum_verification=True).read()
    # Arrow raises a wide range of types on a damaged file, and the cause is the same.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read: {reason(error)}; remove {places.plan} and give the command "
            "again, which plans anew"
        ) from error
    voxels = _numbers(table, PLACE)
    inside = np.flatnonzero(voxels[:, 0] >= 0)
    volumes = table[VOLUME].to_numpy()[inside] if VOLUME in table.column_names else None
    partners = {
        name: _numbers(table, [f"{PARTNER}{name}_{axis}" for axis in "zyx"])[inside]
        for name in plan.partners
    }
    names = [name for name in table.column_names if name.startswith(OWN)]
    own = table.select(names).rename_columns([name.removeprefix(OWN) for name in names])
    return ShardRows(
        table[ROW].to_numpy(),
        Positions(voxels[inside], inside, len(voxels) - len(inside), volumes, partners),
        own.replace_schema_metadata(table.schema.metadata),
    )


def _numbers(table: "pa.Table", names: Sequence[str]) -> np.ndarray:
    return np.stack([table[name].to_numpy() for name in names], axis=1)
