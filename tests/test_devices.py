"""The device and the precision are chosen by trying."""

import time

import pytest
import torch

from napari_synapse_cl import devices
from napari_synapse_cl.errors import InputError

CPU = torch.device("cpu")


def test_the_cpu_works_and_is_taken_where_nothing_better_does() -> None:
    assert devices.choose_device("cpu") == CPU
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert devices.choose_device("auto") == CPU


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="cuda:93 is not available"):
        devices.choose_device("cuda:93")


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


def test_float32_is_taken_where_bfloat16_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def convolve(device: torch.device, dtype: torch.dtype, **_: int) -> None:
        if dtype == torch.bfloat16:
            raise RuntimeError("not implemented for BFloat16")

    monkeypatch.setattr(devices, "_convolve", convolve)
    assert devices.choose_precision("auto", CPU) == "float32"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_was_asked_for_is_taken_and_used(precision: str) -> None:
    assert devices.choose_precision(precision, CPU) == precision
    with devices.autocast(CPU, precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == getattr(torch, precision)
