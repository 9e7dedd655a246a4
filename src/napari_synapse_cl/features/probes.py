"""Intervals by resampling blocks of space: places in one block are not independent of each other.

Every statistic is computed for all resamples at once, and all sets of features are measured on the
same resamples: so are their differences.

References
----------
Efron, Tibshirani: An Introduction to the Bootstrap, 1993.
Hesterberg: What Teachers Should Know About the Bootstrap, 2015 (percentiles that are as far out as
few blocks demand). https://doi.org/10.1080/00031305.2015.1089789
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtrit

from napari_synapse_cl.features.analysis import Fold, label_names, probe_folds, probe_predictions
from napari_synapse_cl.features.layer_report import Comparison

N_RESAMPLES = 2000
MOST_BLOCKS = 1000
"""More blocks would gain nothing, and all resamples of them together take memory."""
CONFIDENCE = 0.95


def blocks_of(positions: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return the block of space that each position lies in: ``(N,)`` numbers from 0 without gaps.

    Parameters
    ----------
    positions
        ``(N, 3)``, z, y, x in voxels.
    size
        Of a block along z, y, x in voxels. Where that makes too many blocks it is doubled.
    """
    lengths = np.array(size)
    while True:
        _, blocks = np.unique(positions // lengths, axis=0, return_inverse=True)
        if blocks.max() < MOST_BLOCKS:
            return blocks.ravel()
        lengths *= 2


def block_weights(n_blocks: int, seed: int) -> np.ndarray:
    """Return how often blocks are in resamples, ``(1 + R, n_blocks)``; in the first once each."""
    weights = np.ones((1 + N_RESAMPLES, n_blocks))
    generator = np.random.default_rng(seed)
    weights[1:] = generator.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), N_RESAMPLES)
    return weights


def balanced_accuracies(
    right: np.ndarray, labels: np.ndarray, blocks: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return ``(1 + R,)`` balanced accuracies: means over classes of what is right.

    A class of which a resample has nothing does not count there.

    Parameters
    ----------
    right
        ``(N,)``, share of the crops of each synapse whose label is told right.
    labels
        ``(N,)`` strings.
    blocks, weights
        From :func:`blocks_of` and :func:`block_weights`.
    """
    classes = [np.where(labels == label, 1.0, 0.0) for label in np.unique(labels)]
    recalls = []
    for of_class in classes:
        found = _by_block(of_class * right, blocks, weights)
        there = _by_block(of_class, blocks, weights)
        recalls.append(np.divide(found, there, out=np.full(len(there), np.nan), where=there > 0))
    return np.asarray(np.nanmean(recalls, axis=0))


def interval(values: np.ndarray, n_blocks: int) -> tuple[float, float]:
    """Return between what a statistic would lie over many blocks, with 95 % confidence.

    Parameters
    ----------
    values
        ``(1 + R,)``, what it is and what it is on each resample.
    n_blocks
        How many blocks were drawn from. Of few the plain percentiles lie too close together.
    """
    n = max(2, n_blocks)
    tail = float(ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - CONFIDENCE) / 2)))
    low, high = np.quantile(values[1:], (tail, 1 - tail))
    return float(low), float(high)


def _by_block(values: np.ndarray, blocks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    sums = np.bincount(blocks, values, minlength=weights.shape[1])
    return np.asarray(weights @ sums)


Answers = np.ndarray
"""``(2, N)``: of which share of each synapse's crops kNN and the linear probe tell the label."""


@dataclass(frozen=True)
class Probes:
    """Probes of N synapses, by which sets of features are compared."""

    names: np.ndarray
    """``(N,)``, the labels as strings, empty where there is none."""
    folds: tuple[Fold, ...]
    """Parts of the volume, each predicted from the others; none where that cannot be."""
    problem: str | None
    """Why there are none although there are labels."""
    positions: np.ndarray
    """``(N, 3)``, z, y, x in voxels."""
    extent: tuple[int, ...]
    """Size along z, y, x of all that is read around a synapse, in voxels."""
    seed: int = 0
    """Of the resamples."""

    @classmethod
    def of(
        cls,
        labels: ArrayLike | None,
        positions: np.ndarray,
        extent: Sequence[int],
        seed: int = 0,
    ) -> Self:
        """Make the probes that labels allow.

        Parameters
        ----------
        labels
            ``(N,)``, as in :func:`~napari_synapse_cl.features.analysis.label_names`, or None.
        positions, extent, seed
            As the attributes. What overlaps with what is told is not learnt from.
        """
        names = label_names(np.full(len(positions), "") if labels is None else labels)
        folds: Sequence[Fold] = ()
        problem = None
        if labels is not None:
            try:
                folds = probe_folds(labels, positions, extent)
            except ValueError as error:
                problem = str(error)
        return cls(names, tuple(folds), problem, positions, tuple(extent), seed)

    def ask(self, parts: Sequence[np.ndarray]) -> Answers:
        """Return what sets of features tell together.

        Parameters
        ----------
        parts
            ``(N, J, C)`` each, of J crops of each synapse.
        """
        told = (
            probe_predictions(parts, self.names, self.folds, probe) for probe in ("knn", "linear")
        )
        return np.array([(labels == self.names[:, None]).mean(axis=1) for labels in told])

    def accuracies(self, answers: Answers) -> tuple[float, float]:
        """Return the balanced accuracies of kNN and of the linear probe."""
        knn, linear = (float(values[0]) for values in self._resampled(answers))
        return knn, linear

    def accuracy(self, answers: Answers) -> float:
        """Return the mean of both."""
        return float(np.mean(self.accuracies(answers)))

    def compare(self, answers: Answers, others: Answers, name: str, baseline: str) -> Comparison:
        """Return how much more answers tell than others, with its interval.

        Parameters
        ----------
        answers, others
            From :meth:`ask` or :meth:`best_elsewhere`.
        """
        one, other = (self._resampled(some).mean(axis=0) for some in (answers, others))
        low, high = interval(one - other, self._n_blocks)
        return Comparison(name, baseline, float(one[0]), float(other[0]), low, high)

    def best_elsewhere(self, several: Sequence[Answers]) -> Answers:
        """Return the answers of several sets, in each part of the volume of the best in the others.

        So nothing is chosen by the very synapses that it is judged by.
        """
        found = np.zeros_like(several[0])
        for _, held_out in self.folds:
            others = np.setdiff1d(self._known, held_out)
            values = [self._mean_of(answers, others) for answers in several]
            found[:, held_out] = several[int(np.argmax(values))][:, held_out]
        return found

    @cached_property
    def _known(self) -> np.ndarray:
        return np.flatnonzero(self.names != "")

    @cached_property
    def _blocks(self) -> np.ndarray:
        return blocks_of(self.positions[self._known], self.extent)

    @property
    def _n_blocks(self) -> int:
        return int(self._blocks.max()) + 1

    @cached_property
    def _weights(self) -> np.ndarray:
        return block_weights(self._n_blocks, self.seed)

    def _resampled(self, answers: Answers) -> np.ndarray:
        """Return ``(2, 1 + R)`` balanced accuracies."""
        names = self.names[self._known]
        return np.array(
            [
                balanced_accuracies(right[self._known], names, self._blocks, self._weights)
                for right in answers
            ]
        )

    def _mean_of(self, answers: Answers, synapses: np.ndarray) -> float:
        """Return the balanced accuracy on some synapses, the mean of both probes."""
        right, names = answers[:, synapses].mean(axis=0), self.names[synapses]
        return float(np.mean([right[names == name].mean() for name in np.unique(names)]))
