"""Read of crops all that layers of a network are compared by."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from napari_synapse_cl.augmentations import composition
from napari_synapse_cl.augmentations.resampling import moved_crops
from napari_synapse_cl.augmentations.spatial import draw_jitters
from napari_synapse_cl.features.extraction import Descriptors, Reader, Several
from napari_synapse_cl.features.readout import Readout
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.pipeline.extraction_preparation import ExtractionJob

EPOCH = 1
"""Views are those that training with these settings draws in this epoch."""
N_JITTERS = 2
"""Crops of each synapse that probes learn from and are asked of, where centres are moved."""
N_UNTRAINED = 2
"""Networks with random weights that the network is compared with."""
FIRST_UNTRAINED = 10**9
"""Added to the seed: a training that began at such a network would be compared with its start."""

Features = dict[Any, np.ndarray]
"""By the layer, by `HISTOGRAM` or by `HAND`, one row a synapse."""
ReadCrops = Callable[[np.ndarray, list[float] | None, Tensor], list[Features]]
"""Takes the rows of some synapses in their table, how far the grey values around each spread, and
their crops with context."""


def what_reads(job: ExtractionJob, *, probed: bool) -> ReadCrops:
    """Return what reads all layers for two views of each synapse.

    Parameters
    ----------
    probed
        Whether to read what probes are asked of too: moved crops, by the network and by hand, and
        by each untrained network.
    """
    readout = job.readout
    readers = [_reads_views(job, readout)]
    if probed:
        readers.append(_reads_moved_crops(job, readout))

    def read(rows: np.ndarray, spreads: list[float] | None, crops: Tensor) -> list[Features]:
        return [features for one in readers for features in one(rows, spreads, crops)]

    return read


def _reads_views(job: ExtractionJob, readout: Readout) -> ReadCrops:
    """Return what reads two augmented views of each synapse."""
    # scikit-learn takes longer to import than a job should wait to begin.
    from napari_synapse_cl.features.analysis import histogram_features
    from napari_synapse_cl.features.scores import HISTOGRAM

    config, voxel_size = job.config, job.dataset.voxel_size

    def read(rows: np.ndarray, spreads: list[float] | None, crops: Tensor) -> list[Features]:
        drawn = composition.draw_pair(config, config.seed, EPOCH, rows.tolist(), spreads)
        views = [composition.apply(crops, one, config.crop_size, voxel_size) for one in drawn]
        return [
            {**readout.read(view), HISTOGRAM: histogram_features(view.numpy())} for view in views
        ]

    return read


def _reads_moved_crops(job: ExtractionJob, readout: Readout) -> ReadCrops:
    """Return what reads crops whose centres are moved: with the network, by hand, and untrained."""
    config, dataset, architecture = job.config, job.dataset, job.architecture
    assert architecture is not None
    reach, n_crops = dataset.centre_jitter(config), n_moved(job)
    # In bfloat16 these would be worse than they are, and the network seem better.
    untrained = [
        job.readout_of(Vgg3D.untrained(architecture, config.seed + number), "float32")
        for number in range(FIRST_UNTRAINED, FIRST_UNTRAINED + N_UNTRAINED)
    ]
    by_hand = Descriptors(config.crop_size, dataset.known_voxel_size)
    readers: list[Reader] = [Several([readout, by_hand]), *untrained]

    def read(rows: np.ndarray, _: list[float] | None, crops: Tensor) -> list[Features]:
        offsets = draw_jitters(reach, config.seed, rows.tolist(), n_crops, dataset.voxel_size)
        moved = [moved_crops(crops, offsets[:, i], config.crop_size) for i in range(n_crops)]
        return [_side_by_side([reader.read(some) for some in moved]) for reader in readers]

    return read


def n_moved(job: ExtractionJob) -> int:
    """Return how many crops of each synapse probes learn from."""
    return N_JITTERS if job.dataset.centre_jitter(job.config) else 1


def _side_by_side(several: Sequence[Mapping[Any, np.ndarray]]) -> Features:
    """Return ``(B, J, C)`` features of J mappings to ``(B, C)``."""
    return {source: np.stack([one[source] for one in several], axis=1) for source in several[0]}
