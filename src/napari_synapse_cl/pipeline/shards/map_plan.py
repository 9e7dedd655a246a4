"""Feature maps that are extracted in shards: blocks of whole chunks of one Zarr."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from napari_synapse_cl.features.maps.blocks import Block, blocks_of
from napari_synapse_cl.features.maps.grid import Box, MapGrid
from napari_synapse_cl.models.architecture import Architecture, Layer
from napari_synapse_cl.pipeline.shards.plan import About, Plan, Worker
from napari_synapse_cl.runs.events import Wrote
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import read_record
from napari_synapse_cl.system.words import triple

MEGA = 2**20


@dataclass(frozen=True, kw_only=True)
class MapPlan(Plan):
    """An extraction of maps in shards."""

    kind: ClassVar[str] = "map"
    what: ClassVar[str] = "maps"
    unit: ClassVar[str] = "Mvoxel"

    target: str
    """Name of the folder of maps."""
    layers: list[int]
    region: list[int]
    """First voxel along z, y, x, and the voxel behind the last."""
    volume_shape: list[int]
    intensities: list[float]
    """The values that become 0 and 1."""
    voxels_at_once: int
    replaces: bool
    """Whether maps that are there already are replaced in the end."""

    @property
    def at_once(self) -> int:
        """How many voxels go through the network at once where memory suffices."""
        return self.voxels_at_once

    @property
    def box(self) -> Box:
        """The region."""
        return Box(triple(self.region[:3]), triple(self.region[3:]))

    def being_made(self, places: Places) -> Path:
        """Return where the maps are until they are whole."""
        return places.shards / self.target

    def folder(self, places: Places) -> Path:
        """Return where the maps are now."""
        being_made = self.being_made(places)
        return being_made if being_made.exists() else places.output / self.target

    def glance(self, places: Places, shard: int) -> About | None:
        """Return what is noted of a block that is done, None if there is nothing of this plan."""
        noted = read_record(places.block(shard))
        if (noted.get("plan"), noted.get("shard")) != (self.key, shard):
            return None
        try:
            failed = [(list(region), str(why)) for region, why in noted.pop("failed")]
            return About(**noted, failed=failed)
        except (TypeError, ValueError, KeyError):
            return None

    def open_worker(self, places: Places, ordinal: int | None = None) -> Worker:
        """Open network and volume for block after block."""
        # Whoever plans for a cluster computes nothing itself.
        from napari_synapse_cl.pipeline.shards.map_worker import MapWorker

        return MapWorker(places, self, ordinal)

    def result(self, places: Places) -> Wrote:
        """Return the folder of the maps that are finished."""
        return Wrote("maps", str(places.output / self.target))


@dataclass(frozen=True)
class Layout:
    """What lies where in the maps of a plan."""

    layers: list[Layer]
    grids: dict[int, MapGrid]
    """Of the maps, by the index of the layer."""
    blocks: list[Block]

    @classmethod
    def of(cls, plan: MapPlan, architecture: Architecture) -> Self:
        """Return that of a plan."""
        layers = [architecture.check_layer(index) for index in plan.layers]
        grids = {layer.index: MapGrid.of(layer, plan.box, plan.volume_shape) for layer in layers}
        return cls(layers, grids, blocks_of(layers, grids))

    def slices(self, shard: int) -> dict[int, tuple[slice, slice, slice]]:
        """Return where a block lies in the map of each layer that has elements in it."""
        return {
            index: grid.slices_from(self.grids[index].first)
            for index, grid in self.blocks[shard].items()
            if grid.n_elements
        }


def hash_of(values: Mapping[int, np.ndarray]) -> str:
    """Return what tells the maps of a block, by the index of the layer, from others."""
    digest = hashlib.sha256()
    for index in sorted(values):
        digest.update(np.ascontiguousarray(values[index], np.float32).data)
    return digest.hexdigest()
