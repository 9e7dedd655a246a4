"""Neuropil for the procedural sample volume: cells, mitochondria and stray vesicles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from napari_synapse_cl.data.sample.shapes import (
    CYTOPLASM,
    MATRIX,
    MEMBRANE,
    MEMBRANE_DEPTH,
    REACH,
    Doubles,
    Floats,
    Frames,
    Ints,
    ball,
    rotate,
    smooth_noise,
    squared_length,
    upsample2,
    with_vesicle,
)

_MEMBRANE_SIGMA = 1.4
_CELL_SPACING = 19.0
_SEED_HEIGHT = 8.0
_SEED_SPREAD = 9.0
_NEIGHBOURS = 5
_ROUNDING = 1.0


@dataclass(frozen=True)
class _Cells:
    """Cells on the half-resolution grid: grey values, cell numbers, room for organelles."""

    tone: Floats
    label: Ints
    clearance: Floats


def draw_neuropil(rng: np.random.Generator, shape: Sequence[int], frames: Frames) -> Floats:
    """Draw cells with membranes and mitochondria, a flat membrane patch at every synapse.

    Returns
    -------
    (Z, Y, X) float32
        Grey values.
    """
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
