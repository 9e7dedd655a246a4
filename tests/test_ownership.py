"""What a job has not made, it neither removes nor overwrites."""

import errno
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import SMALL, Files, as_flags
from held_files import hold_as_windows_does
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.runs.events import (
    CheckpointSaved,
    Control,
    Discarded,
    Event,
    Message,
    Progress,
)
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.ownership import LIST, remove_crops
from napari_synapse_cl.system import files
from napari_synapse_cl.system.folder_lock import Hold

CROPS = "crops-0123456789abcdef"


def put(folder: Path, *names: str) -> dict[str, bytes]:
    """Write files of someone else's; return what is there."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name} is mine")
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def settings(sample_files: Files, tmp_path: Path) -> dict[str, Any]:
    image, table = sample_files
    named = {"image": image, "synapses": table, "voxel_size": 10, "output": tmp_path / "run"}
    return {**SMALL, **named, "train_only": True, "figures": False}


@pytest.fixture(scope="module")
def trained(sample_files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    image, table = sample_files
    named = {"image": image, "synapses": table, "voxel_size": 10, "num_epochs": 1}
    folder = tmp_path_factory.mktemp("trained") / "run"
    list(run(Config.from_values({**SMALL, **named, "train_only": True, "output": folder})))
    return folder


def events(settings: dict[str, Any], control: Control | None = None) -> list[Event]:
    return list(run(Config.from_values(settings), control))


def discarded_at(settings: dict[str, Any], kind: type[Event], *names: str) -> list[Event]:
    """Train, put files into the run's folder at an event, and discard."""
    control, told = Control(), []
    for event in run(Config.from_values(settings), control):
        told.append(event)
        if isinstance(event, kind) and not control.stopping:
            put(settings["output"], *names)
            control.request("discard")
    return told


class TestBeginning:
    @pytest.mark.parametrize(
        "name", ["checkpoints/synister.pt", "crops-mine/a.txt", "config.json", "notes.txt"]
    )
    def test_a_folder_with_others_files_is_refused_and_stays_as_it_is(
        self, name: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = put(tmp_path / "run", name)
        assert main(flags) == 2
        assert contents(tmp_path / "run") == before
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{name} is there already in {tmp_path / 'run'}" in line
        assert "new or an empty folder" in line

    @pytest.mark.parametrize("names", [(), (".DS_Store",), ("a/b/Thumbs.db",)])
    def test_one_that_only_the_system_has_written_to_is_taken(
        self, names: tuple[str, ...], tmp_path: Path
    ) -> None:
        put(tmp_path, *names)
        (tmp_path / "checkpoints").mkdir()
        RunFolder(tmp_path).owned.check_free()

    def test_a_cache_in_it_that_the_settings_name_is_taken(self, tmp_path: Path) -> None:
        put(tmp_path, "cache/crops-0/crops.npy")
        owned = RunFolder(tmp_path).owned
        owned.check_free(tmp_path / "cache")
        with pytest.raises(InputError, match=r"cache/crops-0/crops.npy"):
            owned.check_free()

    def test_a_beginning_that_was_killed_is_no_ones(self, tmp_path: Path) -> None:
        run = RunFolder(tmp_path)
        run.create(Config())
        (tmp_path / "run.json").unlink()
        run.owned.check_free()


class TestDiscarding:
    def test_others_files_survive_that_came_during_the_run(self, settings: dict[str, Any]) -> None:
        names = {"notes.txt", "checkpoints/mine.pt", "checkpoints/best.pt", "tensorboard/mine"}
        names |= {"loss.png", "vgg3d.pt", "crops-mine/a.txt"}
        told = discarded_at(settings, Progress, *names)
        assert any(isinstance(event, Discarded) for event in told)
        assert set(contents(settings["output"])) == names

    def test_they_survive_a_stop_before_the_first_step(self, settings: dict[str, Any]) -> None:
        control, names = Control(), {"notes.txt", "checkpoints/mine.pt", "crops-mine/a.txt"}
        for event in run(Config.from_values(settings), control):
            if isinstance(event, Progress) and not control.stopping:
                put(settings["output"], *names)
                control.request("stop")
        assert set(contents(settings["output"])) == names

    def test_all_that_is_the_runs_goes(
        self, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if sys.platform == "linux":
            hold_as_windows_does(monkeypatch)
        discarded_at({**settings, "tensorboard": True}, CheckpointSaved)
        assert not settings["output"].exists()

    def test_that_of_a_run_without_a_list_goes_by_its_names(
        self, trained: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "run"
        shutil.copytree(trained, folder)
        (folder / LIST).unlink()
        names = ("checkpoints/mine.pt", "synapses.csv", "crops-mine/crops.npy", "features.csv")
        # Versions that kept no list wrote none of these.
        names += ("held_out.npz",)
        put(folder, *names)
        RunFolder(folder).discard()
        assert set(contents(folder)) == set(names)

    def test_a_list_leads_to_no_other_file(self, tmp_path: Path) -> None:
        run = RunFolder(tmp_path / "run")
        run.create(Config())
        put(tmp_path, "outside.txt", "run/notes.txt")
        with (run.path / LIST).open("a") as file:
            file.write("../outside.txt\nnotes.txt\n")
        # Another process reads the list.
        RunFolder(run.path).discard()
        assert set(contents(tmp_path)) == {"outside.txt", "run/notes.txt"}

    def test_a_line_that_a_full_disk_cut_off_is_no_name_and_spoils_none(
        self, tmp_path: Path
    ) -> None:
        run = RunFolder(tmp_path / "run")
        run.create(Config())
        put(run.path, "loss.png")
        # The beginning of what may become a longer name, and a name without the end of its line.
        for cut_off in ("checkpoints/la", "loss.png"):
            with (run.path / LIST).open("a") as file:
                file.write(cut_off)
            again = RunFolder(run.path)
            assert not again.owned.owns(run.loss_figure)
            again.owned.claim(again.last_checkpoint)
            assert RunFolder(run.path).owned.owns(run.last_checkpoint)
        put(run.path, "checkpoints/last.pt")
        RunFolder(run.path).discard()
        assert set(contents(tmp_path)) == {"run/loss.png"}

    def test_a_list_that_cannot_be_added_to_stays_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = RunFolder(tmp_path / "run")
        run.create(Config())
        before = contents(run.path)

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(files, "_replace", full)
            with pytest.raises(OSError, match="No space left"):
                run.owned.claim(run.loss_figure)
        assert contents(run.path) == before
        assert not run.owned.owns(run.loss_figure)

    def test_two_who_note_files_lose_none(self, tmp_path: Path) -> None:
        run, other = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
        run.create(Config())
        assert not other.owned.owns(run.loss_figure)
        run.owned.claim(run.loss_figure)
        other.owned.claim(run.last_checkpoint)
        owned = RunFolder(run.path).owned
        assert owned.owns(run.loss_figure)
        assert owned.owns(run.last_checkpoint)

    def test_a_file_among_crops_stays(self, tmp_path: Path) -> None:
        put(tmp_path / CROPS, "crops.npy", "index.json", "mine.txt")
        remove_crops(tmp_path / CROPS)
        assert set(contents(tmp_path)) == {f"{CROPS}/mine.txt"}


class TestGoingOn:
    def test_others_files_survive(
        self, trained: Path, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        folder = tmp_path / "run"
        shutil.copytree(trained, folder)
        mine = put(folder / "checkpoints", "mine.pt")["mine.pt"]
        assert main(["--resume", *as_flags({"output": folder, "num_epochs": 2})]) == 0
        assert (folder / "checkpoints" / "mine.pt").read_bytes() == mine

    def test_the_loss_is_not_drawn_over_a_picture_of_anothers(
        self, settings: dict[str, Any]
    ) -> None:
        told = []
        for event in run(Config.from_values({**settings, "num_epochs": 1, "figures": True})):
            told.append(event)
            if isinstance(event, CheckpointSaved):
                put(settings["output"], "loss.png")
        assert (settings["output"] / "loss.png").read_text() == "loss.png is mine"
        assert any("loss is not drawn" in e.text for e in told if isinstance(e, Message))

    def test_a_checkpoint_of_anothers_is_not_written_over(self, settings: dict[str, Any]) -> None:
        happening = run(Config.from_values(settings))
        while not isinstance(next(happening), Progress):
            pass
        put(settings["output"], "checkpoints/last.pt")
        with pytest.raises(JobError, match=r"last.pt is there already"):
            list(happening)
        mine = settings["output"] / "checkpoints" / "last.pt"
        assert mine.read_text() == "checkpoints/last.pt is mine"


class TestResultsBesideOtherFiles:
    @pytest.fixture
    def of_features(self, trained: Path, settings: dict[str, Any]) -> dict[str, Any]:
        left_out = {"num_epochs", "train_only", "batch_size", "proj_dim", "proj_hidden_dim"}
        kept = {name: value for name, value in settings.items() if name not in left_out}
        return {**kept, "extract_only": True, "checkpoint": trained, "figures": True}

    def test_they_are_written(self, of_features: dict[str, Any]) -> None:
        before = put(of_features["output"], "notes.txt", "config.json", "checkpoints/last.pt")
        events(of_features)
        features = {f"features_L20_mean.{ending}" for ending in ("csv", "json", "png")}
        names = {str(p.relative_to(of_features["output"])) for p in files_in(of_features["output"])}
        assert names == {*before, *features}
        # What is there already of their own is not replaced.
        for ending in ("csv", "json"):
            (of_features["output"] / f"features_L20_mean.{ending}").unlink()
        with pytest.raises(InputError, match=r"features_L20_mean.png is there already"):
            events(of_features)

    @pytest.mark.parametrize("compares", [False, True])
    def test_a_record_of_something_else_is_never_replaced(
        self, compares: bool, of_features: dict[str, Any]
    ) -> None:
        name = "layers.json" if compares else "features_L20_mean.json"
        before = put(of_features["output"], name)
        for overwrite in (False, True):
            with pytest.raises(InputError, match=rf"{name} is (there already|not replaced)"):
                events({**of_features, "compare_layers": compares, "overwrite": overwrite})
        assert contents(of_features["output"]) == before

    @pytest.mark.parametrize("kind", ["table", "maps", "comparison", "export"])
    def test_a_folder_that_another_job_holds_is_refused(
        self, kind: str, of_features: dict[str, Any]
    ) -> None:
        more: dict[str, dict[str, Any]] = {
            "table": {},
            "maps": {"dense": True, "synapses": None},
            "comparison": {"compare_layers": True},
            "export": {"extract_only": False, "export_only": True, "export": ["pt"]},
        }
        with Hold(of_features["output"]) as hold:
            before = contents(hold.folder)
            with pytest.raises(InputError, match="being written to by process"):
                events({**of_features, **more[kind]})
            assert contents(hold.folder) == before


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class TestSharing:
    def test_two_trainings_in_one_folder_are_one(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        first = run(Config.from_values({**settings, "seed": 1}))
        next(first)
        with pytest.raises(InputError, match="holds a run already"):
            events(settings)
        with pytest.raises(InputError, match="being trained by process"):
            events({**settings, "resume": True, "seed": 1})
        list(first)
        assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 1

    def test_a_training_whose_folder_is_held_is_refused(self, settings: dict[str, Any]) -> None:
        with (
            Hold(settings["output"]),
            pytest.raises(InputError, match="being written to by process"),
        ):
            events(settings)
        assert not settings["output"].exists() or not contents(settings["output"])

    def test_so_is_one_that_goes_on(
        self, trained: Path, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        shutil.copytree(trained, tmp_path / "run")
        config = Config.from_values(
            {**Config.from_file(trained / "config.json").as_json(), "num_epochs": 2}
        )
        goes_on = config.model_copy(update={"output": tmp_path / "run", "resume": True})
        with Hold(tmp_path / "run") as hold:
            before = contents(hold.folder)
            with pytest.raises(InputError, match="being written to by process"):
                list(run(goes_on))
            assert contents(hold.folder) == before

    def test_trainings_without_a_folder_have_one_each(
        self, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = iter([tmp_path / "same", tmp_path / "other"])
        monkeypatch.setattr("napari_synapse_cl.pipeline.steps.default_folder", lambda: next(names))
        with Hold(tmp_path / "same"):
            events({**settings, "output": None, "num_epochs": 1})
        assert RunFolder(tmp_path / "other").holds_run

    def test_crops_that_another_job_cuts_are_waited_for_and_used(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        settings |= {"cache_dir": tmp_path / "cache", "num_epochs": 1}
        first = run(Config.from_values(settings))
        while not isinstance(next(first), Progress):
            pass
        second = run(Config.from_values({**settings, "output": tmp_path / "second"}))
        texts: list[str] = []
        while not texts or "waiting for it" not in texts[-1]:
            event = next(second)
            texts += [event.text] if isinstance(event, Message) else []
        assert "cuts the same crops" in texts[-1]
        assert sum(isinstance(event, CheckpointSaved) for event in first) == 1
        # Nothing is left to be cut.
        tasks = [event.task for event in second if isinstance(event, Progress)]
        assert set(tasks) == {"checking crops"}
        assert RunFolder(tmp_path / "second").last_checkpoint.exists()

    def test_a_training_is_stopped_while_it_checks_crops_that_were_cut_before(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        settings |= {"cache_dir": tmp_path / "cache", "num_epochs": 1}
        events(settings)
        control, n_checked = Control(), 0
        for event in run(Config.from_values({**settings, "output": tmp_path / "b"}), control):
            n_checked += isinstance(event, Progress)
            if isinstance(event, Progress):
                control.request("stop")
        assert n_checked == 1
        assert not (tmp_path / "b").exists()
