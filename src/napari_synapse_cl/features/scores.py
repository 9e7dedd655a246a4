"""Measure how well the features of each layer describe synapses, beside baselines."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features.embeddings import effective_rank, retrieval
from napari_synapse_cl.features.layer_report import BASELINE_NAME, LayerScore
from napari_synapse_cl.features.probed_sets import Crops, Features, probe_sets
from napari_synapse_cl.features.probes import Probes
from napari_synapse_cl.features.verdict import Verdict
from napari_synapse_cl.runs.events import Control, Progress

HISTOGRAM = -1
"""What the intensity histogram of views is known by where layers are by their indices."""
ROUNDING = 1e-6
"""Spread, as a share of the largest value, that a channel has from rounding in float32 alone."""


@dataclass(frozen=True)
class Readings:
    """What was read of N synapses, float32.

    Attributes
    ----------
    views
        Of two views of each, ``(N, C)`` by the layer and under `HISTOGRAM`.
    crops
        Of several crops of each; None where there are no probes.
    """

    views: tuple[Features, Features]
    crops: Crops | None = None


@dataclass(frozen=True)
class Scores:
    """What was measured.

    Attributes
    ----------
    scores
        Of the layers in order, of what was joined, and of the baselines.
    verdict
        What follows from it; None without probes.
    """

    scores: tuple[LayerScore, ...]
    verdict: Verdict | None = None


def score_layers(
    read: Readings, names: Mapping[int, str], probes: Probes, control: Control
) -> Generator[Progress, None, Scores | None]:
    """Measure all that was read, and tell how far that is.

    Parameters
    ----------
    read
        What was read.
    names
        Of each layer, in their order.
    probes
        What is asked of the features, where there are labels.
    control
        Ends it.

    Returns
    -------
    Scores or None
        None if it was ended.

    Raises
    ------
    JobError
        If a feature is not finite.
    """
    _check_finite(read, names)
    layers = []
    for n_done, (layer, name) in enumerate(names.items()):
        yield Progress("scoring layers", n_done, len(names), "layer")
        if control.stopping:
            return None
        first, second = (view[layer] for view in read.views)
        recall, rank = score_views(first, second)
        layers.append(LayerScore(layer, name, first.shape[1], recall, rank))
    yield Progress("scoring layers", len(names), len(names), "layer")
    first, second = (view[HISTOGRAM] for view in read.views)
    recall, rank = score_views(first, second)
    histogram = LayerScore(None, BASELINE_NAME, first.shape[1], recall, rank, kind="baseline")
    if read.crops is None or not probes.folds:
        return Scores((*layers, histogram))
    probed = yield from probe_sets(read.crops, layers, histogram, probes, control)
    return None if probed is None else Scores(*probed)


def score_views(views1: np.ndarray, views2: np.ndarray) -> tuple[float, float]:
    """Return the recall and the effective rank of the features of two views of N synapses.

    They are those of standardised features: pooled features of a network have a large direction in
    common, before which their differences would vanish.

    Parameters
    ----------
    views1, views2
        ``(N, C)`` float32.
    """
    n = len(views1)
    views = torch.from_numpy(_standardised(np.concatenate([views1, views2])))
    return retrieval(views[:n], views[n:]), effective_rank(views) if views.any() else 0.0


def _check_finite(read: Readings, names: Mapping[int, str]) -> None:
    """Refuse features that no probe could learn from."""
    of_crops = [read.crops.layers] if read.crops is not None else []
    for features in (*read.views, *of_crops):
        for source, values in features.items():
            if not np.isfinite(values).all():
                name = names.get(source, BASELINE_NAME)
                raise JobError(
                    f"features of {name} hold values that are not finite (NaN or infinite): "
                    "weights of the checkpoint or intensities of the volume are not finite, or too "
                    "large"
                )


def _standardised(features: np.ndarray) -> np.ndarray:
    """Return ``(M, C)`` float64 of mean 0 and variance 1 per channel; constant ones are 0."""
    values = features.astype(np.float64)
    deviation = values.std(axis=0)
    constant = deviation <= ROUNDING * np.abs(values).max(axis=0)
    centred = values - values.mean(axis=0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, deviation))
