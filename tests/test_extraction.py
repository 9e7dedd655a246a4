"""Extraction against brute force, and tables that keep what was in them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from napari_synapse_cl.data.crops import StreamedCrops, cut_crop
from napari_synapse_cl.data.sample import Sample
from napari_synapse_cl.data.synapses import positions_inside
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features.analysis import (
    histogram_features,
    knn_balanced_accuracy,
    principal_components,
    spatial_groups,
)
from napari_synapse_cl.features.extraction import (
    extract_features,
    feature_columns,
    feature_table,
    write_table,
)
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import Vgg3D


@pytest.fixture(scope="module")
def network() -> Vgg3D:
    torch.manual_seed(0)
    network = Vgg3D.from_architecture(Architecture((4, 8, 16, 32)))
    # Running statistics of a training, not of an untouched network.
    network.train()
    with torch.no_grad():
        for _ in range(5):
            network.features(torch.rand(4, 1, 16, 16, 16) * 2 - 1)
    return network.eval()


def extract(network: Vgg3D, sample: Sample, **settings: object) -> np.ndarray:
    volume = Volume(sample.image)
    crops = StreamedCrops(volume, positions_inside(sample.synapses, volume.shape), (22, 20, 24))
    chosen = {"layer": 20, "pooling": "mean", "precision": "float32", **settings}
    parts = extract_features(network, crops, (16, 16, 16), device=torch.device("cpu"), **chosen)
    return np.concatenate(list(parts))


@pytest.mark.parametrize("layer", [0, 1, 12, 20, 21, 33])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_feature_is_the_pooled_output_of_the_plain_network_on_that_crop(
    network: Vgg3D, sample: Sample, layer: int, pooling: str
) -> None:
    features = extract(network, sample, layer=layer, pooling=pooling)
    table = sample.synapses
    for row in (0, 5, 11):
        centre = table.loc[row, ["z", "y", "x"]].to_numpy(int)
        crop = cut_crop(Volume(sample.image), centre, (16, 16, 16)).astype(np.float64)
        raw = torch.from_numpy(crop / 255 * 2 - 1).float()[None, None]
        for module in list(network.features)[: layer + 1]:
            raw = module(raw)
        expected = raw.flatten(2).mean(2) if pooling == "mean" else raw.flatten(2).amax(2)
        np.testing.assert_allclose(features[row], expected[0].detach(), rtol=1e-4, atol=1e-5)


def test_bfloat16_features_point_where_those_of_float32_do(network: Vgg3D, sample: Sample) -> None:
    exact = extract(network, sample)
    fast = extract(network, sample, precision="bfloat16")
    cosine = (exact * fast).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
    assert cosine.min() > 0.999


def test_reading_features_leaves_the_network_as_it_was(network: Vgg3D, sample: Sample) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    extract(network, sample)
    assert all(torch.equal(before[n], tensor) for n, tensor in network.state_dict().items())


class TestTables:
    def test_columns_are_named_by_layer_pooling_and_channel(self) -> None:
        columns = feature_columns(20, "mean", 96)
        assert (columns[0], columns[-1], len(columns)) == ("L20_mean_000", "L20_mean_095", 96)

    def test_columns_and_rows_stay_and_rows_without_features_have_none(
        self, positions_table: pd.DataFrame
    ) -> None:
        joined = feature_table(positions_table, np.array([1]), np.array([[1.5, 2.5]]), ["a", "b"])
        assert list(joined.columns) == ["z", "y", "x", "note", "a", "b"]
        assert joined["a"].isna().tolist() == [True, False]
        assert joined.loc[1, ["a", "b"]].tolist() == [1.5, 2.5]
        pd.testing.assert_frame_equal(joined[positions_table.columns], positions_table)

    def test_features_of_the_same_name_are_replaced(self, positions_table: pd.DataFrame) -> None:
        rows = np.array([0, 1])
        once = feature_table(positions_table, rows, np.zeros((2, 1)), ["a"])
        twice = feature_table(once, rows, np.ones((2, 1)), ["a"])
        assert list(twice.columns) == list(once.columns)
        assert twice["a"].tolist() == [1, 1]

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_a_table_is_written_and_read_back(
        self, positions_table: pd.DataFrame, suffix: str, tmp_path: Path
    ) -> None:
        file = tmp_path / f"table{suffix}"
        write_table(positions_table, file)
        back = pd.read_csv(file) if suffix == ".csv" else pd.read_parquet(file)
        pd.testing.assert_frame_equal(back, positions_table, check_dtype=False)

    def test_a_table_that_cannot_be_written_is_said(
        self, positions_table: pd.DataFrame, tmp_path: Path
    ) -> None:
        with pytest.raises(JobError, match="cannot write the feature table"):
            write_table(positions_table, tmp_path / "none" / "table.csv")


class TestAnalysis:
    def test_the_first_component_is_the_direction_of_largest_spread(self) -> None:
        generator = np.random.default_rng(0)
        hidden = generator.normal(size=(100, 1))
        features = hidden @ np.array([[1.0, -2.0, 3.0]]) + 0.01 * generator.normal(size=(100, 3))
        components = principal_components(features)
        assert abs(np.corrcoef(components[:, 0], hidden[:, 0])[0, 1]) > 0.999
        assert components.shape == (100, 2)

    def test_components_beyond_the_rank_are_zero(self) -> None:
        assert principal_components(np.array([[1.0], [2.0]])).tolist()[0][1] == 0

    def test_slabs_are_of_equal_number_and_follow_each_other(self) -> None:
        positions = np.random.default_rng(0).integers(0, [10, 10, 500], (53, 3))
        groups = spatial_groups(positions, 5)
        assert set(np.bincount(groups)) <= {10, 11}
        for group in range(4):
            assert positions[groups == group, 2].max() <= positions[groups > group, 2].min()

    def test_neighbours_tell_labels_that_features_separate_and_no_others(self) -> None:
        generator = np.random.default_rng(0)
        labels = np.array(["a", "b"] * 100)
        positions = generator.integers(0, 500, (200, 3))
        noise = generator.normal(size=(200, 4))
        apart = noise + 4 * (labels == "a")[:, None]
        assert knn_balanced_accuracy(apart, labels, positions) > 0.98
        assert 0.35 < knn_balanced_accuracy(noise, labels, positions) < 0.65

    def test_a_histogram_counts_shares_of_voxels(self) -> None:
        crops = np.concatenate([np.zeros((1, 1, 2, 2, 2)), np.full((1, 1, 2, 2, 2), 0.99)])
        histograms = histogram_features(crops, n_bins=4)
        assert histograms.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
