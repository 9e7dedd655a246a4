"""What is done when memory runs out in a step: less at once, or words that say what to change."""

from collections.abc import Callable, Iterator

import torch

from napari_synapse_cl.augmentations.context import context_shape
from napari_synapse_cl.config import Config
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.system.devices import memory_of, usable_precisions
from napari_synapse_cl.system.memory import GIB, stop_keeping
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.training.memory.measure import step_memory
from napari_synapse_cl.training.memory.plan import StepPlan, in_words, smaller_plan


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


class Economy:
    """Knows how a step is computed, and changes that once.

    Parameters
    ----------
    model
        What is trained, on the device.
    config
        What may be changed.
    context
        Size of the crops that views are made from, along z, y, x.
    device
        Where it is trained.
    voxel_size
        Voxel size along z, y, x, in any unit.
    has_moments
        Tells whether the optimiser has its state already.
    step_bytes
        What a step takes that is computed as planned.

    Attributes
    ----------
    step_bytes
        The same, of the plan that was returned last.
    """

    def __init__(
        self,
        model: ContrastiveModel,
        config: Config,
        context: tuple[int, int, int],
        device: torch.device,
        voxel_size: tuple[float, float, float],
        has_moments: Callable[[], bool],
        step_bytes: int,
    ) -> None:
        self._model = model
        self._config = config
        self._context = context
        self._device = device
        self._voxel_size = voxel_size
        self._has_moments = has_moments
        self.step_bytes = step_bytes
        self._is_spent = False

    def smaller(self, failed: StepPlan, batch_size: int) -> StepPlan | None:
        """Return a plan that takes less than the one that failed, once.

        Called after all that the step held has been freed.
        """
        if self._is_spent:
            return None
        self._is_spent = True
        memory = step_memory(
            self._model,
            self._config.crop_size,
            self._context,
            self._device,
            has_moments=self._has_moments(),
        )
        stop_keeping()
        free = memory_of(self._device).free
        plan = smaller_plan(memory, self._config, batch_size, failed, free)
        if plan is not None:
            self.step_bytes = memory.bytes_of(plan)
        return plan

    def told(self, step: int, failed: StepPlan, new: StepPlan, batch_size: int) -> str:
        """Return in words that memory ran out in a step, and what is done about it."""
        return f"{self._what_happened(step, failed)}; from here on {in_words(new, batch_size)}"

    def why_ended(self, step: int, plan: StepPlan) -> str:
        """Return in words that memory ran out in a step, and what to change."""
        advised = advice(
            self._model,
            self._config,
            self._device,
            plan.precision,
            self._voxel_size,
            has_moments=self._has_moments(),
        )
        return f"{self._what_happened(step, plan)}; {advised}"

    def _what_happened(self, step: int, plan: StepPlan) -> str:
        pairs = counted(plan.micro_batch_size, "pair")
        size = " × ".join(map(str, self._config.crop_size))
        return (
            f"memory ran out on {self._device} in step {step}, with {pairs} of {size} voxels at "
            "once"
        )
