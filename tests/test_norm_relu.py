"""Batch norm and ReLU in one, against float64 and against PyTorch's own."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_synapse_cl.models import norms
from napari_synapse_cl.models.norms import channels_last, statistics_kept
from napari_synapse_cl.system.loops import Loop

SHAPES = [(2, 24, 20, 22, 18), (3, 5, 7, 9, 11), (1, 48, 16, 16, 16), (2, 1, 5, 5, 5)]
"""Among them maps smaller than a row, and some that no row divides."""
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


def maps_of(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Maps whose channels differ in mean and spread; some means are many spreads away from 0."""
    generator = torch.Generator().manual_seed(0)
    spread, mean = (
        torch.rand(shape[1], generator=generator).view(1, -1, 1, 1, 1) for _ in range(2)
    )
    values = torch.randn(shape, generator=generator) * (spread + 0.1) + 4 * mean
    return channels_last(values.to(dtype))


def norm_of(channels: int) -> nn.BatchNorm3d:
    generator = torch.Generator().manual_seed(1)
    norm = nn.BatchNorm3d(channels)
    norm.weight.data = torch.rand(channels, generator=generator) + 0.5
    norm.bias.data = torch.randn(channels, generator=generator)
    return norm


def passed(run: Any, norm: nn.BatchNorm3d, maps: Tensor) -> list[Tensor]:
    """Return the output, and the gradients of maps, weight and bias."""
    maps = maps.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    output = run(norm, maps)
    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(output.shape, generator=generator).bfloat16()
    output.backward(gradient.to(output.dtype))
    return [output.detach(), maps.grad, norm.weight.grad, norm.bias.grad]


def in_turn(norm: nn.BatchNorm3d, maps: Tensor) -> Tensor:
    return torch.relu(norm(maps))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["batch statistics", "running statistics"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients_are_those_of_float64(
    shape: tuple[int, ...], training: bool, dtype: torch.dtype
) -> None:
    norm, maps = norm_of(shape[1]), maps_of(shape, dtype)
    norm.train(training)
    reference = copy.deepcopy(norm).double()
    found = passed(norms.norm_relu, norm, maps)
    expected = passed(in_turn, reference, maps.double())
    tolerance = 2e-5 if dtype == torch.float32 else 4e-3
    for one, other in zip(found, expected, strict=True):
        assert (one.double() - other).norm() <= tolerance * other.norm()
    for name, statistic in norm.named_buffers():
        torch.testing.assert_close(statistic.double(), reference.get_buffer(name).double(), **CLOSE)


def test_statistics_of_large_maps_are_as_exact_as_those_of_small_ones() -> None:
    maps = maps_of((2, 8, 64, 64, 64), torch.bfloat16)
    norm = norm_of(8)
    norm.momentum = 1.0
    norms.norm_relu(norm, maps)
    exact = maps.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean.double(), exact.mean(1), **CLOSE)
    torch.testing.assert_close(norm.running_var.double(), exact.var(1), rtol=1e-5, atol=0)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    maps, n_threads = maps_of((2, 24, 24, 24, 24), torch.bfloat16), torch.get_num_threads()
    found = []
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            found.append(passed(norms.norm_relu, norm_of(24), maps))
    finally:
        torch.set_num_threads(n_threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_is_no_number_stays_none() -> None:
    norm, maps = norm_of(8).eval(), maps_of((1, 8, 8, 8, 8), torch.bfloat16)
    maps[0, 3, 2, 1, 0] = torch.nan
    assert norms.norm_relu(norm, maps).isnan().sum() == 1


def test_statistics_can_be_kept() -> None:
    norm, maps = norm_of(24), maps_of(SHAPES[0], torch.float32)
    before = copy.deepcopy(dict(norm.named_buffers()))
    with statistics_kept(norm):
        norms.norm_relu(norm, maps)
    for name, statistic in norm.named_buffers():
        assert torch.equal(statistic, before[name])


def network(channels: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, channels, 3, padding=1),
        norm_of(channels),
        nn.ReLU(inplace=True),
        nn.MaxPool3d(2),
    )


def gradients_of(run: Any, modules: nn.Sequential) -> list[Tensor]:
    maps = channels_last(maps_of((2, 1, 32, 32, 32), torch.float32))
    run(modules, maps).square().sum().backward()
    # That of the convolution's bias is 0 but for rounding: the norm takes every shift away.
    return [p.grad for name, p in modules.named_parameters() if name != "0.bias"]


@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "not to be compiled"])
def test_a_network_that_is_run_so_has_the_same_gradients(
    is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    inner = norms.norm_relu

    def counted(norm: nn.BatchNorm3d, maps: Tensor) -> Tensor | None:
        result = inner(norm, maps)
        calls.append(result is not None)
        return result

    monkeypatch.setattr(norms, "norm_relu", counted)
    if not is_compiled:
        for name in ("_sum_squares", "_normalise"):
            monkeypatch.setattr(norms, name, Loop("napari_synapse_cl.no_such_module", name))
    one, other = network(), network()
    found = gradients_of(norms.run_modules, one)
    assert calls == [is_compiled]
    for a, b in zip(found, gradients_of(lambda m, x: m(x), other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-3 * float(b.abs().max()))
    for a, b in zip(one.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_maps_of_one_channel_lead_to_maps_with_channels_side_by_side() -> None:
    maps = channels_last(torch.rand(2, 1, 8, 8, 8))
    convolution = network()[0]
    convolution.weight.data = channels_last(convolution.weight.data)
    assert convolution(maps).is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(convolution(maps), convolution(maps.contiguous()))
