"""Sets of features that the probes are asked of: layers, baselines, and what is joined of them."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features.descriptors import descriptor_columns
from napari_synapse_cl.features.embeddings import effective_rank, retrieval
from napari_synapse_cl.features.layer_report import (
    BASELINE_NAME,
    CENTRE_NAME,
    HAND_NAME,
    UNTRAINED_NAME,
    LayerScore,
    best,
)
from napari_synapse_cl.features.probes import Answers, Probes
from napari_synapse_cl.features.verdict import Verdict, judge

Features = Mapping[int, np.ndarray]
"""By the index of a layer."""


Step = tuple[str, int, int, str]
"""What is done, how much of it, of how much, and what is counted."""


@dataclass(frozen=True)
class Crops:
    """What was read of J crops of each of N synapses, float32."""

    layers: Features
    """``(N, J, C)`` of each layer."""
    hand: np.ndarray
    """``(N, J, K)`` descriptors."""
    untrained: tuple[Features, ...]
    """The same layers of networks of the same architecture with random weights."""


@dataclass(frozen=True)
class _Set:
    """Features that the probes are asked of together, as what they are reported, and the answers.

    Before the probes were asked these are empty.
    """

    score: LayerScore
    parts: tuple[np.ndarray, ...]
    answers: Answers = field(default_factory=lambda: np.empty((2, 0)))


def probe_sets(
    crops: Crops,
    layers: Sequence[LayerScore],
    histogram: LayerScore,
    probes: Probes,
) -> Generator[Step, None, tuple[tuple[LayerScore, ...], Verdict]]:
    """Ask the probes of layers and baselines, then of what is joined.

    Parameters
    ----------
    layers, histogram
        What is known of the layers and of the intensity histogram without labels.
    probes
        What to ask; with folds.
    """
    own = [_Set(score, (crops.layers[score.index],)) for score in layers]
    by_hand = _by_hand(crops.hand, histogram)
    untrained = [
        _Set(_baseline(UNTRAINED_NAME, None), (values,))
        for network in crops.untrained
        for values in network.values()
    ]
    first = [*own, *by_hand, *untrained]
    n_all = len(first) + len(own)
    asked = yield from _ask(first, probes, 0, n_all)
    own, by_hand = asked[: len(own)], asked[len(own) : len(own) + len(by_hand)]
    baselines = [*_averaged(asked[len(own) + len(by_hand) :], len(own), probes), *by_hand]
    scored = [_with_accuracies(one, probes) for one in own]
    chosen = own[scored.index(best(scored))]
    later = [_joined(chosen, other) for other in (*own, by_hand[0]) if other is not chosen]
    asked = yield from _ask(later, probes, len(first), n_all)
    yield "probing features", n_all, n_all, "set"
    *pairs, with_hand = asked
    verdict = judge(
        probes,
        {one.score.index: one.answers for one in own},
        {one.score.layers: one.answers for one in pairs},
        with_hand.answers,
        {one.score.name: one.answers for one in baselines},
        chosen.score.index,
    )

    def accuracy(one: _Set) -> float:
        return probes.accuracy(one.answers)

    strongest = max(baselines, key=accuracy)
    best_pair = [max(pairs, key=accuracy)] if pairs else []
    reported = [*own, *best_pair, with_hand, *baselines]
    return tuple(_with_difference(one, strongest, probes) for one in reported), verdict


def _ask(
    sets: Sequence[_Set], probes: Probes, n_before: int, n_all: int
) -> Generator[Step, None, list[_Set]]:
    """Return sets with their answers."""
    asked = []
    for n_done, one in enumerate(sets, start=n_before):
        yield "probing features", n_done, n_all, "set"
        asked.append(replace(one, answers=probes.ask(one.parts)))
    return asked


def _by_hand(descriptors: np.ndarray, histogram: LayerScore) -> list[_Set]:
    """Return all descriptors, then the histograms among them, that of the whole crop last."""
    names = descriptor_columns()

    def some(prefix: str) -> np.ndarray:
        return descriptors[..., [name.startswith(prefix) for name in names]]

    centre = some("hand_centre_hist_")
    return [
        _Set(_baseline(HAND_NAME, descriptors.shape[-1]), (descriptors,)),
        _Set(_baseline(CENTRE_NAME, centre.shape[-1]), (centre,)),
        _Set(histogram, (some("hand_hist_"),)),
    ]


def _baseline(name: str, channels: int | None) -> LayerScore:
    return LayerScore(None, name, channels, kind="baseline")


def _averaged(untrained: Sequence[_Set], n_layers: int, probes: Probes) -> Iterator[_Set]:
    """Yield the mean of untrained networks, each read at its best layer."""
    networks = [untrained[i : i + n_layers] for i in range(0, len(untrained), n_layers)]
    of_each = [probes.best_elsewhere([one.answers for one in network]) for network in networks]
    if of_each:
        yield replace(untrained[0], answers=np.mean(of_each, axis=0))


def _joined(one: _Set, other: _Set) -> _Set:
    """Return a layer together with another, or with descriptors."""
    both = sorted((one.score, other.score), key=lambda s: (s.layer is None, s.layer))
    layers = tuple(score.layer for score in both if score.layer is not None)
    names = [score.name if score.layer is None else f"layer {score.layer}" for score in both]
    channels = sum(part.shape[-1] for part in (*one.parts, *other.parts))
    score = LayerScore(None, " + ".join(names), channels, kind="joined", layers=layers)
    return _Set(score, (*one.parts, *other.parts))


def _with_accuracies(one: _Set, probes: Probes) -> LayerScore:
    knn, linear = probes.accuracies(one.answers)
    return replace(one.score, knn=knn, linear=linear)


def _with_difference(one: _Set, strongest: _Set, probes: Probes) -> LayerScore:
    score = _with_accuracies(one, probes)
    if one is strongest:
        return score
    name, baseline = score.name, strongest.score.name
    found = probes.compare(one.answers, strongest.answers, name, baseline)
    return replace(
        score,
        difference=found.difference,
        difference_low=found.low,
        difference_high=found.high,
    )


HISTOGRAM = -1
"""What the intensity histogram of views is known by where layers are by their indices."""
ROUNDING = 1e-6
"""Spread, as a share of the largest value, that a channel has from rounding in float32 alone."""


@dataclass(frozen=True)
class Readings:
    """What was read of N synapses, float32."""

    views: tuple[Features, Features]
    """Of two views of each, ``(N, C)`` by the layer and under `HISTOGRAM`."""
    crops: Crops | None = None
    """Of several crops of each; None where there are no probes."""


@dataclass(frozen=True)
class Scores:
    """What was measured."""

    scores: tuple[LayerScore, ...]
    """Of the layers in order, of what was joined, and of the baselines."""
    verdict: Verdict | None = None
    """What follows from it; None without probes."""


def score_layers(
    read: Readings, names: Mapping[int, str], probes: Probes
) -> Generator[Step, None, Scores]:
    """Measure all that was read, and yield how far that is.

    Parameters
    ----------
    names
        Of each layer, in their order.
    probes
        What is asked of the features, where there are labels.

    Raises
    ------
    JobError
        If a feature is not finite.
    """
    _check_finite(read, names)
    layers = []
    for n_done, (layer, name) in enumerate(names.items()):
        yield "scoring layers", n_done, len(names), "layer"
        first, second = (view[layer] for view in read.views)
        recall, rank = score_views(first, second)
        layers.append(LayerScore(layer, name, first.shape[1], recall, rank))
    yield "scoring layers", len(names), len(names), "layer"
    first, second = (view[HISTOGRAM] for view in read.views)
    recall, rank = score_views(first, second)
    histogram = LayerScore(None, BASELINE_NAME, first.shape[1], recall, rank, kind="baseline")
    if read.crops is None or not probes.folds:
        return Scores((*layers, histogram))
    return Scores(*(yield from probe_sets(read.crops, layers, histogram, probes)))


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
