"""What the table of runs knows of each."""

import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import SMALL, Files
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config
from napari_synapse_cl.pipeline import run as run_pipeline
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.listing import ListedRun, list_runs, move_to_bin, put_back
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.system.folder_lock import Holder


@pytest.fixture(scope="module")
def trained(sample_files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of three epochs."""
    image, table = sample_files
    named = {"image": image, "synapses": table, "voxel_size": 10, "num_epochs": 3}
    folder = tmp_path_factory.mktemp("trained") / "run"
    settings = {**SMALL, **named, "train_only": True, "output": folder}
    list(run_pipeline(Config.from_values(settings)))
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "runs" / "mine")


def only(place: Path) -> ListedRun:
    [run] = list_runs([place])
    return run


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_finished_run_says_what_it_is(folder: Path) -> None:
    run = only(folder.parent)
    assert (run.folder, run.name, run.state, run.note) == (folder, "mine", "finished", "")
    assert (run.epochs, run.planned) == (3, 3)
    assert run.volume == "volume.npy"
    losses = read_metrics(folder / "epochs.csv")["validation_loss"]
    assert run.best is not None
    assert run.best.validation_loss == losses.min()
    assert run.best.epoch == losses.argmin() + 1
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert run.n_bytes == sum(path.stat().st_size for path in files)
    assert run.network == folder / "checkpoints" / "best.pt"
    assert run.begun is not None
    assert 0 <= (datetime.now(UTC) - run.begun).total_seconds() < 3600
    # The folder itself is a place too, and is listed once.
    assert list_runs([folder, folder.parent, folder.parent / "gone"]) == [run]


def test_best_is_what_the_run_is_judged_by(folder: Path) -> None:
    change(folder / "config.json", best_metric="feature_rank")
    run = only(folder)
    ranks = read_metrics(folder / "epochs.csv")["feature_rank"]
    assert run.best is not None
    assert run.best.feature_rank == ranks.max()


@pytest.mark.parametrize(
    ("state", "alive", "told", "note"),
    [
        ("running", True, "running", ""),
        ("paused", True, "paused", ""),
        ("running", False, "stopped", "ended without a word"),
        ("stopped", False, "stopped", ""),
        ("failed", False, "failed", "the disk is full"),
    ],
)
def test_states(state: str, alive: bool, told: str, note: str, folder: Path) -> None:
    own = Holder.this_process()
    started = own.started if alive else own.started - 1000
    message = note if state == "failed" else ""
    change(folder / "status.json", state=state, pid=own.pid, process_started=started)
    change(folder / "status.json", message=message)
    run = only(folder)
    assert run.state == told
    assert note in run.note
    assert run.is_active == alive
    assert run.can_go_on == (not alive)


@pytest.mark.parametrize("file", ["config.json", "status.json", "checkpoints/last.pt"])
def test_what_is_damaged_is_named(file: str, folder: Path) -> None:
    if file.endswith(".json"):
        (folder / file).write_text("no JSON")
    else:
        (folder / file).unlink()
    run = only(folder)
    assert run.state == "damaged"
    assert Path(file).name in run.note
    assert not run.can_go_on


def test_a_name_is_kept_and_the_folder_keeps_its_own(folder: Path) -> None:
    before = json.loads((folder / "run.json").read_text())
    RunFolder(folder).rename("narrow network")
    assert only(folder.parent).name == RunFolder(folder).name == "narrow network"
    assert json.loads((folder / "run.json").read_text()) == {**before, "name": "narrow network"}
    # It goes on, and keeps it.
    assert main(["--resume", "--output", str(folder), "--num_epochs", "4", "--train_only"]) == 0
    assert only(folder.parent).name == "narrow network"
    assert only(folder.parent).epochs == 4
    RunFolder(folder).rename("")
    assert only(folder.parent).name == "mine"


def test_results_lie_under_the_run_whose_network_made_them(
    folder: Path, sample_files: Files
) -> None:
    image, table = sample_files
    place = folder.parent
    flags = ["--extract_only", "--layer_num", "3", "--device", "cpu", "--image", str(image)]
    flags += ["--voxel_size", "10"]
    of_points = ["--synapses", str(table), "--checkpoint", str(folder)]
    assert main([*flags, *of_points, "--output", str(place / "features")]) == 0
    # Some other folder, and one whose network is not known any more.
    (place / "notes").mkdir()
    (place / "lost").mkdir()
    (place / "lost" / "features_L3_mean.csv").touch()
    (folder / "features_L20_mean.csv").touch()
    run = only(place)
    assert run.results == (
        folder / "features_L20_mean.csv",
        place / "features" / "features_L3_mean.csv",
    )


def test_runs_in_the_bin_are_listed_as_such(folder: Path) -> None:
    RunFolder(folder).rename("mistake")
    binned = move_to_bin(folder)
    run = only(folder.parent)
    assert (run.state, run.name, run.epochs) == ("in the bin", "mistake", 3)
    assert run.binned is not None
    assert run.binned.origin == folder
    # A place that is the run itself is not forgotten.
    assert only(folder) == run
    put_back(binned)
    assert only(folder.parent).state == only(folder).state == "finished"


def test_two_hundred_runs_are_listed_soon(folder: Path, trained: Path) -> None:
    for i in range(199):
        copied = folder.parent / f"run {i}"
        shutil.copytree(trained, copied, copy_function=os.link)
    start = time.perf_counter()
    assert len(list_runs([folder.parent])) == 200
    # It takes half a second; five would be too long to wait for.
    assert time.perf_counter() - start < 5


def test_what_is_no_run_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    (tmp_path / "file").touch()
    assert list_runs([tmp_path, tmp_path / "file", tmp_path / "gone"]) == []
