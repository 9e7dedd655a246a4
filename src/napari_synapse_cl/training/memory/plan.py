"""How a training step fits into memory: precision, activation checkpointing, micro-batches.

Of all ways that fit, the fastest is chosen; the size of the batch, which decides what is learnt, is
not touched. Without PyTorch, since the window asks too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from napari_synapse_cl.config import Config
from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.system.words import counted, size

SAFETY = 1.15
"""Memory is lost between blocks, and other programs want some."""
TRUSTED = 0.7
"""Share of what seems to be free that is made use of once memory has run out."""
GOOD_MICRO_BATCH = 8
"""Synapses with which batch norms come close to those of a large batch."""


@dataclass(frozen=True)
class StepPlan:
    """How a step is computed."""

    precision: str
    """"float32" or "bfloat16"."""
    checkpointing: bool
    """Whether activations are computed again in the backward pass."""
    micro_batch_size: int
    """Synapses that go through the backbone at once in one process."""

    def passes(self, batch_size: int) -> int:
        """Return how many forward passes a step takes as long as; a backward pass is two."""
        return 3 + self.checkpointing + (self.micro_batch_size < batch_size)

    def saving(self, batch_size: int) -> str:
        """Return in words what is done to save memory, empty where nothing is."""
        parts = []
        if self.checkpointing:
            parts.append("activations are computed again in the backward pass (checkpointing)")
        if self.micro_batch_size < batch_size:
            parts.append(
                f"{self.micro_batch_size} of {counted(batch_size, 'pair')} go through the network "
                "at once, with the loss of all (gradient caching)"
            )
        return ", and ".join(parts)


@dataclass(frozen=True)
class StepMemory:
    """What a step takes of a device's memory, and what is free there, in bytes."""

    fixed: int
    """What does not depend on the batch: gradients and state of the optimiser."""
    pair: dict[str, tuple[int, int]]
    """What one synapse in a micro-batch takes, without and with checkpointing, in each precision
    that may be used, the fastest first."""
    free: int
    """What there is."""

    def bytes_of(self, plan: StepPlan) -> int:
        """Return what a step takes that is computed in this way."""
        pair = self.pair[plan.precision][plan.checkpointing]
        return self.fixed + int(SAFETY * plan.micro_batch_size * pair)

    def choose(
        self, config: Config, batch_size: int, preferred: StepPlan | None = None
    ) -> StepPlan:
        """Return the fastest way to compute a step that fits, or the smallest if none does.

        Parameters
        ----------
        config
            What is asked for of checkpointing and micro-batches.
        batch_size
            Synapses that one process has of a batch.
        preferred
            What is taken if it may be used and fits.
        """
        if preferred and preferred.precision in self.pair and self.bytes_of(preferred) <= self.free:
            return preferred
        allowed = {"off": [False], "on": [True], "auto": [False, True]}
        checkpointing = allowed[config.activation_checkpointing]
        for precision in self.pair:
            ways = [
                StepPlan(precision, again, n)
                for again in checkpointing
                if (n := self._micro_batch(precision, again, config.micro_batch_size, batch_size))
            ]
            if ways:
                return min(ways, key=lambda plan: _cost(plan, batch_size))
        n = min(config.micro_batch_size or 1, batch_size)
        return min(
            (StepPlan(precision, checkpointing[-1], n) for precision in self.pair),
            key=self.bytes_of,
        )

    def smaller(self, failed: StepPlan, config: Config, batch_size: int) -> StepPlan | None:
        """Return how to compute a step for which memory has run out, or None if nothing can change.

        Parameters
        ----------
        failed
            How it was computed.
        config, batch_size
            As in :meth:`choose`.
        """
        limit = int(TRUSTED * min(self.free, self.bytes_of(failed)))
        pair = {failed.precision: self.pair[failed.precision]}
        plan = replace(self, pair=pair, free=limit).choose(config, batch_size)
        return plan if self.bytes_of(plan) < self.bytes_of(failed) else None

    def told(
        self, plan: StepPlan, batch_size: int, crop_size: tuple[int, int, int]
    ) -> Iterator[tuple[str, Level]]:
        """Yield what to tell of a plan, in sentences; nothing where nothing had to be done."""
        whole = self.bytes_of(StepPlan(plan.precision, False, batch_size))
        needed, at_once, free = (
            f"{n / GIB:.1f} GiB" for n in (self.bytes_of(plan), whole, self.free)
        )
        if self.bytes_of(plan) > self.free:
            yield (
                f"a step would take about {needed} of memory, and {free} are free: it may run out. "
                "Lower crop_size or fmaps, or end other programs",
                "warning",
            )
        saving = plan.saving(batch_size)
        if saving and whole <= self.free:
            # The settings ask for it.
            yield f"{saving[0].upper()}{saving[1:]}", "info"
        elif saving:
            yield (
                f"{counted(batch_size, 'pair')} of {size(crop_size)} voxels would take about "
                f"{at_once} at once, and {free} are free: {saving}. A step takes about {needed}",
                "info",
            )

    def _micro_batch(self, precision: str, checkpointing: bool, wanted: int, whole: int) -> int:
        """Return how many synapses go through at once, 0 if they do not fit.

        They are `wanted`, or if that is 0 as many as fit. Parts of the batch are then of equal
        size: a small last one would only spoil its batch norms.
        """
        largest = int((self.free - self.fixed) / (SAFETY * self.pair[precision][checkpointing]))
        n = min(wanted or largest, whole)
        if not 0 < n <= largest:
            return 0
        return n if wanted else ceil(whole / ceil(whole / n))


def _cost(plan: StepPlan, batch_size: int) -> tuple[float, int]:
    """Return how long a step takes, and more where batch norms would see little at once."""
    n = plan.micro_batch_size
    too_few = 0.0 if n >= batch_size else max(0.0, 1 - n / GOOD_MICRO_BATCH)
    return plan.passes(batch_size) + 4 * too_few, -n
