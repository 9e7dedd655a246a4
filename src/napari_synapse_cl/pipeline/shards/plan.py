"""What is to be extracted in shards, as all workers read it from the output folder.

A shard is some thousand rows of the table that lie together in space. Workers read the plan and the
rows of a shard, never the whole table.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.parts import Positions
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.pipeline.provenance import changed_sources
from napari_synapse_cl.system.files import read_json, write_json

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
PLACE = ("at_z", "at_y", "at_x")
"""Columns of the voxel of a row, in the files of the plan; -1 where it lies outside."""
VOLUME = "of_volume"
PARTNER = "partner_"
OWN = "own_"
"""Before the names of the table's own columns in those files."""
ROW = "row"
"""The column that says which row of the table one of a shard is."""


class Places:
    """Where the files of an extraction in shards lie in its output folder."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.features = output / "features"
        self.record = output / "features.json"
        self.failed = output / "failed.csv"
        self.shards = output / "shards"
        self.plan = self.shards / "plan.json"
        self.done = self.shards / "done.jsonl"
        self.finished = self.shards / "finished.json"

    def part(self, shard: int) -> Path:
        """Return where the features of a shard go."""
        return self.features / f"part-{shard:05d}.parquet"

    def rows(self, shard: int) -> Path:
        """Return where the rows of a shard are."""
        return self.shards / "rows" / f"rows-{shard:05d}.parquet"

    def trail(self, shard: int) -> Path:
        """Return where it is noted what a worker of a shard is at."""
        return self.shards / "trails" / f"trail-{shard:05d}.json"

    def claim(self, shard: int) -> Path:
        """Return the file that the job of an array locks which works on a shard."""
        return self.shards / "claims" / f"{shard:05d}.lock"


@dataclass(frozen=True)
class Plan:
    """An extraction in shards."""

    given: dict[str, Any]
    """The settings that shape features, as they were given."""
    network: dict[str, Any]
    """Which network it is; empty for descriptors alone."""
    data: list[dict[str, str]]
    """What the synapses are of, as ``sources_of`` tells it."""
    config: dict[str, Any]
    """All settings, with what was found of network and data."""
    network_size: list[float] | None
    """Voxel size along z, y, x in nm that the network knows."""
    voxel_size: list[float] | None
    """Voxel size of the crops along z, y, x in nm, None where it is not known."""
    name: str
    """How to call the data in messages."""
    device: str
    """Type of the device: cpu or cuda."""
    precision: str
    partners: list[str]
    """Names of the positions that there are for each synapse."""
    columns: list[tuple[int | str, list[str]]]
    """What the features are of, and the names of their columns, in their order."""
    sizes: list[int]
    """Rows of each shard."""
    n_inside: int
    """Rows that have crops: those of the first shards."""
    row: str
    """Name of the column of row numbers."""
    record: dict[str, Any]
    """Where the features come from."""
    version: int = VERSION

    @classmethod
    def read(cls, places: Places) -> Self | None:
        """Return the plan in a folder, None where there is none yet.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        if not places.plan.exists():
            return None
        try:
            content = read_json(places.plan)
            if content.get("version") != VERSION:
                raise ValueError("it is of another version of this program")
            return cls(**content)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{places.plan} cannot be read: {reason(error)}; remove it and {places.features} "
                "to begin anew, or name another output folder"
            ) from None

    def write(self, places: Places) -> None:
        """Write it, whole or not at all."""
        write_json(places.plan, asdict(self))

    @cached_property
    def key(self) -> str:
        """What tells the parts of this plan from those of another."""
        content = {
            name: getattr(self, name) for name in ("given", "network", "data", "precision", "sizes")
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def names(self) -> list[str]:
        """The columns of all features."""
        return [name for _, names in self.columns for name in names]

    @property
    def n_shards(self) -> int:
        """How many shards there are."""
        return len(self.sizes)

    @property
    def n_rows(self) -> int:
        """How many rows the table has."""
        return sum(self.sizes)

    def settings(self) -> Config:
        """Return the settings."""
        return Config.from_values(self.config)

    def check(self, given: Mapping[str, Any], network: Mapping[str, Any], data: Any) -> None:
        """Refuse to go on with other settings, another network or other data.

        Raises
        ------
        InputError
            If they are others than those of the plan, saying which.
        """
        differ = [
            f"{name} was {_told(self.given.get(name))} and is now {_told(given.get(name))}"
            for name in sorted({*given, *self.given})
            if self.given.get(name) != given.get(name)
        ]
        if self.network != dict(network):
            differ.append("the network is another")
        differ += changed_sources(self.data, data)
        if differ:
            raise InputError(
                "the features that are there in shards were begun otherwise: "
                f"{'; '.join(differ)}. Go on with the same, or name another output folder"
            )


def _told(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


@dataclass(frozen=True)
class ShardRows:
    """The rows of a shard."""

    rows: np.ndarray
    """``(n,)`` int64, which rows of the table they are."""
    positions: Positions
    """Of those that lie inside; their ``rows`` are numbers within the shard."""
    own: "pa.Table"
    """Their own columns."""


def read_rows(places: Places, plan: Plan, shard: int) -> ShardRows:
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
