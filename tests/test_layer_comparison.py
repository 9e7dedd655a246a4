"""What a comparison of layers says: moved centres, probes, paired intervals and the verdict."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from napari_synapse_cl.augmentations.resampling import moved_crops
from napari_synapse_cl.augmentations.spatial import draw_jitters
from napari_synapse_cl.augmentations.transforms import with_jitter_room
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features.descriptors import descriptor_columns
from napari_synapse_cl.features.layer_report import Comparison
from napari_synapse_cl.features.probes import (
    Probes,
    balanced_accuracies,
    block_weights,
    blocks_of,
    interval,
)
from napari_synapse_cl.features.scores import HISTOGRAM, Crops, Readings, Scores, score_layers
from napari_synapse_cl.features.verdict import in_words

EXTENT = (16, 16, 16)
N = 120


def somewhere(n: int, seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, (200, 200, 600), (n, 3))


class TestMovedCentres:
    def test_a_moved_crop_is_the_one_cut_around_the_moved_place(self) -> None:
        volume = torch.rand(2, 1, 30, 24, 28)
        offsets = np.array([[3, -1, 0], [-3, 2, 4]])
        moved = moved_crops(volume, offsets, (16, 12, 18))
        for found, crop, (z, y, x) in zip(moved, volume, offsets.tolist(), strict=True):
            part = crop[:, 7 + z : 23 + z, 6 + y : 18 + y, 5 + x : 23 + x]
            torch.testing.assert_close(found, part, rtol=0, atol=0)

    def test_moves_lie_in_a_ball_and_depend_on_seed_and_synapse_alone(self) -> None:
        voxel_size = (40, 4, 4)
        moves = draw_jitters(60, 3, range(400), 2, voxel_size)
        lengths = np.linalg.norm(moves * voxel_size, axis=-1)
        # Rounding to whole voxels adds up to half of one along each axis.
        assert lengths.max() <= 60 + np.linalg.norm(voxel_size) / 2
        assert lengths.mean() == pytest.approx(45, abs=5)
        assert np.abs(moves.mean(axis=(0, 1)) * voxel_size).max() < 5
        np.testing.assert_array_equal(draw_jitters(60, 3, [17], 2, voxel_size)[0], moves[17])
        assert (draw_jitters(60, 4, range(400), 2, voxel_size) != moves).any()
        assert (moves[:, 0] != moves[:, 1]).any()
        assert not draw_jitters(0, 3, [1], 1, voxel_size).any()

    def test_there_is_room_for_the_farthest_move(self) -> None:
        room = with_jitter_room((30, 16, 16), (16, 16, 16), 60, (10, 10, 40))
        assert room == (30, 28, 20)


def slow_answers(
    parts: Sequence[np.ndarray], probes: Probes, probe: Any, labels: np.ndarray
) -> list[list[bool]]:
    """Fold by fold and crop by crop, with every set standardised by hand."""
    n, n_crops, _ = parts[0].shape
    right = [[False] * n_crops for _ in range(n)]
    for training, held_out in probes.folds:
        scaled = []
        for part in parts:
            known = np.array([part[i, j] for i in training for j in range(n_crops)], float)
            scale = known.std(axis=0) * np.sqrt(part.shape[-1])
            scaled.append((part - known.mean(axis=0)) / scale)
        joined = np.concatenate(scaled, axis=2)
        rows = [joined[i, j] for i in training for j in range(n_crops)]
        probe.fit(rows, [labels[i] for i in training for _ in range(n_crops)])
        for i in held_out:
            for j in range(n_crops):
                right[i][j] = probe.predict([joined[i, j]])[0] == labels[i]
    return right


class TestProbes:
    labels = np.where(np.arange(N) % 3 == 0, "a", "b")

    def probes(self, **more: Any) -> Probes:
        return Probes.of(self.labels, somewhere(N), EXTENT, **more)

    def features(self, channels: int, strength: float, seed: int = 0) -> np.ndarray:
        generator = np.random.default_rng(seed)
        values = generator.normal(size=(N, 2, channels)).astype(np.float32)
        return values + strength * (self.labels == "a")[:, None, None]

    def test_they_learn_from_all_crops_of_sets_that_count_alike(self) -> None:
        parts = [self.features(3, 0.6), 50 * self.features(40, 0.1, seed=1)]
        probes = self.probes()
        knn, linear = probes.ask(parts)
        slow = LogisticRegression(C=5, class_weight="balanced", max_iter=10_000)
        for found, probe in ((knn, KNeighborsClassifier(10)), (linear, slow)):
            expected = np.mean(slow_answers(parts, probes, probe, self.labels), axis=1)
            np.testing.assert_allclose(found, expected)
        assert 0.5 < linear.mean() < 1

    def test_accuracies_are_balanced_over_classes(self) -> None:
        probes = self.probes()
        right = np.random.default_rng(0).integers(0, 2, (2, N)).astype(float)
        other = np.where(self.labels == "a", "b", "a")
        expected = [
            balanced_accuracy_score(self.labels, np.where(some == 1, self.labels, other))
            for some in right
        ]
        assert probes.accuracies(right) == pytest.approx(expected)

    def test_the_best_elsewhere_is_chosen_without_what_it_is_judged_by(self) -> None:
        """Of many sets of coin flips the best is above chance, and this is not."""
        probes = self.probes()
        flips = np.random.default_rng(0).integers(0, 2, (30, 10, 2, N)).astype(float)
        best = [max(map(probes.accuracy, several)) for several in flips]
        honest = [probes.accuracy(probes.best_elsewhere(list(several))) for several in flips]
        assert np.mean(best) > 0.54
        assert np.mean(honest) == pytest.approx(0.5, abs=0.02)

    def test_what_overlaps_is_not_learnt_from(self) -> None:
        probes = Probes.of(self.labels, somewhere(N), (90, 90, 90))
        for training, held_out in probes.folds:
            apart = np.abs(somewhere(N)[training][:, None] - somewhere(N)[held_out]).max(axis=2)
            assert apart.min() >= 90

    @pytest.mark.parametrize("labels", [None, [""] * N, ["a"] * N, ["a"] + ["b"] * (N - 1)])
    def test_without_enough_labels_there_are_none(self, labels: Any) -> None:
        probes = Probes.of(labels, somewhere(N), EXTENT)
        assert probes.folds == ()
        assert (probes.problem is None) == (labels is None)


class TestIntervals:
    def test_resamples_are_those_of_a_slow_bootstrap(self) -> None:
        generator = np.random.default_rng(1)
        labels, right = generator.choice(["a", "b", "c"], 60), generator.random(60)
        blocks = blocks_of(somewhere(60), (100, 100, 100))
        weights = block_weights(blocks.max() + 1, seed=5)
        found = balanced_accuracies(right, labels, blocks, weights)
        for row in (0, 1, 17):
            counts = weights[row].astype(int)
            members = [
                np.flatnonzero(blocks == b) for b in np.repeat(np.arange(len(counts)), counts)
            ]
            drawn = np.concatenate(members)
            expected = np.mean(
                [right[drawn][labels[drawn] == label].mean() for label in np.unique(labels[drawn])]
            )
            assert found[row] == pytest.approx(expected)
        np.testing.assert_array_equal(weights, block_weights(blocks.max() + 1, seed=5))

    def test_blocks_hold_what_lies_in_one_box(self) -> None:
        places = np.array([[0, 0, 0], [15, 15, 15], [16, 0, 0], [-1, 0, 0], [0, 0, 40]])
        first, second, *others = blocks_of(places, (16, 16, 16)).tolist()
        assert first == second
        assert len({first, *others}) == 4
        many = blocks_of(somewhere(3000), (1, 1, 1))
        assert 100 < len(np.unique(many)) <= 1000

    def test_they_hold_what_they_promise_where_neighbours_agree(self) -> None:
        """Of differences in 12 blocks whose places are right or wrong together."""
        generator = np.random.default_rng(0)
        blocks = np.repeat(np.arange(12), 10)
        labels = np.where(np.arange(120) % 2 == 0, "a", "b")
        weights = block_weights(12, seed=0)
        n_held, n_trials = 0, 150
        for _ in range(n_trials):
            of_block = generator.random((2, 12))
            shares = np.clip(of_block[:, blocks] + 0.1 * generator.normal(size=(2, 120)), 0, 1)
            one, other = (balanced_accuracies(s, labels, blocks, weights) for s in shares)
            low, high = interval(one - other, 12)
            n_held += low <= 0 <= high
        assert 0.89 < n_held / n_trials < 0.99


def read(informative: bool, n: int = N) -> Readings:
    """Two layers, of which the second may tell the classes, and baselines that do not."""
    generator = np.random.default_rng(0)
    is_a = (TestProbes.labels == "a")[:n, None, None]

    def noise(*shape: int) -> np.ndarray:
        return generator.normal(size=(n, *shape)).astype(np.float32)

    views = {layer: noise(8) for layer in (3, 20, HISTOGRAM)}
    crops = Crops(
        layers={3: noise(2, 8), 20: noise(2, 8) + informative * 1.5 * is_a},
        hand=noise(2, len(descriptor_columns())),
        untrained=tuple({layer: noise(2, 8) for layer in (3, 20)} for _ in range(2)),
    )
    return Readings((views, {layer: v + noise(8) for layer, v in views.items()}), crops)


def scores_of(readings: Readings, labels: Any = TestProbes.labels) -> Scores:
    probes = Probes.of(labels, somewhere(N), EXTENT)
    steps = score_layers(readings, {3: "3 · conv", 20: "20 · conv"}, probes)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


class TestVerdict:
    def test_a_network_that_tells_what_no_baseline_tells_earns_its_keep(self) -> None:
        found = scores_of(read(informative=True))
        assert found.verdict is not None
        first, second, third = found.verdict.sentences
        assert first.startswith("the network earns its keep on these synapses")
        assert "the untrained networks (0." in first
        assert second.startswith(
            "the layer to read is 20: two layers do not clearly tell more than"
        )
        assert third.startswith("layer 20 and the hand-made descriptors joined tell more than the")
        assert found.verdict.read == (20,)

    def test_a_network_that_tells_nothing_does_not(self) -> None:
        found = scores_of(read(informative=False))
        assert found.verdict is not None
        assert not found.verdict.sentences[0].startswith("the network earns its keep")
        assert any(one.outcome != "better" for one in found.verdict.comparisons)

    def test_every_set_is_reported_with_its_difference_to_the_strongest_baseline(self) -> None:
        found = scores_of(read(informative=True)).scores
        assert [score.name for score in found] == [
            *("3 · conv", "20 · conv", "layer 3 + layer 20", "layer 20 + hand-made descriptors"),
            *("untrained networks", "hand-made descriptors"),
            *("central intensity histogram", "intensity histogram"),
        ]
        assert [score.layers for score in found[:4]] == [(), (), (3, 20), (20,)]
        strongest = max(found[4:], key=lambda score: score.accuracy or 0)
        assert [score for score in found if score.difference is None] == [strongest]
        for score in found:
            if score.difference is not None:
                assert score.accuracy is not None
                assert strongest.accuracy is not None
                assert score.difference == pytest.approx(score.accuracy - strongest.accuracy)
                assert score.difference_low is not None
                assert score.difference_high is not None
                assert score.difference_low < score.difference < score.difference_high

    def test_without_labels_there_is_none(self) -> None:
        found = scores_of(read(informative=True), labels=None)
        assert found.verdict is None
        assert [score.kind for score in found.scores] == ["layer", "layer", "baseline"]
        assert {score.accuracy for score in found.scores} == {None}

    @pytest.mark.parametrize("where", ["views", "crops"])
    def test_features_that_are_not_finite_are_told(self, where: str) -> None:
        readings = read(informative=True)
        assert readings.crops is not None
        broken = readings.views[1] if where == "views" else readings.crops.layers
        broken[20][7] = np.nan
        with pytest.raises(JobError, match="features of 20 · conv hold values that are not finite"):
            scores_of(readings)

    @pytest.mark.parametrize(
        ("differences", "head"),
        [
            ([0.1, 0.2], "the network earns its keep"),
            ([0.1, 0.0], "that the network earns its keep"),
            ([0.1, -0.1], "the network does not earn its keep"),
            ([0.0, -0.1], "the network does not earn its keep"),
        ],
    )
    def test_it_is_said_in_a_sentence(self, differences: list[float], head: str) -> None:
        against = [
            Comparison("the network", name, 0.8, 0.8 - d, d - 0.05, d + 0.05)
            for name, d in zip(("texture", "grey"), differences, strict=True)
        ]
        text = in_words(against)
        assert text.startswith(f"{head} on these synapses")
        outcomes = {0.0: "not to be told apart from", 0.1: "better than", -0.1: "worse than"}
        for name, d in zip(("texture", "grey"), differences, strict=True):
            words = outcomes.get(d, "better than")
            assert f"the {name} ({0.8 - d:.2f}, by " in text[text.index(words) :]
