"""What a training will use and take, said before it starts; without PyTorch, since the window asks.

The counts are those that training itself makes. Memory and time are estimated from a
:class:`Machine`, which :mod:`napari_synapse_cl.pipeline.probe` measures in a process that has
PyTorch.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Self

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.placing import NO_VOXEL_SIZE
from napari_synapse_cl.data.split import TOO_FEW, Split, split_of
from napari_synapse_cl.models.architecture import (
    crop_size_problem,
    downsampling_factors,
    total_downsampling,
)
from napari_synapse_cl.system.documents import parse_json
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.system.words import Triple, counted, duration, size
from napari_synapse_cl.training.memory.plan import (
    Choice,
    StepMemory,
    StepPlan,
    fastest_plan,
    passes,
)
from napari_synapse_cl.training.memory.plan import in_words as saved_by
from napari_synapse_cl.training.schedule import Schedule

MEASURED_FOR = (
    "pretrained",
    "fmaps",
    "n_convolutions",
    "downsampling",
    "proj_dim",
    "proj_hidden_dim",
    "freeze_backbone",
    "stage_to_finetune",
    "crop_size",
    "batch_size",
    "device",
    "precision",
)
"""Settings that a :class:`Machine` depends on: after a change of one of them it is out of date."""
VIEWS = 2
"""Views of each synapse in a batch."""
VALIDATION_COST = 1 / 3
"""Of a view that is validated on, compared with one that is trained on: no backward pass."""
PLAIN_PASSES = 3
"""Forward passes that a step takes as long as, where nothing is done to save memory."""
CUBES = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Machine:
    """What was measured of a device, with the network and the crop size of some settings.

    Attributes
    ----------
    device
        As PyTorch calls it.
    device_name
        What people call it, as in "NVIDIA H100".
    precisions
        In which a training may compute, the fastest first.
    free_gib, total_gib
        Memory of the device, in GiB.
    resident_gib
        What a training holds before its first step: the weights and the runtime, in GiB.
    fixed_gib, pair_gib
        What a step takes, as in :class:`~napari_synapse_cl.training.memory.plan.StepMemory`, in
        GiB; of a pair by precision, without and with checkpointing.
    seconds_per_view
        Forward and backward pass of one view in training, and its share of the optimiser's step.
    total_downsampling
        Of the network along z, y, x; each side of a crop is a multiple of it.
    """

    device: str
    device_name: str
    precisions: tuple[str, ...]
    free_gib: float
    total_gib: float
    resident_gib: float
    fixed_gib: float
    pair_gib: dict[str, tuple[float, float]]
    seconds_per_view: float
    total_downsampling: Triple

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the machine that :meth:`as_json` described.

        Raises
        ------
        ValueError
            If the text describes no machine.
        """
        content = parse_json(text)
        try:
            z, y, x = content.pop("total_downsampling")
            pairs = {name: (a, b) for name, (a, b) in content.pop("pair_gib").items()}
            precisions = tuple(content.pop("precisions"))
            return cls(
                **content, precisions=precisions, pair_gib=pairs, total_downsampling=(z, y, x)
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a machine: {error}") from None

    def as_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))

    def choose_plan(self, config: Config, batch_size: int) -> Choice:
        """Return how a training with such batches would compute its steps."""
        pairs = {
            (precision, checkpointing): round(gib * GIB)
            for precision, of_precision in self.pair_gib.items()
            for checkpointing, gib in zip((False, True), of_precision, strict=True)
        }
        memory = StepMemory(round(self.fixed_gib * GIB), pairs)
        free = round((self.free_gib - self.resident_gib) * GIB)
        plan = fastest_plan(memory, config, batch_size, self.precisions, free)
        plain = memory.bytes_of(StepPlan(plan.precision, False, batch_size))
        return Choice(plan, memory.bytes_of(plan), plain, free, batch_size)


@dataclass(frozen=True)
class Plan:
    """What a training will use and take.

    Attributes
    ----------
    n_used, n_outside
        Synapses inside the volume, and those outside, which are left out.
    n_training, n_validation, n_left_out
        How those inside are divided; left out are those whose crops overlap with the validation.
    batch_size
        Synapses in a batch, after it is lowered to the training set.
    steps_per_epoch, total_steps
        Steps of the optimiser.
    crop_size, crop_nm
        Size of a view along z, y, x in voxels, and in nm where the voxel size is known.
    memory_gib, free_gib, seconds, device, precision
        What it takes, on which device; None until a machine is known.
    saving
        What is done to save memory, in words; empty where nothing is.
    warnings
        What looks wrong or will be done otherwise than asked for, in sentences.
    """

    n_used: int
    n_outside: int
    n_training: int
    n_validation: int
    n_left_out: int
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    crop_size: Triple
    crop_nm: tuple[float, ...] | None = None
    memory_gib: float | None = None
    free_gib: float | None = None
    seconds: float | None = None
    device: str | None = None
    precision: str | None = None
    saving: str = ""
    warnings: list[str] = field(default_factory=list)


def plan_of(dataset: Dataset, config: Config, machine: Machine | None) -> Plan:
    """Return what a training on these synapses will use and take; it takes milliseconds.

    Parameters
    ----------
    dataset
        The synapses, and the volumes or crops they are in.
    config
        The settings.
    machine
        What was measured with these settings, or None if that is not known yet.
    """
    warnings = [text for text, level in dataset.messages if level == "warning"]
    if dataset.known_voxel_size is None:
        warnings.append(NO_VOXEL_SIZE)
    n_reaching = dataset.n_reaching_outside(config.crop_size)
    if n_reaching:
        warnings.append(_reaching(n_reaching, len(dataset.positions.voxels), config))
    return _plan(dataset, config, machine, warnings)


def in_words(plan: Plan) -> list[tuple[str, str]]:
    """Return a plan as rows of a label and a text, without what is not known yet."""
    counts = f"{plan.n_used} used: {plan.n_training} train, {plan.n_validation} validate"
    near = (plan.n_left_out, "near the border to them")
    for n, where in (near, (plan.n_outside, "outside the volume")):
        if n:
            counts += f" · {n} {where} {_verb(n, 'is', 'are')} left out"
    crops = f"{size(plan.crop_size)} voxels"
    if plan.crop_nm is not None:
        crops += f" = {size(plan.crop_nm)} nm"
    steps = (
        f"{plan.steps_per_epoch} per epoch, of {counted(plan.batch_size, 'pair')} each · "
        f"{plan.total_steps} in all"
    )
    rows = [("Synapses", counts), ("Crops", crops), ("Steps", steps)]
    if plan.device is not None:
        rows.append(("Device", f"{plan.device}, {plan.precision}"))
    if plan.memory_gib is not None:
        memory = f"about {plan.memory_gib:.1f} of {plan.free_gib:.1f} GiB free"
        rows.append(("Memory", f"{memory}: {plan.saving}" if plan.saving else memory))
    if plan.seconds is not None:
        rows.append(("Time", f"about {duration(max(1.0, plan.seconds))}"))
    return rows


def _plan(dataset: Dataset, config: Config, machine: Machine | None, warnings: list[str]) -> Plan:
    voxel_size, split = dataset.known_voxel_size, split_of(dataset, config)
    n_training, n_validation = len(split.training), len(split.validation)
    schedule = Schedule.plan(config, n_training)
    made = Plan(
        n_used=len(dataset.positions.voxels),
        n_outside=dataset.positions.n_outside,
        n_training=n_training,
        n_validation=n_validation,
        n_left_out=len(split.left_out),
        batch_size=schedule.batch_size,
        steps_per_epoch=schedule.steps_per_epoch,
        total_steps=schedule.total_steps,
        crop_size=config.crop_size,
        crop_nm=voxel_size and _product(config.crop_size, voxel_size),
        warnings=[*warnings, *_set_warnings(split, config)],
    )
    problem = crop_size_problem(config.crop_size, _downsampling(config, machine))
    if problem:
        made.warnings.append(problem)
    if machine is None:
        return made
    chosen = machine.choose_plan(config, schedule.batch_size)
    made.warnings.extend(
        text for text, level in chosen.told(config.crop_size) if level == "warning"
    )
    # The encoder of these has a forward pass of its own.
    more = 1 if config.objective in ("moco", "byol") else 0
    cost = (passes(chosen.plan, schedule.batch_size) + more) / PLAIN_PASSES
    n_views = VIEWS * (
        schedule.total_steps * schedule.batch_size * cost
        + config.num_epochs * n_validation * VALIDATION_COST
    )
    return replace(
        made,
        memory_gib=machine.resident_gib + chosen.needed / GIB,
        free_gib=machine.free_gib,
        seconds=n_views * machine.seconds_per_view,
        device=f"{machine.device_name} ({machine.device})",
        precision=chosen.plan.precision,
        saving=saved_by(chosen.plan, schedule.batch_size),
    )


def _reaching(n_reaching: int, n: int, config: Config) -> str:
    """Say how many crops reach outside, and what they hold there."""
    there = "whose tissue is reflected there"
    if config.borders == "constant":
        there = "where they are grey"
    verb = _verb(n_reaching, "reaches", "reach")
    return f"{n_reaching} of {counted(n, 'crop')} {verb} outside the volume, {there}"


def _set_warnings(split: Split, config: Config) -> list[str]:
    """Say what is odd about the number of synapses, and how they are divided."""
    n_training = len(split.training)
    if n_training == 1:
        return [TOO_FEW]
    warnings = []
    if config.batch_size > n_training:
        warnings.append(
            f"batch_size {config.batch_size} is lowered to the {n_training} training synapses"
        )
    if config.validation_fraction > 0 and not len(split.validation):
        warnings.append(
            f"{n_training} synapses are too few to hold any out, so there is no validation loss"
        )
    if split.overlapping:
        warnings.append(
            f"crops of {split.overlapping} of {n_training} training synapses overlap with crops of "
            "the validation, and too few would be left without them: the validation loss is better "
            "than it would be on synapses elsewhere; a smaller crop_size helps"
        )
    return warnings


def _downsampling(config: Config, machine: Machine | None) -> Triple:
    if machine is not None:
        return machine.total_downsampling
    if config.pretrained is not None:
        # Only the file says what its network needs.
        return (1, 1, 1)
    return total_downsampling(downsampling_factors(config.downsampling, len(config.n_convolutions)))


def _product(crop_size: Triple, voxel_size: tuple[float, float, float]) -> tuple[float, ...]:
    return tuple(n * length for n, length in zip(crop_size, voxel_size, strict=True))


def _verb(n: int, singular: str, plural: str) -> str:
    return singular if n == 1 else plural
