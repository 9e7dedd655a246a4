"""The feature maps of layers over a region, as if the network had seen the whole volume."""

from collections.abc import Iterator, Sequence
from itertools import chain
from math import prod

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl.data.intensity import to_unit_range
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.maps.blocks import Block, blocks_of, box_of, common
from napari_synapse_cl.features.maps.grid import (
    Box,
    MapGrid,
    MapPart,
    MapTile,
    check_region,
    halves,
    plan_tiles,
    read_box,
)
from napari_synapse_cl.models.architecture import Layer
from napari_synapse_cl.models.folding import Folded, bytes_per_voxel
from napari_synapse_cl.models.vgg3d import Vgg3D, to_network_range
from napari_synapse_cl.system.devices import memory_of
from napari_synapse_cl.system.memory import is_shortage
from napari_synapse_cl.system.words import size

TILE_VOXELS = 16 * 80**3
"""Voxels that go through the network at once, where deep layers do not need more."""
SHARE_OF_FREE_MEMORY = 0.6
"""The system does not always say before it is too late that memory runs out."""


def extract_maps(
    network: Vgg3D,
    volume: Volume,
    intensities: tuple[float, float],
    region: Box,
    layers: Sequence[Layer],
    *,
    device: torch.device,
    precision: str,
    tile_voxels: int | None = None,
    blocks: Sequence[Block] | None = None,
    goes_on: bool = False,
) -> Iterator[MapTile]:
    """Yield the maps of some layers over a region, tile by tile and block by block.

    Every element is that of the whole volume's map, in which the convolutions pad with zeros at the
    faces of the volume: tiles overlap by what their elements depend on, and keep only what is
    exact. The network runs once over each tile, no further than the deepest layer, in evaluation
    mode.

    Parameters
    ----------
    network
        The network to read; it stays as it is.
    intensities
        The values that become 0 and 1, as by
        :func:`~napari_synapse_cl.data.intensity.volume_window` of the whole volume.
    region
        The region; what of it lies outside the volume is left out.
    layers
        The layers of the network's architecture to read, each once.
    device, precision
        Where and how precisely to compute; what is yielded is float32.
    tile_voxels
        How many voxels may go through the network at once; None for :func:`default_tile_voxels`.
    blocks
        Which blocks of the maps to extract; None for all. By those and `tile_voxels` tiles are
        planned, on whose sizes the last bits of their elements depend.
    goes_on
        Whether a tile whose voxels cannot be read is NaN and says why, and ends nothing.

    Yields
    ------
    MapTile
        For each layer a part of the map whose place and size :class:`MapGrid` tells. All parts of
        a layer together are its map, without overlap.

    Raises
    ------
    InputError
        If a layer has no element over the region, or voxels are not finite.
    JobError
        If memory runs out even for the smallest tiles.
    """
    region = check_region(region, volume.shape)
    whole = {layer.index: MapGrid.of(layer, region, volume.shape) for layer in layers}
    folded = Folded(network, list(whole), device=device, precision=precision)
    largest = tile_voxels or default_tile_voxels(network, layers, device)
    waiting = [
        (block, tile)
        for block in (blocks_of(layers, whole) if blocks is None else blocks)
        for tile in tiles_of(block, layers, volume.shape, largest)
    ]
    done = 0
    while waiting:
        grids = _grids(layers, *waiting[0], volume.shape)
        box = read_box(grids, volume.shape)
        problem: Exception | None = None
        maps: dict[int, np.ndarray] | None
        try:
            raw = _read(volume, box, intensities)
        except Exception as error:
            if not goes_on or is_shortage(error):
                raise
            problem, maps = error, _blank(grids)
        else:
            maps = _maps(folded, raw, grids, box, device)
        if maps is None:
            if device.type == "cuda":
                torch.cuda.empty_cache()
            divided = [
                [(block, half) for half in halves(tile, layers, volume.shape)]
                for block, tile in waiting
            ]
            if divided[0] == [waiting[0]]:
                raise JobError(
                    f"the device {device} ran out of memory for feature maps even in the smallest "
                    f"tiles, of {size(box.shape)} voxels; end other programs, or choose another "
                    "device or layers before"
                )
            waiting = [
                (block, tile)
                for block, tile in chain.from_iterable(divided)
                if _grids(layers, block, tile, volume.shape)
            ]
            continue
        _, tile = waiting.pop(0)
        done += 1
        parts = {
            layer.index: MapPart(grid.slices_from(whole[layer.index].first), maps[layer.index])
            for layer, grid in grids
        }
        yield MapTile(parts, done, done + len(waiting), problem, tile)


def tiles_of(
    block: Block, layers: Sequence[Layer], volume_shape: Sequence[int], tile_voxels: int
) -> list[Box]:
    """Return the tiles of a block, as :func:`plan_tiles` cuts them; each has an element of it."""
    tiles = plan_tiles(box_of(block), layers, volume_shape, tile_voxels)
    return [tile for tile in tiles if _grids(layers, block, tile, volume_shape)]


def default_tile_voxels(network: Vgg3D, layers: Sequence[Layer], device: torch.device) -> int:
    """Return how many voxels should go through the network at once.

    As :func:`wanted_tile_voxels` says, but no more than fit the memory that is free on the device.
    """
    needed = bytes_per_voxel(list(network.features)[: max(layer.index for layer in layers) + 1])
    most = int(SHARE_OF_FREE_MEMORY * memory_of(device).free / needed)
    return max(1, min(wanted_tile_voxels(layers), most))


def wanted_tile_voxels(layers: Sequence[Layer]) -> int:
    """Return how many voxels go through the network at once where memory suffices.

    At least :data:`TILE_VOXELS`, and enough that the surroundings of a tile do not take more along
    each axis than the tile.
    """
    deepest = max(layers, key=lambda layer: layer.index)
    return max(TILE_VOXELS, prod(2 * n for n in deepest.receptive_field))


def _grids(
    layers: Sequence[Layer], block: Block, tile: Box, volume_shape: Sequence[int]
) -> list[tuple[Layer, MapGrid]]:
    """Return where the elements of a tile in its block lie, for the layers that have some in it."""
    grids = [
        (layer, common(MapGrid.over(layer, tile, volume_shape), block[layer.index]))
        for layer in layers
    ]
    return [(layer, grid) for layer, grid in grids if grid.n_elements]


def _blank(grids: Sequence[tuple[Layer, MapGrid]]) -> dict[int, np.ndarray]:
    """Return the maps of a tile that cannot be read."""
    return {
        layer.index: np.full((layer.channels, *grid.shape), np.nan, np.float32)
        for layer, grid in grids
    }


def _read(volume: Volume, box: Box, intensities: tuple[float, float]) -> np.ndarray:
    """Return a box of the volume, ``(D, H, W)`` float32 in [0, 1]."""
    voxels = np.asarray(volume.array[box.slices])
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        found = np.argwhere(~np.isfinite(voxels))[0] + box.start
        raise InputError(
            f"{volume.name} holds values that are not finite (NaN or infinite), one at z, y, x = "
            f"{', '.join(map(str, found))}, on which features of the region depend; replace them, "
            "or choose a region farther from them"
        )
    return to_unit_range(voxels, intensities)


def _maps(
    network: Folded,
    unit: np.ndarray,
    grids: Sequence[tuple[Layer, MapGrid]],
    box: Box,
    device: torch.device,
) -> dict[int, np.ndarray] | None:
    """Return ``(C, d, h, w)`` float32 for each layer, or None if memory does not suffice."""
    wanted = {layer.index: (layer, grid) for layer, grid in grids}
    maps = {}
    try:
        with torch.inference_mode():
            raw = to_network_range(torch.from_numpy(unit).to(device)[None, None])
            for index, values in network.iterate_layers(raw, list(wanted)):
                maps[index] = _part(values, *wanted[index], box)
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        return None
    return maps


def _part(values: Tensor, layer: Layer, grid: MapGrid, box: Box) -> np.ndarray:
    """Copy what is exact of a ``(1, C, D, H, W)`` map, so that the map itself can be freed."""
    first = [low // stride for low, stride in zip(box.start, layer.stride, strict=True)]
    exact = values[0][(slice(None), *grid.slices_from(first))]
    copied = exact.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    return copied.cpu().numpy()
