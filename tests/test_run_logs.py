"""What a run writes down of itself: how to make it again, its data, and metrics for TensorBoard."""

import csv
import hashlib
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from conftest import SMALL, Files
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import ABOUT, Config, read_settings
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.pipeline import provenance, run
from napari_synapse_cl.pipeline.provenance import changed_sources, sources_of
from napari_synapse_cl.runs.events import Control, EpochDone, Event, Message, Paused, StepDone
from napari_synapse_cl.runs.folder import RunFolder, RunStatus
from napari_synapse_cl.runs.metrics import (
    EPOCH_COLUMNS,
    MetricsTail,
    epoch_events,
    keep_until,
    read_metrics,
)
from napari_synapse_cl.runs.recording import Recorder, TensorBoardLog
from test_run_status import ABOUT as TRAINING

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

BRIEF = {**SMALL, "train_only": True, "figures": False}


@pytest.fixture(scope="module")
def files(sample_files: Files, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The sample's volume and table in a folder whose name has to be quoted."""
    folder = tmp_path_factory.mktemp("the data")
    image, table = (Path(shutil.copy(file, folder)) for file in sample_files)
    return image, table


def settings(files: Files, folder: Path, **more: Any) -> Config:
    image, table = files
    named = {"image": image, "synapses": table, "output": folder}
    return Config.from_values({**BRIEF, **named, **more})


@pytest.fixture(scope="module")
def trained(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that wrote for TensorBoard too."""
    folder = tmp_path_factory.mktemp("some runs") / "a run"
    list(run(settings(files, folder, tensorboard=True)))
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def about(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())[ABOUT]


def losses(folder: Path) -> list[str]:
    with (folder / "steps.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


def resumed(folder: Path, **more: Any) -> list[Event]:
    values = read_settings(folder / "config.json")
    return list(run(Config.from_values({**values, "output": folder, "resume": True, **more})))


def warnings(events: list[Event]) -> list[str]:
    return [e.text for e in events if isinstance(e, Message) and e.level == "warning"]


class TestAbout:
    def test_the_command_it_names_makes_the_same_run_again(
        self, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program, *arguments = shlex.split(about(trained)["reproduce"])
        assert program == "synapse-cl"
        monkeypatch.chdir(tmp_path)
        assert main(arguments) == 0
        again = tmp_path / "NEW_FOLDER"
        assert len(losses(again)) == 4
        assert losses(again) == losses(trained)
        assert shlex.split(about(again)["reproduce"])[2] == str(again / "config.json")
        assert about(again)["data"] == about(trained)["data"]

    def test_what_was_measured_is_set_in_it(self, files: Files, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        list(run(settings(files, folder, precision="auto", num_epochs=1)))
        _, *flags = shlex.split(about(folder)["reproduce"])
        assert flags[flags.index("--precision") + 1] in ("float32", "bfloat16")

    def test_the_command_of_a_resumed_run_does_not_resume(self, copy: Path) -> None:
        resumed(copy, num_epochs=3)
        content = json.loads((copy / "config.json").read_text())
        assert content["resume"] is False
        assert content["num_epochs"] == 3
        _, *arguments = shlex.split(content[ABOUT]["reproduce"])
        assert "--resume" not in arguments
        # The folder had been moved before.
        assert arguments[1] == str(copy / "config.json")

    def test_it_names_versions_and_the_device(self, trained: Path) -> None:
        told = about(trained)
        assert told["versions"].keys() == {"napari-synapse-cl", "torch", "numpy", "python"}
        assert told["device"] == "cpu"
        assert told["platform"]
        started = json.loads((trained / "run.json").read_text())
        assert started.keys() == {"started", "command"}

    def test_how_a_run_began_is_not_overwritten(self, copy: Path) -> None:
        file = copy / "config.json"
        content = json.loads(file.read_text())
        content[ABOUT]["versions"]["torch"] = "1.0"
        file.write_text(json.dumps(content))
        resumed(copy, num_epochs=3)
        assert about(copy)["versions"]["torch"] == "1.0"

    def test_a_new_run_with_the_settings_of_another_has_its_own(
        self, trained: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "new"
        folder.mkdir()
        shutil.copy(trained / "config.json", folder)
        RunFolder(folder).create(Config(), {"device": "another"})
        assert about(folder) == {"device": "another"}

    def test_settings_are_read_without_it(self, trained: Path) -> None:
        assert ABOUT not in read_settings(trained / "config.json")
        assert Config.from_file(trained / "config.json").tensorboard


class TestData:
    def sources(self, **named: Any) -> dict[str, provenance.Source]:
        config = Config.from_values({**BRIEF, **named})
        found = sources_of(config, open_dataset(config))
        return {source["what"]: source for source in found}

    def test_files_are_named_with_the_hashes_of_their_content(self, files: Files) -> None:
        image, table = files
        found = self.sources(image=image, synapses=table)
        for what, file in (("image", image), ("synapses", table)):
            assert found[what]["path"] == str(file)
            assert found[what]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()

    def test_a_large_file_is_hashed_in_parts_and_by_its_size(
        self, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(provenance, "WHOLE_BYTES", 2**16)
        monkeypatch.setattr(provenance, "PART_BYTES", 2**10)
        image, table = files
        before = self.sources(image=image, synapses=table)["image"]
        copied = Path(shutil.copy(image, tmp_path / "copied.npy"))
        after = self.sources(image=copied, synapses=table)["image"]
        assert "parts" in before["hashed"]
        assert after["sha256"] == before["sha256"]
        voxels = np.load(copied)
        np.save(copied, voxels[:-1])
        assert self.sources(image=copied, synapses=table)["image"]["sha256"] != after["sha256"]
        np.save(copied, voxels // 2)
        assert self.sources(image=copied, synapses=table)["image"]["sha256"] != after["sha256"]

    def test_a_folder_of_slices_is_known_by_its_voxels(self, files: Files, tmp_path: Path) -> None:
        image, table = files
        folder = tmp_path / "slices"
        folder.mkdir()
        for z, plane in enumerate(np.load(image)):
            tifffile.imwrite(folder / f"s{z:03d}.tif", plane)
        before = self.sources(image=folder, synapses=table)
        moved = folder.rename(tmp_path / "moved")
        after = self.sources(image=moved, synapses=table)
        assert before["image"]["path"] != after["image"]["path"]
        assert changed_sources(list(before.values()), list(after.values())) == []
        middle = moved / "s048.tif"
        tifffile.imwrite(middle, 255 - tifffile.imread(middle))
        changed = self.sources(image=moved, synapses=table)
        assert changed_sources(list(after.values()), list(changed.values())) == [
            f"the image {moved}"
        ]

    def test_labels_count_too(self, files: Files, tmp_path: Path) -> None:
        image, table = files
        labels = tmp_path / "labels.npy"
        np.save(labels, (np.load(image) > 100).astype(np.uint8))
        found = self.sources(image=image, synapses=table, labels=labels)
        assert found["labels"]["path"] == str(labels)

    def test_of_several_volumes_each_is_named(self, files: Files, tmp_path: Path) -> None:
        image, table = map(str, files)
        one = {"image": image, "synapses": table, "voxel_size": 10}
        dataset = tmp_path / "both.json"
        dataset.write_text(
            json.dumps({"volumes": [{"name": name, **one} for name in ("left", "right")]})
        )
        config = Config.from_values({**BRIEF, "dataset": dataset})
        found = sources_of(config, open_dataset(config))
        assert [(s["what"], s["volume"]) for s in found] == [
            ("dataset", ""),
            ("image", "left"),
            ("synapses", "left"),
            ("image", "right"),
            ("synapses", "right"),
        ]
        # A volume that has gone or come is a change.
        assert len(changed_sources(found[:3], found)) == 2
        assert len(changed_sources(found, found[:3])) == 2

    def test_crops_that_were_cut_stand_for_the_volume(self, trained: Path, files: Files) -> None:
        [crops] = trained.glob("crops-*")
        found = self.sources(crops=crops, synapses=files[1])
        assert found.keys() == {"crops", "synapses"}
        assert found["crops"]["path"] == str(crops)

    def test_the_sample_volume_is_known_by_its_voxels_and_synapses(
        self, sample: Sample, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn = "napari_synapse_cl.data.sample.volume.make_sample"
        monkeypatch.setattr(drawn, lambda: sample)
        before = self.sources()
        assert before["image"]["path"] == "the sample volume"
        assert self.sources() == before
        monkeypatch.setattr(drawn, lambda: replace(sample, image=255 - sample.image))
        after = self.sources()
        assert after["image"]["sha256"] != before["image"]["sha256"]
        assert after["synapses"] == before["synapses"]

    def test_the_sheet_of_a_book_is_hashed_with_it(self, files: Files, tmp_path: Path) -> None:
        book = tmp_path / "book.xlsx"
        pd.read_csv(files[1]).to_excel(book, sheet_name="mine", index=False)
        found = self.sources(image=files[0], synapses=f"{book}#mine")
        assert found["synapses"]["path"] == str(book)


class TestDataWhenResumed:
    @pytest.fixture
    def own(self, files: Files, tmp_path: Path) -> tuple[Path, Files]:
        """A run on files that may be changed."""
        image, table = (Path(shutil.copy(file, tmp_path)) for file in files)
        list(run(settings((image, table), tmp_path / "run", num_epochs=1)))
        return tmp_path / "run", (image, table)

    def test_files_that_were_copied_are_the_same(self, own: tuple[Path, Files]) -> None:
        folder, changed = own
        for file in changed:
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(content)
        assert not [text for text in warnings(resumed(folder, num_epochs=2)) if "data" in text]

    def test_a_file_that_has_changed_is_named_each_time(self, own: tuple[Path, Files]) -> None:
        folder, (image, _) = own
        np.save(image, np.load(image)[:, ::-1])
        for n in (2, 3):
            [text] = [t for t in warnings(resumed(folder, num_epochs=n)) if "data" in t]
            assert f"the image {image}." in text
            assert "synapses" not in text

    def test_of_runs_that_did_not_write_it_down_nothing_is_said(
        self, own: tuple[Path, Files]
    ) -> None:
        folder, (image, _) = own
        file = folder / "config.json"
        file.write_text(json.dumps(read_settings(file)))
        np.save(image, np.load(image)[:, ::-1])
        assert not [text for text in warnings(resumed(folder, num_epochs=2)) if "data" in text]
        # From now on it is known.
        assert about(folder)["data"]


class Logged:
    """What TensorBoard reads."""

    def __init__(self, folder: Path) -> None:
        self._read = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
        self._read.Reload()

    @property
    def names(self) -> set[str]:
        return set(self._read.Tags()["scalars"])

    def values(self, name: str) -> dict[int, float]:
        found = [(scalar.step, scalar.value) for scalar in self._read.Scalars(name)]
        assert len(dict(found)) == len(found), "a step is there twice"
        return dict(found)

    @property
    def settings(self) -> str:
        [*_, last] = self._read.Tensors("settings/text_summary")
        return last.tensor_proto.string_val[0].decode()


def step(number: int, loss: float) -> StepDone:
    return StepDone((number + 1) // 2, number, loss, 1e-3, 10.0, 0.5)


class TestTensorBoard:
    def test_it_has_the_numbers_of_the_csv_files(self, trained: Path) -> None:
        logged = Logged(trained / "tensorboard")
        for name, group in (("steps", "step"), ("epochs", "epoch")):
            rows = read_metrics(trained / f"{name}.csv")
            for column in rows.keys() - {"epoch", "step"}:
                found = np.isfinite(rows[column])
                if not found.any():
                    assert f"{group}/{column}" not in logged.names
                    continue
                values = logged.values(f"{group}/{column}")
                assert list(values) == rows["step"][found].tolist()
                np.testing.assert_allclose(list(values.values()), rows[column][found], rtol=1e-6)
        assert {"step/learning_rate", "epoch/validation_loss", "epoch/alignment"} <= logged.names

    def test_it_has_the_settings_as_a_table(self, trained: Path) -> None:
        lines = Logged(trained / "tensorboard").settings.splitlines()
        assert "| batch_size | 4 |" in lines
        assert '| device | "cpu" |' in lines

    def test_steps_that_are_taken_again_are_there_once(self, files: Files, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        config = settings(files, folder, tensorboard=True, num_epochs=3)
        kept = folder.with_name("kept")
        control = Control()
        for event in run(config, control):
            if isinstance(event, StepDone) and event.step == 3:
                # As if the process were killed now: the last checkpoint is that of step 2.
                shutil.copytree(folder, kept)
        assert len(losses(kept)) == 3
        status = json.loads((kept / "status.json").read_text())
        (kept / "status.json").write_text(json.dumps({**status, "state": "stopped"}))
        resumed(kept)
        assert len(list((kept / "tensorboard").iterdir())) == 2
        logged = Logged(kept / "tensorboard")
        assert list(logged.values("step/loss")) == [1, 2, 3, 4, 5, 6]
        assert logged.values("step/loss") == Logged(folder / "tensorboard").values("step/loss")
        assert list(logged.values("epoch/training_loss")) == [2, 4, 6]

    def test_a_record_cut_short_by_a_kill_is_passed_over(self, tmp_path: Path) -> None:
        log = TensorBoardLog(tmp_path, Config(), 0)
        log.record(step(1, 3.0))
        log.record(step(2, 2.0))
        [file] = tmp_path.iterdir()
        file.write_bytes(file.read_bytes()[:-5])
        log = TensorBoardLog(tmp_path, Config(), 1)
        log.record(step(2, 2.5))
        assert Logged(tmp_path).values("step/loss") == {1: 3.0, 2: 2.5}

    def test_what_an_epoch_has_not_measured_is_left_out(self, tmp_path: Path) -> None:
        log = TensorBoardLog(tmp_path, Config(), 0)
        log.record(EpochDone(1, 2, 2.0, None, True, knn_accuracy=0.75))
        log.record(Paused())
        logged = Logged(tmp_path)
        assert logged.names == {"epoch/training_loss", "epoch/knn_accuracy"}
        assert logged.values("epoch/knn_accuracy") == {2: 0.75}

    def test_without_the_package_nothing_is_begun(
        self, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = "napari_synapse_cl.runs.recording.find_spec"
        monkeypatch.setattr(found, lambda name: None)
        with pytest.raises(InputError, match=r"napari-synapse-cl\[tensorboard\]"):
            list(run(settings(files, tmp_path / "run", tensorboard=True)))
        assert not (tmp_path / "run").exists()

    def test_a_folder_that_cannot_be_written_ends_the_training_in_words(
        self, tmp_path: Path
    ) -> None:
        folder = RunFolder(tmp_path / "run")
        config = Config(tensorboard=True)
        folder.create(config)
        log = TensorBoardLog.of_run(folder, config, 0)
        shutil.rmtree(folder.tensorboard_folder)
        recorder = Recorder(folder, RunStatus.of_this_process(**TRAINING), log)
        with pytest.raises(JobError, match="cannot write to the run folder"):
            recorder.record(step(1, 3.0))
        folder.tensorboard_folder.touch()
        with pytest.raises(JobError, match="cannot write to the run folder"):
            TensorBoardLog.of_run(folder, config, 0)

    def test_it_goes_when_the_run_is_discarded(self, files: Files, tmp_path: Path) -> None:
        control = Control()
        for event in run(settings(files, tmp_path / "run", tensorboard=True), control):
            if isinstance(event, StepDone):
                control.request("discard")
        assert not (tmp_path / "run").exists()

    def test_without_the_setting_there_is_none(self, files: Files, tmp_path: Path) -> None:
        list(run(settings(files, tmp_path / "run", num_epochs=1)))
        assert not (tmp_path / "run" / "tensorboard").exists()


class TestOlderMetrics:
    """Of a version that measured less."""

    COLUMNS = EPOCH_COLUMNS[: EPOCH_COLUMNS.index("feature_rank")]

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "epochs.csv"
        rows = ["1,2,3.0,2.5,1.0,-1.0,0.5,4.0", "2,4,2.0,,,,,"]
        file.write_text("\r\n".join([",".join(self.COLUMNS), *rows, ""]), newline="")
        return file

    def test_they_are_followed(self, file: Path) -> None:
        rows = MetricsTail(file, EPOCH_COLUMNS).read()
        assert rows is not None
        first, second = epoch_events(rows)
        assert (first.validation_loss, first.knn_accuracy) == (2.5, None)
        assert (second.training_loss, second.knn_accuracy) == (2.0, None)

    def test_they_are_read_whole(self, file: Path) -> None:
        first, _ = epoch_events(read_metrics(file))
        assert first.knn_accuracy is None

    def test_a_run_that_goes_on_gets_the_column(self, file: Path) -> None:
        keep_until(file, EPOCH_COLUMNS, 2)
        rows = read_metrics(file)
        assert tuple(rows) == EPOCH_COLUMNS
        assert rows["step"].tolist() == [2]
        assert np.isnan(rows["knn_accuracy"]).all()
