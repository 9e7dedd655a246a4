"""Whether a network earns its keep on some synapses, and which of its layers to read.

Said in sentences, from paired differences and their intervals alone.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_synapse_cl.features.analysis import N_SLABS
from napari_synapse_cl.features.layer_report import HAND_NAME, Comparison, LayerScore, Report, best
from napari_synapse_cl.features.probes import Answers, Probes
from napari_synapse_cl.system.words import counted, listing

NETWORK = "the network"
THAN = {
    "better": "better than",
    "alike": "not to be told apart from",
    "worse": "worse than",
}
MORE = {
    "better": "tell more than",
    "alike": "do not clearly tell more than",
    "worse": "tell less than",
}


@dataclass(frozen=True)
class Verdict:
    """What follows from the answers."""

    sentences: tuple[str, ...]
    """Whether the network earns its keep, and what to read."""
    read: tuple[int, ...]
    """Indices of the layers to read, one or two."""
    comparisons: tuple[Comparison, ...]
    """What that follows from, with each baseline and of what was joined."""


def judge(
    probes: Probes,
    layers: Mapping[int, Answers],
    pairs: Mapping[tuple[int, ...], Answers],
    with_hand: Answers,
    baselines: Mapping[str, Answers],
    best: int,
) -> Verdict:
    """Return what answers say of a network.

    Where one of several layers or pairs is chosen, it is judged in each part of the volume by the
    choice that the other parts make: the best of many is else too good by chance.

    Parameters
    ----------
    probes
        Those that were asked.
    layers, pairs
        Answers of single layers, and of two that are joined.
    with_hand
        Those of the best layer joined with the hand-made descriptors.
    baselines
        By their name; the hand-made descriptors are among them.
    best
        Index of the best layer.
    """
    single = probes.best_elsewhere(list(layers.values()))
    against = [probes.compare(single, other, NETWORK, name) for name, other in baselines.items()]
    joined_name = f"layer {best} + {HAND_NAME}"
    added = probes.compare(with_hand, baselines[HAND_NAME], joined_name, HAND_NAME)
    read: tuple[int, ...] = (best,)
    of_pairs: list[Comparison] = []
    if pairs:
        two = probes.best_elsewhere(list(pairs.values()))
        of_pairs.append(probes.compare(two, single, "two layers", "one layer"))
        if of_pairs[0].outcome == "better":
            read = max(pairs, key=lambda pair: probes.accuracy(pairs[pair]))
    sentences = (
        in_words(against),
        _what_to_read(read, of_pairs),
        f"layer {best} and the {HAND_NAME} joined {MORE[added.outcome]} the descriptors "
        f"alone (by {_interval(added)})",
    )
    return Verdict(sentences, read, (*against, *of_pairs, added))


def in_words(against: Sequence[Comparison]) -> str:
    """Say whether a network earns its keep.

    Parameters
    ----------
    against
        The network compared with each baseline, at least one.
    """
    outcomes = {one.outcome for one in against}
    if outcomes == {"better"}:
        head = "the network earns its keep on these synapses"
    elif "worse" in outcomes:
        head = "the network does not earn its keep on these synapses"
    else:
        head = "that the network earns its keep on these synapses cannot be told"
    parts = []
    for outcome, words in THAN.items():
        some = [one for one in against if one.outcome == outcome]
        if some:
            ordered = sorted(some, key=lambda one: one.other, reverse=True)
            parts.append(f"{words} {listing([_named(one) for one in ordered])}")
    return f"{head}: it tells the classes with an accuracy of {against[0].value:.2f}, " + (
        "; ".join(parts) + "; differences with 95 % confidence"
    )


def _named(one: Comparison) -> str:
    """Name what was compared with: "the hand-made descriptors (0.75, by −0.021 to 0.064)"."""
    return f"the {one.baseline} ({one.other:.2f}, by {_interval(one)})"


def _what_to_read(read: Sequence[int], of_pairs: Sequence[Comparison]) -> str:
    named = listing([str(layer) for layer in read])
    text = f"the layer to read is {named}"
    if len(read) > 1:
        text = f"the layers to read are {named} joined"
    for one in of_pairs:
        text += f": two layers {MORE[one.outcome]} one (by {_interval(one)})"
    return text


def _interval(one: Comparison) -> str:
    """Write between what a difference lies: "−0.012 to 0.071"."""
    return " to ".join(f"{value:z.3f}".replace("-", "−") for value in (one.low, one.high))


FEW_SYNAPSES = 20
"""With fewer, no difference between layers means anything."""
CANNOT_BE_SAID = (
    "whether the network earns its keep on these synapses cannot be said: that takes classes to be "
    "told apart, labels of some synapses in a column of their table"
)


def make_report(
    scores: Collection[LayerScore],
    probes: Probes,
    verdict: Verdict | None = None,
    *,
    label_column: str | None = None,
    trained_on: bool | None = None,
    centre_jitter: float = 0.0,
) -> Report:
    """Return the scores with the best layer, and with what to know before one trusts them.

    Parameters
    ----------
    scores
        Of each layer in order, of what was joined and of baselines.
    probes
        Those that were measured with.
    verdict
        What follows from the probes, where they could be asked.
    label_column
        Where the labels are from.
    trained_on
        Whether the network was trained on these synapses; None if that is not known.
    centre_jitter
        Up to how far centres were moved for the probes, in nm.

    Raises
    ------
    ValueError
        If there is no layer among the scores.
    """
    known, counts = np.unique(probes.names[probes.names != ""], return_counts=True)
    chosen = best(scores).index
    report = Report(
        scores=tuple(scores),
        best=chosen,
        n_synapses=len(probes.names),
        label_column=label_column,
        label_counts=dict(zip(known.tolist(), counts.tolist(), strict=True)),
        n_slabs=len(probes.folds) or None,
        remarks=(),
        verdict=(CANNOT_BE_SAID,) if verdict is None else verdict.sentences,
        read=(chosen,) if verdict is None else verdict.read,
        comparisons=() if verdict is None else verdict.comparisons,
        centre_jitter=centre_jitter,
    )
    remarks = [*_on_synapses(report, trained_on), *_on_probes(report, probes)]
    return replace(report, remarks=(*remarks, *_on_layers(report)))


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


def _on_probes(report: Report, probes: Probes) -> Iterator[str]:
    folds = probes.folds
    if probes.problem is not None:
        yield f"the probes are left out: {probes.problem}"
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
    dead = [s.index for s in report.layers if s.effective_rank == 0]
    if dead:
        yield f"all features of {_layers_named(dead)} are constant and tell nothing"
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
    if report.n_slabs is None and baseline is not None and baseline.recall is not None:
        if baseline.recall >= reached:
            yield (
                f"no layer beats the intensity histogram ({baseline.recall:.2f}): brightness alone "
                "tells synapses apart as well"
            )
        elif baseline.recall >= low:
            yield (
                f"layer {chosen.layer} ({reached:.2f}) is not clearly better than the intensity "
                f"histogram ({baseline.recall:.2f})"
            )
    others = [s for s in report.layers if s.layer != chosen.layer and _value(s, report) >= low]
    if others:
        yield (
            f"{counted(n, 'synapse')} leave the {criterion} of layer {chosen.layer} uncertain, "
            f"from {low:.2f} to {high:.2f} with 95 % confidence: "
            f"{_layers_named([s.index for s in others])} may be as good"
        )


def _n_labelled(report: Report) -> int:
    return sum(report.label_counts.values())


def _value(score: LayerScore, report: Report) -> float:
    """Return what the best layer was chosen by."""
    if report.n_slabs is None or score.accuracy is None:
        return score.recall or 0.0
    return score.accuracy


def _layers_named(layers: Sequence[int]) -> str:
    """Return layers in words: "layer 3", "layers 3, 5 and 7"."""
    *first, last = map(str, layers)
    return f"layers {', '.join(first)} and {last}" if first else f"layer {last}"
