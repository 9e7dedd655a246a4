"""Discarded runs wait in a bin, from which they come back as they were."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import SMALL, Files
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.pipeline import run as run_pipeline
from napari_synapse_cl.runs import listing
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.listing import (
    BIN,
    KEPT_DAYS,
    NOTE,
    empty_bin,
    move_to_bin,
    put_back,
    runs_in_bin,
)
from napari_synapse_cl.runs.ownership import LIST
from napari_synapse_cl.system.folder_lock import Hold

OLD_RUN = Path(__file__).parent / "data" / "run_of_0.1" / "run"


@pytest.fixture(scope="module")
def trained(sample_files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, with crops and logs in it."""
    image, table = sample_files
    named = {"image": image, "synapses": table, "voxel_size": 10, "num_epochs": 1}
    folder = tmp_path_factory.mktemp("trained") / "run"
    settings = {**SMALL, **named, "train_only": True, "tensorboard": True, "output": folder}
    list(run_pipeline(Config.from_values(settings)))
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "runs" / "mine")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def make_older(folder: Path, days: float) -> None:
    note = folder / NOTE
    when = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    note.write_text(json.dumps({**json.loads(note.read_text()), "discarded": when}))


def test_a_run_goes_and_comes_back_as_it_was(folder: Path) -> None:
    before = contents(folder)
    assert {"checkpoints/last.pt", "config.json", LIST} < set(before)
    assert any(name.startswith("crops-") for name in before)
    assert any(name.startswith("tensorboard/") for name in before)
    binned = move_to_bin(folder)
    assert not folder.exists()
    assert binned.path.parent == folder.parent / BIN
    assert runs_in_bin(folder.parent)[0].origin == folder
    moved = contents(binned.path)
    moved.pop(NOTE)
    assert moved == before
    put_back(binned)
    assert contents(folder) == before
    assert not (folder.parent / BIN).exists()


def test_others_files_and_features_stay_where_they_are(folder: Path) -> None:
    names = ("notes.txt", "checkpoints/mine.pt", "features_L20_mean.csv")
    for name in names:
        (folder / name).write_text("mine")
    binned = move_to_bin(folder)
    assert set(contents(folder)) == set(names)
    put_back(binned)
    assert {*names, "run.json"} < set(contents(folder))
    # What was the run's is so again, and the rest is not.
    RunFolder(folder).discard()
    assert set(contents(folder)) == set(names)


def test_a_run_of_a_version_without_a_list_can_be_discarded_too(tmp_path: Path) -> None:
    shutil.copytree(OLD_RUN, tmp_path / "old")
    before = contents(tmp_path / "old")
    assert LIST not in before
    binned = move_to_bin(tmp_path / "old")
    assert {"features_L3_mean.csv"} <= set(contents(tmp_path / "old"))
    assert "run.json" not in contents(tmp_path / "old")
    put_back(binned)
    after = contents(tmp_path / "old")
    after.pop(LIST)
    assert after == before


def test_two_runs_of_one_name_lie_beside_each_other(folder: Path, trained: Path) -> None:
    first = move_to_bin(folder)
    shutil.copytree(trained, folder)
    second = move_to_bin(folder)
    assert {first.path.name, second.path.name} == {"mine", "mine_2"}


def test_a_run_is_not_put_back_over_another(folder: Path, trained: Path) -> None:
    binned = move_to_bin(folder)
    shutil.copytree(trained, folder)
    before, in_bin = contents(folder), contents(binned.path)
    with pytest.raises(InputError, match=r"stays in the bin: .* holds a run already"):
        put_back(binned)
    assert contents(folder) == before
    assert contents(binned.path) == in_bin
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "steps.csv").write_text("mine")
    with pytest.raises(InputError, match=r"steps.csv is there already"):
        put_back(binned)
    assert contents(folder) == {"steps.csv": b"mine"}
    assert contents(binned.path) == in_bin


def test_what_cannot_be_moved_whole_stays_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = contents(folder), Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "epochs.csv" and BIN in str(target):
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(InputError, match="stays where it is: Permission denied"):
        move_to_bin(folder)
    assert contents(folder) == before
    assert not (folder.parent / BIN).exists()


def test_a_run_that_is_trained_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PATIENCE", 0.2)
    with Hold(folder):
        before = set(contents(folder))
        with pytest.raises(InputError, match="stop it first"):
            move_to_bin(folder)
        assert set(contents(folder)) == before


def test_a_folder_without_a_run_is_not_moved(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="no run"):
        move_to_bin(tmp_path)
    assert set(contents(tmp_path)) == {"notes.txt"}


def test_only_what_has_been_in_the_bin_for_long_is_removed(folder: Path, trained: Path) -> None:
    old, new = move_to_bin(folder), None
    shutil.copytree(trained, folder)
    new = move_to_bin(folder)
    make_older(old.path, KEPT_DAYS + 0.1)
    make_older(new.path, KEPT_DAYS - 0.1)
    (old.path / "notes.txt").write_text("mine")
    assert empty_bin(folder.parent) == []
    # Someone's file in it is not removed, so its folder stays.
    assert contents(old.path) == {"notes.txt": b"mine"}
    assert (new.path / "run.json").exists()
    make_older(new.path, KEPT_DAYS + 0.1)
    assert [run.origin for run in empty_bin(folder.parent)] == [folder]
    assert not new.path.exists()


def test_a_bin_of_anything_else_is_no_bin(tmp_path: Path) -> None:
    for name, text in (("a", "no JSON"), ("b", '{"from": "x"}'), ("c", "[]")):
        (tmp_path / BIN / name).mkdir(parents=True)
        (tmp_path / BIN / name / NOTE).write_text(text)
    assert runs_in_bin(tmp_path) == empty_bin(tmp_path) == []
    assert len(contents(tmp_path)) == 3
