"""What was measured on a device once is remembered."""

from pathlib import Path

import pytest
import torch

from napari_synapse_cl.system import devices


def test_a_measurement_is_made_once() -> None:
    values = iter([1.5, 2.5])
    assert [devices.remembered("a", lambda: next(values)) for _ in range(2)] == [1.5, 1.5]
    assert devices.remembered("b", lambda: next(values)) == 2.5


def test_that_something_cannot_be_measured_is_remembered_too() -> None:
    assert devices.remembered("a", lambda: None) is None
    assert devices.remembered("a", lambda: 1.0) is None


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_damaged_file_is_measured_anew(content: str) -> None:
    devices.FILE.parent.mkdir(parents=True, exist_ok=True)
    devices.FILE.write_text(content)
    assert devices.remembered("a", lambda: 1.0) == 1.0
    assert devices.remembered("a", lambda: 2.0) == 1.0


def test_where_nothing_can_be_written_it_is_measured_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(devices, "FILE", tmp_path / "file" / "probes.json")
    assert [devices.remembered("a", lambda v=v: v) for v in (1.0, 2.0)] == [1.0, 2.0]


def test_where_there_is_no_place_for_it_it_is_measured_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "FILE", None)
    assert [devices.remembered("a", lambda v=v: v) for v in (1.0, 2.0)] == [1.0, 2.0]


def test_the_precision_of_a_device_is_probed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    gains = iter([0.5, 3.0, 3.0])
    monkeypatch.setattr(devices, "_gain_of_bfloat16", lambda device: next(gains))
    assert [devices.choose_precision("auto", cpu) for _ in range(2)] == ["float32"] * 2
    # Another number of threads is another device.
    n_threads = torch.get_num_threads()
    torch.set_num_threads(n_threads + 1)
    try:
        assert devices.choose_precision("auto", cpu) == "bfloat16"
    finally:
        torch.set_num_threads(n_threads)
