"""What makes blocks of maps: a process that has opened network and volume once."""

import time
from collections.abc import Generator
from dataclasses import asdict

import numpy as np
import zarr

from napari_synapse_cl.data.arrays import first_line
from napari_synapse_cl.data.formats.stores import be_patient
from napari_synapse_cl.data.opening import open_image
from napari_synapse_cl.features.maps.blocks import box_of
from napari_synapse_cl.features.maps.extraction import (
    default_tile_voxels,
    extract_maps,
    tiles_of,
)
from napari_synapse_cl.features.maps.grid import Box
from napari_synapse_cl.features.maps.store import array_name, write_chunks, writing
from napari_synapse_cl.pipeline.extraction_preparation import open_chosen_network
from napari_synapse_cl.pipeline.shards.map_plan import Layout, MapPlan, hash_of
from napari_synapse_cl.pipeline.shards.plan import About
from napari_synapse_cl.pipeline.shards.trail import Trail
from napari_synapse_cl.pipeline.shards.worker import check_servers, device_of, log_done
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import write_json

SMALLER = 8
"""How many times fewer voxels go through the network at once where workers have died."""

Failed = list[tuple[list[int], str]]
"""Regions that cannot be made, and why."""


class MapWorker:
    """Network and volume of a plan, opened for block after block.

    Parameters
    ----------
    ordinal
        As :meth:`Plan.open_worker` takes it.

    Raises
    ------
    InputError
        If something cannot be opened any more, or the device is of another type than planned.
    """

    def __init__(self, places: Places, plan: MapPlan, ordinal: int | None = None) -> None:
        be_patient()
        self.places, self.plan = places, plan
        config = plan.settings()
        opened = open_chosen_network(config)
        self._network = opened.network
        self._layout = Layout.of(plan, opened.architecture)
        self._part = open_image(config, opened.voxel_size)
        self._device = device_of(plan, ordinal)
        self.at_once = plan.at_once

    def extract(self, shard: int, *, at_once: int | None = None) -> Generator[int, None, About]:
        """Extract a block of the maps and write its chunks, unless that is done.

        Nobody else writes these chunks, and each is written once. What of the block cannot be read
        is NaN and listed, and so is all of one in which workers die whatever is tried.

        Parameters
        ----------
        at_once
            How many voxels go through the network at once, where memory does not suffice for more.

        Yields
        ------
        int
            How much of the block is done, in the plan's units.

        Raises
        ------
        JobError
            If a server is down, memory suffices for nothing, or the block cannot be written.
        """
        there = self.plan.glance(self.places, shard)
        if there is not None:
            return there
        begun = time.monotonic()
        trail = Trail(self.places.trail(shard))
        most = min(
            at_once or self.at_once,
            default_tile_voxels(self._network, self._layout.layers, self._device),
        )
        values = {
            index: np.full((layer.channels, *grid.shape), np.nan, np.float32)
            for layer in self._layout.layers
            if (grid := self._layout.blocks[shard][(index := layer.index)]).n_elements
        }
        failed: Failed = []
        is_deadly = trail.begin_batch(0)
        if is_deadly:
            most //= SMALLER
        if not is_deadly or trail.begin_row(0):
            failed, is_divided = yield from self._compute(shard, max(1, most), values, trail)
        else:
            is_divided = False
            failed = [(_region(box_of(self._layout.blocks[shard])), trail.failed[0])]
        about = About(
            plan=self.plan.key,
            shard=shard,
            sha256=hash_of(values),
            failed=failed,
            fewer_at_once=is_divided or most < self.plan.at_once,
        )
        self._write(shard, values, about)
        trail.remove()
        size = self.plan.sizes[shard]
        log_done(self.places.done, shard, size, len(failed), time.monotonic() - begun)
        return about

    def _compute(
        self, shard: int, most: int, values: dict[int, np.ndarray], trail: Trail
    ) -> Generator[int, None, tuple[Failed, bool]]:
        """Compute the maps of a block; return what cannot be read, and whether memory was short."""
        block, layers = self._layout.blocks[shard], self._layout.layers
        corners = {index: [s.start for s in at] for index, at in self._layout.slices(shard).items()}
        failed: Failed = []
        volume = self._part.volume
        n_tiles, is_divided = len(tiles_of(block, layers, volume.shape, most)), False
        for tile in extract_maps(
            self._network,
            volume,
            (self.plan.intensities[0], self.plan.intensities[1]),
            self.plan.box,
            layers,
            device=self._device,
            precision=self.plan.precision,
            tile_voxels=most,
            blocks=[block],
            goes_on=True,
        ):
            is_divided = tile.total > n_tiles
            if tile.problem is not None:
                check_servers(tile.problem, [self._part])
                failed.append((_region(tile.box), first_line(tile.problem)))
            for index, (place, part) in tile.parts.items():
                within = tuple(
                    slice(s.start - c, s.stop - c)
                    for s, c in zip(place, corners[index], strict=True)
                )
                values[index][(slice(None), *within)] = part
            trail.touch()
            yield self.plan.sizes[shard] * tile.done // tile.total
        return failed, is_divided

    def _write(self, shard: int, values: dict[int, np.ndarray], about: About) -> None:
        folder = self.plan.folder(self.places)
        with writing(self.places.output):
            group = zarr.open_group(folder, mode="r+")
            for index, place in self._layout.slices(shard).items():
                write_chunks(group[array_name(index)], place, values[index])
            write_json(self.places.block(shard), asdict(about))


def _region(box: Box) -> list[int]:
    return [*box.start, *box.stop]
