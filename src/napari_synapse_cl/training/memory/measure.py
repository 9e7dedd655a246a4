"""Count and measure what a training step takes on a device, and choose how it is computed there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor

from napari_synapse_cl.config import Config
from napari_synapse_cl.models.norms import in_one_at_any_size
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.system.devices import autocast, memory_of, usable_precisions
from napari_synapse_cl.training.memory.plan import Choice, StepMemory, StepPlan, fastest_plan

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
PRECISIONS = ("float32", "bfloat16")


def bytes_per_view(
    model: ContrastiveModel,
    crop_size: Sequence[int],
    device: torch.device,
    precision: str,
    checkpointing: bool,
) -> int:
    """Return the bytes that one view more in a training batch takes in all.

    Parameters
    ----------
    model, crop_size, device, precision
        As in :func:`saved_bytes_per_view`.
    checkpointing
        Whether only the input of each convolution block is kept for the backward pass.
    """
    largest = max(_map_bytes(model, crop_size, "float32"))
    if not checkpointing:
        saved = saved_bytes_per_view(model, crop_size, device, precision)
        return saved + TEMPORARY_MAPS * largest
    return _block_inputs(model, crop_size, precision) + RECOMPUTED_MAPS * largest


def saved_bytes_per_view(
    model: ContrastiveModel, crop_size: Sequence[int], device: torch.device, precision: str
) -> int:
    """Return the bytes that one view more in a training batch keeps for the backward pass.

    They are counted on smaller views, as the distinct storages that autograd keeps; feature maps
    are then scaled by the number of voxels. What does not grow with the batch, such as weights
    cast to another precision, is left out.

    Parameters
    ----------
    model
        The network, on `device`. Its batch-norm statistics are left as they are.
    crop_size
        Size of a view along z, y, x.
    device, precision
        Where and how precisely it is trained.
    """
    side = clipped(crop_size, model.architecture.total_downsampling, COUNTED_SIDE)
    with _unchanged(model):
        model.train()
        # The head's batch norm needs two views at least.
        few, many = (_saved_bytes(model, n, side, device, precision) for n in (2, 3))
    maps, others = (b - a for a, b in zip(few, many, strict=True))
    return round(maps * prod(crop_size) / prod(side)) + others


def clipped(
    crop_size: Sequence[int], downsampling: Sequence[int], side: int
) -> tuple[int, int, int]:
    """Return a crop size clipped to `side`, in multiples of the network's downsampling."""
    z, y, x = (
        max(1, min(n, side) // factor) * factor
        for n, factor in zip(crop_size, downsampling, strict=True)
    )
    return (z, y, x)


def _map_bytes(model: ContrastiveModel, crop_size: Sequence[int], precision: str) -> list[int]:
    """Return the bytes of the maps that the convolutions of each stage put out for one view."""
    architecture = model.architecture
    sizes = zip(architecture.fmaps, architecture.map_sizes(crop_size), strict=True)
    width = 2 if precision == "bfloat16" else 4
    return [channels * prod(shape) * width for channels, shape in sizes]


def _block_inputs(model: ContrastiveModel, crop_size: Sequence[int], precision: str) -> int:
    """Return the bytes of what the convolution blocks read for one view, from the first trained."""
    architecture = model.architecture
    sizes = _map_bytes(model, crop_size, precision)
    pooled = [
        size // prod(factors)
        for size, factors in zip(sizes, architecture.downsample_factors, strict=True)
    ]
    first = min(model.trained_stages, default=len(sizes) + 1) - 1
    view = 4 * prod(crop_size)
    total = 0
    for stage in range(first, len(sizes)):
        total += pooled[stage - 1] if stage else view
        total += (architecture.n_convolutions[stage] - 1) * sizes[stage]
    return total


def _saved_bytes(
    model: ContrastiveModel,
    n_views: int,
    shape: Sequence[int],
    device: torch.device,
    precision: str,
) -> tuple[int, int]:
    """Return the bytes of the feature maps, and of all else, that a forward pass keeps."""
    storages: dict[int, tuple[bool, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = (tensor.ndim == 5, storage.nbytes())
        return tensor

    views = torch.zeros(n_views, 1, *shape, device=device)
    views = views.contiguous(memory_format=torch.channels_last_3d)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, autocast(device, precision), in_one_at_any_size():
        # Held, so that no storage is freed and its address given to another.
        embeddings = model(views)
    del embeddings
    return (
        sum(size for is_map, size in storages.values() if is_map),
        sum(size for is_map, size in storages.values() if not is_map),
    )


@contextmanager
def _unchanged(model: ContrastiveModel) -> Iterator[None]:
    """Leave a model's statistics and mode as they were."""
    mode = model.training
    statistics = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    finally:
        model.train(mode)
        for buffer, before in zip(model.buffers(), statistics, strict=True):
            buffer.copy_(before)


def step_memory(
    model: ContrastiveModel,
    crop_size: tuple[int, int, int],
    context: tuple[int, int, int],
    device: torch.device,
    *,
    has_moments: bool = False,
) -> StepMemory:
    """Measure and count what a step with a model takes.

    Parameters
    ----------
    model
        On the device.
    crop_size, context
        Sizes along z, y, x of a view and of the crop that it is made from.
    device
        Where it is trained.
    has_moments
        Whether the optimiser has its state already, so that it is not to come.
    """
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    # The crops of what comes next are read while a step is under way.
    inputs = 4 * (2 * prod(context) + 2 * INPUT_VOLUMES * prod(crop_size))
    return StepMemory(
        # A gradient of each weight, and Adam's two moments.
        (1 if has_moments else 3) * trained,
        {
            (precision, checkpointing): inputs
            + 2 * bytes_per_view(model, crop_size, device, precision, checkpointing)
            for precision in PRECISIONS
            for checkpointing in (False, True)
        },
    )


def choose_plan(
    model: ContrastiveModel,
    config: Config,
    context: tuple[int, int, int],
    device: torch.device,
    batch_size: int,
    preferred: StepPlan | None = None,
) -> Choice:
    """Choose how a step is computed on a device, by the memory that is free there.

    Parameters
    ----------
    model
        On the device.
    config
        What is asked for of precision, checkpointing and micro-batches, and the size of views.
    context
        Size of the crops that views are made from, along z, y, x.
    device
        Where it is trained.
    batch_size
        Synapses that one process has of a batch.
    preferred
        What is taken if it fits.

    Raises
    ------
    InputError
        If bfloat16 was asked for and gives wrong gradients on this device.
    """
    memory = step_memory(model, config.crop_size, context, device)
    free = memory_of(device).free
    plan = preferred
    if plan is None or memory.bytes_of(plan) > free:
        sizes = model.architecture.map_sizes(config.crop_size)
        precisions = usable_precisions(config.precision, device, sizes)
        plan = fastest_plan(memory, config, batch_size, precisions, free)
    plain = memory.bytes_of(StepPlan(plan.precision, False, batch_size))
    return Choice(plan, memory.bytes_of(plan), plain, free, batch_size)
