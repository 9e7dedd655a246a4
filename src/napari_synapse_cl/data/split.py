"""Which synapses train and which validate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from napari_synapse_cl.data.synapses import Positions

TOO_FEW = (
    "there is only one synapse inside the volume; contrastive training compares synapses and needs "
    "at least two"
)
MINIMUM_VALIDATION = 2
"""One synapse alone has nothing to contrast with."""
MINIMUM_TRAINING = 4
"""None are held out where fewer than these would be left to train on."""


@dataclass(frozen=True)
class Split:
    """Which synapses train and which validate, as indices into the crops."""

    training: np.ndarray
    validation: np.ndarray

    def without(self, left_out: np.ndarray) -> Self:
        """Return the split without some synapses, and without a validation of only one."""
        validation = np.setdiff1d(self.validation, left_out)
        if len(validation) < MINIMUM_VALIDATION:
            validation = validation[:0]
        return type(self)(np.setdiff1d(self.training, left_out), validation)


def split_by_space(
    positions: Positions, fraction: float, voxel_sizes: Sequence[tuple[float, float, float]]
) -> Split:
    """Hold out the synapses at one end of each volume, along the axis of their largest extent.

    Of synapses in the same voxel only the first takes part: a pair of it with another would be
    pushed apart for no reason.

    Parameters
    ----------
    positions
        Positions of N synapses.
    fraction
        Share to hold out. At least 2 are, since one alone has nothing to contrast with; none are
        where that would leave fewer than 4 to train on, or where the share is 0.
    voxel_sizes
        Voxel size of each volume along z, y, x, in any unit.
    """
    taking_part = np.flatnonzero(positions.is_first)
    ranks = _ranks(positions, voxel_sizes)[taking_part]
    order = taking_part[np.argsort(ranks, kind="stable")]
    n_validation = max(MINIMUM_VALIDATION, round(fraction * len(order))) if fraction > 0 else 0
    if len(order) - n_validation < MINIMUM_TRAINING:
        n_validation = 0
    n_training = len(order) - n_validation
    return Split(np.sort(order[:n_training]), np.sort(order[n_training:]))


def _ranks(positions: Positions, voxel_sizes: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Return how far toward the end of its volume each synapse is, in (0, 1]."""
    n = len(positions.voxels)
    volumes = np.zeros(n, dtype=int) if positions.volumes is None else positions.volumes
    ranks = np.empty(n)
    for number, voxel_size in enumerate(voxel_sizes):
        members = np.flatnonzero(volumes == number)
        if not len(members):
            continue
        lengths = positions.voxels[members] * np.array(voxel_size)
        axis = int(np.argmax(np.ptp(lengths, axis=0)))
        order = np.argsort(lengths[:, axis], kind="stable")
        ranks[members[order]] = (np.arange(len(members)) + 1) / len(members)
    return ranks
