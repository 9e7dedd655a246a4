"""Tables of synapse positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

AXES = ("z", "y", "x")
FAR_APART = 10_000
"""In voxels, more than any crop is large."""


class Positions(NamedTuple):
    """The synapses of a table that lie inside its volumes."""

    voxels: np.ndarray
    """``(N, 3)`` int64, z, y, x of the voxel each lies in, see `nearest_voxel`."""
    rows: np.ndarray
    """``(N,)`` int64, row of each in the table."""
    n_outside: int
    """How many of the table's rows lie outside the volumes."""
    volumes: np.ndarray | None = None
    """``(N,)`` int64, the number of the volume each lies in; None where there is but one."""
    partners: Mapping[str, np.ndarray] = {}
    """``(N, 3)`` voxels of what each synapse connects, by name; NaN where that is not known."""

    @property
    def apart(self) -> np.ndarray:
        """``(N, 3)`` int64, voxels that are near each other in the same volume alone.

        Those of each volume are moved along z, behind those of the volumes before.
        """
        if self.volumes is None or not len(self.voxels):
            return self.voxels
        moved = self.voxels.copy()
        moved[:, 0] += self.volumes * (int(np.ptp(self.voxels)) + FAR_APART)
        return moved

    @property
    def is_first(self) -> np.ndarray:
        """``(N,)`` bool, whether no synapse before lies in the same voxel."""
        voxels = self.apart
        # Stable, so that of equal ones the first comes first; np.unique is slow and blocks threads.
        order = np.lexsort(voxels.T[::-1])
        placed = voxels[order]
        is_new = np.ones(len(voxels), dtype=bool)
        is_new[1:] = (placed[1:] != placed[:-1]).any(axis=1)
        first = np.zeros(len(voxels), dtype=bool)
        first[order[is_new]] = True
        return first
