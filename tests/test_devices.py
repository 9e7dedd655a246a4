"""The device and the precision are chosen by trying."""

import time
from pathlib import Path

import pytest
import torch

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system import devices

CPU = torch.device("cpu")
GAIN = devices._gain_of_bfloat16


@pytest.fixture
def measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What bfloat16 gains is measured in this test."""
    monkeypatch.setattr(devices, "_gain_of_bfloat16", GAIN)


def test_the_cpu_works_and_is_taken_where_nothing_better_does() -> None:
    assert devices.choose_device("cpu") == CPU
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert devices.choose_device("auto") == CPU


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="cuda:93 is not available"):
        devices.choose_device("cuda:93")


@pytest.mark.usefixtures("measured_anew")
@pytest.mark.parametrize(
    ("half_seconds", "chosen"), [(0.001, "bfloat16"), (0.01, "float32"), (0.02, "float32")]
)
def test_bfloat16_is_taken_where_it_is_faster(
    half_seconds: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convolve(device: torch.device, dtype: torch.dtype, **_: int) -> None:
        time.sleep(half_seconds if dtype == torch.bfloat16 else 0.01)

    monkeypatch.setattr(devices, "_convolve", convolve)
    assert devices.choose_precision("auto", CPU) == chosen


@pytest.mark.usefixtures("measured_anew")
def test_bfloat16_that_is_far_slower_is_tried_but_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def convolve(device: torch.device, dtype: torch.dtype, **_: int) -> None:
        tried.append(dtype)
        time.sleep(0.05 if dtype == torch.bfloat16 else 0.005)

    monkeypatch.setattr(devices, "_convolve", convolve)
    assert devices.choose_precision("auto", CPU) == "float32"
    assert tried.count(torch.bfloat16) == 2


@pytest.mark.usefixtures("measured_anew")
def test_float32_is_taken_where_bfloat16_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def convolve(device: torch.device, dtype: torch.dtype, **_: int) -> None:
        if dtype == torch.bfloat16:
            raise RuntimeError("not implemented for BFloat16")

    monkeypatch.setattr(devices, "_convolve", convolve)
    assert devices.choose_precision("auto", CPU) == "float32"


def test_bfloat16_is_left_alone_where_its_gradients_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "_gain_of_bfloat16", lambda device: 2.0)
    inner = torch.nn.functional.conv3d

    def conv3d(image: torch.Tensor, weight: torch.Tensor, **options: int) -> torch.Tensor:
        spoilt = weight.dtype == torch.bfloat16 and image.shape[2] == 3
        return inner(image, weight * (2 if spoilt else 1), **options)

    monkeypatch.setattr(devices.F, "conv3d", conv3d)
    assert devices.choose_precision("auto", CPU, [(8, 8, 8)]) == "bfloat16"
    assert devices.choose_precision("auto", CPU, [(8, 8, 8), (3, 8, 8)]) == "float32"
    with pytest.raises(InputError, match="wrong gradients on cpu for feature maps of 3 × 8 × 8"):
        devices.choose_precision("bfloat16", CPU, [(8, 8, 8), (3, 8, 8)])


@pytest.mark.parametrize("size", [(2, 2, 2), (2, 20, 20), (3, 3, 3), (5, 5, 5), (20, 20, 20)])
def test_a_gradient_in_the_precision_that_is_chosen_is_right(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    image = torch.randn(4, 8, *size).contiguous(memory_format=torch.channels_last_3d)
    weight = torch.nn.Parameter(torch.randn(8, 8, 3, 3, 3))
    weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
    exact = torch.nn.grad.conv3d_weight(
        image.double(), weight.shape, 2 * torch.conv3d(image.double(), weight.double(), padding=1),
        padding=1,
    )  # fmt: skip
    with devices.autocast(CPU, devices.choose_precision("auto", CPU, [size])):
        output = torch.conv3d(image, weight, padding=1)
    output.float().square().sum().backward()
    assert weight.grad is not None
    assert (weight.grad - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_was_asked_for_is_taken_and_used(precision: str) -> None:
    assert devices.choose_precision(precision, CPU) == precision
    with devices.autocast(CPU, precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == getattr(torch, precision)


@pytest.mark.parametrize("place", ["no home", "a home that takes nothing"])
def test_what_cannot_be_remembered_is_measured_each_time(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    file = None if place == "no home" else tmp_path / "file" / "cache" / "probes.json"
    monkeypatch.setattr(devices, "FILE", file)
    assert [devices.remembered("probe", lambda n=n: n) for n in (1.5, 2.5)] == [1.5, 2.5]
