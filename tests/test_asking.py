"""Which vectors one is asked to label next."""

import numpy as np

from napari_synapse_cl.features.asking import ask_next
from napari_synapse_cl.features.neighbours import Space


def three_groups() -> Space:
    """Three groups of twenty vectors, and one that is far from all, the last."""
    rng = np.random.default_rng(0)
    middles = np.eye(3, 4, dtype=np.float32).repeat(20, axis=0)
    noise = 0.05 * rng.standard_normal((60, 4), np.float32)
    return Space(np.concatenate([middles + noise, [[0, 0, 0, -1]]]).astype(np.float32))


def test_without_labels_each_group_is_asked_for_first() -> None:
    asked = ask_next(three_groups(), np.empty(0, np.int64), n=4)
    groups = [number // 20 for number in asked.numbers]
    assert sorted(groups) == [0, 1, 2, 3]
    assert set(asked.reasons) == {"typical"}


def test_what_is_far_uncertain_and_typical_is_mixed_and_nothing_labelled_comes() -> None:
    space, labelled = three_groups(), np.array([0, 1, 2])
    uncertainty = np.zeros(61)
    uncertainty[47] = 1
    asked = ask_next(space, labelled, uncertainty, n=9)
    assert len(set(asked.numbers)) == 9
    assert not set(asked.numbers) & set(labelled.tolist())
    assert {"typical", "far", "uncertain"} == set(asked.reasons)
    why = dict(zip(asked.reasons[::-1], asked.numbers[::-1], strict=True))
    assert why["uncertain"] == 47
    # The first that is far has no label near, unlike all of the first group.
    assert why["far"] >= 20
    assert "far from all that have one" in asked.in_words()


def test_no_more_are_asked_for_than_there_are() -> None:
    space = Space(np.ones((5, 2), np.float32))
    assert sorted(ask_next(space, np.array([0]), n=9).numbers) == [1, 2, 3, 4]
    assert ask_next(space, np.arange(5)).numbers == []


def test_the_sample_of_very_many_is_the_same_again() -> None:
    values = np.random.default_rng(0).standard_normal((25_000, 3), np.float32)
    one, two = (ask_next(Space(values), np.array([7]), n=6).numbers for _ in range(2))
    assert one == two
