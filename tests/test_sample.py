"""The procedural sample volume: reproducible, well spaced, and told apart by structure alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray
from scipy.ndimage import gaussian_laplace
from scipy.spatial.distance import pdist
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from napari_synapse_cl.data.sample.storage import read_sample, write_sample
from napari_synapse_cl.data.sample.volume import MARGIN, SPACING, Sample, make_sample

SEEDS = (0, 1)
SMALL = (96, 128, 128)
CHANCE = pytest.approx(0.5, abs=0.15)

SHARED: list[Path] = []
"""Folder that all processes of this test run share."""


@pytest.fixture(scope="module", autouse=True)
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    SHARED[:] = [tmp_path_factory.getbasetemp().parent]


@cache
def sample(seed: int) -> Sample:
    """Return a whole sample, which takes seconds and is drawn once for all processes."""
    file = SHARED[0] / f"sample-{seed}.npz"
    with FileLock(f"{file}.lock"):
        if not file.exists():
            write_sample(file, make_sample(seed))
    return read_sample(file)


@cache
def small_sample(seed: int) -> Sample:
    return make_sample(seed, shape=SMALL, n_synapses=12)


def positions(made: Sample) -> NDArray[np.int64]:
    return made.synapses[["z", "y", "x"]].to_numpy()


def targets(made: Sample) -> NDArray[np.int64]:
    return (made.synapses["class"] == "tbar").to_numpy().astype(int)


def crops(made: Sample, size: int) -> NDArray[np.uint8]:
    half = size // 2
    return np.stack(
        [
            made.image[z - half : z + half, y - half : y + half, x - half : x + half]
            for z, y, x in positions(made)
        ]
    )


def histograms(made: Sample, size: int) -> NDArray[np.float64]:
    return np.stack([np.histogram(crop, 32, (0, 256))[0] / size**3 for crop in crops(made, size)])


def filter_energies(made: Sample) -> NDArray[np.float64]:
    """Energy and skewness of blob filters of several sizes; neither depends on orientation."""
    return np.array([blob_statistics(crop) for crop in crops(made, 32).astype(np.float32)])


def blob_statistics(crop: NDArray[np.float32]) -> list[float]:
    standard = (crop - crop.mean()) / crop.std()
    blobs = [gaussian_laplace(standard, sigma)[4:-4, 4:-4, 4:-4] for sigma in (1.5, 2, 3)]
    return [float(np.log(blob.std())) for blob in blobs] + [skewness(blob) for blob in blobs]


def skewness(values: NDArray[np.float32]) -> float:
    return float((((values - values.mean()) / values.std()) ** 3).mean())


def spatially_split_accuracy(
    made: Sample, features: NDArray[np.float64], classifier: ClassifierMixin
) -> float:
    """Balanced accuracy on slabs along x that the classifier was not trained on."""
    rank = np.argsort(np.argsort(made.synapses["x"].to_numpy(), kind="stable"))
    predicted = cross_val_predict(
        make_pipeline(StandardScaler(), classifier),
        features,
        targets(made),
        groups=rank * 5 // len(rank),
        cv=GroupKFold(5),
    )
    return balanced_accuracy_score(targets(made), predicted)


def test_same_seed_gives_the_same_sample() -> None:
    again = make_sample(3, shape=SMALL, n_synapses=12)
    assert again.image.tobytes() == small_sample(3).image.tobytes()
    assert again.synapses.equals(small_sample(3).synapses)


def test_different_seeds_give_different_samples() -> None:
    assert not np.array_equal(small_sample(3).image, small_sample(4).image)
    assert not small_sample(3).synapses.equals(small_sample(4).synapses)


@pytest.mark.parametrize("make", [lambda: sample(0), lambda: small_sample(3)])
def test_synapses_keep_apart_and_clear_of_the_faces(make: Callable[[], Sample]) -> None:
    made = make()
    points = positions(made)
    assert pdist(points).min() >= SPACING
    assert points.min() >= MARGIN
    assert (points <= np.array(made.image.shape) - 1 - MARGIN).all()


@pytest.mark.parametrize("count", [6, 7])
def test_classes_are_equally_frequent(count: int) -> None:
    made = make_sample(0, shape=SMALL, n_synapses=count)
    counts = made.synapses["class"].value_counts()
    assert set(counts.index) == {"tbar", "plaque"}
    assert counts.sum() == count
    assert counts.max() - counts.min() == count % 2


def test_table_and_image_have_the_documented_types() -> None:
    made = small_sample(3)
    assert made.synapses.columns.tolist() == ["z", "y", "x", "class"]
    assert all(made.synapses[axis].dtype.kind == "i" for axis in "zyx")
    assert made.image.dtype == np.uint8
    assert made.image.shape == SMALL
    assert made.voxel_size == (10.0, 10.0, 10.0)


def test_grey_values_use_the_range_without_saturating() -> None:
    image = sample(0).image
    low, high = np.percentile(image, [0.1, 99.9])
    assert high - low > 150
    assert np.mean((image == 0) | (image == 255)) < 0.01


@pytest.mark.parametrize("count", [1, 0])
def test_too_few_synapses_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="at least 2 synapses"):
        make_sample(0, n_synapses=count)


@pytest.mark.parametrize(
    ("shape", "count"), [((40, 128, 128), 2), ((64, 64, 64), 2), ((96, 128, 128), 40)]
)
def test_volume_without_room_is_refused(shape: tuple[int, int, int], count: int) -> None:
    with pytest.raises(ValueError, match="no room"):
        make_sample(0, shape=shape, n_synapses=count)


@pytest.mark.parametrize("size", [16, 48])
@pytest.mark.parametrize(
    "classifier", [KNeighborsClassifier(5), LogisticRegression(max_iter=1000)], ids=["knn", "lr"]
)
def test_intensity_histograms_do_not_tell_the_classes_apart(
    size: int, classifier: ClassifierMixin
) -> None:
    accuracies = [
        spatially_split_accuracy(sample(seed), histograms(sample(seed), size), classifier)
        for seed in SEEDS
    ]
    assert np.mean(accuracies) == CHANCE


@pytest.mark.parametrize("size", [16, 48])
def test_mean_intensity_does_not_tell_the_classes_apart(size: int) -> None:
    areas = [
        roc_auc_score(targets(sample(seed)), crops(sample(seed), size).mean((1, 2, 3)))
        for seed in SEEDS
    ]
    assert np.mean(areas) == CHANCE


@pytest.mark.parametrize("seed", SEEDS)
def test_structure_tells_the_classes_apart(seed: int) -> None:
    accuracy = spatially_split_accuracy(
        sample(seed), filter_energies(sample(seed)), LogisticRegression(max_iter=1000)
    )
    assert accuracy >= 0.75
