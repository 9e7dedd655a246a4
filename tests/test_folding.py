"""The folded copy of a network against the network itself, module by module, in float32."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from napari_synapse_cl.features.readout import Pooling, Readout, pool, symmetries
from napari_synapse_cl.models import folding
from napari_synapse_cl.models.architecture import Architecture, downsampling_factors
from napari_synapse_cl.models.folding import Folded
from napari_synapse_cl.models.vgg3d import Vgg3D, to_network_range

CPU = torch.device("cpu")
ARCHITECTURES = {
    "isotropic": Architecture((4, 8, 16, 32)),
    "anisotropic": Architecture(
        (4, 8, 16, 32), (2, 2, 2, 2), downsampling_factors("anisotropic", 4)
    ),
}
CROP = (16, 16, 16)
LAYERS = {
    "a convolution": (20,),
    "a batch norm": (21,),
    "a ReLU": (22,),
    "a pooling": (19,),
    "a block from its convolution to its ReLU": (14, 15, 16),
    "a convolution and its ReLU": (14, 16),
    "a batch norm and its ReLU": (15, 16),
    "all": tuple(range(34)),
}


def settled(architecture: Architecture) -> Vgg3D:
    """A network whose batch norms are those of a training."""
    torch.manual_seed(0)
    network = Vgg3D.from_architecture(architecture)
    for module in network.features:
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        for _ in range(5):
            network.features(torch.rand(4, 1, *CROP) * 2 - 1)
    return network.eval()


def plain_outputs(network: Vgg3D, raw: Tensor) -> list[Tensor]:
    """What each module puts out."""
    outputs = []
    with torch.no_grad():
        for module in network.features:
            raw = module(raw.clone())
            outputs.append(raw)
    return [output.clone() for output in outputs]


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return ARCHITECTURES[request.param]


@pytest.fixture(scope="module")
def network(architecture: Architecture) -> Vgg3D:
    return settled(architecture)


@pytest.fixture(scope="module")
def raw() -> Tensor:
    return torch.rand(2, 1, *CROP, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("layers", LAYERS.values(), ids=list(LAYERS))
def test_a_folded_network_puts_out_what_the_network_does(
    network: Vgg3D, raw: Tensor, layers: tuple[int, ...]
) -> None:
    layers = tuple(index for index in layers if index < len(network.features))
    expected = plain_outputs(network, raw)
    folded = Folded(network, layers, device=CPU, precision="float32")
    with torch.inference_mode():
        # All at once: what was put out must not change while the network runs on.
        found = dict(folded.iterate_layers(raw))
    assert tuple(found) == layers
    for index in layers:
        torch.testing.assert_close(found[index], expected[index], rtol=1e-4, atol=1e-5)


def test_only_the_layers_that_are_wanted_are_put_out(network: Vgg3D, raw: Tensor) -> None:
    folded = Folded(network, (3, 14, 20), device=CPU, precision="float32")
    found = [index for index, _ in folded.iterate_layers(raw, [3, 14])]
    assert found == [3, 14]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_mean_of_a_convolution_or_batch_norm_is_that_of_its_map(
    architecture: Architecture, network: Vgg3D, raw: Tensor, precision: str
) -> None:
    settings = {"device": CPU, "precision": precision}
    close = 1e-5 if precision == "float32" else 1e-2
    for layer in architecture.layers:
        if "conv" in layer.name or "batch norm" in layer.name:
            layers = sorted({min(2, layer.index), layer.index})
            whole = Folded(network, layers, **settings)
            short = Folded(network, layers, mean_of_last=True, **settings)
            with torch.inference_mode():
                maps = dict(whole.iterate_layers(raw))[layer.index]
                found = dict(short.iterate_layers(raw))[layer.index]
            expected = maps.float().mean((2, 3, 4), keepdim=True)
            atol = close * float(expected.abs().max())
            torch.testing.assert_close(found, expected, rtol=close, atol=atol)


def test_the_mean_of_a_map_that_is_a_single_element_deep(raw: Tensor) -> None:
    architecture = Architecture((2, 3), (1, 1), ((16, 8, 4), (1, 1, 1)))
    network = settled(architecture)
    expected = plain_outputs(network, raw)[4].mean((2, 3, 4), keepdim=True)
    folded = Folded(network, (4,), device=CPU, precision="float32", mean_of_last=True)
    with torch.inference_mode():
        [(_, found)] = folded.iterate_layers(raw)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_network_stays_as_it_is_and_the_copy_as_it_was(network: Vgg3D, raw: Tensor) -> None:
    network = deepcopy(network).train()
    before = deepcopy(network.state_dict())
    folded = Folded(network, (12, 20), device=CPU, precision="bfloat16")
    with torch.inference_mode():
        first = dict(folded.iterate_layers(raw))[20]
        assert all(torch.equal(before[n], tensor) for n, tensor in network.state_dict().items())
        assert all(module.training for module in network.features)
        assert all(m.inplace for m in network.features if isinstance(m, nn.ReLU))
        for tensor in network.parameters():
            tensor.zero_()
        torch.testing.assert_close(dict(folded.iterate_layers(raw))[20], first)


@pytest.mark.parametrize(
    ("pooling", "averaging"),
    [(pooling, "none") for pooling in ("mean", "max", "mean+max", "std", "centre", "none")]
    + [("mean", "flips+rotations"), ("none", "flips+rotations")],
)
def test_what_is_read_in_bfloat16_points_where_the_network_in_float32_does(
    architecture: Architecture, network: Vgg3D, pooling: Pooling, averaging: str
) -> None:
    layers = (2, 12, 14, 20)
    voxel_size = (1.0, 1.0, 1.0)
    unit = torch.rand(2, 1, *CROP, generator=torch.Generator().manual_seed(2))
    readout = Readout(
        network,
        architecture,
        layers,
        CROP,
        pooling=pooling,
        averaging=averaging,
        voxel_size=voxel_size,
        device=CPU,
        precision="bfloat16",
    )
    found = readout.read(unit)
    group = symmetries(averaging, CROP, voxel_size, architecture.total_downsampling)
    expected = dict.fromkeys(layers, 0.0)
    for symmetry in group:
        outputs = plain_outputs(network, symmetry.apply(to_network_range(unit)))
        for index in layers:
            maps, layer = symmetry.undo(outputs[index]), architecture.layers[index]
            parts = (
                [maps]
                if pooling == "none"
                else [pool(maps, part, layer, CROP) for part in pooling.split("+")]
            )
            expected[index] += torch.cat(parts, dim=1).flatten(1) / len(group)
    for index in layers:
        read = torch.from_numpy(found[index])
        # Of both crops in one, as the centre of a ReLU may be nothing but zeros.
        assert torch.cosine_similarity(read.flatten(), expected[index].flatten(), dim=0) > 0.9999


def test_room_is_made_for_the_largest_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    needed: list[int] = []
    monkeypatch.setattr(folding, "make_room", needed.append)
    network = settled(ARCHITECTURES["isotropic"])
    folded = Folded(network, (20,), device=CPU, precision="float32")
    list(folded.iterate_layers(torch.zeros(3, 1, *CROP)))
    # Four of 4 channels in float32, of each voxel.
    assert needed == [4 * 4 * 4 * 3 * 16**3]
