"""Crops whose centres lie beside the synapse, by whole voxels: nothing is resampled for it.

What is told from such crops is not told from their very centre alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_synapse_cl.augmentations.composition import stream
from napari_synapse_cl.augmentations.placement import Shift
from napari_synapse_cl.augmentations.resampling import centre_crop
from napari_synapse_cl.config import AugmentationConfig

NAME = "centre_jitter"
"""The key of its random streams."""


def draw_jitters(
    reach: float, seed: int, synapses: Sequence[int], n: int, voxel_size: Sequence[float]
) -> NDArray[np.int64]:
    """Draw where the centres of `n` crops of each synapse lie.

    What is drawn for a synapse depends on the seed and on its row alone.

    Parameters
    ----------
    reach
        Radius of the ball that centres are drawn from, in nm.
    seed
        Seed of the streams.
    synapses
        Row of each of B synapses in its table.
    voxel_size
        Along z, y, x in nm.

    Returns
    -------
    numpy.ndarray
        ``(B, n, 3)`` int64, how far along z, y, x from the synapse, in voxels.
    """
    ball = AugmentationConfig(shift_range=reach)
    moves = [
        [Shift.draw(ball, stream(seed, 0, int(row), number, NAME)).shift for number in range(n)]
        for row in synapses
    ]
    offsets = np.reshape(moves, (len(synapses), n, 3)) / np.asarray(voxel_size, float)
    return np.rint(offsets).astype(np.int64)


def moved_crops(crops: Tensor, offsets: NDArray[np.int64], shape: Sequence[int]) -> Tensor:
    """Return crops whose centres are moved.

    Parameters
    ----------
    crops
        ``(B, 1, D, H, W)``, with room around the crops that are wanted.
    offsets
        ``(B, 3)``, how far each is moved along z, y, x, in voxels.
    shape
        Size of the crops that are wanted along z, y, x.

    Returns
    -------
    Tensor
        ``(B, 1, *shape)``, a new one.

    Raises
    ------
    ValueError
        If the room does not suffice, or is not the same on both sides.
    """
    moved = crops.new_empty(len(crops), 1, *shape)
    for target, crop, offset in zip(moved, crops, offsets.tolist(), strict=True):
        room = centre_crop(crop[None], [n + 2 * abs(k) for n, k in zip(shape, offset, strict=True)])
        starts = (max(0, 2 * k) for k in offset)
        z, y, x = (slice(start, start + n) for start, n in zip(starts, shape, strict=True))
        target.copy_(room[0, :, z, y, x])
    return moved
