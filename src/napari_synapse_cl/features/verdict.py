"""Whether a network earns its keep on some synapses, and which of its layers to read.

Said in sentences, from paired differences and their intervals alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_synapse_cl.features.layer_report import HAND_NAME, Comparison
from napari_synapse_cl.features.probes import Answers, Probes
from napari_synapse_cl.system.words import listing

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
    """What follows from the answers.

    Attributes
    ----------
    sentences
        Whether the network earns its keep, and what to read.
    read
        Indices of the layers to read, one or two.
    comparisons
        What that follows from, with each baseline and of what was joined.
    """

    sentences: tuple[str, ...]
    read: tuple[int, ...]
    comparisons: tuple[Comparison, ...]


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
