"""Where the elements of a layer's feature map lie, and what must be read for them.

In numpy's reach and without PyTorch: the window asks before anything is computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from typing import NamedTuple, Self

import numpy as np

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Layer
from napari_synapse_cl.system.words import Triple, size, triple

FLOAT_BYTES = 4
SMALLEST_SIDE = 5
"""In voxels: a file with 3 or 4 voxels along x may be taken for a colour image."""


class Box(NamedTuple):
    """A box of voxels along z, y, x, from `start` up to, but without, `stop`."""

    start: Triple
    stop: Triple

    def __str__(self) -> str:
        return ", ".join(f"{low}:{high}" for low, high in zip(self.start, self.stop, strict=True))

    @property
    def shape(self) -> Triple:
        """Size along z, y, x in voxels."""
        return triple(high - low for low, high in zip(self.start, self.stop, strict=True))

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return prod(self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """What to index an array with to get the box."""
        return triple(map(slice, self.start, self.stop))

    def seen_from(self, corner: Sequence[int]) -> Self:
        """Return this box in the coordinates of a volume that begins at the voxel `corner`."""
        return type(self)(
            triple(low - c for low, c in zip(self.start, corner, strict=True)),
            triple(high - c for high, c in zip(self.stop, corner, strict=True)),
        )


@dataclass(frozen=True)
class MapGrid:
    """Where the elements of a layer's map over a region lie."""

    first: Triple
    """Index of the first element in the map of the whole volume, along z, y, x."""
    shape: Triple
    """Elements along z, y, x."""
    stride: Triple
    """Voxels from one element to the next, along z, y, x."""
    offset: tuple[float, float, float]
    """Where the centre of the receptive field of the whole map's first element lies, in voxels."""

    @classmethod
    def of(cls, layer: Layer, region: Box, volume_shape: Sequence[int]) -> Self:
        """Return the grid of a layer's map over a region.

        To it belong the elements whose cell, the voxels from ``i * stride`` up to
        ``(i + 1) * stride``, meets the region. At the far faces a pooling drops the voxels that do
        not fill its window, so cells that the volume does not hold whole have no element.

        Raises
        ------
        InputError
            If there is no such element.
        """
        grid = cls.over(layer, region, volume_shape)
        for axis, n in enumerate(grid.shape):
            if n == 0:
                left, stride = volume_shape[axis] % layer.stride[axis], layer.stride[axis]
                raise InputError(
                    f"layer {layer.index} has no element over the region z, y, x = {region}: the "
                    f"last {left} voxels along {'zyx'[axis]} do not fill a window of {stride}; "
                    "choose a larger region or a layer before"
                )
        return grid

    @classmethod
    def over(cls, layer: Layer, region: Box, volume_shape: Sequence[int]) -> Self:
        """Return the same as :meth:`of`, without elements where there are none."""
        along = list(zip(region.start, region.stop, layer.stride, volume_shape, strict=True))
        first = triple(low // s for low, _, s, _ in along)
        stop = triple(min(-(-high // s), n // s) for _, high, s, n in along)
        shape = triple(max(0, b - a) for a, b in zip(first, stop, strict=True))
        return cls(first, shape, layer.stride, layer.offset)

    @property
    def origin(self) -> tuple[float, float, float]:
        """Centre of the receptive field of the first element, along z, y, x in voxels."""
        along = zip(self.offset, self.first, self.stride, strict=True)
        return triple(offset + first * stride for offset, first, stride in along)

    @property
    def n_elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    def slices_from(self, first: Sequence[int]) -> tuple[slice, slice, slice]:
        """Return what to index an array with that begins at the element `first`."""
        return triple(
            slice(own - f, own - f + n)
            for own, f, n in zip(self.first, first, self.shape, strict=True)
        )


def map_bytes(layer: Layer, grid: MapGrid) -> int:
    """Return how much a layer's map takes on the disk, in bytes."""
    return FLOAT_BYTES * layer.channels * grid.n_elements


def check_region(region: Box, volume_shape: Sequence[int]) -> Box:
    """Return the part of a region that lies in the volume.

    Raises
    ------
    InputError
        If the region is empty, or lies outside the volume.
    """
    if min(region.shape) < 1:
        raise InputError(
            f"the region z, y, x = {region} is empty: along each axis it must stop behind its start"
        )
    inside = Box(
        triple(max(0, low) for low in region.start),
        triple(min(high, n) for high, n in zip(region.stop, volume_shape, strict=True)),
    )
    if min(inside.shape) < 1:
        raise InputError(
            f"the region z, y, x = {region} lies outside the volume, which has "
            f"{size(volume_shape)} voxels; positions are voxels along z, y, x, counted from 0"
        )
    return inside


def with_halo(region: Box, layers: Sequence[Layer], volume_shape: Sequence[int]) -> Box:
    """Return the box to read so that the maps over a region are those of the whole volume.

    It can be taken for a volume of its own: the maps of the region within it are the same.

    Parameters
    ----------
    region
        Within the volume.
    layers
        The layers whose maps are wanted.
    volume_shape
        Size of the volume along z, y, x.

    Raises
    ------
    InputError
        If a layer has no element over the region.
    """
    grids = [(layer, MapGrid.of(layer, region, volume_shape)) for layer in layers]
    start, stop = read_box(grids, volume_shape)
    stride = max(layers, key=lambda layer: layer.index).stride
    along = zip(start, stop, stride, volume_shape, strict=True)
    sides = [_at_least(SMALLEST_SIDE, *axis) for axis in along]
    return Box(triple(low for low, _ in sides), triple(high for _, high in sides))


def read_box(grids: Sequence[tuple[Layer, MapGrid]], volume_shape: Sequence[int]) -> Box:
    """Return the box that the network must see for elements of its layers to be exact.

    All voxels that an element depends on lie in it, so where the convolutions pad the box within
    the volume it goes unnoticed, and where the box ends at a face of the volume they pad as they
    would pad the whole. It begins at a multiple of the deepest layer's stride: pooling windows lie
    as in the whole volume.

    Parameters
    ----------
    grids
        Elements of each layer, at least one.
    volume_shape
        Size of the volume along z, y, x.
    """
    stride = max((layer for layer, _ in grids), key=lambda layer: layer.index).stride
    start, stop = [], []
    for axis, n in enumerate(volume_shape):
        lows, highs = [], []
        for layer, grid in grids:
            # Beside its cell an element sees as much on either side.
            beside = (layer.receptive_field[axis] - layer.stride[axis]) // 2
            cells = grid.first[axis], grid.first[axis] + grid.shape[axis]
            lows.append(cells[0] * layer.stride[axis] - beside)
            highs.append(cells[1] * layer.stride[axis] + beside)
        start.append(max(0, min(lows)) // stride[axis] * stride[axis])
        stop.append(min(n, max(highs)))
    return Box(triple(start), triple(stop))


def _at_least(side: int, low: int, high: int, stride: int, n: int) -> tuple[int, int]:
    """Widen a box along one axis to `side` voxels, where the volume has as many."""
    high = min(n, max(high, low + side))
    return max(0, min(low, high - side)) // stride * stride, high


NOWHERE = Box((0, 0, 0), (0, 0, 0))
MOST_DIVISIONS = 64
"""Of a region along one axis, to choose from."""


class MapPart(NamedTuple):
    """A part of one layer's map."""

    slices: tuple[slice, slice, slice]
    """Where it belongs in the map of the region, along z, y, x."""
    values: np.ndarray
    """``(C, d, h, w)`` float32."""


@dataclass(frozen=True)
class MapTile:
    """What one tile brought."""

    parts: Mapping[int, MapPart]
    """For the index of each layer that has elements in the tile."""
    done: int
    total: int
    """Tiles computed and tiles in all; these become more when memory runs short."""
    problem: Exception | None = None
    """Why its voxels cannot be read; its parts are NaN then."""
    box: Box = NOWHERE
    """The voxels that its elements stand for."""


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
    """Return ``(3, M)``: cells of a tile, voxels that a tile reads at most, and all together."""
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
