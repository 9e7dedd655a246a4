"""Choose where and how precisely to compute, by trying rather than by name."""

import time
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn

from napari_synapse_cl.errors import InputError

PROBE_REPEATS = 5
MINIMUM_GAIN = 1.2
"""How much faster bfloat16 must be to be worth its coarser numbers."""


def choose_device(name: str) -> torch.device:
    """Return the device of this name; for "auto" the first of cuda, mps, cpu that works.

    Raises
    ------
    InputError
        If the device is not there or cannot run a 3D convolution.
    """
    if name != "auto":
        device = torch.device(name)
        if not _works(device):
            raise InputError(
                f"the device {name} is not available or cannot run 3D convolutions; "
                "choose another, or auto"
            )
        return device
    return next(d for d in map(torch.device, ("cuda", "mps", "cpu")) if _works(d))


def choose_precision(name: str, device: torch.device) -> str:
    """Return the precision of this name; for "auto" bfloat16 where it is measurably faster."""
    if name != "auto":
        return name
    try:
        gain = _seconds(device, torch.float32) / _seconds(device, torch.bfloat16)
    except RuntimeError:
        return "float32"
    return "bfloat16" if gain >= MINIMUM_GAIN else "float32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network runs at this precision."""
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=True
    )


def to_device(network: nn.Module, device: torch.device) -> None:
    """Move a network to a device, in the memory layout that 3D convolutions are fast in."""
    network.to(device)
    for weight in network.parameters():
        if weight.ndim == 5:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)


def _works(device: torch.device) -> bool:
    try:
        _convolve(device, torch.float32, size=4)
    # Without the hardware or its driver, PyTorch raises either.
    except (RuntimeError, AssertionError):
        return False
    return True


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    """Measure a convolution, forward and backward."""
    times = []
    for _ in range(1 + PROBE_REPEATS):
        start = time.perf_counter()
        _convolve(device, dtype, size=24)
        times.append(time.perf_counter() - start)
    return median(times[1:])


def _convolve(device: torch.device, dtype: torch.dtype, size: int) -> None:
    layout = torch.channels_last_3d
    image = torch.ones(2, 16, size, size, size, device=device, dtype=dtype, requires_grad=True)
    weight = torch.ones(16, 16, 3, 3, 3, device=device, dtype=dtype, requires_grad=True)
    output = F.conv3d(
        image.contiguous(memory_format=layout), weight.contiguous(memory_format=layout), padding=1
    )
    output.sum().backward()
    assert weight.grad is not None
    # Reading a value waits for the device.
    weight.grad.flatten()[0].item()
