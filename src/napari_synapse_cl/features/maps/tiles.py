"""Tiles in which feature maps are computed, so that memory does not grow with the region."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np

from napari_synapse_cl.features.maps.grid import Box, MapGrid
from napari_synapse_cl.models.architecture import Layer

MOST_DIVISIONS = 64
"""Of a region along one axis, to choose from."""


class MapPart(NamedTuple):
    """A part of one layer's map.

    Attributes
    ----------
    slices
        Where it belongs in the map of the region, along z, y, x.
    values
        ``(C, d, h, w)`` float32.
    """

    slices: tuple[slice, slice, slice]
    values: np.ndarray


@dataclass(frozen=True)
class MapTile:
    """What one tile brought.

    Attributes
    ----------
    parts
        For the index of each layer that has elements in the tile.
    done, total
        Tiles computed and tiles in all; these become more when memory runs short.
    """

    parts: Mapping[int, MapPart]
    done: int
    total: int


def plan_tiles(
    region: Box, layers: Sequence[Layer], volume_shape: Sequence[int], tile_voxels: int
) -> list[Box]:
    """Divide a region into tiles of which the network sees at most some voxels at once.

    Of all even divisions that keep to `tile_voxels` it is the one that computes the fewest voxels
    twice. Tiles meet at multiples of the deepest layer's stride, so each element of each layer,
    by :class:`MapGrid`, is in one tile. Tiles without any element are left out.

    Parameters
    ----------
    region
        Within the volume.
    layers
        The layers whose maps are wanted.
    volume_shape
        Size of the volume along z, y, x.
    tile_voxels
        What the network may see at once, with the surroundings that a tile needs. Where a single
        element needs more, each tile is as small as can be.
    """
    deepest = max(layers, key=lambda layer: layer.index)
    along = zip(
        region.start,
        region.stop,
        deepest.stride,
        deepest.receptive_field,
        volume_shape,
        strict=True,
    )
    divisions = [_divisions(*axis) for axis in along]
    reads, totals = (_products([division[i] for division in divisions]) for i in (1, 2))
    best = np.where(reads <= tile_voxels, totals, np.inf).argmin()
    if reads.flat[best] > tile_voxels:
        best = reads.argmin()
    chosen = np.unravel_index(best, reads.shape)
    cells = [int(division[0][i]) for division, i in zip(divisions, chosen, strict=True)]
    edges = [
        [low, *range((low // s + n) * s, high, n * s), high]
        for low, high, s, n in zip(region.start, region.stop, deepest.stride, cells, strict=True)
    ]
    return [tile for tile in _boxes(edges) if _has_elements(tile, layers, volume_shape)]


def halves(tile: Box, layers: Sequence[Layer], volume_shape: Sequence[int]) -> list[Box]:
    """Divide a tile in two along its longest axis; return it alone if it can't be divided."""
    stride = max(layers, key=lambda layer: layer.index).stride
    cells = [
        (low // s, -(-high // s))
        for low, high, s in zip(tile.start, tile.stop, stride, strict=True)
    ]
    lengths = [s * (b - a) if b - a > 1 else 0 for (a, b), s in zip(cells, stride, strict=True)]
    if not any(lengths):
        return [tile]
    axis = int(np.argmax(lengths))
    middle = sum(cells[axis]) // 2 * stride[axis]
    edges = [[low, high] for low, high in zip(tile.start, tile.stop, strict=True)]
    edges[axis].insert(1, middle)
    return [half for half in _boxes(edges) if _has_elements(half, layers, volume_shape)]


def _divisions(start: int, stop: int, stride: int, receptive_field: int, n: int) -> np.ndarray:
    """Return even divisions of a region along one axis.

    Returns
    -------
    numpy.ndarray
        ``(3, M)`` float64: cells of a tile, voxels that a tile reads at most, and all together.
    """
    cells = -(-stop // stride) - start // stride
    beside = (receptive_field - stride) // 2
    around = beside + -(-beside // stride) * stride
    # Where there are many, a selection of them will do.
    counts = np.unique(np.geomspace(1, cells, MOST_DIVISIONS).round())
    lengths = np.unique(np.ceil(cells / counts))
    reads = np.minimum(n, lengths * stride + around)
    return np.stack([lengths, reads, reads * np.ceil(cells / lengths)])


def _products(along: Sequence[np.ndarray]) -> np.ndarray:
    """Return the product of the entries along z, y, x for every combination of them."""
    z, y, x = along
    return z[:, None, None] * y[:, None] * x


def _boxes(edges: Sequence[Sequence[int]]) -> Iterator[Box]:
    """Yield the boxes between the edges along z, y, x."""
    for (z0, z1), (y0, y1), (x0, x1) in product(*map(pairwise, edges)):
        yield Box((z0, y0, x0), (z1, y1, x1))


def _has_elements(tile: Box, layers: Sequence[Layer], volume_shape: Sequence[int]) -> bool:
    return any(MapGrid.over(layer, tile, volume_shape).n_elements for layer in layers)
