"""What a training takes on this machine is measured, and close to what it then takes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import SMALL
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import save_checkpoint
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.pipeline.probe import probe
from napari_synapse_cl.system.memory import main_memory
from napari_synapse_cl.training.estimates import Machine

MIB, GIB = 2**20, 2**30


def small(**settings: Any) -> Config:
    return Config.from_values({**SMALL, **settings})


def plain(machine: Machine) -> float:
    """Memory of a pair in GiB, where nothing is done to save any."""
    return machine.pair_gib["float32"][0]


class TestProbing:
    def test_device_precision_and_network_are_those_of_the_training(self) -> None:
        machine = probe(small())
        assert (machine.device, machine.precisions) == ("cpu", ("float32",))
        assert machine.device_name
        assert machine.total_downsampling == (16, 16, 16)
        assert 0 < machine.free_gib <= machine.total_gib <= psutil.virtual_memory().total / GIB
        assert 0 < machine.seconds_per_view < 1
        assert 0 < machine.fixed_gib < machine.total_gib

    def test_more_maps_and_larger_crops_take_more(self) -> None:
        base, wide, large = (
            probe(small(**more)) for more in ({}, {"fmaps": 16}, {"crop_size": 48})
        )
        assert plain(wide) > 2 * plain(base)
        assert plain(large) > 15 * plain(base)
        assert wide.seconds_per_view > base.seconds_per_view
        assert large.seconds_per_view > 3 * base.seconds_per_view

    def test_a_frozen_network_takes_less(self) -> None:
        settings = {"fmaps": 12, "crop_size": 32}
        whole, frozen = probe(small(**settings)), probe(small(**settings, freeze_backbone=True))
        assert plain(frozen) < plain(whole)
        assert frozen.seconds_per_view < whole.seconds_per_view

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
