"""What to lower, and by how much, when memory has run out."""

from collections.abc import Iterator
from math import prod

import torch

from napari_synapse_cl.config import Config
from napari_synapse_cl.devices import memory_of
from napari_synapse_cl.models.memory import saved_bytes_per_view
from napari_synapse_cl.models.projection import ContrastiveModel

GIB = 2**30
SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "bad_alloc",
    # oneDNN, which computes convolutions on CPUs
    "could not create a memory object",
    "could not create a primitive",
)
"""How a RuntimeError says that memory has run out, on one device or another."""
SAFETY = 1.15
"""Memory is lost between blocks, and other programs want some."""
LARGEST_SHARE = 0.8
"""Of the batch size that failed: the largest that is advised, whatever the measurement says."""


def is_shortage(error: BaseException) -> bool:
    """Return whether an error says that memory has run out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def advice(
    model: ContrastiveModel,
    config: Config,
    batch_size: int,
    device: torch.device,
    precision: str,
    more_bytes: int,
) -> str:
    """Return what to change so that a training step fits the memory that is free now.

    Parameters
    ----------
    model
        The model that is trained, on the device; what the failed step held has been freed.
    config
        Settings of the training.
    batch_size
        Pairs in a batch.
    device, precision
        Where and how precisely it is trained.
    more_bytes
        What a step takes beside what grows with the batch: gradients, state of the optimiser.
    """
    model.train()
    free = memory_of(device).free

    def n_pairs(crop_size: tuple[int, int, int]) -> int:
        # In the backward pass, gradients of two maps of the first stage are there at once.
        maps = 2 * 4 * model.architecture.fmaps[0] * prod(crop_size)
        view = saved_bytes_per_view(model, crop_size, device, precision) + maps
        return int((free - more_bytes) / (SAFETY * 2 * view))

    found = f"{free / GIB:.1f} GiB are free"
    fitting = min(n_pairs(config.crop_size), int(LARGEST_SHARE * batch_size))
    if fitting >= 2:
        return (
            f"{found}: lower batch_size from {batch_size} to {fitting} and go on with --resume "
            f"--batch_size {fitting}"
        )
    for size in _smaller(config.crop_size, model.architecture.total_downsampling):
        if n_pairs(size) >= 2:
            shown = " ".join(map(str, size))
            return f"{found}, too little for 2 pairs: start a new run with crop_size {shown}"
    return (
        f"{found}, too little for 2 pairs of any crop_size: end other programs, or start a new run "
        "with fewer fmaps"
    )


def _smaller(
    crop_size: tuple[int, int, int], multiple: tuple[int, int, int]
) -> Iterator[tuple[int, int, int]]:
    """Yield smaller crops of nearly the same proportions, the largest first."""
    longest = max(size // factor for size, factor in zip(crop_size, multiple, strict=True))
    for n in range(longest - 1, 0, -1):
        z, y, x = (
            max(1, size // factor * n // longest) * factor
            for size, factor in zip(crop_size, multiple, strict=True)
        )
        yield (z, y, x)
