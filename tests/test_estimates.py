"""What a training will use and take is said before it starts, as the training then does it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import SMALL
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.dataset import Dataset, assemble
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.placing import place
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.data.tables import Mapping, interpret
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.runs.events import Started
from napari_synapse_cl.system.words import VoxelSize
from napari_synapse_cl.training.estimates import Machine, Plan, in_words, plan_of
from napari_synapse_cl.training.memory.plan import SAFETY

SHAPE = (100, 200, 300)
VOXEL_SIZE = (8.0, 8.0, 8.0)
MACHINE = Machine(
    device="cuda:0",
    device_name="NVIDIA H100",
    precisions=("bfloat16", "float32"),
    free_gib=20.0,
    total_gib=80.0,
    resident_gib=0.5,
    fixed_gib=0.5,
    pair_gib={"float32": (0.8, 0.4), "bfloat16": (0.5, 0.25)},
    seconds_per_view=0.5,
    total_downsampling=(16, 16, 16),
)


def table(n: int, shape: tuple[int, int, int] = SHAPE) -> pd.DataFrame:
    inner = np.random.default_rng(0).integers(20, np.array(shape) - 20, (n, 3))
    return pd.DataFrame(inner, columns=["z", "y", "x"])


def dataset(
    table: pd.DataFrame, shape: tuple[int, int, int], config: Config, size: VoxelSize | None
) -> Dataset:
    """The synapses in a volume that is never read."""
    volume = Volume(np.broadcast_to(np.uint8(0), shape))
    part = Part(volume, size)
    found = interpret(table, "t.csv", Mapping(unit="voxels"))
    return assemble([part], [place(found, "t.csv", volume, size)], config)


def planned(n: int = 103, machine: Machine | None = MACHINE, **settings: Any) -> Plan:
    config = Config.from_values({"crop_size": 32, "batch_size": 8, **settings})
    return plan_of(dataset(table(n), SHAPE, config, VOXEL_SIZE), config, machine)


class TestCounts:
    @pytest.mark.parametrize(
        "settings", [{}, {"batch_size": 500}, {"validation_fraction": 0}, {"batch_size": 3}]
    )
    def test_they_are_those_of_the_training(
        self, settings: dict[str, Any], sample_files: tuple[Path, Path], sample: Sample,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        image, synapses = sample_files
        values = {**SMALL, **settings, "image": image, "synapses": synapses}
        config = Config.from_values({**values, "output": tmp_path / "run", "train_only": True})
        started = next(event for event in run(config) if isinstance(event, Started))
        before = plan_of(dataset(sample.synapses, (96, 128, 128), config, None), config, None)
        for name in ("n_training", "n_validation", "batch_size", "steps_per_epoch", "total_steps"):
            assert getattr(before, name) == getattr(started, name)
        assert before.n_used == len(sample.synapses)

    def test_positions_outside_are_counted_apart(self) -> None:
        some = pd.concat([table(10), pd.DataFrame({"z": [999], "y": [5], "x": [5]})])
        config = Config(crop_size=(32, 32, 32))
        made = plan_of(dataset(some, SHAPE, config, VOXEL_SIZE), config, None)
        assert (made.n_used, made.n_outside) == (10, 1)

    def test_those_inside_train_or_validate_or_are_left_out_at_the_border(self) -> None:
        made = planned()
        assert made.n_left_out > 0
        assert made.n_training + made.n_validation + made.n_left_out == made.n_used

    @pytest.mark.parametrize("less", [{"crop_size": 16}, {"rotation_range": 0}])
    def test_smaller_crops_leave_fewer_out(self, less: dict[str, Any]) -> None:
        assert planned(**less).n_left_out < planned().n_left_out

    def test_a_table_all_outside_is_refused(self) -> None:
        with pytest.raises(InputError, match="lie outside"):
            dataset(table(10) + 1000, SHAPE, Config(), VOXEL_SIZE)

    def test_nothing_heavy_is_imported_for_it(self) -> None:
        code = (
            "import sys, napari_synapse_cl.training.estimates;"
            "assert not {'torch', 'scipy', 'napari', 'matplotlib'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestMemoryAndTime:
    def test_memory_grows_with_the_batch(self) -> None:
        assert planned().memory_gib == pytest.approx(1 + SAFETY * 8 * 0.5)
        assert planned(batch_size=30).memory_gib == pytest.approx(1 + SAFETY * 30 * 0.5)

    def test_what_saves_memory_takes_longer(self) -> None:
        plain = planned(validation_fraction=0)
        slow = planned(validation_fraction=0, activation_checkpointing="on")
        assert slow.seconds == pytest.approx(4 / 3 * plain.seconds)
        assert slow.memory_gib == pytest.approx(1 + SAFETY * 8 * 0.25)
        assert "(checkpointing)" in slow.saving

    def test_an_encoder_that_follows_takes_a_pass_of_its_own(self) -> None:
        plain = planned(validation_fraction=0)
        assert planned(validation_fraction=0, objective="byol").seconds == pytest.approx(
            4 / 3 * plain.seconds
        )

    def test_time_counts_the_views_of_training_and_a_third_of_those_of_validation(self) -> None:
        made = planned(num_epochs=3)
        assert made.seconds == pytest.approx(0.5 * 2 * (3 * 9 * 8 + 3 * 10 / 3))

    def test_they_are_not_known_before_the_machine_is(self) -> None:
        made = planned(machine=None)
        assert made.memory_gib is made.seconds is made.device is made.precision is None
        assert [label for label, _ in in_words(made)] == ["Synapses", "Crops", "Steps"]

    def test_a_machine_survives_json(self) -> None:
        assert Machine.from_json(MACHINE.as_json()) == MACHINE

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"total_downsampling": [1, 2]}', "null"])
    def test_other_json_is_no_machine(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"not a machine|Expecting value"):
            Machine.from_json(text)


class TestWarnings:
    def test_there_are_none_where_all_is_well(self) -> None:
        assert planned().warnings == []

    @pytest.mark.parametrize(
        ("n", "settings", "warning"),
        [
            (103, {"batch_size": 500}, "batch_size 500 is lowered to the 77 training synapses"),
            (5, {"batch_size": 4}, "5 synapses are too few to hold any out"),
            (1, {}, "only one synapse"),
            (103, {"crop_size": 72}, "multiple of 16 × 16 × 16, as in 64 × 64 × 64"),
            (103, {"crop_size": 96}, "of 103 crops reach outside the volume"),
            (103, {"crop_size": 96}, "crops of 50 of 93 training synapses overlap with crops"),
        ],
    )
    def test_what_is_odd_is_said(self, n: int, settings: dict[str, Any], warning: str) -> None:
        assert any(warning in said for said in planned(n, **settings).warnings)

    def test_a_set_that_is_not_held_out_on_purpose_is_not_told_of(self) -> None:
        assert planned(5, batch_size=4, validation_fraction=0).warnings == []

    def test_one_crop_that_reaches_outside_is_said_in_the_singular(self) -> None:
        one = pd.concat([table(9), pd.DataFrame({"z": [0], "y": [50], "x": [50]})])
        config = Config(crop_size=(32,) * 3, batch_size=8)
        made = plan_of(dataset(one, SHAPE, config, VOXEL_SIZE), config, None)
        assert [w for w in made.warnings if "1 of 10 crops reaches outside" in w]

    def test_a_batch_that_is_too_large_for_memory_is_honoured(self) -> None:
        made = planned(500, batch_size=64)
        assert made.warnings == []
        assert made.batch_size == 64
        assert made.memory_gib <= 20
        assert made.saving == (
            "activations are computed again in the backward pass (checkpointing)"
        )

    def test_where_a_step_does_not_fit_whatever_is_done_smaller_crops_are_advised(self) -> None:
        (warning,) = planned(machine=replace(MACHINE, free_gib=1.1)).warnings
        assert "it may run out. Lower crop_size or fmaps" in warning

    def test_the_downsampling_is_known_before_the_machine_but_for_a_pretrained_network(
        self, tmp_path: Path
    ) -> None:
        anisotropic = {"crop_size": [34, 32, 32], "downsampling": "anisotropic"}
        assert planned(machine=None, **anisotropic).warnings == []
        assert "multiple of 16" in planned(machine=None, crop_size=[34, 32, 32]).warnings[0]
        pretrained = {"crop_size": [34, 32, 32], "pretrained": tmp_path / "network.pt"}
        assert planned(machine=None, **pretrained).warnings == []
        assert "multiple of 16" in planned(**pretrained).warnings[0]

    def test_positions_and_the_voxel_size_are_looked_at(self) -> None:
        swapped = table(50)[["x", "y", "z"]].set_axis(["z", "y", "x"], axis=1)
        config = Config(crop_size=(32,) * 3)
        said = plan_of(dataset(swapped, SHAPE, config, None), config, None).warnings
        assert any("in the order x, y, z" in warning for warning in said)
        assert any("voxel size is not known" in warning for warning in said)


class TestWords:
    def test_rows(self) -> None:
        made = replace(planned(num_epochs=100), n_outside=2)
        assert in_words(made) == [
            (
                "Synapses",
                "103 used: 77 train, 10 validate · 16 near the border to them are left out · "
                "2 outside the volume are left out",
            ),
            ("Crops", "32 × 32 × 32 voxels = 256 × 256 × 256 nm"),
            ("Steps", "9 per epoch, of 8 pairs each · 900 in all"),
            ("Device", "NVIDIA H100 (cuda:0), bfloat16"),
            ("Memory", "about 5.6 of 20.0 GiB free"),
            ("Time", "about 2 h 6 min"),
        ]

    def test_singular_and_what_is_not_known(self) -> None:
        made = replace(planned(1, machine=None), n_left_out=1, crop_nm=None)
        assert in_words(made) == [
            ("Synapses", "1 used: 1 train, 0 validate · 1 near the border to them is left out"),
            ("Crops", "32 × 32 × 32 voxels"),
            ("Steps", "1 per epoch, of 1 pair each · 100 in all"),
        ]
