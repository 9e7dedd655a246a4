"""Rotation and flips of crops, as one trilinear resampling."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_synapse_cl.augmentations.context import rotations
from napari_synapse_cl.augmentations.parameters import AugmentationParameters
from napari_synapse_cl.system.loops import loop, on_cpu

_resample = loop("resample")


def affine_matrices(
    parameters: AugmentationParameters, voxel_size: Sequence[float] = (1.0, 1.0, 1.0)
) -> Tensor:
    """Return what maps a view's voxel offsets from its centre to those in the crop.

    Rotation happens in physical space: offsets are scaled to lengths, flipped, rotated, and scaled
    back.

    Parameters
    ----------
    parameters
        Parameters of B views.
    voxel_size
        Voxel size along z, y, x, in any unit.

    Returns
    -------
    Tensor
        ``(B, 3, 3)`` float64, on (z, y, x) vectors.
    """
    size = torch.tensor(voxel_size, dtype=torch.float64)
    signs = 1 - 2 * parameters.flips.double()
    turns = torch.from_numpy(rotations(parameters.angles.numpy()))
    return turns * signs[:, None, :] * size / size[:, None]


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


def resample(crops: Tensor, matrices: Tensor, shape: Sequence[int]) -> Tensor:
    """Resample crops through `matrices` by trilinear interpolation, about their centres.

    Voxels beyond a crop are reflected at its faces. Where all matrices are the identity, the
    central voxels are returned as they are.

    Parameters
    ----------
    crops
        ``(B, 1, D, H, W)`` float32.
    matrices
        ``(B, 3, 3)``, from offsets in the view to offsets in the crop, on (z, y, x) voxels.
    shape
        Size of the views along z, y, x.

    Returns
    -------
    Tensor
        ``(B, 1, *shape)`` float32, a new tensor.
    """
    if torch.equal(matrices, torch.eye(3, dtype=matrices.dtype).expand_as(matrices)):
        return centre_crop(crops, shape).clone()
    views = _resampled_by_loop(crops, matrices, shape)
    return _resampled_by_pytorch(crops, matrices, shape) if views is None else views


def _resampled_by_loop(crops: Tensor, matrices: Tensor, shape: Sequence[int]) -> Tensor | None:
    array = on_cpu(crops)
    if array is None:
        return None
    views = torch.empty(len(crops), 1, *shape)
    size = array[0].size
    # Each voxel with the next one: both are read at once.
    pairs = np.ndarray((len(array), size - 1), np.uint64, array, strides=(4 * size, 4))
    done = _resample(
        len(array) * shape[0], array, pairs, matrices.double().numpy(), views.numpy()[:, 0]
    )
    return views if done else None


def _resampled_by_pytorch(crops: Tensor, matrices: Tensor, shape: Sequence[int]) -> Tensor:
    half_in = torch.tensor(crops.shape[2:], dtype=torch.float64) / 2
    half_out = torch.tensor(shape, dtype=torch.float64) / 2
    # grid_sample counts in x, y, z, in units of half the size.
    normalised = (matrices.double() * half_out / half_in[:, None]).flip(1, 2)
    theta = F.pad(normalised, (0, 1)).float().to(crops.device)
    grid = F.affine_grid(theta, [len(crops), 1, *shape], align_corners=False)
    return F.grid_sample(
        crops, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
