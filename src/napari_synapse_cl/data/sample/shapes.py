"""Primitives for drawing the procedural sample volume.

Grey values ("tones") are floats from 0 (black) to 1 (white); coordinates and lengths are in voxels,
axes z, y, x.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

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
    """Local coordinate frames of the synapses.

    Attributes
    ----------
    positions : (n, 3) int
        Annotated voxel of each synapse.
    origins : (n, 3) float
        True centre of each synapse, a voxel or two from its annotation.
    axes : (n, 3, 3) float
        Orthonormal rows: the membrane normal (towards the presynaptic cell) and two tangents.
    """

    positions: Ints
    origins: Doubles
    axes: Doubles


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
