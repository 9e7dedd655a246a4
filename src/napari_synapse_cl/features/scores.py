"""Measure how well the features of each layer describe synapses, and say how far to trust it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features.analysis import (
    N_SLABS,
    Fold,
    label_names,
    probe_accuracy,
    probe_folds,
)
from napari_synapse_cl.features.embeddings import effective_rank, retrieval
from napari_synapse_cl.features.layer_report import LayerScore, Report, best
from napari_synapse_cl.system.words import counted

FEW_SYNAPSES = 20
"""With fewer, no difference between layers means anything."""
ROUNDING = 1e-6
"""Spread, as a share of the largest value, that a channel has from rounding in float32 alone."""


def score(
    name: str,
    layer: int | None,
    views1: np.ndarray,
    views2: np.ndarray,
    plain: np.ndarray,
    labels: ArrayLike | None,
    positions: np.ndarray,
    crop_size: Sequence[int],
) -> LayerScore:
    """Return what the features of one layer tell of N synapses.

    Recall and effective rank are those of standardised features: pooled features of a network have
    a large direction in common, before which their differences would vanish.

    Parameters
    ----------
    name, layer
        As in :class:`~napari_synapse_cl.features.layer_report.LayerScore`.
    views1, views2, plain
        ``(N, C)`` float32, features of two views of each synapse and of its crop as it is.
    labels
        ``(N,)``, as in :func:`~napari_synapse_cl.features.analysis.label_names`, or None for no
        probes. They are None too where
        :func:`~napari_synapse_cl.features.analysis.probe_folds` finds too few synapses.
    positions
        ``(N, 3)``, z, y, x in voxels.
    crop_size
        Size of the crops along z, y, x in voxels: none is told from one that it overlaps.

    Raises
    ------
    JobError
        If a feature is not finite.
    """
    if not all(np.isfinite(features).all() for features in (views1, views2, plain)):
        raise JobError(
            f"features of {name} hold values that are not finite (NaN or infinite): weights of the "
            "checkpoint or intensities of the volume are not finite, or too large"
        )
    n = len(plain)
    views = torch.from_numpy(_standardised(np.concatenate([views1, views2])))
    folds, _ = _folds(labels, positions, crop_size)
    names = label_names([] if labels is None else labels)
    return LayerScore(
        layer=layer,
        name=name,
        channels=plain.shape[1],
        recall=retrieval(views[:n], views[n:]),
        effective_rank=effective_rank(views) if views.any() else 0.0,
        knn=probe_accuracy(plain, names, folds, "knn") if folds else None,
        linear=probe_accuracy(plain, names, folds, "linear") if folds else None,
    )


def make_report(
    scores: Collection[LayerScore],
    positions: np.ndarray,
    crop_size: Sequence[int],
    *,
    labels: ArrayLike | None = None,
    label_column: str | None = None,
    trained_on: bool | None = None,
) -> Report:
    """Return the scores with the best layer, and with what to know before one trusts them.

    Parameters
    ----------
    scores
        Of each layer in order, and of the intensity histogram if it was measured; from
        :func:`score` with the same labels, positions and size of crops.
    positions, crop_size, labels
        As in :func:`score`.
    label_column
        Where the labels are from.
    trained_on
        Whether the network was trained on these synapses; None if that is not known.

    Raises
    ------
    ValueError
        If there is no layer among the scores.
    """
    folds, problem = _folds(labels, positions, crop_size)
    names = label_names([] if labels is None else labels)
    known, counts = np.unique(names[names != ""], return_counts=True)
    report = Report(
        scores=tuple(scores),
        best=_index(best(scores)),
        n_synapses=len(positions),
        label_column=label_column,
        label_counts=dict(zip(known.tolist(), counts.tolist(), strict=True)),
        n_slabs=len(folds) or None,
        remarks=(),
    )
    remarks = [*_on_synapses(report, trained_on), *_on_probes(report, folds, problem)]
    return replace(report, remarks=(*remarks, *_on_layers(report)))


def _standardised(features: np.ndarray) -> np.ndarray:
    """Return ``(M, C)`` float64 of mean 0 and variance 1 per channel; constant ones are 0."""
    values = features.astype(np.float64)
    deviation = values.std(axis=0)
    constant = deviation <= ROUNDING * np.abs(values).max(axis=0)
    centred = values - values.mean(axis=0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, deviation))


def _folds(
    labels: ArrayLike | None, positions: np.ndarray, crop_size: Sequence[int]
) -> tuple[list[Fold], str | None]:
    """Return the folds of the probes, or none and why."""
    if labels is None:
        return [], None
    try:
        return probe_folds(labels, positions, crop_size), None
    except ValueError as error:
        return [], str(error)


def _index(score: LayerScore) -> int:
    assert score.layer is not None
    return score.layer


def _on_synapses(report: Report, trained_on: bool | None) -> Iterator[str]:
    if report.n_synapses < FEW_SYNAPSES:
        yield f"fewer than {FEW_SYNAPSES} synapses: differences between layers are chance"
    if trained_on is not False:
        when = "" if trained_on else "if so, "
        known = "was" if trained_on else "may have been"
        yield (
            f"the network {known} trained on these synapses: {when}it finds them again more easily "
            "than new ones, and recall is too high, of late layers above all"
        )


def _on_probes(report: Report, folds: list[Fold], problem: str | None) -> Iterator[str]:
    if problem is not None:
        yield f"the probes are left out: {problem}"
    if not folds:
        yield (
            "without probes the best layer is the one that best tells each synapse from all "
            "others, which need not be the one that best tells kinds of synapses apart; labels of "
            "some synapses would show that"
        )
        return
    n_labelled = _n_labelled(report)
    n_missing = report.n_synapses - n_labelled
    if n_missing:
        have = "has" if n_missing == 1 else "have"
        count = "counts" if n_missing == 1 else "count"
        yield (
            f"{counted(n_missing, 'synapse')} {have} no label and {count} for neither kNN nor the "
            "linear probe"
        )
    if len(folds) != N_SLABS:
        yield (
            f"the probes divide the volume into {len(folds)} parts, as {N_SLABS} would leave too "
            "few synapses to learn from"
        )
    n_least = min(len(training) for training, _ in folds)
    if n_least < n_labelled / 2:
        yield (
            f"crops overlap so much that the probes learn from as few as {n_least} of {n_labelled} "
            "synapses: their accuracies are lower than more synapses would give"
        )


def _on_layers(report: Report) -> Iterator[str]:
    """Say which differences between layers, to the baseline and to chance mean little."""
    dead = [_index(s) for s in report.layers if s.effective_rank == 0]
    if dead:
        yield f"all features of {_named(dead)} are constant and tell nothing"
    chosen = report.best_score
    reached = _value(chosen, report)
    if report.n_slabs is None:
        criterion, chance, n = "recall", report.recall_chance, report.n_synapses
        low, high = report.recall_interval(reached)
    else:
        criterion, chance, n = "mean accuracy", 1 / len(report.label_counts), _n_labelled(report)
        low, high = report.accuracy_interval(reached)
    if low <= chance:
        yield f"no layer is clearly better than chance, a {criterion} of {chance:.2f}"
    baseline = report.baseline
    if baseline is not None and _value(baseline, report) >= reached:
        yield (
            f"no layer beats the intensity histogram ({_value(baseline, report):.2f}): brightness "
            "alone tells as much"
        )
    elif baseline is not None and _value(baseline, report) >= low:
        yield (
            f"layer {chosen.layer} ({reached:.2f}) is not clearly better than the intensity "
            f"histogram ({_value(baseline, report):.2f})"
        )
    others = [s for s in report.layers if s.layer != chosen.layer and _value(s, report) >= low]
    if others:
        yield (
            f"{counted(n, 'synapse')} leave the {criterion} of layer {chosen.layer} uncertain, "
            f"from {low:.2f} to {high:.2f} with 95 % confidence: "
            f"{_named([_index(s) for s in others])} may be as good"
        )


def _n_labelled(report: Report) -> int:
    return sum(report.label_counts.values())


def _value(score: LayerScore, report: Report) -> float:
    """Return what the best layer was chosen by."""
    return score.recall if report.n_slabs is None or score.accuracy is None else score.accuracy


def _named(layers: Sequence[int]) -> str:
    """Return layers in words: "layer 3", "layers 3, 5 and 7"."""
    *first, last = map(str, layers)
    return f"layers {', '.join(first)} and {last}" if first else f"layer {last}"
