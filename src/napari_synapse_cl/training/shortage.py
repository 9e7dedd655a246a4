"""What to lower, and by how much, when memory has run out."""

from collections.abc import Iterator

import torch

from napari_synapse_cl.config import Config
from napari_synapse_cl.context import context_shape
from napari_synapse_cl.devices import memory_of, usable_precisions
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.training.memory_plan import StepPlan
from napari_synapse_cl.training.step_memory import step_memory

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


def is_shortage(error: BaseException) -> bool:
    """Return whether an error says that memory has run out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def advice(
    model: ContrastiveModel,
    config: Config,
    device: torch.device,
    precision: str,
    voxel_size: tuple[float, float, float],
    *,
    has_moments: bool,
) -> str:
    """Return what to change so that a training step fits the memory that is free now.

    Parameters
    ----------
    model
        The model that is trained, on the device; what the failed step held has been freed.
    config
        Settings of the training.
    device, precision
        Where and how precisely it is trained.
    voxel_size
        Voxel size along z, y, x, in any unit.
    has_moments
        Whether the optimiser has its state already.
    """
    free = memory_of(device).free
    found = f"{free / GIB:.1f} GiB are free"
    flags = " ".join(f"--{name} {value}" for name, value in _left_undone(config, device))
    if flags:
        return f"{found}: let more be done to save memory, and go on with --resume {flags}"
    for size in _smaller(config.crop_size, model.architecture.total_downsampling):
        context = context_shape(size, config, voxel_size)
        memory = step_memory(model, size, context, device, has_moments=has_moments)
        if memory.bytes_of(StepPlan(precision, True, 2)) <= free:
            shown = " ".join(map(str, size))
            return f"{found}, too little for 2 pairs: start a new run with crop_size {shown}"
    return (
        f"{found}, too little for 2 pairs of any crop_size: end other programs, or start a new run "
        "with fewer fmaps"
    )


def _left_undone(config: Config, device: torch.device) -> Iterator[tuple[str, int | str]]:
    """Yield the settings that would save memory, with the values that do."""
    if config.micro_batch_size:
        yield "micro_batch_size", 0
    if config.activation_checkpointing == "off":
        yield "activation_checkpointing", "auto"
    if config.precision == "float32" and "bfloat16" in usable_precisions("auto", device):
        yield "precision", "bfloat16"


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
