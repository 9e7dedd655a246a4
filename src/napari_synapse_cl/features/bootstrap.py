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

import numpy as np
from scipy.special import ndtr, stdtrit

N_RESAMPLES = 2000
MOST_BLOCKS = 1000
"""More blocks would gain nothing, and all resamples of them together take memory."""
CONFIDENCE = 0.95


def blocks_of(positions: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return the block of space that each position lies in.

    Parameters
    ----------
    positions
        ``(N, 3)``, z, y, x in voxels.
    size
        Of a block along z, y, x in voxels. Where that makes too many blocks it is doubled.

    Returns
    -------
    numpy.ndarray
        ``(N,)`` int, numbers from 0 without gaps.
    """
    lengths = np.array(size)
    while True:
        _, blocks = np.unique(positions // lengths, axis=0, return_inverse=True)
        if blocks.max() < MOST_BLOCKS:
            return blocks.ravel()
        lengths *= 2


def block_weights(n_blocks: int, seed: int) -> np.ndarray:
    """Return how often each block is in each resample.

    Returns
    -------
    numpy.ndarray
        ``(1 + R, n_blocks)``; the first row is once each.
    """
    weights = np.ones((1 + N_RESAMPLES, n_blocks))
    generator = np.random.default_rng(seed)
    weights[1:] = generator.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), N_RESAMPLES)
    return weights


def balanced_accuracies(
    right: np.ndarray, labels: np.ndarray, blocks: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the balanced accuracy of each resample: the mean over classes of what is right.

    A class of which a resample has nothing does not count there.

    Parameters
    ----------
    right
        ``(N,)``, share of the crops of each synapse whose label is told right.
    labels
        ``(N,)`` strings.
    blocks, weights
        From :func:`blocks_of` and :func:`block_weights`.

    Returns
    -------
    numpy.ndarray
        ``(1 + R,)``.
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
