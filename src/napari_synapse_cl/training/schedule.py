"""The steps of a training: how many, at which learning rate, and how many a checkpoint has done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any, Self

from napari_synapse_cl.config import TrainingConfig
from napari_synapse_cl.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """The steps of a training: full batches only, so that every loss has as many negatives.

    Attributes
    ----------
    batch_size
        Pairs in a batch; at most the training synapses there are.
    steps_per_epoch, total_steps
        Optimiser steps.
    """

    batch_size: int
    steps_per_epoch: int
    total_steps: int

    @classmethod
    def plan(cls, config: TrainingConfig, n_training: int, n_processes: int = 1) -> Self:
        """Return the schedule of a training on so many synapses.

        Raises
        ------
        InputError
            If a batch has fewer synapses than there are processes to share it.
        """
        batch_size = min(config.batch_size, n_training)
        batch_size -= batch_size % n_processes
        if batch_size < 2 and n_processes > 1:
            raise InputError(
                f"{n_processes} processes cannot share batches of "
                f"{min(config.batch_size, n_training)} synapses: start fewer, or raise batch_size"
            )
        steps_per_epoch = n_training // batch_size
        return cls(batch_size, steps_per_epoch, steps_per_epoch * config.num_epochs)

    def continues(self, checkpoint: Mapping[str, Any]) -> bool:
        """Return whether the next step is the very one that the checkpoint's training took next."""
        return self.batch_size == int(checkpoint["batch_size"])

    def steps_done(self, checkpoint: Mapping[str, Any]) -> int:
        """Return how many steps of this schedule are done at a checkpoint.

        With another batch size than the checkpoint's, an epoch that it is within begins anew.
        """
        if self.continues(checkpoint):
            return int(checkpoint["step"])
        return int(checkpoint["step"]) // int(checkpoint["steps_per_epoch"]) * self.steps_per_epoch

    def steps_recorded(self, checkpoint: Mapping[str, Any]) -> int:
        """Return the last step, as the checkpoint's training counted, that is not taken again."""
        step = int(checkpoint["step"])
        if self.continues(checkpoint):
            return step
        return step - step % int(checkpoint["steps_per_epoch"])


def learning_rate(step: int, total_steps: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step counted from 0: linear warm-up, then cosine decay.

    References
    ----------
    Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, equation 5,
    without restarts. https://arxiv.org/abs/1608.03983
    """
    warmup = round(config.warmup_fraction * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * (1 + cos(pi * (step - warmup) / (total_steps - warmup))) / 2


def stages_waiting(
    step: int, total_steps: int, config: TrainingConfig, stages: Sequence[int]
) -> list[int]:
    """Return the stages of the backbone that do not train yet in a step counted from 0.

    The projection head begins alone. The stages join at even distances, the last one first, until
    all train after `unfreezing_fraction` of the steps.

    Parameters
    ----------
    step, total_steps, config
        As in :func:`learning_rate`.
    stages
        Those that will train, in ascending order.

    References
    ----------
    Howard, Ruder: Universal Language Model Fine-tuning for Text Classification, 2018, section 3.3.
    https://arxiv.org/abs/1801.06146
    """
    duration = config.unfreezing_fraction * total_steps
    n = len(stages)
    joined = n if step >= duration else int(step * n / duration)
    return list(stages[: n - joined])
