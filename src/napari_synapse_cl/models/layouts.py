"""The order of feature maps in memory."""

import torch
from torch import Tensor


def channels_last(maps: Tensor) -> Tensor:
    """Return ``(B, C, D, H, W)`` maps with the channels of a voxel side by side.

    Maps of a single channel lie in memory in either order. PyTorch goes by their strides, and takes
    them for the other one; all that a network makes of them is then in that order too.
    """
    if maps.shape[1] != 1:
        return maps.contiguous(memory_format=torch.channels_last_3d)
    *_, depth, height, width = maps.shape
    strides = (depth * height * width, 1, height * width, width, 1)
    return maps.contiguous().as_strided(maps.shape, strides)
