"""The benchmark of what features are worth: its measures, and all of it on small volumes."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "worth"))
import bootstrap
import geometry
import positions as places
import summary
import unlabelled
from measures import PENALTIES, measure, ridge

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "worth" / "__main__.py"
PLAN = places.Plan(
    seen_below=28, unseen_from=60, jitter=2, jitters=3, jitters_carried=2, n_random=120,
    n_training=4, crop=16, block=16, pair_distances=(16, 24),
)  # fmt: skip


def volume(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey values, and the cells whose borders are dark in them."""
    generator = np.random.default_rng(seed)
    seeds = generator.integers(0, shape, (40, 3))
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    cells = cKDTree(seeds).query(grid)[1].astype(np.uint32) + 1
    grey = 170 - 120 * gaussian_filter(geometry.borders(cells).astype(float), 1)
    return (grey + generator.normal(0, 5, shape)).clip(0, 255).astype(np.uint8), cells


def sites(image: np.ndarray, n: int, seed: int) -> pd.DataFrame:
    """Places of four classes, each with a mark of its own in the image."""
    generator = np.random.default_rng(seed)
    found = generator.integers(8, np.array(image.shape) - 8, (n, 3))
    for number, (z, y, x) in enumerate(found):
        image[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] = (20, 90, 160, 240)[number % 4]
    table = pd.DataFrame(found, columns=places.AXES)
    return table.assign(**{"class": [places.CLASSES[i % 4] for i in range(n)]})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes under the names of the real ones."""
    folder = tmp_path_factory.mktemp("data")
    shapes = {places.LARGE: (32, 120, 80), **dict.fromkeys(places.SMALL, (40, 40, 128))}
    for seed, (name, shape) in enumerate(shapes.items()):
        image, cells = volume(shape, seed)
        table = sites(image, 80 if name == places.LARGE else 12, seed)
        table.to_csv(folder / f"{name}_sites.csv", index=False)
        tifffile.imwrite(folder / f"{name}.tif", image)
        if name == places.SEGMENTED:
            tifffile.imwrite(folder / places.BODIES, cells)
    return folder


@pytest.fixture(scope="module")
def work(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    places.prepare(data, folder, PLAN)
    return folder


@pytest.fixture(scope="module")
def positions(work: Path) -> pd.DataFrame:
    return summary.read_positions(work)


class TestPositions:
    def test_no_measured_crop_shares_a_voxel_with_a_training_crop(
        self, work: Path, positions: pd.DataFrame
    ) -> None:
        training = pd.read_csv(work / "training.csv")
        measured = positions.loc[positions["volume"] == places.LARGE, "y"]
        assert training["y"].max() + PLAN.crop <= measured.min()

    def test_draws_of_a_site_are_in_one_block_and_one_fold(self, positions: pd.DataFrame) -> None:
        keys = ["volume", "site_z", "site_y", "site_x"]
        groups = positions.groupby(keys)
        assert (groups[["block", "fold"]].nunique() == 1).all(axis=None)
        drawn = groups.size()[positions[positions["class"] != ""].groupby(keys).size().index]
        assert set(drawn) <= {PLAN.jitters, PLAN.jitters_carried}

    def test_the_segmentation_tells_what_a_slow_look_finds(
        self, data: Path, positions: pd.DataFrame
    ) -> None:
        cells = tifffile.imread(data / places.BODIES)
        border = np.argwhere(geometry.borders(cells))
        for _, row in positions[positions["distance"].notna()].iloc[::9].iterrows():
            here = row[places.AXES].to_numpy(int)
            z, y, x = here - 8
            crop = cells[z : z + 16, y : y + 16, x : x + 16]
            offsets = border - here
            nearest = np.sqrt((offsets**2).sum(axis=1).min())
            assert row["distance"] == pytest.approx(np.log2(1 + nearest))
            assert row["share"] == pytest.approx((crop == cells[tuple(here)]).mean())
            labels = [label for label in np.unique(crop) if (crop == label).sum() >= 64]
            assert row["cells"] == pytest.approx(np.log2(len(labels)))

    def test_the_direction_is_that_of_the_border(self) -> None:
        cells = np.ones((24, 24, 24), np.uint32)
        cells[:, 14:] = 2
        row = geometry.targets(cells, np.array([[12, 10, 12]]), 16).iloc[0]
        np.testing.assert_allclose(row[list(geometry.DIRECTIONS)].tolist(), [0, 1, 0], atol=1e-6)

    def test_pairs_are_of_one_cell_or_of_two_at_the_same_distances(
        self, work: Path, positions: pd.DataFrame
    ) -> None:
        pairs = pd.read_csv(work / "pairs.csv")
        ends = [
            positions.loc[pairs[end], [*places.AXES, "cell"]].to_numpy()
            for end in ("first", "second")
        ]
        distance = np.abs(ends[0][:, :3] - ends[1][:, :3]).max(axis=1)
        assert ((distance >= 16) & (distance <= 24)).all()
        np.testing.assert_array_equal(ends[0][:, 3] == ends[1][:, 3], pairs["same"])


class TestIntervals:
    """Statistics of weighted blocks are those of the places that the weights name."""

    BLOCKS = np.repeat(np.arange(6), 20)
    VOLUMES = np.repeat(["a", "b"], 60)

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        return np.repeat(np.arange(120), weights[self.BLOCKS].astype(int))

    def test_each_is_that_of_scikit_learn_on_the_resample(self) -> None:
        generator = np.random.default_rng(0)
        weights = bootstrap.block_weights(self.BLOCKS, self.VOLUMES)[:4]
        labels, guesses = generator.choice(list("xyz"), (2, 120))
        truth, values = generator.random((2, 120))
        same = generator.random(120) < 0.4
        of_classes = bootstrap.balanced_accuracy(labels, guesses, self.BLOCKS, weights)
        of_values = bootstrap.r_squared(truth, values, self.BLOCKS, weights)
        of_pairs = bootstrap.auc(same, values, self.BLOCKS, weights)
        for row in range(4):
            chosen = self.resampled(weights[row])
            expected = (
                balanced_accuracy_score(labels[chosen], guesses[chosen]),
                r2_score(truth[chosen], values[chosen]),
                roc_auc_score(same[chosen], values[chosen]),
            )
            found = (of_classes[row], of_values[row], of_pairs[row])
            np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_blocks_are_drawn_within_their_volume(self) -> None:
        weights = bootstrap.block_weights(self.BLOCKS, self.VOLUMES)
        assert (weights[0] == 1).all()
        assert (weights[:, :3].sum(axis=1) == 3).all()
        assert weights[1:].std(axis=0).min() > 0.5

    def test_the_interval_holds_what_is_true_about_as_often_as_it_says(self) -> None:
        generator = np.random.default_rng(0)
        blocks, volumes = np.repeat(np.arange(30), 10), np.full(300, "a")
        weights = bootstrap.block_weights(blocks, volumes)
        held = 0
        for _ in range(100):
            # Places of a block are right or wrong together, of a truth of 0.7.
            right = np.repeat(generator.random(30) < 0.7, 10)
            accuracy = bootstrap.balanced_accuracy(
                np.full(300, "x"), np.where(right, "x", "y"), blocks, weights
            )
            low, high = bootstrap.interval(accuracy)
            held += low <= 0.7 <= high
        assert 85 <= held <= 100


class TestMeasures:
    def test_the_regression_is_that_of_scikit_learn_with_the_best_penalty(self) -> None:
        generator = np.random.default_rng(0)
        features, others = generator.normal(size=(60, 8)), generator.normal(size=(10, 8))
        truth = features[:, :2] + generator.normal(size=(60, 2))
        found = ridge(features, truth, others, np.repeat(np.arange(12), 5))
        scaler = StandardScaler().fit(features)
        possible = [
            Ridge(penalty).fit(scaler.transform(features), truth).predict(scaler.transform(others))
            for penalty in PENALTIES
        ]
        differences = [np.abs(found - one).max() for one in possible]
        assert min(differences) < 1e-9
        assert np.argmin(differences) in (1, 2)

    def told(self, features: np.ndarray, work: Path, positions: pd.DataFrame) -> dict[str, float]:
        pairs = pd.read_csv(work / "pairs.csv")
        weights = bootstrap.block_weights(
            positions["block"].to_numpy(), positions["volume"].to_numpy()
        )[:1]
        predicted = measure(features, positions, pairs, PLAN.crop, PLAN.jitter)
        found = summary.statistics(predicted, positions, pairs, weights)
        return {name: float(values[0]) for name, values in found.items()}

    def test_the_truth_as_a_feature_is_found_and_noise_is_not(
        self, work: Path, positions: pd.DataFrame
    ) -> None:
        noise = np.random.default_rng(0).normal(size=(len(positions), 6))
        classes = pd.get_dummies(positions["class"]).to_numpy(float)
        truth = positions[[*geometry.TARGETS, *geometry.DIRECTIONS]].fillna(0).to_numpy()
        cells = pd.get_dummies(positions["cell"].fillna(0)).to_numpy(float)
        good = self.told(np.hstack([classes, truth]), work, positions)
        bad = self.told(noise, work, positions)
        for name in ("classes", "within", "carried"):
            assert good[name] > 0.9
            assert bad[name] < 0.45
        assert good["geometry"] > 0.8 > 0.2 > bad["geometry"]
        assert self.told(cells, work, positions)["same cell"] > 0.9
        assert abs(bad["same cell"] - 0.5) < 0.15


def test_all_of_it_runs_from_positions_to_the_table(
    data: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    main = runpy.run_path(str(PROGRAM))["main"]
    small = {"crop_size": PLAN.crop, "fmaps": 2, "batch_size": 4}
    monkeypatch.setitem(main.__globals__, "NETWORK", small)
    on_cpu = ["--device", "cpu", "--precision", "float32"]
    folder = str(work)
    monkeypatch.setitem(main.__globals__, "UNTRAINED_SEEDS", 2)
    main(["baselines", folder, "--layer_num", "20", *on_cpu])
    run = str(tmp_path / "run")
    main(["train", folder, run, "--num_epochs", "2", "--validation_fraction", "0", *on_cpu])
    main(["measure", folder, "short", run, "--layer_num", "20", "33", *on_cpu])
    main(["epochs", folder, "twice", "--at", "1", "2", "--num_epochs", "2", *on_cpu])
    labels = str(tmp_path / "labels.pt")
    main(["supervised", folder, labels, "--steps", "2", "--precision", "float32"])
    main(["measure", folder, "labels", labels, "--layer_num", "33", *on_cpu])
    capsys.readouterr()
    main(["table", folder, "--json", str(tmp_path / "table.json")])
    shown = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "table.json").read_text())
    names = [row["name"] for row in found]
    of_voxels = ["voxels", "gradient along axes"]
    assert names[:6] == ["histogram", "centre histogram", "texture", "hand-made", *of_voxels]
    assert {"untrained L20", "short L20", "short L20+L33 + hand", "labels L33"} < set(names)
    assert len(shown) == len(found) + 1
    assert next(row for row in found if row["name"] == "untrained L20")["seeds"] == 2
    # The marks in the middle of the sites are easily seen by hand.
    by_hand = next(row for row in found if row["name"] == "hand-made")["measures"]["classes"]
    assert by_hand["value"] > 0.5
    assert by_hand["interval"][0] < by_hand["value"] < by_hand["interval"][1]
    kept = json.loads((work / "results" / "short-0.json").read_text())
    assert kept["settings"]["num_epochs"] == 2
    assert kept["last_epoch"]["epoch"] == 2
    first, second = (
        json.loads((work / "results" / f"twice,_epoch_{i}-0.json").read_text()) for i in (1, 2)
    )
    assert [first["last_epoch"]["epoch"], second["last_epoch"]["epoch"]] == [1, 2]
    assert first["unlabelled"] != second["unlabelled"]


class TestWhatNeedsNoLabel:
    """On features whose truth is known."""

    def places(self, n_sites: int = 40, n_draws: int = 3) -> pd.DataFrame:
        generator = np.random.default_rng(0)
        sites = np.repeat(generator.integers(0, 200, (n_sites, 3)), n_draws, axis=0)
        table = pd.DataFrame(sites, columns=[f"site_{axis}" for axis in places.AXES])
        moved = pd.DataFrame(sites + generator.integers(-2, 3, sites.shape), columns=places.AXES)
        return pd.concat([moved, table], axis=1).assign(volume="a")

    def test_decay_is_the_exponent_of_the_eigenvalues(self) -> None:
        decaying = np.random.default_rng(0).normal(size=(20000, 30)) / np.arange(1, 31)
        assert unlabelled.decay(decaying) == pytest.approx(2, abs=0.1)

    def test_what_tells_sites_apart_counts_and_what_varies_within_does_not(self) -> None:
        generator = np.random.default_rng(0)
        sites = np.repeat(np.arange(300), 4)
        between = np.repeat(generator.normal(size=(300, 4)), 4, axis=0)
        within = generator.normal(size=(1200, 10))
        z = np.concatenate([between, 5 * within], axis=1) + 0.01 * generator.normal(size=(1200, 14))
        assert unlabelled.discriminant_rank(z, sites) == pytest.approx(4, rel=0.1)

    def test_sites_are_found_again_by_what_the_histogram_does_not_tell(self) -> None:
        table, generator = self.places(), np.random.default_rng(1)
        n = len(table)
        grey = np.repeat(generator.normal(size=(40, 3)), 3, axis=0)
        own = np.repeat(generator.normal(size=(40, 3)), 3, axis=0)
        noise = 0.05 * generator.normal(size=(n, 3))
        of_grey = unlabelled.unlabelled(grey + noise, table, grey)
        of_both = unlabelled.unlabelled(np.hstack([grey, own]) + 0.05, table, grey)
        assert of_grey["retrieval of sites"] > 0.9 > 0.3 > of_grey["retrieval beyond histogram"]
        assert of_both["retrieval beyond histogram"] > 0.9

    def test_neighbours_are_alike_where_features_vary_smoothly(self) -> None:
        table = self.places(120, 1)
        smooth = table[places.AXES].to_numpy() / 60
        mixed = np.random.default_rng(0).permutation(smooth)
        found = [unlabelled.neighbours(np.cos(z), table) for z in (smooth, mixed)]
        assert found[0] > 0.3 > 0.1 > found[1]
