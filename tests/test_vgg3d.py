"""VGG3D against a plain-PyTorch reference, tensor by tensor and layer by layer."""

import pytest
import torch
from torch import Tensor, nn

from napari_synapse_cl.config import ModelConfig
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import Vgg3D

ANISOTROPIC = ((1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2))


def reference_modules(
    channels: list[int], n_convolutions: list[int], pooling: list[tuple[int, int, int]]
) -> list[nn.Module]:
    """The published network, written out without in-place operations."""
    modules: list[nn.Module] = []
    before = 1
    for after, n, factor in zip(channels, n_convolutions, pooling, strict=True):
        for _ in range(n):
            modules += [nn.Conv3d(before, after, 3, padding=1), nn.BatchNorm3d(after), nn.ReLU()]
            before = after
        modules += [nn.MaxPool3d(factor)]
    return modules


@pytest.fixture(scope="module")
def networks() -> tuple[Vgg3D, list[nn.Module]]:
    """Ours and the reference, with the same weights and lively batch-norm statistics."""
    torch.manual_seed(0)
    ours = Vgg3D((16, 16, 16), fmaps=4)
    for module in ours.features:
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    reference = reference_modules([4, 8, 16, 32], [4, 2, 2, 2], [(2, 2, 2)] * 4)
    nn.Sequential(*reference).load_state_dict(ours.features.state_dict())
    for module in [ours, *reference]:
        module.eval()
    return ours, reference


@pytest.mark.parametrize(
    ("size", "fmaps", "n_convolutions", "pooling", "inputs"),
    [
        ((80, 80, 80), 24, (4, 2, 2, 2), ((2, 2, 2),) * 4, 24_000),
        ((16, 160, 160), 12, (2, 2, 2, 2), ANISOTROPIC, 76_800),
    ],
    ids=["isotropic", "anisotropic"],
)
def test_tensors_have_the_published_names_and_shapes(
    size: tuple, fmaps: int, n_convolutions: tuple, pooling: tuple, inputs: int
) -> None:
    with torch.device("meta"):
        network = Vgg3D(size, fmaps, pooling, n_convolutions=n_convolutions)
        channels = [fmaps * 2**stage for stage in range(4)]
        reference = nn.Sequential(*reference_modules(channels, list(n_convolutions), list(pooling)))
    found = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    expected = {
        f"features.{name}": tuple(tensor.shape) for name, tensor in reference.state_dict().items()
    }
    for index, (after, before) in {0: (4096, inputs), 3: (4096, 4096), 6: (6, 4096)}.items():
        expected[f"classifier.{index}.weight"] = (after, before)
        expected[f"classifier.{index}.bias"] = (after,)
    assert found == expected


def test_every_layer_puts_out_what_the_reference_does(
    networks: tuple[Vgg3D, list[nn.Module]],
) -> None:
    ours, reference = networks
    raw = torch.randn(2, 1, 16, 16, 16)
    assert len(reference) == 34
    expected = raw.clone()
    outputs = ours.iterate_layers(raw, range(34))
    for module, (index, output) in zip(reference, outputs, strict=True):
        expected = module(expected)
        torch.testing.assert_close(output, expected, msg=f"layer {index}")


def test_a_batch_norm_is_read_before_the_relu_that_overwrites_it(
    networks: tuple[Vgg3D, list[nn.Module]],
) -> None:
    ours, _ = networks
    raw = torch.randn(1, 1, 16, 16, 16)
    outputs = {index: output.clone() for index, output in ours.iterate_layers(raw, [21, 22])}
    assert outputs[21].min() < 0
    torch.testing.assert_close(outputs[22], outputs[21].relu())


def test_the_whole_network_classifies_as_the_reference(
    networks: tuple[Vgg3D, list[nn.Module]],
) -> None:
    ours, reference = networks
    raw = torch.randn(2, 1, 16, 16, 16)
    classes = ours.classifier(nn.Sequential(*reference)(raw).flatten(1))
    torch.testing.assert_close(ours(raw.clone()), classes)
    assert classes.shape == (2, 6)


def test_layer_20_of_an_80_crop_is_96_channels_of_20_voxels_a_side() -> None:
    architecture = Architecture()
    network = Vgg3D.from_architecture(architecture).eval()
    with torch.inference_mode():
        [(_, output)] = network.iterate_layers(torch.zeros(1, 1, 80, 80, 80), [20])
    assert output.shape == (1, 96, 20, 20, 20)
    assert str(architecture.layers[20]) == "20 · stage 3 conv 1 · 96 channels"


def test_layers_are_described_as_they_are() -> None:
    architecture = Architecture()
    network = Vgg3D.from_architecture(architecture)
    kinds = {"conv": nn.Conv3d, "batch": nn.BatchNorm3d, "ReLU": nn.ReLU, "max": nn.MaxPool3d}
    for layer, module in zip(architecture.layers, network.features, strict=True):
        assert isinstance(module, kinds[layer.name.split()[2]])
        if isinstance(module, nn.Conv3d):
            assert module.out_channels == layer.channels
    assert [architecture.stage_of(i) for i in (0, 12, 13, 19, 20, 26, 27, 33)] == [
        1, 1, 2, 2, 3, 3, 4, 4,
    ]  # fmt: skip


def test_a_layer_beyond_the_last_is_refused() -> None:
    with pytest.raises(InputError, match=r"no layer 34.*0 to 33"):
        Architecture().check_layer(34)


def test_a_crop_that_cannot_be_pooled_is_refused_with_one_that_can() -> None:
    with pytest.raises(InputError, match="48 × 48 × 80"):
        Architecture().check_crop_size((50, 45, 80))
    Architecture(downsample_factors=ANISOTROPIC).check_crop_size((16, 160, 160))


def test_the_maps_of_each_stage_follow_from_the_crop() -> None:
    assert Architecture().map_sizes((80, 80, 48)) == [
        (80, 80, 48), (40, 40, 24), (20, 20, 12), (10, 10, 6),
    ]  # fmt: skip
    assert Architecture(downsample_factors=ANISOTROPIC).map_sizes((16, 160, 160))[-1] == (
        16,
        20,
        20,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_size": (20, 16, 16)},
        {"input_size": (16, 16, 16), "fmap_inc": (2, 2)},
        {"input_size": (16, 16, 16), "n_convolutions": (0, 1, 1, 1)},
    ],
)
def test_arguments_that_disagree_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=r"cannot be pooled|one entry|at least one"):
        Vgg3D(**arguments)


def test_the_output_does_not_depend_on_the_memory_layout(
    networks: tuple[Vgg3D, list[nn.Module]],
) -> None:
    ours, _ = networks
    raw = torch.randn(2, 1, 16, 16, 16)
    layout: Tensor = raw.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(ours.features(raw.clone()), ours.features(layout))


def test_receptive_fields_are_those_of_the_pooling_and_convolutions_before() -> None:
    by_index = Architecture().layers
    assert (by_index[0].receptive_field, by_index[0].stride) == ((3, 3, 3), (1, 1, 1))
    assert by_index[20].receptive_field == (28, 28, 28)
    assert by_index[20].stride == (4, 4, 4)
    assert by_index[20].offset == (1.5, 1.5, 1.5)
    thick = Architecture.from_config(ModelConfig(downsampling="anisotropic")).layers[20]
    assert (thick.stride, thick.receptive_field) == ((1, 4, 4), (15, 28, 28))


@pytest.mark.parametrize("downsampling", ["isotropic", "anisotropic"])
def test_an_element_depends_on_its_receptive_field_and_no_more(downsampling: str) -> None:
    config = ModelConfig(fmaps=1, n_convolutions=(2, 1), downsampling=downsampling)
    architecture = Architecture.from_config(config)
    network = Vgg3D.from_architecture(architecture)
    for layer in architecture.layers:
        # Smooth in its input, so that no gradient is zero by chance.
        modules = [
            nn.AvgPool3d(m.kernel_size) if isinstance(m, nn.MaxPool3d) else m
            for m in network.features[: layer.index + 1]
            if not isinstance(m, nn.ReLU)
        ]
        raw = torch.rand(1, 1, 32, 32, 32, requires_grad=True)
        output = nn.Sequential(*modules).eval()(raw)
        element = [n // 2 for n in output.shape[2:]]
        output[0, 0, element[0], element[1], element[2]].backward()
        assert raw.grad is not None
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            (seen,) = raw.grad[0, 0].abs().amax(others).nonzero(as_tuple=True)
            assert len(seen) == layer.receptive_field[axis]
            centre = layer.offset[axis] + element[axis] * layer.stride[axis]
            assert (seen[0] + seen[-1]) / 2 == centre
