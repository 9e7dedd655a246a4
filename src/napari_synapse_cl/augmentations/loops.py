"""What PyTorch's tensors need to be given to compiled loops."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, float32

from napari_synapse_cl.compiled import Loop

KERNELS = "napari_synapse_cl.augmentations.kernels"


def loop(name: str) -> Loop:
    """Return the loop of this name over the slices of views."""
    return Loop(KERNELS, name)


def on_cpu(pictures: Tensor) -> NDArray[np.float32] | None:
    """Return ``(B, 1, D, H, W)`` as the ``(B, D, H, W)`` array that loops read.

    It shares the tensor's memory, unless that is not contiguous. None if it is not float32 on the
    CPU, or if gradients are asked for: then PyTorch must compute.
    """
    if pictures.device.type != "cpu" or pictures.dtype != float32 or pictures.requires_grad:
        return None
    array: NDArray[np.float32] = pictures.contiguous().numpy()[:, 0]
    return array
