"""A damaged run: one line, or made anew and told; never a traceback, nor another result."""

import errno
import json
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

from damages import LOGS, Campaign, Case
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.cache import CachedCrops
from napari_synapse_cl.errors import InputError, JobError, reason
from napari_synapse_cl.models import checkpoints
from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.runs import folder
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.runs.ownership import LIST
from napari_synapse_cl.system import files

N_CASES = 40


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(tmp_path_factory.mktemp("campaign"))


def test_damages_at_random_places_are_refused_or_told(campaign: Campaign) -> None:
    bad = []
    for case in campaign.cases(N_CASES, seed=1):
        outcome = campaign.outcome(case)
        fine = outcome.kind in ("refused", "told", "equal")
        # A digit of a log that became another is not known for one.
        is_digit = outcome.kind == "silent" and case.kind in ("bit", "number")
        if not fine and not (is_digit and case.file in LOGS):
            bad.append((case, outcome))
    assert not bad


@pytest.mark.parametrize("name", ["steps.csv", "epochs.csv"])
@pytest.mark.parametrize("kind", ["emptied", "removed", "garbage", "nested"])
def test_metrics_that_are_lost_are_told_to_whoever_looks_at_the_run(
    campaign: Campaign, kind: str, name: str
) -> None:
    for seed in range(4):
        outcome = campaign.outcome(Case(name, kind, "attach", seed))
        assert outcome.kind in ("refused", "told"), outcome


@pytest.mark.parametrize("action", ["attach", "resume"])
def test_the_one_log_in_place_of_the_other_is_told(campaign: Campaign, action: str) -> None:
    """Both hold steps."""
    outcome = campaign.outcome(Case("steps.csv", "other log", action, 0))
    assert outcome.kind in ("refused", "told"), outcome


def test_a_status_that_is_damaged_is_told_before_a_run_goes_on(campaign: Campaign) -> None:
    outcome = campaign.outcome(Case("status.json", "garbage", "resume", 0))
    assert outcome.kind == "told"
    assert "status.json is damaged" in outcome.text


def test_an_index_of_crops_that_says_something_else_is_refused_or_written_anew(
    campaign: Campaign,
) -> None:
    campaign.restore()
    (file,) = campaign.last_checkpoint.parents[1].glob("crops-*/index.json")
    index = json.loads(file.read_text())
    file.write_text(json.dumps({**index, "voxel_size": [9.0, 9.0, 9.0]}))
    with pytest.raises(InputError, match="its index is damaged: it does not match its hash"):
        CachedCrops(file.parent)
    campaign.go_on()
    assert json.loads(file.read_text()) == index


def test_a_training_does_not_go_on_from_an_emptied_optimiser(campaign: Campaign) -> None:
    campaign.restore()
    content = torch.load(campaign.last_checkpoint, weights_only=True)
    content["optimizer_state_dict"]["state"] = {}
    torch.save(content, campaign.last_checkpoint)
    with pytest.raises(InputError, match="optimiser has an empty state, after steps"):
        campaign.go_on()


@pytest.mark.parametrize("kind", ["garbage", "emptied", "cut off"])
def test_a_run_whose_list_of_files_is_damaged_is_refused_or_goes_on(
    campaign: Campaign, kind: str
) -> None:
    for seed in range(3):
        outcome = campaign.outcome(Case(LIST, kind, "resume", seed))
        assert outcome.kind in ("refused", "equal"), outcome


def test_a_row_without_its_loss_is_damaged(campaign: Campaign) -> None:
    campaign.restore()
    file = campaign.last_checkpoint.parents[1] / "epochs.csv"
    header, first, *others = file.read_text().splitlines()
    epoch, step, _, *more = first.split(",")
    for loss in ("", "NaN"):
        row = ",".join([epoch, step, loss, *more])
        file.write_text("\n".join([header, row, *others, ""]))
        assert len(read_metrics(file)["step"]) == len(others)


@pytest.mark.parametrize("action", ["resume", "extract", "export"])
@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_bit_in_a_checkpoint_is_refused(
    campaign: Campaign, action: str, seed: int
) -> None:
    outcome = campaign.outcome(Case("checkpoints/last.pt", "bit", action, seed))
    assert outcome.kind in ("refused", "equal"), outcome


@pytest.mark.parametrize("action", ["resume", "extract", "export"])
def test_a_flipped_bit_in_a_weight_is_refused(campaign: Campaign, action: str) -> None:
    outcome = campaign.outcome(Case("checkpoints/last.pt", "weight", action, 0))
    assert outcome.kind == "refused", outcome
    assert "does not match its check sum" in outcome.text


@pytest.mark.parametrize("name", ["crops.npy", "windows.npy", "states.npy", "sums.npy"])
def test_a_flipped_bit_in_a_cache_is_cut_anew_and_told(campaign: Campaign, name: str) -> None:
    (file,) = [file for file in campaign.files if file.endswith(f"/{name}")]
    for seed in range(3):
        training = campaign.outcome(Case(file, "bit", "resume", seed))
        assert training.kind in ("told", "equal"), training
        extraction = campaign.outcome(Case(file, "bit", "extract crops", seed))
        assert extraction.kind in ("refused", "equal"), extraction


@pytest.mark.parametrize("name", ["crops.npy", "windows.npy", "states.npy"])
def test_of_crops_that_are_cut_anew_it_is_told_how_many(campaign: Campaign, name: str) -> None:
    campaign.restore()
    (file,) = campaign.last_checkpoint.parents[1].glob(f"crops-*/{name}")
    content = bytearray(file.read_bytes())
    content[-1] ^= 4
    file.write_bytes(content)
    assert any("1 of 12 crops" in text and "cut anew" in text for text in campaign.go_on())


def test_a_flipped_bit_in_an_export_is_refused(campaign: Campaign) -> None:
    kinds = {
        campaign.outcome(Case("vgg3d.safetensors", "bit", "extract export", seed)).kind
        for seed in range(6)
    }
    assert kinds <= {"refused", "equal"}
    assert "refused" in kinds


@pytest.mark.parametrize(
    ("name", "trains"),
    [
        ("config.json", False),
        ("status.json", False),
        ("last.pt", False),
        ("loss.png", True),
        ("vgg3d.pt", True),
        ("vgg3d.safetensors", True),
        ("features*.npz", True),
    ],
)
def test_a_full_disk_is_called_so_and_the_run_goes_on_once_there_is_room(
    name: str, trains: bool, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = files._replace
    flags = ["--export", "pt", "safetensors", "--overwrite", "--figures"]

    def full(source: Path, target: Path) -> None:
        if fnmatch(target.name, name):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    campaign.restore()
    n_before = load_checkpoint(campaign.last_checkpoint)["step"]
    with monkeypatch.context() as patched:
        patched.setattr(files, "_replace", full)
        with pytest.raises((InputError, JobError), match="the disk is full") as error:
            campaign.go_on(*flags)
    assert len(str(error.value).splitlines()) == 1
    n_kept = load_checkpoint(campaign.last_checkpoint)["step"]
    assert (n_kept > n_before) == trains
    campaign.go_on(*flags)
    assert load_checkpoint(campaign.last_checkpoint)["step"] > n_before


@pytest.mark.parametrize("name", ["config.json", "run.json"])
def test_a_run_that_could_not_begin_begins_once_there_is_room(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, run = files._replace, RunFolder(tmp_path / "run")

    def full(source: Path, target: Path) -> None:
        if target.name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(files, "_replace", full)
        with pytest.raises(InputError, match="the disk is full"):
            run.create(Config())
    assert not run.holds_run
    run.owned.check_free()


def test_a_disk_that_takes_neither_metrics_nor_a_checkpoint_ends_it_with_one_error(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    campaign.restore()
    unheard: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(sys, "unraisablehook", unheard.append)
        patched.setattr(folder, "append_row", full)
        patched.setattr(checkpoints, "replacing", full)
        with pytest.raises(JobError, match="the disk is full"):
            campaign.go_on()
    assert not unheard


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EROFS, errno.EIO])
def test_what_the_system_says_is_found_behind_what_libraries_say(number: int) -> None:
    wrapped = RuntimeError("unexpected pos 576 vs 534")
    wrapped.__context__ = OSError(number, "said by the system")
    assert "unexpected pos" not in reason(wrapped)
    assert reason(OSError(f"Unable to write (errno = {number}, error message = ...)")) == reason(
        OSError(number, "said by the system")
    )
