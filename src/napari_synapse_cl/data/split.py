"""Which synapses train and which validate, with crops that share no voxel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.resampling import Resampling
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.parts import STRUCK_OUT, Positions
from napari_synapse_cl.data.tables.columns import truths_said
from napari_synapse_cl.errors import InputError

TOO_FEW = (
    "there is only one synapse inside the volume that can be trained on; contrastive training "
    "compares synapses and needs at least two"
)
MINIMUM_VALIDATION = 2
"""One synapse alone has nothing to contrast with."""
MINIMUM_TRAINING = 4
"""None are held out where fewer than these would be left to train on."""
MINIMUM_KEPT = 0.5
"""Share of those that could train that is never given up for a validation apart from them."""


def overlapping(positions: np.ndarray, others: np.ndarray, extent: Sequence[int]) -> np.ndarray:
    """Return ``(N,)`` bool, which crops share a voxel with any of the others.

    Parameters
    ----------
    positions
        ``(N, 3)``, z, y, x in whole voxels.
    others
        ``(M, 3)``, at least one.
    extent
        Size of every crop along z, y, x in voxels.
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


def _none() -> np.ndarray:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Split:
    """Which synapses train and which validate, as ascending indices into the crops."""

    training: np.ndarray
    validation: np.ndarray
    """Those that do."""
    left_out: np.ndarray = field(default_factory=_none)
    """Those that do neither, since their crops share voxels with crops of the validation."""
    sharing: np.ndarray = field(default_factory=_none)
    """Those that train although theirs do so too, since too few would be left without them."""
    struck_out: np.ndarray = field(default_factory=_none)
    """Those that do neither, since someone has struck them out as wrong."""

    @property
    def overlapping(self) -> int:
        """How many synapses train whose crops share voxels with crops of the validation."""
        return len(self.sharing)

    def without(self, unusable: np.ndarray) -> Self:
        """Return the split without some synapses, and without a validation of only one.

        Where nothing validates any more, those that were left out for it train.
        """
        training, validation, left_out, sharing = (
            np.setdiff1d(some, unusable)
            for some in (self.training, self.validation, self.left_out, self.sharing)
        )
        if len(validation) < MINIMUM_VALIDATION:
            training, validation, left_out, sharing = (
                np.union1d(training, left_out),
                *(_none() for _ in range(3)),
            )
        return type(self)(training, validation, left_out, sharing, self.struck_out)


def split_of(dataset: Dataset, config: Config) -> Split:
    """Divide the synapses of a dataset; its crops count as large as augmentations need them.

    Those that the table says are struck out take no part.

    Parameters
    ----------
    dataset
        The synapses, and the volumes or crops they are in.
    config
        The share to hold out, the size of a view and how far it is rotated.

    Raises
    ------
    InputError
        If all are struck out, or the table says so in words that cannot be understood.
    """
    shape = dataset.context(config)
    sizes = dataset.image_sizes
    extents = [Resampling(shape, size, dataset.voxel_size).source_shape for size in sizes]
    most = config.epoch_steps * config.batch_size or None
    struck = _are_struck_out(dataset)
    if not struck.any():
        return split_by_space(dataset.positions, config.validation_fraction, sizes, extents, most)
    kept, positions = np.flatnonzero(~struck), dataset.positions
    if not len(kept):
        raise InputError(
            f"all {len(struck):,} synapses inside the volume are struck out, in the column "
            f"{STRUCK_OUT}: none is left to train on"
        )
    volumes = None if positions.volumes is None else positions.volumes[kept]
    some = positions._replace(voxels=positions.voxels[kept], volumes=volumes)
    found = split_by_space(some, config.validation_fraction, sizes, extents, most)
    return Split(
        training=kept[found.training],
        validation=kept[found.validation],
        left_out=kept[found.left_out],
        sharing=kept[found.sharing],
        struck_out=np.flatnonzero(struck),
    )


def _are_struck_out(dataset: Dataset) -> np.ndarray:
    """Return ``(N,)`` bool, which positions are struck out in the table."""
    rows, table = dataset.positions.rows, dataset.table
    if STRUCK_OUT not in table.columns:
        return np.zeros(len(rows), bool)
    said = truths_said(table[STRUCK_OUT])
    if said is None:
        raise InputError(
            f"the column {STRUCK_OUT}, by which synapses are left out of a training, holds "
            "something else than True, False and blanks: correct it, or call it otherwise"
        )
    return said[rows]


def split_by_space(
    positions: Positions,
    fraction: float,
    voxel_sizes: Sequence[tuple[float, float, float]],
    extents: Sequence[tuple[int, int, int]],
    most: int | None = None,
) -> Split:
    """Hold out the synapses at one end of each volume, apart from those that train.

    Those whose crops share a voxel with a crop of the validation neither train nor validate. Of
    the six ends of a volume the one is held out for which the fewest are lost like that; of equal
    ones the far end of the longest axis, then its near end, then those of the other axes. The
    border lies where the share that was asked for begins: a gap beside it that would cost fewer is
    not looked for, so that how many validate does not depend on where synapses lie.

    Where that would leave fewer than 4 to train on, or fewer than half of those that could, none
    are left out, and the split says whose crops overlap.

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
    extents
        How far a crop reaches in each volume along z, y, x, in voxels of it.
    most
        How many are held out at most; None for no bound.
    """
    taking_part = np.flatnonzero(positions.is_first)
    wanted = round(fraction * len(taking_part))
    wanted = wanted if most is None else min(wanted, most)
    n_validation = max(MINIMUM_VALIDATION, wanted) if fraction else 0
    if len(taking_part) - n_validation < MINIMUM_TRAINING:
        n_validation = 0
    volumes = np.zeros(len(positions.voxels), dtype=np.int64)
    if positions.volumes is not None:
        volumes = positions.volumes
    members = [taking_part[volumes[taking_part] == n] for n in range(len(voxel_sizes))]
    shares = _shares([len(some) for some in members], n_validation)
    validation, near = [_none()], [_none()]
    for some, size, extent, share in zip(members, voxel_sizes, extents, shares, strict=True):
        if share:
            ends = _ends(positions.voxels[some], size, extent, share)
            held_out, lost = min(ends, key=lambda end: len(end[1]))
            validation.append(some[held_out])
            near.append(some[lost])
    held, sharing = np.sort(np.concatenate(validation)), np.sort(np.concatenate(near))
    training = np.setdiff1d(taking_part, held, assume_unique=True)
    n_left = len(training) - len(sharing)
    if n_left < max(MINIMUM_TRAINING, MINIMUM_KEPT * len(training)):
        return Split(training, held, sharing=sharing)
    return Split(np.setdiff1d(training, sharing, assume_unique=True), held, left_out=sharing)


def _shares(counts: Sequence[int], n: int) -> list[int]:
    """Return how many of `n` each volume holds out, in proportion to its number of synapses."""
    numbers = np.repeat(np.arange(len(counts)), counts)
    ranks = np.concatenate([np.arange(1, count + 1) / count for count in counts])
    order = np.argsort(ranks, kind="stable")
    return np.bincount(numbers[order[len(order) - n :]], minlength=len(counts)).tolist()


def _ends(
    voxels: np.ndarray,
    voxel_size: tuple[float, float, float],
    extent: tuple[int, int, int],
    n: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each end of a volume the `n` synapses there, and those whose crops overlap them."""
    lengths = np.ptp(voxels, axis=0) * np.array(voxel_size)
    for axis in np.argsort(-lengths, kind="stable"):
        for direction in (1, -1):
            order = np.argsort(direction * voxels[:, axis], kind="stable")
            others, held_out = order[:-n], order[-n:]
            near = overlapping(voxels[others], voxels[held_out], extent)
            yield held_out, others[near]
