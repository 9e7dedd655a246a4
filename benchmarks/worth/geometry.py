"""What a dense segmentation tells of places in it: nothing here looks at grey values."""

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt, gaussian_filter

TARGETS = ("distance", "calibre", "cells", "share")
"""Logarithms (base 2) of the distance to the nearest border of cells, of the largest such distance
that the cell has in the crop, and of the number of cells there; the cell's share of the crop."""
DIRECTIONS = ("normal_z", "normal_y", "normal_x")
"""Absolute cosines of the direction to the nearest border, where that lies in the crop."""
LEAST_VOXELS = 64
"""Of a cell to be counted."""
SMOOTHING = 2.0
"""Standard deviation in voxels under which that direction is measured."""


def targets(bodies: np.ndarray, places: np.ndarray, crop: int) -> pd.DataFrame:
    """Return what is true at some places.

    Parameters
    ----------
    bodies
        ``(D, H, W)`` integers, a number a cell.
    places
        ``(N, 3)``, z, y, x in voxels, crops around which lie inside.
    crop
        Side of the crops in voxels.

    Returns
    -------
    pandas.DataFrame
        One row a place: `TARGETS`, `DIRECTIONS` and the number of the ``cell``.
    """
    depth = distance_transform_edt(~borders(bodies))
    assert isinstance(depth, np.ndarray)
    # Away from borders it rises, whichever of two cells one is in.
    slopes = np.gradient(gaussian_filter(depth, SMOOTHING))
    half, rows = crop // 2, []
    for z, y, x in places.tolist():
        around = tuple(slice(i - half, i + half) for i in (z, y, x))
        cell = bodies[z, y, x]
        own = bodies[around] == cell
        _, counts = np.unique(bodies[around], return_counts=True)
        normal = np.abs([slope[z, y, x] for slope in slopes])
        length = np.linalg.norm(normal)
        is_near = depth[z, y, x] <= half and length > 0
        rows.append(
            (
                np.log2(1 + depth[z, y, x]),
                np.log2(1 + depth[around][own].max()),
                np.log2((counts >= LEAST_VOXELS).sum()),
                own.mean(),
                *(normal / length if is_near else np.full(3, np.nan)),
                int(cell),
            )
        )
    return pd.DataFrame(rows, columns=[*TARGETS, *DIRECTIONS, "cell"])


def borders(bodies: np.ndarray) -> np.ndarray:
    """Return the voxels beside which, along an axis, another cell lies."""
    found = np.zeros(bodies.shape, bool)
    for axis in range(3):
        low, high = (
            tuple(part if i == axis else slice(None) for i in range(3))
            for part in (slice(None, -1), slice(1, None))
        )
        differs = bodies[low] != bodies[high]
        found[low] |= differs
        found[high] |= differs
    return found
