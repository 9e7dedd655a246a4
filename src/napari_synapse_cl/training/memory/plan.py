"""How a training step fits into memory: precision, activation checkpointing, micro-batches.

Of all ways that fit, the fastest is chosen; the size of the batch, which decides what is learnt, is
not touched. Without PyTorch, since the window asks too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from napari_synapse_cl.config import Config
from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.system.words import counted

SAFETY = 1.15
"""Memory is lost between blocks, and other programs want some."""
TRUSTED = 0.7
"""Share of what seems to be free that is made use of once memory has run out."""
GOOD_MICRO_BATCH = 8
"""Synapses with which batch norms come close to those of a large batch."""


@dataclass(frozen=True)
class StepPlan:
    """How a step is computed.

    Attributes
    ----------
    precision
        "float32" or "bfloat16".
    checkpointing
        Whether activations are computed again in the backward pass.
    micro_batch_size
        Synapses that go through the backbone at once in one process.
    """

    precision: str
    checkpointing: bool
    micro_batch_size: int


@dataclass(frozen=True)
class StepMemory:
    """What a step takes.

    Attributes
    ----------
    fixed
        Bytes that do not depend on the batch: gradients and state of the optimiser.
    pair
        Bytes of one synapse in a micro-batch, by precision and whether there is checkpointing.
    """

    fixed: int
    pair: dict[tuple[str, bool], int]

    def bytes_of(self, plan: StepPlan) -> int:
        """Return what a step takes that is computed in this way."""
        pair = self.pair[plan.precision, plan.checkpointing]
        return self.fixed + round(SAFETY * plan.micro_batch_size * pair)

    def largest_micro_batch(self, precision: str, checkpointing: bool, limit: int) -> int:
        """Return how many synapses fit into so many bytes at once."""
        pair = self.pair[precision, checkpointing]
        return max(0, int((limit - self.fixed) / (SAFETY * pair)))


@dataclass(frozen=True)
class Choice:
    """A plan that was chosen for a device, with what it was chosen by.

    Attributes
    ----------
    plan
        How a step is computed.
    needed, plain, free
        Bytes that it takes, that the whole batch would take at once, and that are free.
    batch_size
        Synapses that one process has of a batch.
    """

    plan: StepPlan
    needed: int
    plain: int
    free: int
    batch_size: int

    def told(self, crop_size: tuple[int, int, int]) -> Iterator[tuple[str, Level]]:
        """Yield what to tell of it, in sentences; nothing where nothing had to be done."""
        if self.needed > self.free:
            yield (
                f"a step would take about {self.needed / GIB:.1f} GiB of memory, and "
                f"{self.free / GIB:.1f} GiB are free: it may run out. Lower crop_size or fmaps, or "
                "end other programs",
                "warning",
            )
        done = in_words(self.plan, self.batch_size)
        if done and self.plain <= self.free:
            # The settings ask for it.
            yield f"{done[0].upper()}{done[1:]}", "info"
        elif done:
            size = " × ".join(map(str, crop_size))
            yield (
                f"{counted(self.batch_size, 'pair')} of {size} voxels would take about "
                f"{self.plain / GIB:.1f} GiB at once, and {self.free / GIB:.1f} GiB are free: "
                f"{done}. A step takes about {self.needed / GIB:.1f} GiB",
                "info",
            )


def fastest_plan(
    memory: StepMemory,
    config: Config,
    batch_size: int,
    precisions: Sequence[str],
    limit: int,
) -> StepPlan:
    """Return the fastest way to compute a step that fits, or the smallest if none does.

    Parameters
    ----------
    memory
        What a step takes.
    config
        What is asked for of checkpointing and micro-batches.
    batch_size
        Synapses that one process has of a batch.
    precisions
        Those that may be used, the fastest first.
    limit
        Bytes that there are.
    """
    for precision in precisions:
        ways = list(_ways(memory, config, batch_size, precision, limit))
        if ways:
            return min(ways, key=lambda plan: (_cost(plan, batch_size), -plan.micro_batch_size))
    checkpointing = config.activation_checkpointing != "off"
    leanest = min(precisions, key=lambda precision: memory.pair[precision, checkpointing])
    return StepPlan(leanest, checkpointing, min(batch_size, config.micro_batch_size or 1))


def smaller_plan(
    memory: StepMemory, config: Config, batch_size: int, failed: StepPlan, free: int
) -> StepPlan | None:
    """Return how to compute a step for which memory has run out, or None if nothing can change.

    Parameters
    ----------
    memory, config, batch_size
        As in :func:`fastest_plan`.
    failed
        How it was computed.
    free
        Bytes that are free now.
    """
    limit = round(TRUSTED * min(free, memory.bytes_of(failed)))
    plan = fastest_plan(memory, config, batch_size, [failed.precision], limit)
    return plan if memory.bytes_of(plan) < memory.bytes_of(failed) else None


def in_words(plan: StepPlan, batch_size: int) -> str:
    """Return what is done to save memory, empty where nothing is."""
    parts = []
    if plan.checkpointing:
        parts.append("activations are computed again in the backward pass (checkpointing)")
    if plan.micro_batch_size < batch_size:
        parts.append(
            f"{plan.micro_batch_size} of {counted(batch_size, 'pair')} go through the network at "
            "once, with the loss of all (gradient caching)"
        )
    return ", and ".join(parts)


def _ways(
    memory: StepMemory, config: Config, batch_size: int, precision: str, limit: int
) -> Iterator[StepPlan]:
    """Yield the ways that fit: with and without checkpointing, with the largest micro-batch."""
    for checkpointing in (False, True):
        if config.activation_checkpointing == ("off" if checkpointing else "on"):
            continue
        largest = memory.largest_micro_batch(precision, checkpointing, limit)
        size = min(config.micro_batch_size or largest, batch_size)
        if 0 < size <= largest:
            # Parts of equal size: a small last one would only spoil its batch norms.
            size = size if config.micro_batch_size else ceil(batch_size / ceil(batch_size / size))
            yield StepPlan(precision, checkpointing, size)


def passes(plan: StepPlan, batch_size: int) -> int:
    """Return how many forward passes a step takes as long as; a backward pass is two."""
    return 3 + plan.checkpointing + (plan.micro_batch_size < batch_size)


def _cost(plan: StepPlan, batch_size: int) -> float:
    """Return how long a step takes, and more where batch norms would see little at once."""
    is_whole = plan.micro_batch_size >= batch_size
    too_few = 0.0 if is_whole else max(0.0, 1 - plan.micro_batch_size / GOOD_MICRO_BATCH)
    return passes(plan, batch_size) + 4 * too_few
