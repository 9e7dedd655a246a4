"""Intervals by resampling blocks of space: places in one block are not independent of each other.

Every statistic is a function of the weights of blocks, computed for all resamples at once, and all
sets of features are measured on the same resamples: so are their differences.

Reference
---------
Efron, Tibshirani: An Introduction to the Bootstrap, 1993.
"""

import numpy as np

N_RESAMPLES = 1000


def block_weights(blocks: np.ndarray, volumes: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return how often each block is in each resample; blocks are drawn within their volume.

    Parameters
    ----------
    blocks
        ``(N,)`` number of the block of each position, from 0.
    volumes
        ``(N,)`` name of the volume of each position.

    Returns
    -------
    numpy.ndarray
        ``(1 + R, B)``, the first row once each.
    """
    generator = np.random.default_rng(seed)
    weights = np.ones((1 + N_RESAMPLES, blocks.max() + 1))
    for volume in dict.fromkeys(volumes.tolist()):
        own = np.unique(blocks[volumes == volume])
        weights[1:, own] = generator.multinomial(len(own), [1 / len(own)] * len(own), N_RESAMPLES)
    return weights


def balanced_accuracy(
    true: np.ndarray, predicted: np.ndarray, blocks: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return ``(1 + R,)`` means of the shares of each class that are predicted right.

    A class of which a resample has nothing does not count there.
    """
    recalls = []
    for label in np.unique(true):
        of_class = true == label
        right = _by_block((of_class & (predicted == label)).astype(float), blocks, weights)
        there = _by_block(of_class.astype(float), blocks, weights)
        recalls.append(np.divide(right, there, out=np.full(len(there), np.nan), where=there > 0))
    return np.nanmean(recalls, axis=0)


def r_squared(
    true: np.ndarray, predicted: np.ndarray, blocks: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return ``(1 + R,)`` shares of the variance that predictions explain."""
    n = _by_block(np.ones(len(true)), blocks, weights)
    # Around the mean of all, so that nothing is lost in the difference.
    centred = true - true.mean()
    total = _by_block(centred**2, blocks, weights) - _by_block(centred, blocks, weights) ** 2 / n
    return 1 - _by_block((true - predicted) ** 2, blocks, weights) / total


def auc(
    same: np.ndarray, scores: np.ndarray, blocks: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return ``(1 + R,)`` probabilities that a pair that is one scores above a pair that is not."""
    order = np.argsort(scores, kind="stable")
    of_pairs = weights[:, blocks[order]]
    positive, negative = of_pairs * same[order], of_pairs * ~same[order]
    # Ties are of no weight between scores in floating point.
    below = np.cumsum(negative, axis=1) - negative
    return (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 2.5th and the 97.5th percentile of the resamples of a ``(1 + R,)`` statistic."""
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return float(low), float(high)


def _by_block(values: np.ndarray, blocks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    sums = np.bincount(blocks, values, minlength=weights.shape[1])
    return np.asarray(weights @ sums)
