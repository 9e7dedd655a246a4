"""Count what a training step takes of a device's memory, and say when it has run out."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from napari_synapse_cl.augmentations.transforms import changes_sections, context_shape
from napari_synapse_cl.config import Config
from napari_synapse_cl.models.norms import (
    channels_last,
    in_one_at_any_size,
    run_modules,
    statistics_kept,
)
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.system.devices import autocast, memory_of, usable_precisions
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.system.words import counted, size, triple
from napari_synapse_cl.training.memory.plan import StepMemory, StepPlan

COUNTED_SIDE = 16
"""Largest side of the views that are counted on."""
TEMPORARY_MAPS = 1
"""Copies of the network's largest map, in float32, that a pass holds beside what it saves. Where it
is largest, at the turn from forward to backward, maps are small."""
RECOMPUTED_MAPS = 4
"""As many while a block is computed again, with what it saves then. Measured with
``benchmarks/training_step.py memory`` on CPUs, where it is nearly the same in bfloat16."""
INPUT_VOLUMES = 6
"""Volumes of the size of a view that its augmentation holds, beside the crop it is cut from: where
each voxel is taken from, and what is made of it."""


def step_memory(
    model: ContrastiveModel,
    config: Config,
    voxel_size: tuple[float, float, float],
    device: torch.device,
    precisions: Sequence[str] = (),
) -> StepMemory:
    """Return what a step with a model takes, and what is free now.

    Parameters
    ----------
    model
        On the device.
    config
        Size of the views, the augmentations that crops have context for, and the precision.
    voxel_size
        Voxel size along z, y, x, in any unit.
    device
        Where it is trained.
    precisions
        Those that may be used, the fastest first; if there are none, those that are right here.

    Raises
    ------
    InputError
        If bfloat16 was asked for and gives wrong gradients on this device.
    """
    crop_size, architecture = config.crop_size, model.architecture
    sizes = architecture.map_sizes(crop_size)
    maps = zip(architecture.fmaps, sizes, strict=True)
    largest = max(4 * channels * prod(shape) for channels, shape in maps)
    # The crops of what comes next are read while a step is under way.
    context = prod(context_shape(crop_size, config, voxel_size))
    n_crops = 2 + changes_sections(config)
    inputs = 4 * (n_crops * context + 2 * INPUT_VOLUMES * prod(crop_size))
    pair = {}
    for precision in precisions or usable_precisions(config.precision, device, sizes):
        plain, again = (
            kept_bytes(model, crop_size, device, precision, checkpointing) + n * largest
            for checkpointing, n in ((False, TEMPORARY_MAPS), (True, RECOMPUTED_MAPS))
        )
        pair[precision] = (inputs + 2 * plain, inputs + 2 * again)
    # A gradient of each weight, and Adam's two moments, though they may be there already.
    fixed = 3 * sum(p.nbytes for p in model.parameters() if p.requires_grad)
    return StepMemory(fixed, pair, memory_of(device).free)


def kept_bytes(
    model: ContrastiveModel,
    crop_size: Sequence[int],
    device: torch.device,
    precision: str,
    checkpointing: bool,
) -> int:
    """Return the bytes of maps that one view more in a training batch keeps for the backward pass.

    They are counted on smaller views and scaled by the number of voxels.

    Parameters
    ----------
    model
        The network, on `device`. Its batch-norm statistics are left as they are.
    crop_size
        Size of a view along z, y, x.
    device, precision
        Where and how precisely it is trained.
    checkpointing
        Whether only the input of each convolution block is kept.
    """
    side = clipped(crop_size, model.architecture.total_downsampling, COUNTED_SIDE)
    count = _bytes_of_inputs if checkpointing else _bytes_saved
    model.train()
    with statistics_kept(model), autocast(device, precision), in_one_at_any_size():
        # The difference leaves out what does not grow with the batch, such as weights that were
        # cast to another precision.
        two, three = (
            count(model, channels_last(torch.zeros(n, 1, *side, device=device))) for n in (2, 3)
        )
    return round((three - two) * prod(crop_size) / prod(side))


def clipped(
    crop_size: Sequence[int], downsampling: Sequence[int], side: int
) -> tuple[int, int, int]:
    """Return a crop size clipped to `side`, in multiples of the network's downsampling."""
    return triple(
        max(1, min(n, side) // factor) * factor
        for n, factor in zip(crop_size, downsampling, strict=True)
    )


def _bytes_saved(model: ContrastiveModel, views: Tensor) -> int:
    """Return the bytes of the distinct storages of maps that autograd keeps."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.ndim == views.ndim:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # Held, so that no storage is freed and its address given to another.
        maps = run_modules(model.backbone.features, views)
    del maps
    return sum(storages.values())


@torch.no_grad()
def _bytes_of_inputs(model: ContrastiveModel, views: Tensor) -> int:
    """Return the bytes of what the blocks read, from the first on that is trained."""
    total, is_trained = 0, False
    for block in model.backbone.blocks():
        is_trained = is_trained or any(p.requires_grad for p in block.parameters())
        total += is_trained * views.nbytes
        views = run_modules(block, views)
    return total


def what_happened(step: int, plan: StepPlan, config: Config, device: torch.device) -> str:
    """Return in words that memory ran out in a step, counted from 1, which was computed so."""
    pairs = counted(plan.micro_batch_size, "pair")
    return (
        f"memory ran out on {device} in step {step}, with {pairs} of {size(config.crop_size)} "
        "voxels at once"
    )


def what_to_change(config: Config, device: torch.device) -> str:
    """Return in words what is free now, and what to change so that a step takes less."""
    flags = []
    if config.micro_batch_size:
        flags.append("--micro_batch_size 0")
    if config.activation_checkpointing == "off":
        flags.append("--activation_checkpointing auto")
    advice = "end other programs, or start a new run with a smaller crop_size or fewer fmaps"
    if flags:
        advice = f"let more be done to save memory, and go on with --resume {' '.join(flags)}"
    return f"{memory_of(device).free / GIB:.1f} GiB are free: {advice}"
