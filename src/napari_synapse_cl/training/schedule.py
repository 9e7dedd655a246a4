"""The steps of a training: how many, on which synapses, at which rate, and which epoch is best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, cos, pi
from typing import Any, Self

import numpy as np

from napari_synapse_cl.config import TrainingConfig
from napari_synapse_cl.config.training_sections import HIGHER_IS_BETTER
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.training.shuffling import Shuffle

MOST_SHUFFLED = 2**20
"""Synapses whose order lies in memory, in epochs that do not see all of them."""


@dataclass(frozen=True)
class Schedule:
    """The steps of a training: full batches only, so that every loss has as many negatives."""

    batch_size: int
    """Pairs in a batch; at most the training synapses there are."""
    steps_per_epoch: int
    total_steps: int
    """Optimiser steps."""

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
        if config.epoch_steps:
            steps_per_epoch = min(steps_per_epoch, config.epoch_steps)
        epochs = ceil(config.num_steps / steps_per_epoch) or config.num_epochs
        return cls(batch_size, steps_per_epoch, steps_per_epoch * epochs)

    @property
    def epochs(self) -> int:
        """How many there are."""
        return self.total_steps // self.steps_per_epoch

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


class Order:
    """The synapses of every step: all once an epoch, but for those that its batches do not hold.

    The order of an epoch follows from the seed and its number alone, so that a training which goes
    on from a checkpoint takes the very steps it would have taken. Of very many synapses of which an
    epoch sees some, only those of a step are drawn at a time.

    Parameters
    ----------
    seed
        Of the training.
    synapses
        ``(n,)`` int, those that train.
    schedule
        How they are divided into steps.
    """

    def __init__(self, seed: int, synapses: np.ndarray, schedule: Schedule) -> None:
        self._seed = seed
        self._synapses = synapses
        self._schedule = schedule
        # Of two epochs: crops of the next are read while the last steps of one are taken.
        self._of_epoch = lru_cache(maxsize=2)(self._draw)
        n = len(synapses)
        sees_all = schedule.steps_per_epoch == n // schedule.batch_size
        self._is_held = sees_all or n <= MOST_SHUFFLED

    def of_step(self, step: int) -> tuple[int, np.ndarray]:
        """Return the epoch, counted from 1, and the synapses of a step counted from 0."""
        epoch = step // self._schedule.steps_per_epoch + 1
        first = step % self._schedule.steps_per_epoch * self._schedule.batch_size
        stop = first + self._schedule.batch_size
        if self._is_held:
            return epoch, self._of_epoch(epoch)[first:stop]
        shuffle = Shuffle(len(self._synapses), [self._seed, epoch])
        return epoch, self._synapses[shuffle[np.arange(first, stop)]]

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(self._synapses)


class Selection:
    """Judges epochs by one metric.

    Parameters
    ----------
    config
        The metric, and how long to wait.
    has_validation
        Whether there are synapses that are held out; else the training loss decides.

    Attributes
    ----------
    metric
        Name of the metric, as in :class:`~napari_synapse_cl.runs.events.EpochDone`.
    best_epoch
        The best epoch so far, 0 for none.
    """

    def __init__(self, config: TrainingConfig, *, has_validation: bool) -> None:
        self.metric: str = config.best_metric if has_validation else "training_loss"
        self.best_epoch = 0
        self._best = float("inf")
        self._patience = config.early_stopping
        self._last_epoch = 0

    def take(self, epoch: int, values: dict[str, Any]) -> bool:
        """Return whether an epoch is the best so far."""
        self._last_epoch = epoch
        value = -values[self.metric] if self.metric in HIGHER_IS_BETTER else values[self.metric]
        if not value < self._best:
            return False
        self._best, self.best_epoch = value, epoch
        return True

    @property
    def waited_enough(self) -> bool:
        """Whether the training should end, since it has not become better for long."""
        return 0 < self._patience <= self._last_epoch - self.best_epoch

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, in plain types."""
        return {
            "best": self._best,
            "best_epoch": self.best_epoch,
            "last_epoch": self._last_epoch,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned.

        Raises
        ------
        KeyError
            If it is something else.
        """
        self._best = float(state["best"])
        self.best_epoch = int(state["best_epoch"])
        self._last_epoch = int(state["last_epoch"])
