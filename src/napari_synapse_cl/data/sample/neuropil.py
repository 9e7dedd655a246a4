"""Neuropil for the procedural sample volume, and how what lies in it is drawn.

Grey values ("tones") are floats from 0 (black) to 1 (white); coordinates and lengths are in voxels,
axes z, y, x.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

_MEMBRANE_SIGMA = 1.4
_CELL_SPACING = 19.0
_SEED_HEIGHT = 8.0
_SEED_SPREAD = 9.0
_NEIGHBOURS = 5
_ROUNDING = 1.0

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

REACH = 16
"""Radius (voxels) of the ball around a synapse that its own drawing fills."""

CYTOPLASM = 0.68
LUMEN = 0.76
MEMBRANE = 0.31
VESICLE_WALL = 0.34
CLEFT = 0.50
DENSITY = 0.20
MATRIX = 0.42

MEMBRANE_DEPTH = -3.0


@dataclass(frozen=True)
class Frames:
    """Local coordinate frames of n synapses."""

    positions: Ints
    """``(n, 3)``, annotated voxel of each."""
    origins: Doubles
    """``(n, 3)``, true centre of each, a voxel or two from its annotation."""
    axes: Doubles
    """``(n, 3, 3)``, the membrane normal (towards the presynaptic cell) and two tangents, as
    orthonormal rows."""


def random_frames(rng: np.random.Generator, positions: Ints) -> Frames:
    """Give every synapse an isotropic orientation and a small annotation error."""
    axes = Rotation.from_quat(rng.standard_normal((len(positions), 4))).as_matrix()
    shifts = rng.uniform(-1.2, 1.2, (len(positions), 3))
    return Frames(positions, positions + shifts, axes)


def upsample2(field: Floats, shape: Sequence[int]) -> Floats:
    """Double the resolution of a field by cubic interpolation and crop it to `shape`.

    Sample ``i`` of the input is sample ``2 i`` of the output.
    """
    for axis in (2, 1, 0):
        n = field.shape[axis]
        before, after, beyond = (np.clip(np.arange(n) + k, 0, n - 1) for k in (-1, 1, 2))
        size = list(field.shape)
        size[axis] = 2 * n
        doubled = np.empty(size, np.float32)
        lead = (slice(None),) * axis
        doubled[(*lead, slice(0, None, 2))] = field
        middle = field + np.take(field, after, axis)
        middle *= 9 / 16
        outer = np.take(field, before, axis)
        outer += np.take(field, beyond, axis)
        outer *= 1 / 16
        middle -= outer
        doubled[(*lead, slice(1, None, 2))] = middle
        field = doubled[(*lead, slice(0, shape[axis]))]
    return field


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], doublings: int) -> Floats:
    """Zero-mean, unit-variance noise with a correlation length of about ``2 ** doublings``."""
    shapes = [tuple(shape)]
    for _ in range(doublings):
        shapes.append(tuple(-(-n // 2) for n in shapes[-1]))
    # The margin keeps the statistics of very small coarse grids from depending on their edges.
    coarse = rng.standard_normal([n + 4 for n in shapes[-1]], dtype=np.float32)
    field = gaussian_filter(coarse, 0.8, mode="wrap")
    field /= 0.29
    field = field[2:-2, 2:-2, 2:-2]
    for target in reversed(shapes[:-1]):
        field = upsample2(field, target)
    return field


def ball(radius: int) -> Ints:
    """Voxel offsets within a radius, shape (n, 3), sorted by distance."""
    side = np.arange(-radius, radius + 1)
    offsets = np.stack(np.meshgrid(side, side, side, indexing="ij"), -1).reshape(-1, 3)
    squares = squared_length(offsets)
    order = np.argsort(squares, kind="stable")
    return offsets[order[: np.count_nonzero(squares <= radius**2)]]


def with_vesicle(tone: Floats, beyond_wall: Floats) -> Floats:
    """Grey values with a vesicle drawn over them, given signed distances to its wall."""
    filled = tone + np.clip(0.5 - beyond_wall, 0, 1) * (LUMEN - tone)
    return filled + np.exp(-0.5 * (beyond_wall / 0.85) ** 2) * (VESICLE_WALL - filled)


def squared_length(vectors: NDArray[Any]) -> NDArray[Any]:
    """Squared lengths of vectors along the last axis."""
    # Several times faster than a sum over such a short axis.
    return np.einsum("...i,...i->...", vectors, vectors)


def rotate(points: Doubles, axes: Doubles) -> Doubles:
    """Coordinates of points along three axes, without a BLAS call so that bits never vary."""
    return (
        points[..., 0, None] * axes[:, 0]
        + points[..., 1, None] * axes[:, 1]
        + (points[..., 2, None] * axes[:, 2])
    )


@dataclass(frozen=True)
class _Cells:
    """Cells on the half-resolution grid: grey values, cell numbers, room for organelles."""

    tone: Floats
    label: Ints
    clearance: Floats


def draw_neuropil(rng: np.random.Generator, shape: Sequence[int], frames: Frames) -> Floats:
    """Draw cells with membranes and mitochondria, a flat membrane patch at every synapse."""
    # Membranes are wide enough to be represented at half resolution, at an eighth of the cost.
    half = tuple(-(-n // 2) for n in shape)
    cells = _draw_cells(rng, half, frames)
    tone = np.ascontiguousarray(upsample2(cells.tone, shape))
    _draw_stray_vesicles(rng, tone, cells)
    _draw_mitochondria(rng, tone, cells)
    return tone


def _draw_cells(rng: np.random.Generator, half: Sequence[int], frames: Frames) -> _Cells:
    seeds, seed_label = _cell_seeds(rng, half, frames)
    tree = cKDTree(seeds)
    remoteness = _distance_to_synapses(half, frames)
    # No warping near a synapse keeps its patch of membrane flat.
    damping = np.clip((remoteness - 14) / 9, 0, 1)
    warp = [
        damping * (6 * smooth_noise(rng, half, 3) + 1.5 * smooth_noise(rng, half, 2))
        for _ in range(3)
    ]
    label = np.empty(half, np.int64)
    depth = np.empty(half, np.float32)
    for start in range(0, half[0], 16):
        slab = slice(start, min(start + 16, half[0]))
        grid = np.meshgrid(
            np.arange(slab.start, slab.stop), np.arange(half[1]), np.arange(half[2]), indexing="ij"
        )
        points = np.stack([2 * g + w[slab] for g, w in zip(grid, warp, strict=True)], axis=-1)
        label[slab], depth[slab] = _membrane_depth(points, tree, seed_label)
    tint = rng.normal(0, 0.035, seed_label.max() + 1).astype(np.float32)
    specks = np.clip(smooth_noise(rng, half, 1) - 0.9, 0, 2)
    cytoplasm = CYTOPLASM + tint[label] - 0.14 * specks
    cover = np.exp(-0.5 * (depth / _MEMBRANE_SIGMA) ** 2)
    tone = cytoplasm + cover * (MEMBRANE - cytoplasm)
    return _Cells(tone, label, np.minimum(depth - 2.5, remoteness - REACH + 1))


def _cell_seeds(
    rng: np.random.Generator, half: Sequence[int], frames: Frames
) -> tuple[Doubles, Ints]:
    """Voronoi seeds and the cell each belongs to; several seeds make one irregular cell."""
    count = len(frames.positions)
    normal = frames.axes[:, None, None, 0]
    angles = np.arange(4) * np.pi / 2
    ring = _SEED_SPREAD * (
        np.cos(angles)[:, None] * frames.axes[:, None, 1]
        + np.sin(angles)[:, None] * frames.axes[:, None, 2]
    )
    # Mirror images on either side make the face between the two cells exactly planar.
    side = np.array([_SEED_HEIGHT, -_SEED_HEIGHT])[None, :, None, None]
    centre = frames.origins[:, None, None] + MEMBRANE_DEPTH * normal
    paired = (centre + side * normal + ring[:, None]).reshape(-1, 3)
    paired_label = np.repeat(np.arange(2 * count), len(angles))

    extent = 2 * np.array(half) + 40
    fillers = rng.random((int(np.prod(extent) / 2500), 3)) * extent - 20
    fillers = fillers[cKDTree(centre.reshape(-1, 3)).query(fillers)[0] > 21]
    crowded = cKDTree(fillers).query_pairs(_CELL_SPACING, output_type="ndarray")
    keep = np.ones(len(fillers), bool)
    for first, second in crowded[np.lexsort(crowded.T[::-1])]:
        keep[second] &= not keep[first]
    fillers = fillers[keep]

    nearest = np.asarray(cKDTree(fillers).query(fillers, k=2)[1])[:, 1]
    linked = np.flatnonzero(rng.random(len(fillers)) < 0.8)
    links = coo_array(
        (np.ones(len(linked)), (linked, nearest[linked])), shape=(len(fillers), len(fillers))
    )
    filler_label = connected_components(links, directed=False)[1] + 2 * count
    return np.concatenate([paired, fillers]), np.concatenate([paired_label, filler_label])


def _distance_to_synapses(half: Sequence[int], frames: Frames) -> Floats:
    """Distance to the nearest synapse on the half-resolution grid, capped at 30 voxels."""
    cap = 30
    distance = np.full(half, cap, np.float32)
    for origin in frames.origins:
        low = np.maximum((origin - cap) // 2, 0).astype(int)
        high = np.minimum((origin + cap) // 2 + 1, half).astype(int)
        axes = np.ix_(*(np.arange(a, b) for a, b in zip(low, high, strict=True)))
        squares = sum((2 * axis - o) ** 2 for axis, o in zip(axes, origin, strict=True))
        window = distance[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        np.minimum(window, np.sqrt(squares), out=window)
    return distance


def _membrane_depth(points: Doubles, tree: cKDTree, seed_label: Ints) -> tuple[Ints, Floats]:
    """Cell of every point and its distance to the planes that bisect it from other cells.

    The distances are combined by a soft minimum, which rounds the corners of the cells.
    """
    distances, nearest = map(np.asarray, tree.query(points, k=_NEIGHBOURS, workers=-1))
    own = nearest[..., 0]
    own_label = seed_label[own]
    seeds = tree.data.astype(np.float32)
    own_seed = seeds[own]
    squares = (distances**2).astype(np.float32)
    closeness = np.full(own.shape, 1e-12, np.float32)
    for j in range(1, _NEIGHBOURS):
        other = nearest[..., j]
        apart = seeds[other] - own_seed
        span = np.sqrt(squared_length(apart))
        plane = (squares[..., j] - squares[..., 0]) / (2 * span)
        closeness += np.where(seed_label[other] != own_label, np.exp(-plane / _ROUNDING), 0)
    return own_label, np.maximum(-_ROUNDING * np.log(closeness), 0)


def _draw_mitochondria(rng: np.random.Generator, tone: Floats, cells: _Cells) -> None:
    """Fill the roomiest parts of the cells with mitochondria, in place."""
    half = cells.label.shape
    candidates = np.stack([rng.integers(0, n, tone.size // 4000) for n in half], axis=1)
    room = cells.clearance[tuple(candidates.T)]
    # The roomiest places come first, so that mitochondria fill the wide neurites.
    order = np.argsort(-room, kind="stable")[: np.count_nonzero(room > 4)]
    chosen: list[Ints] = []
    for candidate in candidates[order]:
        if all(np.sum((2 * candidate - 2 * other) ** 2) > 32**2 for other in chosen):
            chosen.append(candidate)
    for centre in chosen:
        _draw_mitochondrion(rng, tone, cells, centre)


def _draw_mitochondrion(
    rng: np.random.Generator, tone: Floats, cells: _Cells, centre: Ints
) -> None:
    """Draw an ellipsoid with cristae that keeps clear of membranes and synapses, in place."""
    semi_axes = np.array([rng.uniform(14, 22), *rng.uniform(8, 11, 2)])
    axes = Rotation.from_quat(rng.standard_normal(4)).as_matrix()
    low = np.maximum(centre - 10, 0)
    high = np.minimum(centre + 11, cells.label.shape)
    coarse = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    fine = tuple(slice(2 * a, min(2 * b, n)) for a, b, n in zip(low, high, tone.shape, strict=True))
    size = tuple(s.stop - s.start for s in fine)
    clearance = np.where(
        cells.label[coarse] == cells.label[tuple(centre)], cells.clearance[coarse], -3
    ).astype(np.float32)
    room = upsample2(clearance, size)
    # Nothing is drawn where there is no room, which is most of the box.
    inside = np.nonzero(room > -0.5)
    offsets = np.stack(inside, axis=-1) + 2.0 * (low - centre)
    local = rotate(offsets, axes)
    scaled = np.sqrt(squared_length(local / semi_axes))
    depth = np.minimum((1 - scaled) * semi_axes[1:].min(), room[inside])
    drawn = depth > -0.5
    where = tuple(index[drawn] + s.start for index, s in zip(inside, fine, strict=True))
    local, depth = local[drawn], depth[drawn]
    wave = np.sin(2 * np.pi / 5.5 * (local[:, 0] + 1.5 * np.sin(local[:, 1] / 2.5)))
    cristae = 0.13 * wave * np.clip((depth - 1.5) / 1.5, 0, 1)
    rim = np.exp(-0.5 * ((depth - 0.8) / 0.9) ** 2)
    body = MATRIX + cristae - rim * 0.12
    tone[where] += np.clip(depth + 0.5, 0, 1) * (body - tone[where])


def _draw_stray_vesicles(rng: np.random.Generator, tone: Floats, cells: _Cells) -> None:
    """Scatter single vesicles of all sizes through the cytoplasm away from synapses, in place."""
    candidates = np.stack([rng.integers(4, n - 4, tone.size // 5000) for n in cells.tone.shape], 1)
    free = (cells.clearance > 3.5) & (cells.tone > CYTOPLASM - 0.15)
    centres = 2 * candidates[free[tuple(candidates.T)]]
    offsets = ball(6)
    where = tuple((centres[:, None] + offsets).transpose(2, 0, 1))
    radius = rng.uniform(1.8, 4.0, (len(centres), 1))
    beyond_wall = (np.sqrt(squared_length(offsets)) - radius).astype(np.float32)
    tone[where] = with_vesicle(tone[where], beyond_wall)
