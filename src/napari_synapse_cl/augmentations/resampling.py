"""Crops resampled through affine maps, by trilinear interpolation.

On a CPU a compiled loop does it, and where it is not to be had and on other devices PyTorch, with
the same result but for rounding.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_synapse_cl.system.loops import Loop

_resample = Loop("napari_synapse_cl.augmentations.resampling_loop", "resample")


def centre_crop(crops: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the central ``(B, 1, *shape)`` of ``(B, 1, D, H, W)`` crops, as a view.

    Raises
    ------
    ValueError
        If the margin is negative or not the same on both sides.
    """
    margins = [have - want for have, want in zip(crops.shape[2:], shape, strict=True)]
    if any(margin < 0 or margin % 2 for margin in margins):
        raise ValueError(f"no centred {tuple(shape)} in crops of {tuple(crops.shape[2:])}")
    z, y, x = (slice(m // 2, m // 2 + want) for m, want in zip(margins, shape, strict=True))
    return crops[:, :, z, y, x]


def moved_crops(crops: Tensor, offsets: NDArray[np.int64], shape: Sequence[int]) -> Tensor:
    """Return crops whose centres are moved, a new ``(B, 1, *shape)``.

    Parameters
    ----------
    crops
        ``(B, 1, D, H, W)``, with room around the crops that are wanted.
    offsets
        ``(B, 3)``, how far each is moved along z, y, x, in voxels.
    shape
        Size of the crops that are wanted along z, y, x.

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


def resample(crops: Tensor, matrices: NDArray[np.float64], shape: Sequence[int]) -> Tensor:
    """Resample crops through `matrices` by trilinear interpolation, about their centres.

    Voxels beyond a crop are reflected at its faces. Where all matrices are the identity, the
    central voxels are returned as they are.

    Parameters
    ----------
    crops
        ``(B, 1, D, H, W)`` float32.
    matrices
        ``(B, 3, 4)``, from offsets in the view to offsets in the crop, on (z, y, x) voxels, and
        what is added to these.
    shape
        Size of the views along z, y, x.

    Returns
    -------
    Tensor
        ``(B, 1, *shape)`` float32, a new tensor.
    """
    if (matrices == np.eye(3, 4)).all():
        return centre_crop(crops, shape).clone()
    views = _resampled_by_loop(crops, matrices, shape)
    return _resampled_by_pytorch(crops, matrices, shape) if views is None else views


def _resampled_by_loop(
    crops: Tensor, matrices: NDArray[np.float64], shape: Sequence[int]
) -> Tensor | None:
    # Where gradients are asked for, PyTorch must compute.
    if crops.device.type != "cpu" or crops.dtype != torch.float32 or crops.requires_grad:
        return None
    array: NDArray[np.float32] = crops.contiguous().numpy()[:, 0]
    views = torch.empty(len(crops), 1, *shape)
    size = array[0].size
    # Each voxel with the next one: both are read at once.
    pairs = np.ndarray((len(array), size - 1), np.uint64, array, strides=(4 * size, 4))
    matrices = np.ascontiguousarray(matrices)
    done = _resample(len(array) * shape[0], array, pairs, matrices, views.numpy()[:, 0])
    return views if done else None


def _resampled_by_pytorch(
    crops: Tensor, matrices: NDArray[np.float64], shape: Sequence[int]
) -> Tensor:
    half_in, half_out = np.array(crops.shape[2:]) / 2, np.array(shape) / 2
    # grid_sample counts in x, y, z, in units of half the size.
    theta = matrices * np.append(half_out, 1) / half_in[:, None]
    theta = np.concatenate([theta[:, ::-1, 2::-1], theta[:, ::-1, 3:]], axis=2)
    grid = F.affine_grid(crops.new_tensor(theta), [len(crops), 1, *shape], align_corners=False)
    return F.grid_sample(
        crops, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
