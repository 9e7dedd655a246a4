"""A feature table is explored without a window: by functions, and by the command line."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from conftest import Files, as_flags
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.brightness import judge_brightness
from napari_synapse_cl.features.classifiers import (
    Classifier,
    from_probabilities,
    load,
    save,
    teach,
)
from napari_synapse_cl.features.neighbours import finished
from napari_synapse_cl.features.prediction import VECTORS, Ground, evaluate
from napari_synapse_cl.features.tables import (
    FORMATS,
    feature_columns,
    feature_table,
    read_table,
    write_table,
)
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.runs.events import Control, Progress, Wrote

N, CHANNELS = 150, 8
IDENTITY: dict[str, Any] = {"identity": {"vectors": ["L20_mean"], "numbers": [CHANNELS]}}
IDENTITY["identity"]["L20_mean"] = {}


def labelled(n_classes: int, n: int = N, apart: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors, and labels that these tell more or less."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, n_classes, n)
    values = rng.normal(size=(n, CHANNELS)) + apart * np.eye(n_classes, CHANNELS)[kinds]
    return values.astype(np.float32), np.array(["a", "b", "c"])[kinds]


def ground(labels: np.ndarray) -> Ground:
    places = np.random.default_rng(1).integers(0, (200, 200, 2000), (len(labels), 3))
    return Ground(labels, places, (16, 16, 16))


def hidden_labels(labels: np.ndarray) -> np.ndarray:
    """Return histograms that tell labels."""
    known = np.eye(3, 32)[np.searchsorted(["a", "b", "c"], labels)]
    return (known + 0.3 * np.random.default_rng(3).random((len(labels), 32))).astype(np.float32)


class TestClassifiers:
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_probabilities_are_those_of_scikit_learn(self, n_classes: int) -> None:
        values, labels = labelled(n_classes)
        folds = ground(labels).folds()
        taught = teach(values, labels, [CHANNELS], kind="logistic", folds=folds)
        scaled = (values - values.mean(axis=0)) / values.std(axis=0) / np.sqrt(CHANNELS)
        model = LogisticRegression(C=5.0, max_iter=10_000)
        expected = CalibratedClassifierCV(model, cv=folds, ensemble=False).fit(scaled, labels)
        np.testing.assert_allclose(
            taught.probabilities(values), expected.predict_proba(scaled), atol=1e-4
        )
        assert taught.is_calibrated
        assert taught.classes == tuple(expected.classes_)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_a_gaussian_process_is_that_of_scikit_learn(self, n_classes: int) -> None:
        values, labels = labelled(n_classes, 36)
        taught = teach(values, labels, [CHANNELS])
        assert taught.kind == "gaussian_process"
        scaled = (values - values.mean(axis=0)) / values.std(axis=0) / np.sqrt(CHANNELS)
        kernel = ConstantKernel(1, (1e-2, 1e3)) * RBF(1, (5e-2, 2e1))
        expected = GaussianProcessClassifier(kernel).fit(scaled, labels)
        np.testing.assert_allclose(
            taught.probabilities(values), expected.predict_proba(scaled), atol=1e-3
        )

    def test_a_class_of_one_label_leaves_probabilities_as_they_are(self) -> None:
        values, labels = labelled(2, 60)
        labels[:] = "a"
        labels[0] = "b"
        taught = teach(values, labels, [CHANNELS], kind="logistic")
        assert not taught.is_calibrated
        np.testing.assert_allclose(taught.probabilities(values).sum(axis=1), 1)

    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("kind", ["logistic", "gaussian_process"])
    def test_one_comes_out_of_its_file_as_it_went_in_without_pickle(
        self, n_classes: int, kind: Any, tmp_path: Path
    ) -> None:
        values, labels = labelled(n_classes, 40)
        taught = teach(values, labels, [CHANNELS], kind=kind)
        save(taught, IDENTITY, tmp_path / "c.npz")
        read, about = load(tmp_path / "c.npz")
        np.testing.assert_array_equal(read.probabilities(values), taught.probabilities(values))
        assert read.classes == taught.classes
        assert about["identity"] == IDENTITY["identity"]
        with zipfile.ZipFile(tmp_path / "c.npz") as packed:
            for name in packed.namelist():
                with packed.open(name) as file:
                    assert b"|O" not in file.read(128)

    def test_a_file_that_is_none_is_refused_and_nothing_in_it_is_run(self, tmp_path: Path) -> None:
        path, ran = tmp_path / "c.npz", tmp_path / "ran"

        class Evil:
            def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
                return Path.touch, (ran,)

        np.savez(path, about=np.array([Evil()], dtype=object), mean=0, factor=0)
        with pytest.raises(InputError, match="is no classifier, or damaged"):
            load(path)
        path.write_bytes(pickle.dumps(Evil()))
        with pytest.raises(InputError, match="is no classifier, or damaged"):
            load(path)
        assert not ran.exists()
        with pytest.raises(InputError, match="there is no classifier"):
            load(tmp_path / "none.npz")

    def test_damaged_ones_are_refused(self, tmp_path: Path) -> None:
        values, labels = labelled(2)
        taught = teach(values, labels, [CHANNELS], kind="logistic")
        path = tmp_path / "c.npz"
        broken = {**taught.arrays, "coefficients": np.zeros((1, 3))}
        save(Classifier("logistic", taught.classes, taught.scaling, broken), IDENTITY, path)
        with pytest.raises(InputError, match="damaged"):
            load(path)
        save(taught, {"identity": {"vectors": ["x"], "numbers": [CHANNELS]}}, path)
        with pytest.raises(InputError, match="damaged"):
            load(path)

    def test_uncertainty_is_0_where_one_class_is_certain_and_1_where_none_is(self) -> None:
        told = np.array([[1, 0], [0.5, 0.5], [0.2, 0.8]])
        best, probability, uncertainty = from_probabilities(told)
        assert best.tolist() == [0, 0, 1]
        assert probability.tolist() == [1, 0.5, 0.8]
        expected = -(0.2 * np.log2(0.2) + 0.8 * np.log2(0.8))
        np.testing.assert_allclose(uncertainty, [0, 1, expected])


class TestEvaluation:
    def test_labels_that_vectors_tell_are_told_in_parts_that_were_held_out(self) -> None:
        values, labels = labelled(3, apart=6)
        found = finished(evaluate({VECTORS: (values, [CHANNELS])}, ground(labels), "logistic"))
        [score] = found.scores
        assert score.balanced > 0.95
        assert score.low > 0.9
        assert sum(map(sum, score.confusion)) == N
        diagonal = np.diag(score.confusion)
        assert diagonal.sum() / N == pytest.approx(score.accuracy)
        told = np.repeat(np.arange(3)[None], 3, 0)
        true = np.repeat(np.arange(3)[:, None], 3, 1)
        weights = np.array(score.confusion).ravel()
        expected = f1_score(true.ravel(), told.ravel(), average=None, sample_weight=weights)
        np.testing.assert_allclose(list(score.f1.values()), expected)

    def test_what_tells_each_row_apart_and_nothing_else_is_no_better_than_chance(self) -> None:
        _, labels = labelled(2)
        values = np.eye(N, dtype=np.float32)
        found = finished(evaluate({VECTORS: (values, [N])}, ground(labels), "logistic"))
        assert found.scores[0].balanced < 0.6
        assert "from which it cannot be told apart" in next(found.in_words())

    def test_probabilities_are_right_as_often_as_they_say(self) -> None:
        values, labels = labelled(2, 600, apart=1.2)
        found = finished(evaluate({VECTORS: (values, [CHANNELS])}, ground(labels), "logistic"))
        [score] = found.scores
        assert 0.7 < score.accuracy < 0.9
        assert score.confidence == pytest.approx(score.accuracy, abs=0.04)

    def test_what_is_simpler_stands_beside_it_with_an_interval(self) -> None:
        values, labels = labelled(2, apart=4)
        noise = np.random.default_rng(2).normal(size=(N, 5)).astype(np.float32)
        sets = {VECTORS: (values, [CHANNELS]), "intensity histogram": (noise, [5])}
        found = finished(evaluate(sets, ground(labels), "logistic"))
        [comparison] = found.comparisons
        assert comparison.low > 0
        assert "the vectors tell more than the intensity histogram" in list(found.in_words())[-1]

    def test_too_few_labels_are_told(self) -> None:
        values, labels = labelled(2, 6)
        found = finished(evaluate({VECTORS: (values, [CHANNELS])}, ground(labels), "logistic"))
        assert "cannot be measured" in next(found.in_words())


class TestBrightness:
    def test_with_labels_that_the_histogram_tells_as_well(self) -> None:
        values, labels = labelled(3)
        found = judge_brightness(
            hidden_labels(labels), hidden_labels(labels), 5, "cosine", ground(labels)
        )
        assert found.is_doubtful
        assert found.text.startswith("neighbours may reflect brightness only")
        assert found.measured["knn"] == found.measured["histogram"] > 0.9
        noise = np.random.default_rng(0).random((N, 32)).astype(np.float32)
        found = judge_brightness(3 * values, noise, 5, "cosine", ground(labels))
        assert not found.is_doubtful
        assert found.text.startswith("the neighbours tell more than the intensity histogram's")
        assert found.measured["low"] > 0

    def test_neighbours_at_chance_are_told_so(self) -> None:
        values, labels = labelled(2, apart=0)
        noise = np.random.default_rng(0).random((N, 32)).astype(np.float32)
        found = judge_brightness(values, noise, 5, "cosine", ground(labels))
        assert found.is_doubtful
        assert found.text.startswith("neighbours tell labels no better than chance")
        assert found.measured["knn"] == pytest.approx(0.5, abs=0.15)

    def test_without_labels_by_neighbours_in_common(self) -> None:
        rng = np.random.default_rng(0)
        histogram = rng.random((200, 32)).astype(np.float32)
        scaled = ((histogram - histogram.mean(0)) / histogram.std(0)).astype(np.float32)
        found = judge_brightness(scaled, histogram, 5, "cosine", None)
        assert found.is_doubtful
        assert found.text.startswith("neighbours reflect brightness before all else: 100%")
        assert found.measured["shared"] == 1
        other = rng.normal(size=(200, 8)).astype(np.float32)
        found = judge_brightness(other, histogram, 5, "cosine", None)
        assert not found.is_doubtful
        assert "something else" in found.text
        assert found.measured["shared"] < 0.2
        assert found.measured["chance"] == pytest.approx(5 / 199)


def make_table(n: int = N) -> pd.DataFrame:
    """Return a table of what an extraction writes: its last two rows have no features."""
    values, kinds = labelled(3, n, apart=5)
    rng = np.random.default_rng(4)
    table = pd.DataFrame(
        {
            "id": 2**60 + np.arange(n),
            "z": rng.integers(0, 200, n),
            "y": rng.integers(0, 200, n),
            "x": rng.integers(0, 2000, n),
            "note": [None if i % 3 else f"{i:03d}" for i in range(n)],
            "kind": np.where(np.arange(n) % 2, kinds, None),
            "truth": kinds,
        }
    )
    table = feature_table(
        table, np.arange(n - 2), values[:-2], feature_columns(20, "mean", CHANNELS)
    )
    histogram = rng.random((n, 32)).astype(np.float32)
    return feature_table(table, np.arange(n), histogram, [f"hand_hist_{i:02d}" for i in range(32)])


RECORD: dict[str, Any] = {
    "pooling": "mean",
    "sha256": "ab" * 32,
    "crop_size": [16, 16, 16],
    "extent": [16, 16, 16],
    "voxel_size": [10.0, 10.0, 10.0],
    "settings": {"keep": "everything", "intensity": "range"},
}


@pytest.fixture(scope="module")
def table_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "features.parquet"
    write_table(make_table(), path, RECORD)
    return path


@pytest.fixture(scope="module")
def taught(table_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a prediction."""
    folder = tmp_path_factory.mktemp("taught") / "out"
    arguments = ["predict", "--features", str(table_file), "--vectors", "L20_mean"]
    assert main(["--explore", *arguments, "--label_column", "kind", "--output", str(folder)]) == 0
    return folder


def explore(table: Path, output: Path, what: str, *more: str) -> int:
    named = ["--features", str(table), "--vectors", "L20_mean", "--output", str(output)]
    return main(["--explore", what, *named, *more])


def results(file: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    table, _ = read_table(file)
    return table, json.loads(file.with_suffix(".json").read_text())["found"]


class TestCommandLine:
    @pytest.mark.parametrize("suffix", FORMATS)
    def test_clusters_become_a_column_beside_what_was_there(
        self, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        path = tmp_path / f"features.{suffix}"
        before = make_table()
        write_table(before, path, RECORD)
        assert explore(path, tmp_path / "out", "cluster", "--n_clusters", "3") == 0
        told = capsys.readouterr()
        assert "2 of 150 rows have no features of L20_mean" in told.err
        assert "these clusters come again, and can be taken as classes" in told.err
        assert f"table {tmp_path / 'out' / f'clusters.{suffix}'}" in told.out
        table, found = results(tmp_path / "out" / f"clusters.{suffix}")
        assert list(table.columns) == ["id", "z", "y", "x", "note", "kind", "truth", "cluster"]
        assert table["id"].tolist() == before["id"].tolist()
        assert table["note"].tolist()[:4] == ["000", *table["note"].tolist()[1:3], "003"]
        assert table["note"].isna().sum() == before["note"].isna().sum()
        assert table["cluster"].isna().tolist() == [False] * (N - 2) + [True] * 2
        numbers = table["cluster"][: N - 2].astype(int)
        # The label of most of its rows is that of nearly all of a cluster.
        agreeing = pd.crosstab(numbers, table["truth"][: N - 2]).max(axis=1).sum()
        assert agreeing > 0.95 * (N - 2)
        assert [one["rows"] for one in found["clusters"]] == sorted(
            numbers.value_counts().tolist(), reverse=True
        )
        assert all(len(one["typical"]) == 9 for one in found["clusters"])
        first = found["clusters"][0]
        assert set(numbers[first["typical"]]) == {1}

    def test_similar_rows_are_ranked_by_their_score(self, table_file: Path, tmp_path: Path) -> None:
        named = ["--like", "4", f"id={2**60 + 5}", "--unlike", "7", "--n_similar", "10"]
        assert explore(table_file, tmp_path, "similar", *named) == 0
        table, found = results(tmp_path / "similar.parquet")
        assert found["like"] == [4, 5]
        assert table["rank"].tolist() == list(range(1, 11))
        assert (np.diff(table["similarity"]) <= 0).all()
        assert not {4, 5, 7} & set(table["row"])
        before = make_table()
        assert table["id"].tolist() == before["id"][table["row"]].tolist()
        values = before.filter(like="L20_mean").to_numpy()
        scaled = (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0)
        unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
        scores = unit @ ((unit[4] + unit[5]) / 2 - unit[7])
        np.testing.assert_allclose(table["similarity"], scores[table["row"]], atol=1e-5)

    def test_outliers_have_a_distance_a_rank_and_what_their_neighbours_are(
        self, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        before = make_table()
        before.loc[33, feature_columns(20, "mean", CHANNELS)] = np.float32(40)
        labels = before["truth"].copy()
        labels[60] = "b" if labels[60] != "b" else "c"
        write_table(before.assign(truth=labels), tmp_path / "f.csv", RECORD)
        more = ["--distance", "euclidean", "--label_column", "truth", "--n_neighbors", "5"]
        assert explore(tmp_path / "f.csv", tmp_path / "out", "outliers", *more) == 0
        table, found = results(tmp_path / "out" / "outliers.csv")
        assert table["outlier_rank"][33] == 1
        assert found["farthest"][0] == 33
        assert table["outlier_distance"].idxmax() == 33
        assert table["label_disagreement"][60] == 1
        assert 60 in found["doubtful"]
        assert "have more neighbours with another label than with their own" in (
            capsys.readouterr().err
        )

    def test_labels_of_the_rest_are_predicted(self, taught: Path) -> None:
        table, found = results(taught / "predictions.parquet")
        rest = table["kind"].isna() & (np.arange(N) < N - 2)
        assert table["predicted"].notna().tolist() == rest.tolist()
        assert (table["predicted"] == table["truth"])[rest].mean() > 0.95
        assert table["probability"][rest].between(1 / 3, 1).all()
        assert table["uncertainty"][rest].between(0, 1).all()
        assert table["probability"].isna().tolist() == (~rest).tolist()
        assert sum(found["predicted"].values()) == rest.sum()
        assert found["kind"] == "logistic"
        assert [score["name"] for score in found["held_out"]] == [
            "the vectors",
            "intensity histogram",
        ]
        assert any("by chance 0.33" in sentence for sentence in found["told"])

    def test_below_a_probability_none_is_predicted(self, table_file: Path, tmp_path: Path) -> None:
        more = ["--label_column", "kind", "--reject_below", "0.9"]
        assert explore(table_file, tmp_path, "predict", *more) == 0
        table, found = results(tmp_path / "predictions.parquet")
        asked = table["probability"].notna()
        assert (table["predicted"][asked].notna() == (table["probability"][asked] >= 0.9)).all()
        assert 0 < sum(found["predicted"].values()) < asked.sum()

    def test_few_labels_teach_a_gaussian_process_and_numbers_stay_numbers(
        self, tmp_path: Path
    ) -> None:
        before = make_table()
        numbers = before["truth"].map({"a": 1, "b": 2, "c": 3}).astype("Int64")
        numbers[30:] = pd.NA
        write_table(before.assign(kind=numbers), tmp_path / "f.parquet", RECORD)
        more = ["--label_column", "kind"]
        assert explore(tmp_path / "f.parquet", tmp_path / "out", "predict", *more) == 0
        table, found = results(tmp_path / "out" / "predictions.parquet")
        assert found["kind"] == "gaussian_process"
        asked = table["predicted"].notna()
        assert asked.sum() == N - 32
        right = table["predicted"][asked] == table["truth"][asked].map({"a": 1, "b": 2, "c": 3})
        assert right.mean() > 0.9

    def test_a_classifier_is_applied_to_another_table(
        self, taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        other = make_table().drop(columns=["kind", "hand_hist_00"]).iloc[::-1]
        write_table(other.reset_index(drop=True), tmp_path / "f.npz", RECORD)
        more = ["--classifier", str(taught / "classifier.npz")]
        arguments = ["--explore", "predict", "--features", str(tmp_path / "f.npz"), *more]
        assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
        table, _ = results(tmp_path / "out" / "predictions.npz")
        assert table["predicted"].notna().sum() == N - 2
        assert (table["predicted"] == table["truth"])[2:].mean() > 0.95
        before, _ = results(taught / "predictions.parquet")
        known = before["probability"].notna()
        np.testing.assert_allclose(
            table["probability"][::-1].to_numpy()[known], before["probability"][known], rtol=1e-6
        )
        assert not (tmp_path / "out" / "classifier.npz").exists()
        assert "no effect" not in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"sha256": "cd" * 32}, "the network was abababababab, and here it is cdcdcdcdcdcd"),
            ({"sha256": None}, "the network was abababababab, and here it is not known"),
            ({"voxel_size": [40.0, 8.0, 8.0]}, "the voxel size was 10.0 × 10.0 × 10.0, and here"),
            ({"crop_size": [32, 32, 32]}, "crop size was 16 × 16 × 16, and here it is 32 × 32"),
            ({"settings": {"keep": "cleft"}}, "the keep was everything, and here it is cleft"),
        ],
    )
    def test_where_vectors_mean_something_else_it_is_refused_in_one_line(
        self,
        changed: dict[str, Any],
        words: str,
        taught: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture,
    ) -> None:
        write_table(make_table(), tmp_path / "f.csv", {**RECORD, **changed})
        more = ["--classifier", str(taught / "classifier.npz")]
        arguments = ["--explore", "predict", "--features", str(tmp_path / "f.csv"), *more]
        assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert words in line

    def test_another_layer_is_refused_and_what_is_not_known_of_crops_is_told(
        self, taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        table = make_table().rename(columns=lambda name: name.replace("L20", "L12"))
        write_table(table, tmp_path / "f.csv", RECORD)
        more = ["--classifier", str(taught / "classifier.npz")]
        arguments = ["--explore", "predict", "--features", str(tmp_path / "f.csv"), *more]
        assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
        assert "has no vector L20_mean; it has L12_mean" in capsys.readouterr().err
        old = {name: value for name, value in RECORD.items() if name != "settings"}
        write_table(make_table(), tmp_path / "f.csv", old)
        assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
        assert "whether keep and intensity are what they were" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("--explore cluster", "explore needs a feature table: name it as features"),
            ("--features F", "features is for explore"),
            ("--explore find --features F", "explore cannot be 'find'"),
            ("--explore similar --features F", "name them as like"),
            ("--explore cluster --features F --train_only", "leave train_only out"),
            ("--explore cluster --features F", "name those to look at with --vectors"),
            ("--explore cluster --features F --vectors L3_mean", "has no vector L3_mean"),
            ("--explore cluster --features none.csv", "there is no feature table none.csv"),
            ("--explore similar --features F --vectors hand --like 150", "counted from 0 to 149"),
            ("--explore similar --features F --vectors hand --like id=1", "no row of .* has 1 as"),
            ("--explore similar --features F --vectors hand --like no=1", "has no column no"),
            ("--explore similar --features F --vectors L20_mean --like 149", "row 149 .* has no"),
            ("--explore predict --features F --vectors hand", "name their column"),
            ("--explore predict --features F --vectors hand --label_column x2", "no column x2"),
            (
                "--explore predict --features F --vectors hand --label_column note",
                "50 different labels in 50 rows",
            ),
            ("--explore cluster --features F --vectors hand --n_clusters 100", "at least 200"),
            ("--explore cluster --features F --vectors hand --n_clusters -1", "at least 0"),
        ],
    )
    def test_what_cannot_be_used_is_refused_in_one_line(
        self,
        arguments: str,
        words: str,
        table_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        given = [str(table_file) if part == "F" else part for part in arguments.split()]
        assert main(given) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert pd.Series([line]).str.contains(words).all(), line

    def test_a_label_of_each_class_teaches_and_that_nothing_can_be_measured_is_told(
        self, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        table = make_table()
        first = table["truth"].drop_duplicates().index
        table = table.assign(kind=table["truth"].where(table.index.isin(first)))
        write_table(table, tmp_path / "f.csv", RECORD)
        assert explore(tmp_path / "f.csv", tmp_path, "predict", "--label_column", "kind") == 0
        assert "cannot be measured: " in capsys.readouterr().err
        table, _ = results(tmp_path / "predictions.csv")
        assert table["predicted"].notna().sum() == N - 5

    def test_where_all_have_a_label_the_classifier_is_kept_and_nothing_predicted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        write_table(make_table(), tmp_path / "f.csv", RECORD)
        assert explore(tmp_path / "f.csv", tmp_path, "predict", "--label_column", "truth") == 0
        assert "none is left to predict" in capsys.readouterr().err
        assert (tmp_path / "classifier.npz").exists()

    def test_one_class_teaches_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        write_table(make_table().assign(kind="a"), tmp_path / "f.csv", RECORD)
        assert explore(tmp_path / "f.csv", tmp_path, "predict", "--label_column", "kind") == 2
        assert "two classes in the column kind: all are a" in capsys.readouterr().err

    def test_a_column_that_is_there_stays_and_the_new_one_gets_another_name(
        self, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        write_table(make_table().assign(cluster="mine"), tmp_path / "f.csv", RECORD)
        assert explore(tmp_path / "f.csv", tmp_path, "cluster", "--n_clusters", "2") == 0
        assert "the new one is cluster_v2" in capsys.readouterr().err
        table, _ = results(tmp_path / "clusters.csv")
        assert set(table["cluster"]) == {"mine"}
        assert set(table["cluster_v2"].dropna()) == {1, 2}

    def test_results_are_replaced_only_if_asked_and_the_table_itself_never(
        self, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        path = tmp_path / "outliers.csv"
        write_table(make_table(), path, RECORD)
        assert explore(path, tmp_path, "outliers") == 2
        assert "is there already" in capsys.readouterr().err
        assert explore(path, tmp_path, "outliers", "--overwrite") == 2
        assert "is the table that is explored" in capsys.readouterr().err
        assert explore(path, tmp_path / "out", "outliers") == 0
        assert explore(path, tmp_path / "out", "outliers", "--overwrite") == 0


def test_what_an_extraction_writes_says_what_a_classifier_has_to_know(
    sample_files: Files, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image, synapses = sample_files
    named = {"image": image, "synapses": synapses, "voxel_size": 10, "network_voxel_size": 20}
    by_hand = ["--extract_only", "--descriptors", "--layer_num", "none", "--crop_size", "16"]
    out = ["--output", str(tmp_path)]
    assert main([*by_hand, *as_flags(named), *out]) == 0
    file = tmp_path / "features_hand.csv"
    record = json.loads(file.with_suffix(".json").read_text())
    # Crops of 16 voxels of 20 nm take 32 of the image's.
    assert record["extent"] == [32, 32, 32]
    assert record["settings"]["intensity"] == "range"
    assert main(["--explore", "predict", "--features", str(file), *out]) == 0
    assert "none is left to predict" in capsys.readouterr().err
    again = tmp_path / "again"
    applied = ["--classifier", str(tmp_path / "classifier.npz"), "--output", str(again)]
    assert main(["--explore", "predict", "--features", str(file), *applied]) == 0
    table, _ = results(again / "predictions.csv")
    assert table["predicted"].isin(table["class"]).all()
    assert main([*by_hand, "--invert", *as_flags(named), *out, "--overwrite"]) == 0
    assert main(["--explore", "predict", "--features", str(file), *applied, "--overwrite"]) == 2
    assert "the invert was False, and here it is True" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["cluster", "outliers", "predict"])
def test_one_that_is_stopped_keeps_nothing(what: str, table_file: Path, tmp_path: Path) -> None:
    config = Config.from_values(
        {
            "explore": what,
            "features": table_file,
            "vectors": "L20_mean",
            "label_column": "kind",
            "output": tmp_path / "out",
        }
    )
    control = Control()
    events = []
    for event in run(config, control):
        events.append(event)
        if isinstance(event, Progress):
            control.request("stop")
    assert sum(isinstance(event, Progress) for event in events) == 1
    assert not any(isinstance(event, Wrote) for event in events)
    assert "nothing is kept" in events[-1].text
    assert not [path for path in (tmp_path / "out").iterdir() if path.name[0] != "."]
