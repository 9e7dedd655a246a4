"""Which synapses train and which validate."""

from dataclasses import dataclass

import numpy as np

from napari_synapse_cl.data.synapses import Positions

TOO_FEW = (
    "there is only one synapse inside the volume; contrastive training compares synapses and needs "
    "at least two"
)
MINIMUM_TRAINING = 4
"""None are held out where fewer than these would be left to train on."""


@dataclass(frozen=True)
class Split:
    """Which synapses train and which validate, as indices into the crops."""

    training: np.ndarray
    validation: np.ndarray


def split_by_space(
    positions: Positions, fraction: float, voxel_size: tuple[float, float, float]
) -> Split:
    """Hold out the synapses at one end of the volume, along the axis of their largest extent.

    Parameters
    ----------
    positions
        Positions of N synapses.
    fraction
        Share to hold out. At least 2 are, since one alone has nothing to contrast with; none are
        where that would leave fewer than 4 to train on, or where the share is 0.
    voxel_size
        Voxel size along z, y, x, in any unit.
    """
    lengths = positions.voxels * np.array(voxel_size)
    axis = int(np.argmax(np.ptp(lengths, axis=0)))
    order = np.argsort(lengths[:, axis], kind="stable")
    n_validation = max(2, round(fraction * len(order))) if fraction > 0 else 0
    if len(order) - n_validation < MINIMUM_TRAINING:
        n_validation = 0
    n_training = len(order) - n_validation
    return Split(np.sort(order[:n_training]), np.sort(order[n_training:]))
