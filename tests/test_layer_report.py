"""The scores of layers against slow formulas, what is said about them, and how they are kept."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_synapse_cl.features.layer_report import (
    BASELINE_NAME,
    Kind,
    LayerScore,
    Report,
    best,
    from_json,
    to_json,
    to_table,
)
from napari_synapse_cl.features.probes import Probes
from napari_synapse_cl.features.scores import score_views
from napari_synapse_cl.features.verdict import make_report
from napari_synapse_cl.pipeline.figures import draw_layer_report
from napari_synapse_cl.system.files import write_json

CROP = (16, 16, 16)


def views_of(
    n: int, channels: int, noise: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Two views, with one large direction in common."""
    generator = np.random.default_rng(seed)
    plain = generator.normal(size=(n, channels)) + 30 * np.arange(1, channels + 1)
    first, second = (plain + noise * generator.normal(size=plain.shape) for _ in range(2))
    return first.astype(np.float32), second.astype(np.float32)


def somewhere(n: int) -> np.ndarray:
    return np.random.default_rng(9).integers(0, (200, 200, 600), (n, 3))


def slow_standardised(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    views = np.concatenate([first, second]).astype(float)
    for channel in views.T:
        channel -= channel.mean()
        channel /= channel.std() or 1
    return views


def slow_recall(views: np.ndarray) -> float:
    n = len(views) // 2
    unit = [view / np.linalg.norm(view) for view in views]
    found = 0
    for i in range(2 * n):
        others = [j for j in range(2 * n) if j != i]
        found += max(others, key=lambda j: float(unit[i] @ unit[j])) == (i + n) % (2 * n)
    return found / (2 * n)


def slow_rank(views: np.ndarray) -> float:
    unit = views / np.linalg.norm(views, axis=1, keepdims=True)
    shares = np.linalg.svd(unit, compute_uv=False)
    shares = shares[shares > 1e-9] / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


class TestViews:
    @pytest.mark.parametrize(("n", "channels"), [(40, 6), (10, 64)])
    def test_recall_and_rank_are_those_of_slow_formulas(self, n: int, channels: int) -> None:
        first, second = views_of(n, channels, noise=1.5 if channels > 6 else 0.5)
        recall, rank = score_views(first, second)
        views = slow_standardised(first, second)
        assert recall == slow_recall(views)
        assert 0.1 < recall < 1
        assert rank == pytest.approx(slow_rank(views), rel=1e-5)

    def test_views_that_agree_are_all_found(self) -> None:
        first, _ = views_of(50, 4)
        assert score_views(first, first)[0] == 1

    def test_views_that_have_nothing_in_common_are_found_by_chance(self) -> None:
        n_found = sum(
            score_views(views_of(30, 4, seed=seed)[0], views_of(30, 4, seed=seed + 100)[1])[0]
            for seed in range(50)
        )
        # 3000 views; the deviation of their mean is some 0.003.
        assert n_found / 50 == pytest.approx(1 / 59, abs=0.012)

    def test_the_direction_that_all_features_have_in_common_does_not_hide_them(self) -> None:
        first, second = views_of(40, 8, noise=0.1)
        far = 1000 * np.arange(1, 9, dtype=np.float32)
        recall, rank = score_views(first, second)
        moved = score_views(first + far, second + far)
        assert moved == (pytest.approx(recall, abs=0.05), pytest.approx(rank, rel=0.01))

    def test_the_size_of_a_channel_does_not_matter(self) -> None:
        first, second = views_of(40, 8, noise=0.8)
        sizes = 2.0 ** np.arange(-12, 12, 3).astype(np.float32)
        assert score_views(first * sizes, second * sizes)[0] == score_views(first, second)[0]

    def test_channels_that_are_constant_but_for_rounding_count_for_nothing(self) -> None:
        first, second = views_of(40, 8, noise=0.8)
        rounding = np.nextafter(np.float32(3), np.float32(4)) - np.float32(3)
        steps = np.random.default_rng(0).integers(0, 2, (2, 40, 30)).astype(np.float32)
        more = np.float32(3) + rounding * steps
        with_them = score_views(
            np.concatenate([first, more[0]], axis=1), np.concatenate([second, more[1]], axis=1)
        )
        recall, rank = score_views(first, second)
        assert with_them == (recall, pytest.approx(rank))

    def test_a_layer_that_is_always_the_same_tells_nothing(self) -> None:
        same = np.full((40, 8), 0.7, np.float32)
        assert score_views(same, same) == (0, 0)


def of(layer: int | None, recall: float = 0.5, rank: float = 4.0, *accuracies: float) -> LayerScore:
    name = BASELINE_NAME if layer is None else f"{layer} · stage {layer // 10 + 1} conv 1"
    kind: Kind = "baseline" if layer is None else "layer"
    return LayerScore(layer, name, 24, recall, rank, *accuracies, kind=kind)


class TestBest:
    def test_with_labels_it_has_the_highest_mean_accuracy(self) -> None:
        scores = [of(0, 0.9, 9, 0.6, 0.9), of(3, 0.1, 1, 0.8, 0.8), of(6, 0.5, 5, 0.9, 0.5)]
        assert best(scores).layer == 3

    def test_one_accuracy_stands_for_both(self) -> None:
        scores = [replace(of(0), knn=0.7, linear=0.8), replace(of(3), linear=0.76)]
        assert best(scores).layer == 3

    def test_without_labels_it_has_the_highest_recall(self) -> None:
        assert best([of(0, 0.5, 9), of(3, 0.6, 2), of(6, 0.4, 9)]).layer == 3

    def test_of_equal_recall_the_higher_rank_and_then_the_lower_layer_is_taken(self) -> None:
        assert best([of(0, 0.6, 2), of(9, 0.6, 5), of(6, 0.6, 5), of(12, 0.2, 9)]).layer == 6

    def test_the_baseline_is_never_the_best(self) -> None:
        assert best([of(0, 0.1, 2, 0.5, 0.5), of(None, 0.9, 9, 0.9, 0.9)]).layer == 0
        with pytest.raises(ValueError, match="no layer"):
            best([of(None)])


def reported(*scores: LayerScore, n: int = 100, **more: Any) -> Report:
    given: dict[str, Any] = {"labels": np.array(["a", "b"] * n)[:n], "trained_on": False, **more}
    probes = Probes.of(given.pop("labels"), somewhere(n), CROP)
    return make_report(scores, probes, label_column="class", **given)


class TestReport:
    def test_it_counts_labels_and_knows_the_best_layer_and_chance(self) -> None:
        labels = np.array(["a", "b", "b", None] * 25, dtype=object)
        report = reported(of(0, 0.5, 4, 0.6, 0.6), of(3, 0.5, 4, 0.8, 0.8), labels=labels)
        assert (report.best, report.best_score.layer) == (3, 3)
        assert report.label_counts == {"a": 25, "b": 50}
        assert (report.n_synapses, report.n_slabs, report.label_column) == (100, 5, "class")
        assert report.recall_chance == pytest.approx(1 / 199)
        assert report.accuracy_chance == 0.5

    def test_what_is_clear_needs_no_remark(self) -> None:
        scores = of(0, 0.5, 4, 0.6, 0.6), of(3, 0.5, 4, 0.9, 0.9), of(None, 0.5, 4, 0.55, 0.6)
        assert reported(*scores).remarks == ()

    @pytest.mark.parametrize(
        ("baseline", "remark"),
        [
            (
                0.82,
                "no layer beats the intensity histogram (0.82): brightness alone tells synapses "
                "apart as well",
            ),
            (0.75, "layer 3 (0.80) is not clearly better than the intensity histogram (0.75)"),
        ],
    )
    def test_without_labels_it_says_what_the_histogram_tells_too(
        self, baseline: float, remark: str
    ) -> None:
        report = reported(of(3, 0.8), of(None, baseline), labels=None)
        assert remark in report.remarks
        (verdict,) = report.verdict
        assert verdict.startswith("whether the network earns its keep on these synapses cannot be")
        assert report.read == (3,)

    def test_it_says_which_layers_may_be_as_good(self) -> None:
        scores = [of(i, 0.5, 4, value, value) for i, value in enumerate((0.6, 0.78, 0.75, 0.8))]
        (remark,) = reported(*scores).remarks
        assert remark == (
            "100 synapses leave the mean accuracy of layer 3 uncertain, from 0.71 to 0.87 with "
            "95 % confidence: layers 1 and 2 may be as good"
        )

    def test_it_says_that_nothing_is_better_than_chance(self) -> None:
        (remark,) = reported(of(3, 0.5, 4, 0.55, 0.55)).remarks
        assert remark == "no layer is clearly better than chance, a mean accuracy of 0.50"

    def test_it_says_how_many_have_no_label(self) -> None:
        labels = ["", *["a", "b"] * 49, "a"]
        (remark,) = reported(of(3, 0.5, 4, 0.9, 0.9), labels=labels).remarks
        assert remark == "1 synapse has no label and counts for neither kNN nor the linear probe"
        labels = ["", "", *["a", "b"] * 49]
        (remark,) = reported(of(3, 0.5, 4, 0.9, 0.9), labels=labels).remarks
        assert remark.startswith("2 synapses have no label and count for neither")

    def test_it_says_why_there_are_no_probes_and_what_the_best_layer_is_then(self) -> None:
        labels = np.where(np.argsort(np.argsort(somewhere(100)[:, 2])) < 4, "a", "b")
        report = reported(of(3, 0.9), labels=labels)
        assert report.remarks[0] == (
            "the probes are left out: class a has synapses in one part of the volume alone"
        )
        assert report.remarks[1].startswith("without probes the best layer is the one that best")
        assert (report.n_slabs, report.accuracy_chance) == (None, None)
        without = reported(of(3, 0.9), labels=None)
        assert len(without.remarks) == 1
        assert without.label_counts == {}

    def test_it_says_that_few_synapses_tell_nothing(self) -> None:
        first, *_ = reported(of(3, 0.9), n=19).remarks
        assert first == "fewer than 20 synapses: differences between layers are chance"
        assert not any("fewer than" in remark for remark in reported(of(3, 0.9), n=20).remarks)

    def test_it_says_that_the_network_may_know_these_synapses(self) -> None:
        score_ = of(3, 0.9, 4, 0.9, 0.9)
        (known,) = reported(score_, trained_on=True).remarks
        assert known.startswith("the network was trained on these synapses: it finds them again")
        (unknown,) = reported(score_, trained_on=None).remarks
        assert unknown.startswith("the network may have been trained on these synapses: if so")

    def test_it_says_that_fewer_parts_or_synapses_were_all_that_overlap_left(self) -> None:
        x = np.linspace(0, 400, 100).astype(int)
        line = np.stack([0 * x, 0 * x, x], axis=1)
        probes = Probes.of(np.array(["a", "b"] * 50), line, (1, 1, 170))
        report = make_report([of(3, 0.9, 4, 0.9, 0.9)], probes, trained_on=False)
        assert report.n_slabs == 4
        assert report.remarks[0].startswith("the probes divide the volume into 4 parts, as 5 would")
        assert "learn from as few as" in report.remarks[1]
        assert " of 100 synapses" in report.remarks[1]

    def test_it_says_which_layers_are_dead(self) -> None:
        scores = of(0, 0, 0, 0.5, 0.5), of(3, 0.9, 4, 0.9, 0.9), of(6, 0, 0, 0.5, 0.5)
        (remark,) = reported(*scores).remarks
        assert remark == "all features of layers 0 and 6 are constant and tell nothing"

    def test_intervals_hold_what_they_promise(self) -> None:
        """Of many draws of 60 unevenly labelled synapses, 95 % hold the truth."""
        generator = np.random.default_rng(0)
        report = replace(reported(of(0)), n_synapses=60, label_counts={"a": 15, "b": 45})
        for truth in (0.5, 0.8, 0.95):
            a = generator.binomial(15, truth, 2000) / 15
            b = generator.binomial(45, truth, 2000) / 45
            accuracies = [report.accuracy_interval(value) for value in (a + b) / 2]
            recalls = [report.recall_interval(v) for v in generator.binomial(60, truth, 2000) / 60]
            for intervals in (accuracies, recalls):
                share = np.mean([low <= truth <= high for low, high in intervals])
                assert 0.92 < share < 0.995


class TestKept:
    @pytest.fixture
    def report(self) -> Report:
        return reported(of(0, 0.5, 4, 0.6, 0.6), of(3, 0.5, 4, 0.8, 0.8), of(None, 0.4, 3))

    def test_json_keeps_all_of_it(self, report: Report, tmp_path: Path) -> None:
        write_json(tmp_path / "layers.json", to_json(report))
        assert from_json(json.loads((tmp_path / "layers.json").read_text("utf-8"))) == report

    @pytest.mark.parametrize("broken", ["scores", "best", "remarks", "n_synapses", "verdict"])
    def test_json_that_lacks_something_is_refused(self, report: Report, broken: str) -> None:
        content = to_json(report)
        del content[broken]
        with pytest.raises(ValueError, match="not a report on layers"):
            from_json(content)

    def test_json_of_something_else_is_refused(self, report: Report) -> None:
        for content in (None, [], {}, "text", {**to_json(report), "best": 7}):
            with pytest.raises(ValueError, match="not a report on layers"):
                from_json(content)

    def test_a_table_has_a_row_a_score(self, report: Report) -> None:
        table = to_table(report)
        assert list(table.columns) == [
            *("layer", "name", "channels", "recall", "effective_rank", "knn", "linear", "kind"),
            *("layers", "difference", "difference_low", "difference_high", "best"),
        ]
        assert table["layer"].fillna(-1).tolist() == [0, 3, -1]
        assert table["best"].tolist() == [False, True, False]
        assert table["knn"].isna().tolist() == [False, False, True]


class TestFigure:
    @pytest.mark.parametrize(
        "scores",
        [
            [of(i, 0.05 * i, i, 0.5 + 0.03 * i, 0.6) for i in range(14)] + [of(None, 0.2, 3, 0.6)],
            [of(i, 0.05 * i, i) for i in range(14)] + [of(None, 0.2, 3)],
            [of(3, 0.4, 4, 0.6, 0.7)],
            [of(3, 0.4, 4), of(None, 0.2, 3)],
            [LayerScore(i, "a layer", 8, 0.4, 3.0) for i in range(34)],
        ],
        ids=["labels", "no labels", "one layer", "one without labels", "all layers, other names"],
    )
    def test_it_is_drawn(self, scores: list[LayerScore], tmp_path: Path) -> None:
        labels = ["a", "b"] * 50 if scores[0].knn is not None else None
        draw_layer_report(reported(*scores, labels=labels), tmp_path / "layers.png")
        (written,) = tmp_path.iterdir()
        assert written.name == "layers.png"
        picture = written.read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 10_000
