"""Which crops share voxels with others."""

from collections.abc import Sequence

import numpy as np


def overlapping(positions: np.ndarray, others: np.ndarray, extent: Sequence[int]) -> np.ndarray:
    """Return which crops share a voxel with any of the others.

    Parameters
    ----------
    positions
        ``(N, 3)``, z, y, x in whole voxels.
    others
        ``(M, 3)``, at least one.
    extent
        Size of every crop along z, y, x in voxels.

    Returns
    -------
    numpy.ndarray
        ``(N,)`` bool.
    """
    found = np.zeros(len(positions), dtype=bool)
    low, high = others.min(axis=0) - extent, others.max(axis=0) + extent
    near = np.flatnonzero(((positions > low) & (positions < high)).all(axis=1))
    if not len(near):
        return found
    # It takes longer to import than the window should wait to open.
    from scipy.spatial import cKDTree

    # In units of their size, crops that share a voxel are at most 1 - 1 / size apart along every
    # axis, and those that only touch are 1 apart along one. Half-way between, rounding confuses
    # neither, and within half of that no nearer one is looked for: many may be equally near.
    size = np.asarray(extent, dtype=np.float64)
    least = 1 / size.max()
    distance, _ = cKDTree(others / size).query(
        positions[near] / size, eps=least / 2, p=np.inf, distance_upper_bound=1 - least / 4
    )
    found[near] = np.isfinite(distance)
    return found
