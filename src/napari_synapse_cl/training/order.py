"""Which synapses each step of a training takes."""

from functools import lru_cache

import numpy as np

from napari_synapse_cl.training.schedule import Schedule


class Order:
    """The synapses of every step: all of them once an epoch, but for those that fill no batch.

    The order of an epoch follows from the seed and its number alone, so that a training which goes
    on from a checkpoint takes the very steps it would have taken.

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

    def of_step(self, step: int) -> tuple[int, np.ndarray]:
        """Return the epoch, counted from 1, and the synapses of a step counted from 0."""
        epoch = step // self._schedule.steps_per_epoch + 1
        first = step % self._schedule.steps_per_epoch * self._schedule.batch_size
        return epoch, self._of_epoch(epoch)[first : first + self._schedule.batch_size]

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(self._synapses)
