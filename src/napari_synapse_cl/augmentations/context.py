"""How much more than a view a crop must hold, so that a rotated view shows tissue throughout.

In numpy alone: the window cuts crops too, and does not import torch.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from napari_synapse_cl.config import AugmentationConfig


def rotations(angles: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rotations Rz @ Ry @ Rx as matrices on (z, y, x) vectors.

    Parameters
    ----------
    angles
        ``(B, 3)``, about z, y, x in degrees.

    Returns
    -------
    numpy.ndarray
        ``(B, 3, 3)`` float64.
    """
    radians = np.deg2rad(angles.astype(np.float64))
    cos, sin = np.cos(radians), np.sin(radians)
    matrices = np.tile(np.eye(3), (3, len(angles), 1, 1))
    for axis in range(3):
        i, j = (other for other in range(3) if other != axis)
        matrices[axis, :, i, i] = matrices[axis, :, j, j] = cos[:, axis]
        matrices[axis, :, i, j] = -sin[:, axis]
        matrices[axis, :, j, i] = sin[:, axis]
    return matrices[0] @ matrices[1] @ matrices[2]


def context_shape(
    shape: Sequence[int],
    config: AugmentationConfig,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[int, int, int]:
    """Return the size a crop must be cut at so that every rotation shows tissue, not padding.

    Parameters
    ----------
    shape
        Size of a view in voxels.
    config
        Holds the range of rotations.
    voxel_size
        Voxel size along z, y, x, in any unit.

    Returns
    -------
    tuple of int
        Size along z, y, x; it exceeds `shape` by an even number, so the centres agree.
    """
    return _context_shape(tuple(shape), config.rotation_range, tuple(voxel_size))


# The preview asks again at every change of a setting.
@lru_cache(maxsize=256)
def _context_shape(
    shape: tuple[int, ...], rotation_range: float, voxel_size: tuple[float, ...]
) -> tuple[int, int, int]:
    if rotation_range == 0:
        return (shape[0], shape[1], shape[2])
    size = np.array(voxel_size, dtype=np.float64)
    half = (np.array(shape, dtype=np.float64) - 1) / 2
    if rotation_range < 90:
        steps = np.linspace(-rotation_range, rotation_range, 31)
        angles = np.array(list(product(steps, repeat=3)))
        reach = ((np.abs(rotations(angles)) * size / size[:, None]) @ half).max(axis=0)
    else:
        reach = np.linalg.norm(half * size) / size
    # One voxel more: linear interpolation reads the neighbour beyond.
    margins = np.ceil(reach - half).clip(min=0).astype(int) + 1
    z, y, x = (int(s + 2 * m) for s, m in zip(shape, margins, strict=True))
    return (z, y, x)
