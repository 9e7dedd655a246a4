"""What a training will use and take, said before it starts; without PyTorch, since the window asks.

The counts are those that training itself makes. Memory and time are estimated from a
:class:`Machine`, which :mod:`napari_synapse_cl.pipeline.answers` measures in a process that has
PyTorch.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Self

from pydantic import TypeAdapter

from napari_synapse_cl.config import AugmentationConfig, Config
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.placing import NO_VOXEL_SIZE
from napari_synapse_cl.data.split import TOO_FEW, Split, split_of
from napari_synapse_cl.models.architecture import (
    crop_size_problem,
    downsampling_factors,
    total_downsampling,
)
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.system.words import Triple, counted, duration, size
from napari_synapse_cl.training.memory.plan import StepMemory, StepPlan
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
    "objective",
    "crop_size",
    "batch_size",
    "device",
    "precision",
    "texture_weight",
    *AugmentationConfig.model_fields,
)
"""Settings that a :class:`Machine` depends on; how much there is of an augmentation or of the
texture task makes no difference."""
VIEWS = 2
"""Views of each synapse in a batch."""
VALIDATION_COST = 1 / 2
"""Of a synapse that is validated on, compared with one that is trained on: two views and the crop
as it is, without a backward pass."""
SURE = 1.3
"""Up to this factor a forecast is told as one number."""
PLAIN_PASSES = 3
"""Forward passes that a step takes as long as, where nothing is done to save memory."""
MINUTE, HOUR = 60.0, 3600.0
MOST_OF_A_UNIT = 100
"""More of it are said in the next one."""
LEAST_OF_A_UNIT = 0.75
"""From here on a range begins with one of it: "1 to 2 min" in place of "59 s to 2 min"."""
CUBES = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Machine:
    """What was measured of a device, with the network and the crop size of some settings."""

    device: str
    device_name: str
    """As PyTorch calls it, and as people do, as in "NVIDIA H100"."""
    memory: StepMemory
    """What a step takes, and what is free once the network is there."""
    resident: int
    """Bytes that a training holds before its first step: the weights and the runtime."""
    seconds_per_view: float
    """Of a training step that saves no memory; all that is done for a view in it."""
    total_downsampling: Triple
    """Of the network along z, y, x; each side of a crop is a multiple of it."""
    seconds_to_start: float = 0.0
    """Until a process is ready to train."""
    seconds_to_save: float = 0.0
    """Of a checkpoint."""
    spread: float = 1.0
    """By which factor a step may take longer or shorter than was measured."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the machine that :meth:`as_json` described.

        Raises
        ------
        ValueError
            If the text describes no machine.
        """
        return TypeAdapter(cls).validate_json(text)

    def as_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))

    def with_pace(self, config: Config, batch_size: int, steps: int, seconds: float) -> Self:
        """Return it with the pace of a training in place of the few steps that were measured.

        Parameters
        ----------
        config
            The settings of the training.
        seconds
            How long its `steps` of `batch_size` pairs took together.
        """
        passes = self.memory.choose(config, batch_size).passes(batch_size) / PLAIN_PASSES
        seconds_per_view = seconds / (VIEWS * steps * batch_size * passes)
        return replace(self, seconds_per_view=seconds_per_view, spread=1.0)


@dataclass(frozen=True, eq=False)
class Plan:
    """What a training will use and take."""

    config: Config
    dataset: Dataset
    """The settings, and the synapses."""
    split: Split
    schedule: Schedule
    """How the synapses inside are divided, and the steps."""
    machine: Machine | None
    """What was measured, None until that is known."""
    warnings: list[str]
    """What looks wrong or will be done otherwise than asked for, in sentences."""

    @property
    def step(self) -> StepPlan:
        """How a step is computed, once a machine is known."""
        assert self.machine is not None
        return self.machine.memory.choose(self.config, self.schedule.batch_size)

    @property
    def seconds(self) -> float:
        """How long it takes, once a machine is known; reading crops is left out."""
        machine = self.machine
        assert machine is not None
        batch_size, epochs = self.schedule.batch_size, self.schedule.epochs
        passes = self.step.passes(batch_size) / PLAIN_PASSES
        validated = epochs * len(self.split.validation) * VALIDATION_COST
        n_views = VIEWS * (self.schedule.total_steps * batch_size * passes + validated)
        # An epoch is kept, and half of them as the best too.
        around = machine.seconds_to_start + 1.5 * epochs * machine.seconds_to_save
        return n_views * machine.seconds_per_view + around

    @property
    def forecast(self) -> str:
        """How long it takes in words, once a machine is known: a range while that is uncertain."""
        assert self.machine is not None
        return forecast(self.seconds, self.machine.spread)


def forecast(seconds: float, spread: float) -> str:
    """Return in words how long something will take.

    Parameters
    ----------
    seconds
        What it is most likely to be.
    spread
        By which factor it may be more or less.
    """
    if spread <= SURE:
        return f"about {duration(max(1.0, seconds))}"
    low, high = max(1.0, seconds / spread), max(1.0, seconds * spread)
    for unit, name in ((HOUR, "h"), (MINUTE, "min"), (1.0, "s")):
        if low >= LEAST_OF_A_UNIT * unit and high < MOST_OF_A_UNIT * unit:
            return f"{round(low / unit)} to {round(high / unit)} {name}"
    return f"{duration(low)} to {duration(high)}"


def measured_key(config: Config) -> str:
    """Return what of the settings a :class:`Machine` is measured for."""
    graded = {"texture_weight", *AugmentationConfig.model_fields}
    values = config.model_dump(mode="json", include=set(MEASURED_FOR))
    return json.dumps({n: bool(v) if n in graded else v for n, v in values.items()})


def plan_of(dataset: Dataset, config: Config, machine: Machine | None) -> Plan:
    """Return what a training on these synapses will use and take; it takes milliseconds.

    Parameters
    ----------
    dataset
        The synapses, and the volumes or crops they are in.
    machine
        What was measured with these settings, or None if that is not known yet.
    """
    split = split_of(dataset, config)
    schedule = Schedule.plan(config, len(split.training))
    warnings = [text for text, level in dataset.messages if level == "warning"]
    if dataset.known_voxel_size is None:
        warnings.append(NO_VOXEL_SIZE)
    n_reaching = dataset.n_reaching_outside(config.crop_size)
    if n_reaching:
        warnings.append(_reaching(n_reaching, len(dataset.positions.voxels), config))
    warnings += _set_warnings(split, config)
    problem = crop_size_problem(config.crop_size, _downsampling(config, machine))
    warnings += [problem] if problem else []
    plan = Plan(config, dataset, split, schedule, machine, warnings)
    if machine is not None:
        told = machine.memory.told(plan.step, schedule.batch_size, config.crop_size)
        warnings += [text for text, level in told if level == "warning"]
    return plan


def in_words(plan: Plan) -> list[tuple[str, str]]:
    """Return a plan as rows of a label and a text, without what is not known yet."""
    positions, split, schedule = plan.dataset.positions, plan.split, plan.schedule
    counts = [f"{len(split.training)} train", f"{len(split.validation)} validate"]
    unused = (
        (len(split.left_out), "too near to the validation ones"),
        (positions.n_outside, "outside the volume"),
        (len(split.struck_out), "struck out"),
    )
    counts += [f"{n} not used ({why})" for n, why in unused if n]
    crops = f"{size(plan.config.crop_size)} voxels"
    voxel_size = plan.dataset.known_voxel_size
    if voxel_size is not None:
        sides = zip(plan.config.crop_size, voxel_size, strict=True)
        crops += f" = {size([n * length for n, length in sides])} nm"
    steps = (
        f"{schedule.steps_per_epoch} per epoch, of {counted(schedule.batch_size, 'pair')} each · "
        f"{schedule.total_steps} in all, in {counted(schedule.epochs, 'epoch')}"
    )
    rows = [("Synapses", ", ".join(counts)), ("Crops", crops), ("Steps", steps)]
    machine = plan.machine
    if machine is not None:
        memory, saving = machine.memory, plan.step.saving(schedule.batch_size)
        needed, free = (
            (machine.resident + n) / GIB for n in (memory.bytes_of(plan.step), memory.free)
        )
        rows += [
            ("Device", f"{machine.device_name} ({machine.device}), {plan.step.precision}"),
            ("Memory", f"about {needed:.1f} of {free:.1f} GiB free{saving and f': {saving}'}"),
            ("Time", plan.forecast),
        ]
    return rows


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
            f"the batch size of {config.batch_size} is lowered to the {n_training} training "
            "synapses"
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


def _verb(n: int, singular: str, plural: str) -> str:
    return singular if n == 1 else plural
