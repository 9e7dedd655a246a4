"""What is to be extracted in shards, as all workers read it from the output folder.

A shard is some of it that lies together in space. Workers read the plan and what is theirs, never
all of it.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.pipeline.provenance import changed_sources
from napari_synapse_cl.runs.events import Wrote
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import read_json, write_json

VERSION = 1
ROW = "row"
"""The column that says which row of the table one of a shard is."""


@dataclass(frozen=True)
class About:
    """What a shard that is done says of itself."""

    plan: str
    """The key of the plan."""
    shard: int
    sha256: str
    """Of what was made."""
    failed: list[tuple[Any, str]]
    """What could not be made, and why: rows of the table, or of maps the first voxel along z, y, x
    and the voxel behind the last."""
    fewer_at_once: bool = False
    """Whether memory ran out, so that less went through the network at once."""
    components: str = ""
    """Which principal components are behind the features, none if empty."""


class Worker(Protocol):
    """A process that has opened network and volumes once, for shard after shard."""

    at_once: int
    """Crops or voxels that go through the network at once, where memory suffices."""

    def extract(self, shard: int, *, at_once: int | None = None) -> Generator[int, None, About]:
        """Extract a shard, unless that is done; yield how much of it is, in the plan's units."""


@dataclass(frozen=True, kw_only=True)
class Plan(ABC):
    """An extraction in shards."""

    kind: ClassVar[str]
    """By which it is known in its file."""
    what: ClassVar[str]
    """What is extracted, in words."""
    unit: ClassVar[str]
    """What `sizes` count."""

    given: dict[str, Any]
    """The settings that shape what is made, as they were given."""
    network: dict[str, Any]
    """Which network it is; empty for descriptors alone."""
    data: list[dict[str, str]]
    """What it is made of, as ``sources_of`` tells it."""
    config: dict[str, Any]
    """All settings, with what was found of network and data."""
    device: str
    """Type of the device: cpu or cuda."""
    precision: str
    sizes: list[int]
    """How much each shard is."""
    record: dict[str, Any]
    """Where the results come from."""
    version: int = VERSION

    @classmethod
    def read(cls, places: Places) -> Self | None:
        """Return the plan in a folder, None where there is none yet.

        Raises
        ------
        InputError
            If it cannot be read, or is of something else.
        """
        if not places.plan.exists():
            return None
        try:
            content = read_json(places.plan)
            if content.get("version") != VERSION:
                raise ValueError("it is of another version of this program")
            known = {name: content.pop(name, None) for name in ("kind", "what", "unit")}
            plan = _class_of(known["kind"] or "table")(**content)
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise InputError(
                f"{places.plan} cannot be read: {reason(error)}; begin anew in another folder"
            ) from None
        if not isinstance(plan, cls):
            raise InputError(
                f"{places.shards} is of an extraction of {plan.what}: name another output folder"
            )
        return plan

    def write(self, places: Places) -> None:
        """Write it, whole or not at all."""
        # Who follows it knows nothing else of what it is.
        known = {"kind": self.kind, "what": self.what, "unit": self.unit}
        write_json(places.plan, {**known, **asdict(self)})

    @cached_property
    def key(self) -> str:
        """What tells the shards of this plan from those of another."""
        content = {
            name: getattr(self, name) for name in ("given", "network", "data", "precision", "sizes")
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def n_shards(self) -> int:
        """How many shards there are."""
        return len(self.sizes)

    @property
    def total(self) -> int:
        """How much all shards are."""
        return sum(self.sizes)

    @property
    @abstractmethod
    def at_once(self) -> int:
        """How much goes through the network at once where memory suffices."""

    @abstractmethod
    def glance(self, places: Places, shard: int) -> About | None:
        """Return what a shard that is done says of itself, None if there is none of this plan."""

    @abstractmethod
    def open_worker(self, places: Places, ordinal: int | None = None) -> Worker:
        """Open network and volumes for shard after shard.

        Parameters
        ----------
        ordinal
            The number of this worker on its computer, by which it takes one of several GPUs.

        Raises
        ------
        InputError
            If something cannot be opened any more, or the device is of another type than planned.
        """

    @abstractmethod
    def result(self, places: Places) -> Wrote:
        """Return what there is in the end."""

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
                f"the {self.what} that are there in shards were begun otherwise: "
                f"{'; '.join(differ)}. Go on with the same, or name another output folder"
            )


def _told(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


@lru_cache(1)
def worker_of(output: Path, key: str, ordinal: int | None) -> Worker:
    """Return the worker of this process for a plan, which is opened once.

    Raises
    ------
    InputError
        If the plan is gone, or another.
    """
    places = Places(output)
    plan = Plan.read(places)
    if plan is None or plan.key != key:
        raise InputError(f"{places.plan} is gone, or was replaced while workers were at it")
    return plan.open_worker(places, ordinal)


def _class_of(kind: str) -> type[Plan]:
    # What a plan is made of knows what all have in common, so these are known here late.
    from napari_synapse_cl.pipeline.shards.comparison_plan import ComparisonPlan
    from napari_synapse_cl.pipeline.shards.map_plan import MapPlan
    from napari_synapse_cl.pipeline.shards.table import TablePlan

    classes: tuple[type[Plan], ...] = (ComparisonPlan, MapPlan, TablePlan)
    return {known.kind: known for known in classes}[kind]
