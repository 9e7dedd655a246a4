"""How maps are cut into chunks on the disk, and into blocks of whole chunks to be made by several.

Without PyTorch.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod

from napari_synapse_cl.features.maps.grid import FLOAT_BYTES, Box, MapGrid
from napari_synapse_cl.models.architecture import Layer
from napari_synapse_cl.system.words import Triple, triple

CHUNK = (32, 64, 64)
"""Elements along z, y, x at most: napari shows slices along z of one channel."""
BLOCK_SIDE = 256
"""Voxels along each axis: what tiles read beside such a block is little."""
BLOCK_BYTES = 2**31
"""Of the maps of a block, which lie in memory until it is written."""

Block = Mapping[int, MapGrid]
"""Which elements of each layer a block holds, by the index of the layer; none of some, maybe."""


def block_shape(layers: Sequence[Layer]) -> Triple:
    """Return the voxels of a block along z, y, x: whole cells of the deepest layer."""
    strides = max(layers, key=lambda layer: layer.index).stride
    side = BLOCK_SIDE
    while True:
        shape = triple(s * max(1, side // s) for s in strides)
        elements = sum(layer.channels * prod(shape) // prod(layer.stride) for layer in layers)
        if FLOAT_BYTES * elements <= BLOCK_BYTES or side == 1:
            return shape
        side //= 2


def chunk_shape(layer: Layer, layers: Sequence[Layer]) -> Triple:
    """Return the elements of a layer's chunk along z, y, x, of which blocks hold whole ones.

    Parameters
    ----------
    layers
        All that are extracted together.
    """
    of_block = [n // s for n, s in zip(block_shape(layers), layer.stride, strict=True)]
    return triple(
        max(chunk for chunk in range(1, most + 1) if n % chunk == 0)
        for n, most in zip(of_block, CHUNK, strict=True)
    )


def blocks_of(layers: Sequence[Layer], grids: Mapping[int, MapGrid]) -> list[Block]:
    """Cut maps into blocks, so that each chunk of each layer lies in one of them.

    Parameters
    ----------
    layers
        All that are extracted together.
    grids
        Where the elements of their maps lie, by the index of the layer.

    Returns
    -------
    list
        The blocks in the order of their places, x fastest.
    """
    shape = block_shape(layers)
    sides = {
        layer.index: triple(n // s for n, s in zip(shape, layer.stride, strict=True))
        for layer in layers
    }
    counts = [
        max(-(-grids[index].shape[axis] // side[axis]) for index, side in sides.items())
        for axis in range(3)
    ]
    return [
        {index: _part(grids[index], side, place) for index, side in sides.items()}
        for place in product(*map(range, counts))
    ]


def _part(grid: MapGrid, side: Triple, place: Sequence[int]) -> MapGrid:
    """Return the elements of a map in a block."""
    starts = [n * p for n, p in zip(side, place, strict=True)]
    first = triple(f + start for f, start in zip(grid.first, starts, strict=True))
    shape = triple(
        max(0, min(n, all_of - start))
        for n, all_of, start in zip(side, grid.shape, starts, strict=True)
    )
    return MapGrid(first, shape, grid.stride, grid.offset)


def box_of(block: Block) -> Box:
    """Return the box of voxels, within the volume, whose tiles hold all elements of a block."""
    cells = [
        [(f * s, (f + n) * s) for f, n, s in zip(grid.first, grid.shape, grid.stride, strict=True)]
        for grid in block.values()
        if grid.n_elements
    ]
    along = list(zip(*cells, strict=True))
    return Box(
        triple(min(low for low, _ in axis) for axis in along),
        triple(max(high for _, high in axis) for axis in along),
    )


def common(grid: MapGrid, limits: MapGrid) -> MapGrid:
    """Return the elements of a layer that two grids share."""
    sides = [
        (max(f, f2), min(f + n, f2 + n2))
        for f, n, f2, n2 in zip(grid.first, grid.shape, limits.first, limits.shape, strict=True)
    ]
    first = triple(low for low, _ in sides)
    shape = triple(max(0, high - low) for low, high in sides)
    return MapGrid(first, shape, grid.stride, grid.offset)
