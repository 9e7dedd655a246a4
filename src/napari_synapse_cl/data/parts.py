"""What a dataset is made of: volumes with what belongs to them, and positions in these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np

from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.volumes import AlignedLabels, Volume
from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.system.words import VoxelSize, triple


@dataclass(frozen=True)
class Part:
    """One volume of a dataset."""

    volume: Volume
    """The image."""
    voxel_size: VoxelSize | None = None
    """Its voxel size along z, y, x in nm, or None where it is not known."""
    labels: AlignedLabels | None = None
    """Label volume of structures."""
    segmentation: AlignedLabels | None = None
    """Label volume of cells."""
    roles: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Values in `labels` by the name of the structure."""
    name: str = ""
    """How to call it in messages and in the table."""

    @property
    def messages(self) -> list[tuple[str, Level]]:
        """What to tell of how its volumes were read."""
        labels = [labels.volume for labels in (self.labels, self.segmentation) if labels]
        return [message for volume in (self.volume, *labels) for message in volume.messages]

    def reach(
        self, shape: tuple[int, int, int], voxel_size: VoxelSize | None
    ) -> tuple[int, int, int]:
        """Return how far a crop reaches along z, y, x, in voxels of the image.

        Parameters
        ----------
        shape
            Size of the crop in its own voxels.
        voxel_size
            Size of these in nm, or None where they are those of the image.
        """
        if self.voxel_size is None or voxel_size is None:
            return shape
        ratio = np.array(voxel_size) / np.array(self.voxel_size)
        return triple(np.ceil(np.array(shape) * ratio - 1e-3).astype(int).tolist())

    def holds_crops(
        self, voxels: np.ndarray, shape: tuple[int, int, int], voxel_size: VoxelSize | None
    ) -> np.ndarray:
        """Return ``(M,)`` bool, whether a crop around each position lies within the image.

        Parameters
        ----------
        voxels
            ``(M, 3)`` positions in voxels of the image.
        shape, voxel_size
            Size of a crop, as :meth:`reach` takes it.
        """
        reach = np.array(self.reach(shape, voxel_size))
        start = nearest_voxel(voxels) - reach // 2
        return ((start >= 0) & (start + reach <= np.array(self.volume.shape))).all(axis=1)


AXES = ("z", "y", "x")
STRUCK_OUT = "struck_out"
"""The column of a table that says which of its positions are known to be wrong."""
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
        keys = _keys(self.apart)
        # Stable, so that of equal ones the first comes first; np.unique is slow and blocks threads.
        order = np.lexsort(keys)
        is_new = np.ones(len(order), dtype=bool)
        is_new[1:] = False
        for key in keys:
            placed = key[order]
            is_new[1:] |= placed[1:] != placed[:-1]
        first = np.zeros(len(order), dtype=bool)
        first[order[is_new]] = True
        return first


def _keys(voxels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return by what ``(N, 3)`` int64 voxels are sorted, the last first: one number if that holds.

    It is sorted in half the time and a third of the memory.
    """
    z, y, x = voxels.T
    if not len(voxels):
        return (x, y, z)
    low, high = voxels.min(axis=0).tolist(), voxels.max(axis=0).tolist()
    size = [b - a + 1 for a, b in zip(low, high, strict=True)]
    if prod(size) >= 2**63:
        return (x, y, z)
    return (((z - low[0]) * size[1] + (y - low[1])) * size[2] + (x - low[2]),)
