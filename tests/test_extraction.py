"""Extraction against brute force: the plain network on the plain crop."""

from typing import Any

import numpy as np
import pytest
import torch

from conftest import crops_of, positions_inside
from napari_synapse_cl.data.crops.cutting import cut_crop
from napari_synapse_cl.data.crops.sources import StreamedCrops
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features.extraction import extract_features
from napari_synapse_cl.features.readout import Readout, central_element, symmetries
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.folding import Folded
from napari_synapse_cl.models.vgg3d import Vgg3D

ARCHITECTURE = Architecture((4, 8, 16, 32))
CROP = (16, 16, 16)
LAYERS = (0, 1, 2, 12, 20, 21, 33)


@pytest.fixture(scope="module")
def network() -> Vgg3D:
    torch.manual_seed(0)
    network = Vgg3D.from_architecture(ARCHITECTURE)
    # Running statistics of a training, not of an untouched network.
    network.train()
    with torch.no_grad():
        for _ in range(5):
            network.features(torch.rand(4, 1, *CROP) * 2 - 1)
    return network.eval()


def larger_crops(sample: Sample) -> StreamedCrops:
    """Crops larger than the network sees, as those of a training are."""
    volume = Volume(sample.image)
    return crops_of(volume, positions_inside(sample.synapses, volume.shape), (22, 20, 24))


def read_out(network: Vgg3D, layers: tuple[int, ...] = (20,), **settings: Any) -> Readout:
    chosen = {"precision": "float32", "device": torch.device("cpu"), **settings}
    return Readout(network, ARCHITECTURE, layers, CROP, **chosen)


def extract(
    network: Vgg3D, sample: Sample, layers: tuple[int, ...] = (20,), **settings: Any
) -> dict[int, np.ndarray]:
    parts = list(extract_features(read_out(network, layers, **settings), larger_crops(sample)))
    return {layer: np.concatenate([part.result[layer] for part in parts]) for layer in layers}


def plain_maps(network: Vgg3D, sample: Sample, row: int, layer: int) -> np.ndarray:
    """What the plain network puts out for the plain crop, ``(C, d, h, w)``."""
    centre = sample.synapses.loc[row, ["z", "y", "x"]].to_numpy(int)
    crop = cut_crop(Volume(sample.image), centre, CROP).astype(np.float64)
    raw = torch.from_numpy(crop / 255 * 2 - 1).float()[None, None]
    for module in list(network.features)[: layer + 1]:
        raw = module(raw)
    return raw[0].detach().numpy().copy()


def pooled(maps: np.ndarray, pooling: str, layer: int) -> np.ndarray:
    """Pool in float64, in plain words."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    match pooling:
        case "mean":
            return flat.mean(axis=1)
        case "max":
            return flat.max(axis=1)
        case "mean+max":
            return np.concatenate([flat.mean(axis=1), flat.max(axis=1)])
        case "std":
            return np.sqrt(((flat - flat.mean(axis=1, keepdims=True)) ** 2).mean(axis=1))
        case "centre":
            described = ARCHITECTURE.layers[layer]
            places = np.stack(
                np.meshgrid(
                    *(
                        offset + stride * np.arange(n)
                        for offset, stride, n in zip(
                            described.offset, described.stride, maps.shape[1:], strict=True
                        )
                    ),
                    indexing="ij",
                )
            ).reshape(3, -1)
            nearest = np.abs(places - 8).sum(axis=0).argmin()
            return flat[:, nearest]
    return maps


@pytest.mark.parametrize("pooling", ["mean", "max", "mean+max", "std", "centre", "none"])
def test_features_of_several_layers_are_the_pooled_outputs_of_the_plain_network_on_that_crop(
    network: Vgg3D, sample: Sample, pooling: str
) -> None:
    features = extract(network, sample, LAYERS, pooling=pooling)
    for layer in LAYERS:
        for row in (0, 5, 11):
            expected = pooled(plain_maps(network, sample, row, layer), pooling, layer)
            np.testing.assert_allclose(features[layer][row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "std", "centre", "none"])
def test_averaged_features_are_the_mean_over_turned_crops(
    network: Vgg3D, sample: Sample, pooling: str
) -> None:
    layer = 12
    features = extract(network, sample, (layer,), pooling=pooling, averaging="flips+rotations")
    centre = sample.synapses.loc[3, ["z", "y", "x"]].to_numpy(int)
    crop = cut_crop(Volume(sample.image), centre, CROP).astype(np.float64)
    raw = torch.from_numpy(crop / 255 * 2 - 1).float()[None, None]
    total = 0
    group = symmetries("flips+rotations", CROP)
    for symmetry in group:
        output = symmetry.apply(raw).contiguous()
        for module in list(network.features)[: layer + 1]:
            output = module(output)
        total = total + pooled(symmetry.undo(output.detach())[0].numpy(), pooling, layer)
    np.testing.assert_allclose(features[layer][3], total / 48, rtol=1e-4, atol=1e-5)


def test_averaged_features_of_a_mirrored_crop_are_the_same(network: Vgg3D) -> None:
    crops = torch.rand(2, 1, *CROP)
    readout = read_out(network, pooling="max", averaging="flips+rotations")
    plain = read_out(network, pooling="max")
    mirrored = crops.flip(2).transpose(3, 4)
    np.testing.assert_allclose(
        readout.read(crops)[20], readout.read(mirrored)[20], rtol=1e-4, atol=1e-5
    )
    assert np.abs(plain.read(crops)[20] - plain.read(mirrored)[20]).max() > 1e-3


@pytest.mark.parametrize("layer", range(34))
def test_the_central_element_sees_nearest_the_synapse(layer: int) -> None:
    described = ARCHITECTURE.layers[layer]
    for axis, index in enumerate(central_element(described, (80, 80, 80))):
        place = described.offset[axis] + index * described.stride[axis]
        assert abs(place - 40) <= described.stride[axis] / 2


def test_bfloat16_features_point_where_those_of_float32_do(network: Vgg3D, sample: Sample) -> None:
    exact = extract(network, sample)[20]
    fast = extract(network, sample, precision="bfloat16")[20]
    cosine = (exact * fast).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
    assert cosine.min() > 0.999


def test_reading_features_leaves_the_network_as_it_was(network: Vgg3D, sample: Sample) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    extract(network, sample, LAYERS)
    assert all(torch.equal(before[n], tensor) for n, tensor in network.state_dict().items())


class TestShortage:
    """Memory that runs out, as PyTorch says it."""

    @pytest.fixture
    def short(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
        """Let the network refuse batches of more crops than this."""
        limit = {"crops": 3}
        whole = Folded.iterate_layers

        def iterate_layers(self: Folded, raw: torch.Tensor) -> Any:
            if len(raw) > limit["crops"]:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …")
            return whole(self, raw)

        monkeypatch.setattr(Folded, "iterate_layers", iterate_layers)
        return limit

    def test_extraction_goes_on_with_smaller_batches(
        self, network: Vgg3D, sample: Sample, short: dict[str, int]
    ) -> None:
        parts = list(extract_features(read_out(network), larger_crops(sample)))
        assert [len(part.result[20]) for part in parts] == [3, 3, 3, 3]
        short["crops"] = 100
        whole = extract(network, sample)[20]
        np.testing.assert_allclose(np.concatenate([p.result[20] for p in parts]), whole, rtol=1e-5)

    def test_too_little_for_one_crop_is_said(
        self, network: Vgg3D, sample: Sample, short: dict[str, int]
    ) -> None:
        short["crops"] = 0
        with pytest.raises(JobError, match="memory ran out while features of 1 crop were"):
            list(extract_features(read_out(network), larger_crops(sample)))

    def test_other_errors_are_not_taken_for_it(
        self, network: Vgg3D, sample: Sample, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise RuntimeError("something else")

        monkeypatch.setattr(Folded, "iterate_layers", fail)
        with pytest.raises(RuntimeError, match="something else"):
            list(extract_features(read_out(network), larger_crops(sample)))
