"""Measure what a training step takes on a device, and choose how it is computed there."""

from math import prod

import torch

from napari_synapse_cl.config import Config
from napari_synapse_cl.devices import memory_of, usable_precisions
from napari_synapse_cl.models.memory import bytes_per_view
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.training.memory_plan import Choice, StepMemory, StepPlan, fastest_plan

INPUT_VOLUMES = 6
"""Volumes of the size of a view that its augmentation holds, beside the crop it is cut from: where
each voxel is taken from, and what is made of it."""
PRECISIONS = ("float32", "bfloat16")


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
