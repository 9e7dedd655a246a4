"""What a training takes on this machine is measured, and close to what it then takes."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from conftest import SMALL
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import save_checkpoint
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.pipeline.answers import probe
from napari_synapse_cl.system import devices
from napari_synapse_cl.system.devices import device_name
from napari_synapse_cl.system.memory import main_memory
from napari_synapse_cl.training.estimates import Machine
from napari_synapse_cl.training.objectives import KINDS, make_objective

MIB = 2**20


def small(**settings: Any) -> Config:
    return Config.from_values({**SMALL, **settings})


def plain(machine: Machine) -> int:
    """Memory of a pair in bytes, where nothing is done to save any."""
    return machine.memory.pair["float32"][0]


class TestProbing:
    def test_device_precision_and_network_are_those_of_the_training(self) -> None:
        machine = probe(small())
        assert (machine.device, list(machine.memory.pair)) == ("cpu", ["float32"])
        assert machine.device_name == device_name(torch.device("cpu")) != ""
        assert machine.total_downsampling == (16, 16, 16)
        total = psutil.virtual_memory().total
        assert 0 < machine.memory.fixed < machine.memory.free < total
        assert 50 * MIB < machine.resident < total
        assert machine.seconds_per_view > 0

    def test_more_maps_and_larger_crops_take_more(self) -> None:
        base, wide, large = (
            probe(small(**more)) for more in ({}, {"fmaps": 16}, {"crop_size": 48})
        )
        assert plain(wide) > 2 * plain(base)
        assert plain(large) > 15 * plain(base)
        assert wide.memory.fixed > 2 * base.memory.fixed
        assert large.seconds_per_view > 3 * base.seconds_per_view

    def test_a_frozen_network_takes_less(self) -> None:
        settings = {"fmaps": 12, "crop_size": 32}
        whole, frozen = probe(small(**settings)), probe(small(**settings, freeze_backbone=True))
        assert plain(frozen) < plain(whole)
        assert frozen.memory.fixed < whole.memory.fixed

    @pytest.mark.parametrize("objective", KINDS)
    def test_steps_of_the_objective_are_measured(
        self, objective: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        timed: list[torch.nn.Module] = []

        def make(*arguments: Any) -> torch.nn.Module:
            made = make_objective(*arguments)
            loss = made.loss
            made.loss = lambda *given: timed.append(made) or loss(*given)
            return made

        monkeypatch.setattr("napari_synapse_cl.pipeline.answers.make_objective", make)
        probe(small(objective=objective))
        assert {type(made) for made in timed} == {KINDS[objective]}

    def test_a_pretrained_network_decides(self, tmp_path: Path) -> None:
        architecture = Architecture((2, 4), (1, 1), ((1, 2, 2), (2, 2, 2)))
        file = tmp_path / "network.pt"
        save_checkpoint(file, Vgg3D.from_architecture(architecture), architecture)
        assert probe(small(pretrained=file)).total_downsampling == (2, 4, 4)

    def test_a_crop_that_the_network_cannot_take_is_measured_as_the_nearest(self) -> None:
        assert plain(probe(small(crop_size=17))) == plain(probe(small(crop_size=16)))

    def test_a_device_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(InputError, match="cuda:93 is not available"):
            probe(small(device="cuda:93"))


class TestAsAProgram:
    def ask(self, folder: Path, **settings: Any) -> dict[str, Any]:
        file = folder / "config.json"
        file.write_text(json.dumps({**SMALL, **settings}))
        command = [sys.executable, "-m", "napari_synapse_cl.pipeline.answers", "machine", str(file)]
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert line.count("\n") == 1
        return json.loads(line)

    def test_it_writes_a_line_of_json(self, tmp_path: Path) -> None:
        answer = self.ask(tmp_path)
        assert Machine.from_json(json.dumps(answer)).device == "cpu"

    def test_it_writes_what_is_wrong_with_the_settings(self, tmp_path: Path) -> None:
        assert "no checkpoint" in self.ask(tmp_path, pretrained="none.pt")["error"]
        assert "temperature cannot be 0" in self.ask(tmp_path, temperature=0)["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="the file is Linux's")
@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("processor\t: 0\nmodel name\t: A fast one: 2\nmodel name\t: another\n", "A fast one: 2"),
        ("processor\t: 0\nFeatures\t: fp\n", None),
        (None, None),
    ],
    ids=["named", "without a name", "no file"],
)
def test_a_processor_has_a_name_whatever_the_system_tells(
    content: str | None, name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(devices, "CPU_INFO", file)
    expected = name or platform.processor() or platform.machine()
    assert device_name(torch.device("cpu")) == expected


class TestControlGroups:
    """Limits of Linux's control groups, as its files say them."""

    def write(self, folder: Path, files: dict[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(f"{content}\n")

    def member(self, folder: Path, line: str) -> Path:
        file = folder / "membership"
        file.write_text(f"1:cpu:/elsewhere\n{line}\n")
        return file

    def test_the_limit_of_a_parent_counts(self, tmp_path: Path) -> None:
        used = {"memory.current": 500 * MIB, "memory.stat": f"anon 1\ninactive_file {200 * MIB}"}
        self.write(tmp_path / "job", {"memory.max": 800 * MIB, **used})
        self.write(tmp_path / "job" / "task", {"memory.max": "max", **used})
        memory = main_memory(tmp_path, self.member(tmp_path, "0::/job/task"))
        assert memory == (500 * MIB, 800 * MIB)

    def test_version_1_is_read_too(self, tmp_path: Path) -> None:
        files = {
            "memory.limit_in_bytes": 800 * MIB,
            "memory.usage_in_bytes": 300 * MIB,
            "memory.stat": "cache 1\ntotal_inactive_file 0",
        }
        self.write(tmp_path / "memory" / "job", files)
        memory = main_memory(tmp_path, self.member(tmp_path, "4:memory:/job"))
        assert memory == (500 * MIB, 800 * MIB)

    def test_without_a_limit_the_machine_has_its_memory(self, tmp_path: Path) -> None:
        memory = main_memory(tmp_path, self.member(tmp_path, "0::/"))
        assert memory.total == psutil.virtual_memory().total
        assert main_memory(tmp_path, tmp_path / "none").total == memory.total
