"""What a training will use and take is said before it starts, as the training then does it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import SMALL
from napari_synapse_cl.config import Config, read_recipe, settings_without_effect
from napari_synapse_cl.data.dataset import Dataset, assemble
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.placing import place
from napari_synapse_cl.data.sample.volume import Sample, _place_synapses
from napari_synapse_cl.data.tables import Mapping, interpret
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.runs.events import Started
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.system.words import VoxelSize
from napari_synapse_cl.training.estimates import (
    MEASURED_FOR,
    Machine,
    Plan,
    forecast,
    in_words,
    measured_key,
    plan_of,
)
from napari_synapse_cl.training.memory.plan import SAFETY, StepMemory, StepPlan

SHAPE = (100, 200, 300)
VOXEL_SIZE = (8.0, 8.0, 8.0)
MACHINE = Machine(
    device="cuda:0",
    device_name="NVIDIA H100",
    memory=StepMemory(
        fixed=GIB // 2,
        pair={"bfloat16": (GIB // 2, GIB // 4), "float32": (GIB * 4 // 5, GIB * 2 // 5)},
        free=19 * GIB + GIB // 2,
    ),
    resident=GIB // 2,
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


def row(plan: Plan, label: str) -> str:
    return dict(in_words(plan))[label]


class TestCounts:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"batch_size": 500},
            {"validation_fraction": 0},
            {"batch_size": 3},
            {"batch_size": 3, "epoch_steps": 1, "num_steps": 5},
        ],
    )
    def test_they_are_those_of_the_training(
        self, settings: dict[str, Any], sample_files: tuple[Path, Path], sample: Sample,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        image, _ = sample_files
        some = sample.synapses.assign(struck_out=np.arange(len(sample.synapses)) == 1)
        some.to_csv(tmp_path / "synapses.csv", index=False)
        values = {**SMALL, **settings, "image": image, "synapses": tmp_path / "synapses.csv"}
        config = Config.from_values({**values, "output": tmp_path / "run", "train_only": True})
        told = []
        for event in run(config):
            told.append(event)
            if isinstance(event, Started):
                started = event
                break
        assert any("1 synapse that is struck out" in getattr(e, "text", "") for e in told)
        before = plan_of(dataset(some, (96, 128, 128), config, None), config, None)
        assert before.split.struck_out.tolist() == [1]
        assert len(before.split.training) == started.n_training
        assert len(before.split.validation) == started.n_validation
        for name in ("batch_size", "steps_per_epoch", "total_steps"):
            assert getattr(before.schedule, name) == getattr(started, name)
        counts = f"{started.n_training} train, {started.n_validation} validate"
        assert row(before, "Synapses").startswith(counts)

    def test_positions_outside_are_counted_apart(self) -> None:
        some = pd.concat([table(10), pd.DataFrame({"z": [999], "y": [5], "x": [5]})])
        config = Config(crop_size=(32, 32, 32))
        made = plan_of(dataset(some, SHAPE, config, VOXEL_SIZE), config, None)
        assert row(made, "Synapses").endswith("1 not used (outside the volume)")

    @pytest.mark.parametrize(("yes", "no"), [(True, False), ("yes", None), (1, np.nan)])
    def test_those_that_are_struck_out_take_no_part(self, yes: Any, no: Any) -> None:
        struck = {4, 50, 102}
        config = Config.from_values({"crop_size": 32})
        some = table(103).assign(
            struck_out=pd.Series([yes if i in struck else no for i in range(103)], dtype=object)
        )
        made = plan_of(dataset(some, SHAPE, config, VOXEL_SIZE), config, None)
        assert row(made, "Synapses").endswith("3 not used (struck out)")
        split = made.split
        assert set(split.struck_out.tolist()) == struck
        taking_part = {*split.training, *split.validation, *split.left_out}
        assert taking_part == set(range(103)) - struck
        assert len(split.validation) == 10
        # What cannot be used besides changes nothing of that.
        assert set(split.without(np.array([0])).struck_out.tolist()) == struck

    @pytest.mark.parametrize(
        ("cells", "message"), [([True] * 10, "all 10 synapses"), (["maybe"] * 10, "something else")]
    )
    def test_a_column_that_leaves_none_or_cannot_be_understood_is_refused(
        self, cells: list[Any], message: str
    ) -> None:
        config = Config()
        some = dataset(table(10).assign(struck_out=cells), SHAPE, config, VOXEL_SIZE)
        with pytest.raises(InputError, match=message):
            plan_of(some, config, None)

    def test_those_inside_train_or_validate_or_are_left_out_at_the_border(self) -> None:
        split = planned().split
        assert len(split.left_out) > 0
        assert len(split.training) + len(split.validation) + len(split.left_out) == 103

    @pytest.mark.parametrize("less", [{"crop_size": 16}, {"rotation_range": 0}])
    def test_smaller_crops_leave_fewer_out(self, less: dict[str, Any]) -> None:
        assert len(planned(**less).split.left_out) < len(planned().split.left_out)

    def test_a_table_all_outside_is_refused(self) -> None:
        with pytest.raises(InputError, match="lie outside"):
            dataset(table(10) + 1000, SHAPE, Config(), VOXEL_SIZE)


class TestMemoryAndTime:
    def test_memory_grows_with_the_batch(self) -> None:
        for n in (8, 30):
            needed = f"about {1 + SAFETY * n * 0.5:.1f} of 20.0 GiB free"
            assert row(planned(batch_size=n), "Memory") == needed

    def test_what_saves_memory_takes_longer(self) -> None:
        plain = planned(validation_fraction=0)
        slow = planned(validation_fraction=0, activation_checkpointing="on")
        assert slow.seconds == pytest.approx(4 / 3 * plain.seconds)
        assert row(slow, "Memory") == (
            f"about {1 + SAFETY * 8 * 0.25:.1f} of 20.0 GiB free: activations are computed again "
            "in the backward pass (checkpointing)"
        )

    def test_a_machine_is_measured_anew_for_what_its_figures_depend_on(self) -> None:
        assert {"objective", "crop_size", "precision", "fmaps"} < set(MEASURED_FOR)
        assert set(MEASURED_FOR) < set(Config.model_fields)

    def test_time_counts_the_views_of_training_and_half_as_much_for_the_validation(self) -> None:
        made = planned(num_epochs=3)
        assert made.seconds == pytest.approx(0.5 * 2 * (3 * 9 * 8 + 3 * 10 / 2))

    def test_time_counts_the_start_and_what_is_kept(self) -> None:
        more = replace(MACHINE, seconds_to_start=7.0, seconds_to_save=2.0)
        plain, whole = (planned(num_epochs=4, machine=machine) for machine in (MACHINE, more))
        assert whole.seconds == pytest.approx(plain.seconds + 7 + 1.5 * 4 * 2)

    def test_time_is_a_range_while_it_is_uncertain(self) -> None:
        unsure = replace(MACHINE, spread=2.0)
        assert row(planned(num_epochs=3), "Time") == "about 4 min"
        assert row(planned(num_epochs=3, machine=unsure), "Time") == "2 to 8 min"

    @pytest.mark.parametrize(
        ("seconds", "spread", "words"),
        [
            (240, 1.2, "about 4 min"),
            (20, 2, "10 to 40 s"),
            (120, 1.5, "1 to 3 min"),
            (85, 1.45, "1 to 2 min"),
            (70, 1.5, "1 to 2 min"),
            (60, 1.5, "40 to 90 s"),
            (3600, 1.5, "40 to 90 min"),
            (20_000, 2, "3 to 11 h"),
            (5000, 3, "28 min to 4 h 10 min"),
            (90_000, 4, "6 h 15 min to 4 days"),
        ],
    )
    def test_a_forecast_in_words(self, seconds: float, spread: float, words: str) -> None:
        assert forecast(seconds, spread) == words

    def test_a_training_corrects_it(self) -> None:
        for how in ("off", "on"):
            settings = {"validation_fraction": 0, "activation_checkpointing": how}
            plan = planned(**settings)
            steps = plan.schedule.total_steps
            unsure = replace(MACHINE, spread=3.0)
            machine = unsure.with_pace(plan.config, plan.schedule.batch_size, steps, 77.0)
            assert planned(machine=machine, **settings).forecast == "about 77 s"

    def test_a_preset_takes_as_long_whatever_the_number_of_synapses(self) -> None:
        for name in ("quick", "normal", "thorough"):
            values = {**read_recipe(name), "pretrained": None}
            plans = [planned(n, **values) for n in (40, 400, 20_000)]
            steps = [made.schedule.total_steps for made in plans]
            assert max(steps) < 1.3 * min(steps)
            seconds = [made.seconds for made in plans]
            assert max(seconds) < 1.5 * min(seconds)

    def test_how_much_of_an_augmentation_there_is_is_not_measured_anew(self) -> None:
        some, more, none = (Config(noise_level=level) for level in (0.1, 0.2, 0.0))
        assert measured_key(some) == measured_key(more) != measured_key(none)

    def test_they_are_not_known_before_the_machine_is(self) -> None:
        labels = [label for label, _ in in_words(planned(machine=None))]
        assert labels == ["Synapses", "Crops", "Steps"]
        assert [label for label, _ in in_words(planned())] == [*labels, "Device", "Memory", "Time"]

    def test_a_machine_survives_json(self) -> None:
        assert Machine.from_json(MACHINE.as_json()) == MACHINE

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"total_downsampling": [1, 2]}', "null"])
    def test_other_json_is_no_machine(self, text: str) -> None:
        with pytest.raises(ValueError, match="Machine"):
            Machine.from_json(text)


class TestWarnings:
    def test_there_are_none_where_all_is_well(self) -> None:
        assert planned().warnings == []

    @pytest.mark.parametrize("name", ["quick", "normal", "thorough"])
    def test_the_sample_gives_none_under_the_presets(self, name: str) -> None:
        shape = (192, 320, 320)
        places = _place_synapses(np.random.default_rng(0), shape, 160)
        config = Config.from_values(read_recipe(name))
        synapses = pd.DataFrame(places, columns=["z", "y", "x"])
        made = plan_of(dataset(synapses, shape, config, (10.0,) * 3), config, MACHINE)
        assert made.warnings == []
        assert settings_without_effect(config, left_out={"layer_num"}) == []

    @pytest.mark.parametrize(
        ("n", "settings", "warning"),
        [
            (
                103,
                {"batch_size": 500},
                "batch size of 500 is lowered to the 77 training synapses",
            ),
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
        assert made.schedule.batch_size == 64
        assert made.step == StepPlan("bfloat16", True, 64)
        assert MACHINE.memory.bytes_of(made.step) <= MACHINE.memory.free

    def test_where_a_step_does_not_fit_whatever_is_done_smaller_crops_are_advised(self) -> None:
        tight = replace(MACHINE.memory, free=GIB * 6 // 10)
        (warning,) = planned(machine=replace(MACHINE, memory=tight)).warnings
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
        some = pd.concat([table(103), pd.DataFrame({"z": [999, -1], "y": [5, 5], "x": [5, 5]})])
        config = Config.from_values({"crop_size": 32, "batch_size": 8, "num_epochs": 100})
        made = plan_of(dataset(some, SHAPE, config, VOXEL_SIZE), config, MACHINE)
        assert in_words(made) == [
            (
                "Synapses",
                "77 train, 10 validate, 16 not used (too near to the validation ones), "
                "2 not used (outside the volume)",
            ),
            ("Crops", "32 × 32 × 32 voxels = 256 × 256 × 256 nm"),
            ("Steps", "9 per epoch, of 8 pairs each · 900 in all, in 100 epochs"),
            ("Device", "NVIDIA H100 (cuda:0), bfloat16"),
            ("Memory", "about 5.6 of 20.0 GiB free"),
            ("Time", "about 2 h 8 min"),
        ]

    def test_singular_and_what_is_not_known(self) -> None:
        some = pd.concat([table(1), pd.DataFrame({"z": [999], "y": [5], "x": [5]})])
        config = Config.from_values({"crop_size": 32, "batch_size": 8})
        made = plan_of(dataset(some, SHAPE, config, None), config, None)
        assert in_words(made) == [
            ("Synapses", "1 train, 0 validate, 1 not used (outside the volume)"),
            ("Crops", "32 × 32 × 32 voxels"),
            ("Steps", "1 per epoch, of 1 pair each · 100 in all, in 100 epochs"),
        ]
