"""What is said when memory runs out in a step, and what is done."""

import torch

from napari_synapse_cl.config import Config
from napari_synapse_cl.system.devices import memory_of
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.system.words import counted, size
from napari_synapse_cl.training.memory.plan import StepPlan


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
