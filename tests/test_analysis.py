"""Probes of features against brute force, and splits that keep overlapping crops apart."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn.model_selection import KFold

from conftest import crops_of, positions_inside
from napari_synapse_cl.data.tables import read_table
from napari_synapse_cl.data.volumes import open_volume
from napari_synapse_cl.features.analysis import (
    Fold,
    Probe,
    balanced_accuracy,
    histogram_features,
    label_names,
    principal_components,
    probe_accuracy,
    probe_folds,
    spatial_folds,
    spatial_groups,
)

CROP = (40, 30, 24)


def somewhere(n: int, seed: int = 0, shape: tuple[int, int, int] = (60, 100, 400)) -> np.ndarray:
    """Whole positions in a volume, so dense that many crops touch or overlap."""
    return np.random.default_rng(seed).integers(0, shape, (n, 3))


def two_classes(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, twice as many b as a, and noisy features that tell them in part."""
    generator = np.random.default_rng(seed)
    labels = np.array(["a", "b", "b"] * n)[:n]
    return labels, generator.normal(size=(n, 6)) * [1, 2, 3, 4, 5, 6] + (labels == "a")[:, None]


def slow_folds(positions: np.ndarray, n_groups: int, crop: tuple[int, int, int]) -> list[Fold]:
    axis = max(range(3), key=lambda i: np.ptp(positions[:, i]))
    order = sorted(range(len(positions)), key=lambda i: positions[i][axis])
    slab = {i: rank * n_groups // len(order) for rank, i in enumerate(order)}
    folds = []
    for group in range(n_groups):
        held = [i for i in range(len(order)) if slab[i] == group]
        apart = [
            i
            for i in range(len(order))
            if slab[i] != group
            and not any(
                all(abs(int(positions[i][k]) - int(positions[j][k])) < crop[k] for k in range(3))
                for j in held
            )
        ]
        folds.append((np.array(apart), np.array(held)))
    return folds


def standardised(features: np.ndarray, training: np.ndarray) -> np.ndarray:
    return (features - features[training].mean(axis=0)) / features[training].std(axis=0)


def slow_knn(features: np.ndarray, labels: np.ndarray, training: np.ndarray, i: int) -> str:
    values = standardised(features, training)
    nearest = sorted(training, key=lambda j: float(((values[i] - values[j]) ** 2).sum()))[:5]
    votes = [labels[j] for j in nearest]
    return max("ab", key=votes.count)


def slow_linear(features: np.ndarray, labels: np.ndarray, training: np.ndarray, i: int) -> str:
    """The minimum of the weighted logistic loss, which is convex, found by another solver."""
    values = standardised(features, training)
    sign = np.where(labels == "b", 1.0, -1.0)
    weight = {k: len(training) / 2 / (labels[training] == k).sum() for k in "ab"}
    weights = np.array([weight[label] for label in labels[training]])
    # That of features which are divided by the root of their number.
    penalty = 0.5 * features.shape[1] / 5

    def loss(w: np.ndarray) -> float:
        margins = sign[training] * (values[training] @ w[1:] + w[0])
        return float((weights * np.logaddexp(0, -margins)).sum() + penalty * (w[1:] ** 2).sum())

    best = minimize(loss, np.zeros(values.shape[1] + 1), method="BFGS").x
    return "b" if values[i] @ best[1:] + best[0] > 0 else "a"


class TestMapAndHistogram:
    def test_the_first_component_is_the_direction_of_largest_spread(self) -> None:
        generator = np.random.default_rng(0)
        hidden = generator.normal(size=(100, 1))
        features = hidden @ np.array([[1.0, -2.0, 3.0]]) + 0.01 * generator.normal(size=(100, 3))
        components = principal_components(features)
        assert abs(np.corrcoef(components[:, 0], hidden[:, 0])[0, 1]) > 0.999
        assert components.shape == (100, 2)

    def test_constant_features_have_none(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not principal_components(np.full((5, 4), 7.0, np.float32), 3).any()

    def test_components_beyond_the_rank_are_zero(self) -> None:
        assert principal_components(np.array([[1.0], [2.0]])).tolist()[0][1] == 0

    def test_a_histogram_counts_shares_of_voxels(self) -> None:
        crops = np.concatenate([np.zeros((1, 1, 2, 2, 2)), np.full((1, 1, 2, 2, 2), 0.99)])
        histograms = histogram_features(crops, n_bins=4)
        assert histograms.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


class TestFolds:
    def test_slabs_are_of_equal_number_and_follow_each_other(self) -> None:
        positions = somewhere(53)
        groups = spatial_groups(positions, 5)
        assert set(np.bincount(groups)) <= {10, 11}
        for group in range(4):
            assert positions[groups == group, 2].max() <= positions[groups > group, 2].min()

    @pytest.mark.parametrize("n_groups", [2, 3, 5, 7])
    @pytest.mark.parametrize("crop", [CROP, (16, 16, 16), (1, 1, 1)])
    def test_of_the_other_slabs_what_overlaps_is_left_out(
        self, n_groups: int, crop: tuple[int, int, int]
    ) -> None:
        positions = somewhere(90)
        expected = slow_folds(positions, n_groups, crop)
        for fold, slow in zip(spatial_folds(positions, n_groups, crop), expected, strict=True):
            for indices, slow_indices in zip(fold, slow, strict=True):
                assert indices.tolist() == slow_indices.tolist()

    def test_overlap_leaves_some_out_but_not_all(self) -> None:
        n_left = [len(training) for training, _ in spatial_folds(somewhere(90), 5, CROP)]
        assert all(10 < n < 72 for n in n_left)

    def test_crops_that_touch_do_not_overlap(self) -> None:
        positions = np.array([[0, 0, 0], [0, 0, 24], [0, 0, 47], [0, 0, 71]])
        (first, _), (second, _) = spatial_folds(positions, 2, CROP)
        assert (first.tolist(), second.tolist()) == ([3], [0])

    def test_without_a_crop_size_all_other_slabs_are_learnt_from(self) -> None:
        for training, held_out in spatial_folds(somewhere(53), 5):
            assert sorted([*training, *held_out]) == list(range(53))

    def test_fewer_synapses_than_slabs_are_refused(self) -> None:
        with pytest.raises(ValueError, match="4 synapses cannot be divided into 5 slabs"):
            list(spatial_folds(somewhere(4), 5))


class TestFoldsOfProbes:
    def test_five_slabs_are_kept_where_they_do(self) -> None:
        labels, _ = two_classes(90)
        folds = probe_folds(labels, somewhere(90), CROP)
        for fold, slow in zip(folds, slow_folds(somewhere(90), 5, CROP), strict=True):
            assert [indices.tolist() for indices in fold] == [s.tolist() for s in slow]

    def test_synapses_without_a_label_are_in_no_fold(self) -> None:
        labels = np.array(["a", "b", "", None, np.nan, pd.NA] * 20, dtype=object)
        folds = probe_folds(labels, somewhere(120))
        held = np.concatenate([held_out for _, held_out in folds])
        assert sorted(held) == [i for i in range(120) if i % 6 < 2]
        assert all(set(training) <= set(held) for training, _ in folds)

    def test_fewer_slabs_are_tried_before_giving_up(self) -> None:
        """Long crops leave nothing on either side of the middle one of five slabs."""
        x = np.linspace(0, 400, 100).astype(int)
        positions = np.stack([0 * x, 0 * x, x], axis=1)
        labels = np.array(["a", "b"] * 50)
        assert min(len(training) for training, _ in spatial_folds(positions, 5, (1, 1, 170))) == 0
        assert len(probe_folds(labels, positions, (1, 1, 170))) == 4

    def test_a_class_of_one_place_is_not_told_by_its_neighbourhood(self) -> None:
        """Twenty slabs would leave enough to learn from, right beside what is predicted."""
        line = np.stack([np.zeros(40), np.zeros(40), 10 * np.arange(40)], axis=1)
        labels = np.array(["a"] * 6 + ["b"] * 34)
        with pytest.raises(
            ValueError, match="class a has synapses in one part of the volume alone"
        ):
            probe_folds(labels, line)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (["", None, np.nan] * 10, "no synapse has a label, and two classes are needed"),
            (["a", "", "a"] * 10, "all labels are a, and two classes are needed"),
            (["a"] * 3 + ["b"] * 27, "class a has synapses in one part of the volume alone"),
            (["a", "b"], "class a has synapses in one part of the volume alone"),
            (
                ["a"] + ["b"] * 20 + ["a"] + ["b"] * 8,
                "class a has 1 synapse to learn from, with crops apart from those to predict, and "
                "3 are needed",
            ),
        ],
    )
    def test_what_is_missing_is_said(self, labels: list[object], message: str) -> None:
        line = np.stack([0 * np.arange(len(labels))] * 2 + [10 * np.arange(len(labels))], axis=1)
        with pytest.raises(ValueError, match=f"^{message}$"):
            probe_folds(np.array(labels, dtype=object), line)

    def test_crops_larger_than_the_volume_leave_nothing_to_learn_from(self) -> None:
        labels, features = two_classes(60)
        with pytest.raises(ValueError, match="class a has 0 synapses to learn from"):
            balanced_accuracy(features, labels, somewhere(60), crop_size=(500, 500, 500))


@pytest.mark.parametrize("probe", ["knn", "linear"])
class TestProbes:
    @pytest.mark.parametrize("crop", [None, CROP])
    def test_it_is_that_of_slow_formulas(
        self, probe: Probe, crop: tuple[int, int, int] | None
    ) -> None:
        labels, features = two_classes(60)
        positions = somewhere(60)
        slow = slow_knn if probe == "knn" else slow_linear
        found = {"a": [], "b": []}
        for training, held_out in slow_folds(positions, 5, crop or (0, 0, 0)):
            for i in held_out:
                found[labels[i]].append(slow(features, labels, training, i) == labels[i])
        expected = np.mean([np.mean(found["a"]), np.mean(found["b"])])
        got = balanced_accuracy(features, labels, positions, probe=probe, crop_size=crop)
        assert got == pytest.approx(expected)
        assert 0.4 < expected < 0.95

    def test_it_tells_labels_that_features_separate_and_no_others(self, probe: Probe) -> None:
        generator = np.random.default_rng(0)
        labels = np.array(["a", "b"] * 100)
        noise = generator.normal(size=(200, 4))
        apart = noise + 6 * (labels == "a")[:, None]
        positions = somewhere(200)
        assert balanced_accuracy(apart, labels, positions, probe=probe) == 1
        shuffled = generator.permutation(labels)
        assert 0.35 < balanced_accuracy(apart, shuffled, positions, probe=probe) < 0.65

    def test_a_class_counts_as_much_as_another_however_few_it_has(self, probe: Probe) -> None:
        labels = np.array((["a"] + ["b"] * 9) * 30)
        always_b = np.random.default_rng(0).normal(size=(300, 3))
        assert balanced_accuracy(always_b, labels, somewhere(300), probe=probe) < 0.65

    def test_synapses_without_a_label_count_for_nothing(self, probe: Probe) -> None:
        labels, features = two_classes(90)
        gaps = labels.astype(object)
        gaps[::4] = np.nan
        gaps[1::8] = ""
        known = np.flatnonzero(label_names(gaps) != "")
        with_gaps = balanced_accuracy(features, gaps, somewhere(90), probe=probe)
        positions = somewhere(90)[known]
        assert with_gaps == balanced_accuracy(
            features[known], labels[known], positions, probe=probe
        )

    def test_where_features_tell_the_place_alone_only_a_split_at_random_is_fooled(
        self, probe: Probe
    ) -> None:
        """Labels are alike within 50 voxels, and features tell which 50 voxels one is in."""
        generator = np.random.default_rng(0)
        positions = generator.integers(0, (50, 200, 400), (400, 3))
        patches = np.ravel_multi_index((positions // 50).T, (1, 4, 8))
        labels = np.array(["a", "b"] * 16)[generator.permutation(32)][patches]
        features = np.eye(32)[patches] + 0.1 * generator.normal(size=(400, 32))
        at_random = list(KFold(5, shuffle=True, random_state=0).split(features))
        assert probe_accuracy(features, labels, at_random, probe) > 0.9
        assert (
            balanced_accuracy(features, labels, positions, probe=probe, crop_size=(50, 50, 50))
            < 0.65
        )

    def test_it_converges_to_the_same_without_a_warning(self, probe: Probe) -> None:
        """Of many channels, nearly the same, of very different size, some of them constant."""
        generator = np.random.default_rng(0)
        features = generator.normal(size=(60, 3)) @ generator.normal(size=(3, 192))
        features = (features * 10.0 ** generator.uniform(-4, 4, 192)).astype(np.float32)
        features[:, :20] = 0.3
        labels, _ = two_classes(60)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            first, second = (
                balanced_accuracy(features, labels, somewhere(60), probe=probe) for _ in range(2)
            )
        assert first == second


def test_labels_of_any_type_have_names_and_missing_ones_have_none() -> None:
    mixed = np.array(["a", 3, None, np.nan, "", pd.NA], dtype=object)
    assert label_names(mixed).tolist() == ["a", "3", "", "", "", ""]
    assert label_names(pd.Series(["a", None], dtype="category")).tolist() == ["a", ""]
    assert label_names(np.array([1, 2])).tolist() == ["1", "2"]
    assert label_names([]).tolist() == []


@pytest.mark.real_data
@pytest.mark.parametrize("crop", [16, 80])
@pytest.mark.parametrize("probe", ["knn", "linear"])
@pytest.mark.parametrize("name", ["training_sample1", "training_sample2"])
def test_histograms_of_the_centre_tell_synapses_from_membrane(
    medulla: Path, name: str, probe: Probe, crop: int
) -> None:
    """As they were found by their dark centre, any network has this to beat."""
    volume = open_volume(medulla / f"{name}.tif")
    sites = read_table(medulla / f"{name}_sites.csv")
    sites = sites[sites["class"].isin(["tbar", "membrane"])]
    positions = positions_inside(sites, volume.shape)
    crops = crops_of(volume, positions, (16, 16, 16)).read(range(len(sites)))
    features, labels = histogram_features(crops), sites["class"]
    accuracy = balanced_accuracy(
        features, labels, positions.voxels, probe=probe, crop_size=(crop,) * 3
    )
    assert accuracy > 0.97
    assert len(probe_folds(labels, positions.voxels, (crop,) * 3)) == 5
