"""The file in which a training shows what it makes of the synapses that are held out."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import SMALL, Bomb, Files
from napari_synapse_cl.config import Config, read_settings
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.runs.events import Control, EpochDone, Event, StepDone
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.held_out import HeldOut
from napari_synapse_cl.runs.ownership import LIST


@pytest.fixture
def settings(sample_files: Files, tmp_path: Path) -> dict[str, Any]:
    image, table = sample_files
    named = {"image": image, "synapses": table, "voxel_size": 10, "output": tmp_path / "run"}
    only = {"train_only": True, "figures": False, "validation_fraction": 0.4}
    return {**SMALL, **named, **only, "num_epochs": 2, "label_column": "class"}


def train(settings: dict[str, Any], control: Control | None = None) -> list[Event]:
    return list(run(Config.from_values(settings), control))


def go_on(settings: dict[str, Any], **changed: Any) -> list[Event]:
    known = read_settings(settings["output"] / "config.json")
    return train({**known, "output": settings["output"], "resume": True, **changed})


def held_out(settings: dict[str, Any]) -> HeldOut | None:
    return HeldOut.read(RunFolder(settings["output"]).held_out_file)


def some(step: int = 4) -> HeldOut:
    features = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    return HeldOut(2, step, np.array([1, 5, 6]), features, np.array(["a", "", "bé"]))


def same(one: HeldOut, other: HeldOut) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def test_each_epoch_leaves_it_before_it_is_told(settings: dict[str, Any]) -> None:
    seen = []
    for event in run(Config.from_values(settings)):
        if isinstance(event, EpochDone):
            found = held_out(settings)
            assert found is not None
            assert (found.epoch, found.step) == (event.epoch, event.step)
            seen.append(found)
    first, second = seen
    assert first.features.shape == (5, 16)
    assert np.array_equal(first.synapses, second.synapses)
    assert not np.array_equal(first.features, second.features)
    table = pd.read_csv(settings["synapses"])
    assert np.array_equal(first.labels, table["class"].to_numpy(str)[first.synapses])
    assert RunFolder(settings["output"]).owned.owns(settings["output"] / "held_out.npz")


def test_without_held_out_synapses_there_is_none(settings: dict[str, Any]) -> None:
    train({**settings, "validation_fraction": 0, "num_epochs": 1})
    assert held_out(settings) is None


def test_a_run_that_goes_on_leaves_what_one_that_was_not_interrupted_does(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    train(settings)
    whole = held_out(settings)
    again, control = {**settings, "output": tmp_path / "again"}, Control()
    for event in run(Config.from_values(again), control):
        if isinstance(event, EpochDone):
            control.request("stop")
    assert held_out(again).epoch == 1  # type: ignore[union-attr]
    go_on(again)
    resumed = held_out(again)
    assert whole is not None
    assert resumed is not None
    assert same(whole, resumed)


def test_what_is_discarded_leaves_none(settings: dict[str, Any]) -> None:
    control, seen = Control(), []
    for event in run(Config.from_values({**settings, "num_epochs": 3}), control):
        if isinstance(event, StepDone) and event.epoch == 2:
            seen.append(held_out(settings))
            control.request("discard")
    assert seen[0] is not None
    assert not settings["output"].exists()


def test_of_steps_that_are_taken_again_it_tells_nothing(tmp_path: Path) -> None:
    # A kill may come between this file and the checkpoint of the same epoch.
    folder = RunFolder(tmp_path / "run")
    folder.create(Config())
    folder.keep_held_out(some(step=4))
    folder.forget_after(4)
    assert folder.held_out_file.exists()
    folder.forget_after(2)
    assert not folder.held_out_file.exists()


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(Config())
    begun = folder.path / ".held_out.4711.partial.npz"
    begun.write_bytes(b"PK")
    folder.create(Config())
    assert not begun.exists()


def test_it_holds_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "held_out.npz"
    some().write(file)
    found = HeldOut.read(file)
    assert found is not None
    assert same(found, some())
    assert HeldOut.read(tmp_path / "none.npz") is None


def test_a_damaged_or_another_file_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "held_out.npz"
    some().write(file)
    whole = file.read_bytes()
    objects = np.array([Bomb(tmp_path / "gone"), None])
    for change in (
        lambda: file.write_bytes(whole[: len(whole) // 2]),
        lambda: file.write_bytes(b""),
        lambda: np.savez(file, features=np.zeros(3)),
        lambda: np.savez(file, **{**vars(some()), "labels": np.array(["a"])}),
        lambda: np.savez(file, **{**vars(some()), "labels": objects}),
        lambda: np.savez(file, **{**vars(some()), "epoch": np.array(["two"])}),
    ):
        change()
        with pytest.raises(InputError, match=r"held_out\.npz (cannot be read|holds no)") as caught:
            HeldOut.read(file)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("keeps_list", [True, False])
def test_someones_file_of_that_name_in_a_run_of_an_earlier_version_stays(
    settings: dict[str, Any], keeps_list: bool
) -> None:
    train({**settings, "num_epochs": 1})
    folder = RunFolder(settings["output"])
    folder.held_out_file.write_text("mine")
    noted = (folder.path / LIST).read_text().replace("held_out.npz\n", "")
    (folder.path / LIST).write_text(noted)
    if not keeps_list:
        os.remove(folder.path / LIST)
    with pytest.raises(InputError, match=r"held_out\.npz is there already"):
        go_on(settings, num_epochs=2)
    assert folder.held_out_file.read_text() == "mine"
    RunFolder(folder.path).discard()
    assert [path.name for path in folder.path.iterdir()] == ["held_out.npz"]
