"""Vectors of a feature table: what they are, what is near, and what belongs together."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.neighbors import NearestNeighbors

from napari_synapse_cl.data.tables import folders
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features import clusters, neighbours
from napari_synapse_cl.features.clusters import find_clusters, stability_in_words
from napari_synapse_cl.features.neighbours import (
    Metric,
    Neighbours,
    Space,
    disagreement,
    find_neighbours,
    finished,
    oddness,
)
from napari_synapse_cl.features.tables import FORMATS, feature_columns, feature_table, write_table
from napari_synapse_cl.features.vectors import Scaling, as_vectors, open_vectors, vectors_in

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")


def some_vectors(n: int, channels: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, channels)).astype(np.float32)


def write_features(path: Path) -> pd.DataFrame:
    """Write a table of six rows, of which one has no features, and return it."""
    synapses = pd.DataFrame(
        {
            "id": np.array([2**60 + i for i in range(6)]),
            **{axis: np.arange(6.0) for axis in "zyx"},
            "note": ["a", None, "007", "b, c", "a", ""],
            "partner": pd.array([2**60 + 1, None, 3, 4, 5, 6], dtype="Int64"),
            "checked": [True, False, True, True, False, True],
        }
    )
    for source, n in (("mean", 3), ("max", 2)):
        values = some_vectors(5, n, seed=n)
        columns = feature_columns(20, source, n)
        synapses = feature_table(synapses, np.array([0, 1, 2, 3, 5]), values, columns)
    components = some_vectors(5, 1)
    synapses = feature_table(synapses, np.array([0, 1, 2, 3, 5]), components, ["L20_mean_PC1"])
    synapses = feature_table(synapses, np.arange(6), some_vectors(6, 1), ["hand_hist_00"])
    write_table(synapses, path, {"pooling": "mean", "crop_size": [8, 8, 8]})
    return synapses


class TestTables:
    def test_columns_are_grouped_into_vectors(self) -> None:
        columns = ["id", "L20_mean_000", "L20_mean_PC1", "L20_mean_v2_000", "L20_mean_001"]
        columns += ["hand_hist_00", "hand_centre_hist_00", "hand_v2_hist_00"]
        assert vectors_in(columns) == {
            "L20_mean": ["L20_mean_000", "L20_mean_001"],
            "L20_mean_v2": ["L20_mean_v2_000"],
            "hand": ["hand_hist_00", "hand_centre_hist_00"],
            "hand_v2": ["hand_v2_hist_00"],
        }

    @pytest.mark.parametrize("name", ["L20_mean", "hand"])
    def test_rows_are_written_as_a_table_that_holds_the_same(
        self, name: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "f.npz"
        write_features(path)
        found = open_vectors(path, [name], descriptors=True)
        rows = np.array([1, 4, 5])
        table = found.written(rows, found.table.iloc[rows])
        again = as_vectors(table, found.record, [name], descriptors=True)
        assert (again.columns, again.columns_by_hand) == (found.columns, found.columns_by_hand)
        for array in ("values", "by_hand", "histogram"):
            np.testing.assert_array_equal(getattr(again, array), getattr(found, array)[rows])
        pd.testing.assert_frame_equal(again.table, found.table.iloc[rows])

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_a_vector_is_read_from_each_format_and_other_columns_stay(
        self, suffix: str, tmp_path: Path
    ) -> None:
        path = tmp_path / f"f.{suffix}"
        written = write_features(path)
        read = open_vectors(path, ["L20_max", "L20_mean"])
        columns = [*feature_columns(20, "max", 2), *feature_columns(20, "mean", 3)]
        np.testing.assert_array_equal(read.values, written[columns].to_numpy(np.float32))
        assert read.values.flags["C_CONTIGUOUS"]
        assert read.sizes == (2, 3)
        assert read.rows.tolist() == [0, 1, 2, 3, 5]
        assert read.n_blank == 1
        assert read.extent == (8, 8, 8)
        np.testing.assert_array_equal(read.histogram, written[["hand_hist_00"]])
        others = ["id", "z", "y", "x", "note", "partner", "checked", "L20_mean_PC1"]
        assert list(read.table.columns) == others
        assert read.table["id"].tolist() == written["id"].tolist()
        assert read.table["partner"].tolist()[0] == 2**60 + 1

    def test_of_parquet_no_other_channels_are_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "f.parquet"
        write_features(path)
        asked = []
        read = folders.read_parquet

        def spy(*arguments: object, **options: object) -> object:
            asked.append(options["columns"])
            return read(*arguments, **options)

        monkeypatch.setattr(folders, "read_parquet", spy)
        open_vectors(path, ["L20_max"])
        [columns] = asked
        assert {"L20_max_000", "L20_max_001", "hand_hist_00", "note"} <= set(columns)
        assert not set(feature_columns(20, "mean", 3)) & set(columns)

    def test_of_several_vectors_one_has_to_be_named(self, tmp_path: Path) -> None:
        path = tmp_path / "f.csv"
        write_features(path)
        with pytest.raises(InputError, match=r"L20_mean \(3 numbers\), L20_max .* --vectors"):
            open_vectors(path)
        with pytest.raises(InputError, match=r"no vector L12_mean; it has L20_mean"):
            open_vectors(path, ["L12_mean"])

    def test_the_only_vector_needs_no_name_and_without_any_the_table_is_refused(
        self, tmp_path: Path
    ) -> None:
        table = pd.DataFrame({axis: [1.0, 2.0] for axis in "zyx"})
        write_table(table, tmp_path / "none.csv", {})
        with pytest.raises(InputError, match="no feature vectors"):
            open_vectors(tmp_path / "none.csv")
        columns = feature_columns(3, "mean", 2)
        write_table(
            feature_table(table, np.arange(2), some_vectors(2, 2), columns),
            tmp_path / "one.csv",
            {},
        )
        assert open_vectors(tmp_path / "one.csv").names == ("L3_mean",)

    def test_positions_in_other_volumes_are_far_apart(self, tmp_path: Path) -> None:
        table = pd.DataFrame({axis: [1.0, 1.4, np.nan, 1.0] for axis in "zyx"})
        table = table.assign(volume=["a", "a", "a", "b"])
        columns = feature_columns(3, "mean", 2)
        table = feature_table(table, np.arange(4), some_vectors(4, 2), columns)
        write_table(table, tmp_path / "f.csv", {})
        read = open_vectors(tmp_path / "f.csv")
        assert read.placed.tolist() == [True, True, False, True]
        assert read.places[0].tolist() == read.places[1].tolist() == [1, 1, 1]
        assert read.places[3, 0] > 1000

    def test_vectors_are_standardised_and_several_count_alike(self) -> None:
        values = some_vectors(500, 6) * [1, 10, 100, 1e-3, 1, 1] + [5, 0, 0, 0, 0, 7]
        values[:, 4] = 3
        scaled = Scaling.of(values.astype(np.float32), [2, 4]).apply(values)
        squares = np.square(scaled).mean(axis=0)
        np.testing.assert_allclose(squares, [1 / 2, 1 / 2, 1 / 4, 1 / 4, 0, 1 / 4], rtol=1e-4)
        np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)


class TestSimilar:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("unlike", [[], [4, 7]])
    def test_it_ranks_as_a_slow_formula_does(self, metric: Metric, unlike: list[int]) -> None:
        values, like = some_vectors(300), [1, 2, 3]
        points = values.astype(np.float64)
        if metric == "cosine":
            points /= np.linalg.norm(points, axis=1, keepdims=True)
        scores = np.zeros(300)
        for some, sign in ((like, 1), (unlike, -1)):
            for one in some:
                nearness = (
                    points @ points[one]
                    if metric == "cosine"
                    else -np.linalg.norm(points - points[one], axis=1)
                )
                scores += sign * nearness / len(some)
        scores[[*like, *unlike]] = -np.inf
        order = np.argsort(-scores)[:20]
        found, told = Space(values, metric).similar(
            values[like], values[unlike], 20, [*like, *unlike]
        )
        assert found.tolist() == order.tolist()
        np.testing.assert_allclose(told, scores[order], rtol=1e-5)

    @pytest.mark.parametrize("metric", METRICS)
    def test_what_float32_cannot_tell_apart_is_ranked_right(self, metric: Metric) -> None:
        rng = np.random.default_rng(0)
        # Far from the origin squared lengths swallow the differences.
        values = (100 + 1e-3 * rng.normal(size=(400, 6))).astype(np.float32)
        space = Space(values, metric)
        exact = space.points.astype(np.float64)
        scores = exact @ exact[0]
        if metric == "euclidean":
            scores = -np.linalg.norm(exact - exact[0], axis=1)
        found, told = space.similar(values[:1], n=10)
        np.testing.assert_array_equal(told, np.sort(scores)[::-1][:10])
        np.testing.assert_array_equal(scores[found], told)

    def test_of_equal_ones_the_first_comes_first_and_no_more_are_told_than_there_are(self) -> None:
        values = np.ones((5, 3), np.float32)
        found, _ = Space(values).similar(values[:1], n=10, without=[0, 2])
        assert found.tolist() == [1, 3, 4]

    def test_a_vector_of_zeros_is_alike_to_none(self) -> None:
        values = np.array([[1, 0], [0, 0], [2, 0.1]], np.float32)
        found, scores = Space(values).similar(values[:1], n=3)
        assert found.tolist() == [0, 2, 1]
        assert scores[2] == 0


class TestNeighbours:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("n", [2, 9, 64, 65, 333])
    def test_they_are_those_of_scikit_learn(
        self, metric: Metric, n: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(neighbours, "BLOCK", 64)
        values, k = some_vectors(n), min(15, n - 1)
        found = finished(find_neighbours(Space(values, metric), 15))
        search = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute")
        distances, numbers = search.fit(values.astype(np.float64)).kneighbors()
        np.testing.assert_array_equal(found.numbers, numbers)
        np.testing.assert_allclose(found.distances, distances, atol=1e-5)

    def test_many_pairs_that_come_near_late_are_all_seen(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(neighbours, "BLOCK", 32)
        # Each block is nearer to the first one than the one before it was.
        values = np.concatenate([np.zeros((32, 1)), 100 / np.arange(1, 200)[:, None]])
        found = finished(find_neighbours(Space(values.astype(np.float32), "euclidean"), 3))
        assert set(found.numbers[200].tolist()) == {199, 201, 202}
        assert set(found.numbers[230].tolist()) == {229, 228, 227}

    def test_the_same_vectors_are_each_others_neighbours_and_never_their_own(self) -> None:
        values = np.repeat(some_vectors(4), 5, axis=0)
        found = finished(find_neighbours(Space(values, "euclidean"), 4))
        assert (found.numbers // 5 == np.arange(20)[:, None] // 5).all()
        assert (found.numbers != np.arange(20)[:, None]).all()
        assert found.distances.max() == 0

    def test_it_says_how_far_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(neighbours, "BLOCK", 16)
        steps = list(find_neighbours(Space(some_vectors(100)), 3))
        done = [step[1] for step in steps]
        assert done == sorted(done)
        assert done[0] == 0
        assert done[-1] == steps[-1][2] == 100

    def test_the_oddest_is_farthest_from_its_neighbours(self) -> None:
        values = some_vectors(50) / 10
        values[17] += 5
        distances, ranks = oddness(finished(find_neighbours(Space(values, "euclidean"), 5)))
        assert ranks[17] == 1
        assert sorted(ranks) == list(range(1, 51))
        assert distances[17] == distances.max()

    def test_labels_that_differ_from_those_around_are_counted(self) -> None:
        numbers = np.array([[1, 2], [0, 3], [0, 3], [1, 2]])
        labels = np.array(["a", "b", "", "b"])
        found = disagreement(Neighbours(numbers, np.zeros((4, 2))), labels)
        np.testing.assert_array_equal(found, [1, 0.5, np.nan, 0])
        alone = disagreement(Neighbours(np.array([[1], [0]]), np.zeros((2, 1))), labels[1:3])
        assert np.isnan(alone).all()


def blobs(*sizes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors in clusters of these sizes, and which one each is in."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    values = rng.normal(size=(len(kinds), 5)) * 0.3 + 4 * np.eye(len(sizes), 5)[kinds]
    order = rng.permutation(len(kinds))
    return values[order].astype(np.float32), kinds[order]


class TestClusters:
    @pytest.mark.parametrize("method", ["kmeans", "mixture", "hdbscan"])
    def test_those_that_are_there_are_found_and_their_number_too(
        self, method: clusters.Method
    ) -> None:
        values, kinds = blobs(30, 60, 40)
        found = finished(find_clusters(values, method, most=5))
        assert adjusted_rand_score(kinds, found.labels) == 1
        assert found.counts == {0: 0, 1: 60, 2: 40, 3: 30}
        assert found.halves > 0.9
        assert (found.seeds is None) == (method == "hdbscan")
        assert "can be taken as classes" in list(found.in_words())[-1]

    def test_silhouettes_are_those_of_scikit_learn(self) -> None:
        values, kinds = blobs(30, 60, 40)
        found = finished(find_clusters(values, most=4))
        assert found.silhouettes[3] == pytest.approx(silhouette_score(values, kinds), abs=1e-5)
        assert max(found.silhouettes, key=lambda n: found.silhouettes[n]) == 3

    def test_clusters_in_what_has_none_are_not_to_be_relied_on(self) -> None:
        found = finished(find_clusters(some_vectors(200), n=6))
        assert found.halves < 0.5
        assert "not to be relied on" in list(found.in_words())[-1]
        assert found.silhouettes == {}

    def test_hdbscan_leaves_out_what_is_in_no_dense_part(self) -> None:
        values, _ = blobs(30, 60)
        values = np.concatenate([values, 30 + 20 * some_vectors(5, 5)])
        found = finished(find_clusters(values, "hdbscan"))
        assert (found.labels[-5:] == clusters.NONE).all()
        assert "5 rows in none" in next(found.in_words())
        nothing = finished(find_clusters(some_vectors(60), "hdbscan"))
        assert nothing.n == 0
        assert "no clusters" in next(nothing.in_words())

    def test_typical_ones_are_in_the_middle_and_borderline_ones_near_another(self) -> None:
        line = np.linspace(0, 1, 20)
        values = np.stack([np.concatenate([line, line + 3]), np.zeros(40)], axis=1)
        found = finished(find_clusters(values.astype(np.float32), n=2))
        left = int(found.labels[0])
        assert set(found.typical[left][:2]) == {9, 10}
        assert found.borderline[left][:3] == [19, 18, 17]
        assert found.borderline[3 - left][:3] == [20, 21, 22]
        assert len(found.typical[left]) == 9

    def test_of_many_rows_a_sample_makes_the_clusters_that_others_join(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(clusters, "MOST_FITTED", {"kmeans": 60, "hdbscan": 60})
        values, kinds = blobs(80, 120)
        for method in ("kmeans", "hdbscan"):
            found = finished(find_clusters(values, method, n=2))  # type: ignore[arg-type]
            assert found.n_fitted == 60
            assert adjusted_rand_score(kinds, found.labels) == 1

    @pytest.mark.parametrize(
        ("seeds", "halves", "words"),
        [
            (0.95, 0.91, "can be taken as classes: two halves of the rows agree .* 0.91"),
            (None, 0.2, "not to be relied on"),
            (0.3, 0.9, "not to be relied on"),
            (0.9, 0.6, "in part"),
        ],
    )
    def test_stability_is_told_in_words(
        self, seeds: float | None, halves: float, words: str
    ) -> None:
        import re

        assert re.search(words, stability_in_words(seeds, halves))
