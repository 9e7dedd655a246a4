"""The program as people run it: the whole job, its events, and what it says of bad input."""

import errno
import json
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import SMALL, Files, Job, as_flags
from napari_synapse_cl.cli import main
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.models.checkpoints import load_backbone, load_checkpoint
from napari_synapse_cl.pipeline import training_preparation
from napari_synapse_cl.runs.events import (
    CheckpointSaved,
    Discarded,
    EpochDone,
    Event,
    Failed,
    Finished,
    Message,
    Paused,
    Progress,
    Resumed,
    Started,
    StepDone,
    Wrote,
    from_line,
    to_line,
)
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.training import step as training_step


@pytest.fixture(scope="module")
def trained(sample_files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    image, table = sample_files
    folder = tmp_path_factory.mktemp("trained") / "run"
    named = {"image": image, "synapses": table, "output": folder, "voxel_size": "10"}
    assert main(as_flags({**SMALL, **named})) == 0
    return folder


class TestWholeJob:
    def test_it_leaves_checkpoints_metrics_features_and_pictures(
        self, trained: Path, sample: Sample
    ) -> None:
        names = {p.name for p in trained.iterdir() if not p.name.startswith(("crops-", "."))}
        assert names == {
            "config.json",
            "run.json",
            "status.json",
            "steps.csv",
            "epochs.csv",
            "held_out.npz",
            "checkpoints",
            "loss.png",
            "features_L20_mean.csv",
            "features_L20_mean.json",
            "features_L20_mean.png",
        }
        assert len(read_metrics(trained / "steps.csv")["loss"]) == 4
        assert load_backbone(trained / "checkpoints" / "best.pt").architecture.fmaps[0] == 2
        table = pd.read_csv(trained / "features_L20_mean.csv")
        pd.testing.assert_frame_equal(
            table[sample.synapses.columns], sample.synapses, check_dtype=False
        )
        features = table.filter(regex=r"^L20_mean_\d{3}$")
        assert features.shape == (12, 8)
        assert features.notna().all(axis=None)
        assert features.std().gt(0).any()

    def test_its_settings_give_the_same_run_again(self, trained: Path, tmp_path: Path) -> None:
        again = tmp_path / "again"
        config = str(trained / "config.json")
        assert main(["--config", config, "--output", str(again)]) == 0
        a, b = (load_checkpoint(f / "checkpoints" / "last.pt") for f in (trained, again))
        for name, tensor in a["model_state_dict"].items():
            assert torch.equal(tensor, b["model_state_dict"][name])

    def test_extracting_from_its_checkpoint_gives_the_same_features(
        self, trained: Path, sample_files: Files, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        image, table = sample_files
        arguments = {
            "checkpoint": trained / "checkpoints" / "last.pt",
            "layer_num": 20,
            "image": image,
            "synapses": table,
            "output": tmp_path / "x",
            "precision": "float32",
        }
        assert main(["--extract_only", *as_flags(arguments)]) == 0
        target = tmp_path / "x" / "features_L20_mean.csv"
        assert str(target) in capsys.readouterr().out
        np.testing.assert_allclose(
            pd.read_csv(target).filter(regex=r"_\d{3}$"),
            pd.read_csv(trained / "features_L20_mean.csv").filter(regex=r"_\d{3}$"),
            rtol=1e-4,
            atol=1e-6,
        )
        record = json.loads(target.with_suffix(".json").read_text())
        assert record["crop_size"] == [16, 16, 16]
        [layer] = record["layers"]
        assert layer["name"] == "20 · stage 3 conv 1 · 8 channels"
        assert len(record["sha256"]) == 64

    def test_a_table_that_is_there_is_replaced_only_if_asked(
        self, trained: Path, capsys: pytest.CaptureFixture
    ) -> None:
        target = trained / "features_L20_mean.csv"
        before = target.read_bytes()
        flags = ["--config", str(trained / "config.json"), "--extract_only"]
        flags += ["--checkpoint", str(trained / "checkpoints" / "best.pt")]
        assert main(flags) == 2
        assert "is there already" in capsys.readouterr().err
        assert target.read_bytes() == before
        assert main([*flags, "--overwrite", "--pooling", "max", "--feature_format", "parquet"]) == 0
        table = pd.read_parquet(trained / "features_L20_max.parquet")
        assert "L20_max_007" in table.columns

    def test_room_is_made_for_what_a_step_was_planned_to_take(
        self, flags: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        needed: list[int] = []
        monkeypatch.setattr(training_step, "make_room", needed.append)
        assert main([*flags, "--train_only"]) == 0
        # Of some weights, maps of 16 cubed and their gradients.
        assert all(2**20 < n < 2**28 for n in needed)
        assert len(set(needed)) == 1

    def test_training_only_extracts_nothing(self, flags: list[str], tmp_path: Path) -> None:
        assert main([*flags, "--train_only"]) == 0
        assert not list((tmp_path / "run").glob("features*"))

    def test_training_starts_from_a_pretrained_network(
        self, trained: Path, flags: list[str], tmp_path: Path
    ) -> None:
        pretrained = trained / "checkpoints" / "last.pt"
        arguments = ["--pretrained", str(pretrained), "--fmaps", "5", "--freeze_backbone"]
        assert main([*flags, *arguments]) == 0
        before, after = (
            load_checkpoint(path)["model_state_dict"]
            for path in (pretrained, tmp_path / "run" / "checkpoints" / "last.pt")
        )
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_positions_outside_are_skipped_counted_and_keep_their_row(
        self, sample: Sample, sample_files: Files, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        table = sample.synapses.copy()
        table.loc[[0, 7], "z"] = [-5, 4000]
        table.to_csv(tmp_path / "t.csv", index=False)
        named = {
            "image": sample_files[0],
            "synapses": tmp_path / "t.csv",
            "output": tmp_path / "run",
        }
        assert main(as_flags({**SMALL, **named})) == 0
        assert "2 of 12 positions lie outside" in capsys.readouterr().err
        features = pd.read_csv(tmp_path / "run" / "features_L20_mean.csv").filter(regex="^L20")
        assert features.isna().all(axis=1).to_numpy().nonzero()[0].tolist() == [0, 7]

    def test_a_batch_larger_than_the_set_is_lowered_with_a_warning(
        self, flags: list[str], capsys: pytest.CaptureFixture
    ) -> None:
        assert main([*flags, "--batch_size", "500", "--train_only"]) == 0
        assert "Warning: the batch size of 500 is lowered to the 10" in capsys.readouterr().err

    def test_above_the_limit_crops_are_streamed_with_the_same_result(
        self, trained: Path, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        assert main([*flags, "--cache_limit", "0", "--train_only", "--voxel_size", "10"]) == 0
        assert "more than cache_limit" in capsys.readouterr().err
        assert not list((tmp_path / "run").glob("crops-*"))
        a, b = (
            load_checkpoint(folder / "checkpoints" / "last.pt")["model_state_dict"]
            for folder in (trained, tmp_path / "run")
        )
        assert all(torch.equal(a[name], b[name]) for name in a)

    def test_crops_that_were_cut_stand_in_for_the_volume(
        self, trained: Path, sample_files: Files, tmp_path: Path
    ) -> None:
        [crops] = trained.glob("crops-*")
        named = {"crops": crops, "synapses": sample_files[1], "output": tmp_path / "run"}
        assert main(as_flags({**SMALL, **named})) == 0
        a, b = (
            load_checkpoint(folder / "checkpoints" / "last.pt")["model_state_dict"]
            for folder in (trained, tmp_path / "run")
        )
        assert all(torch.equal(a[name], b[name]) for name in a)

    @pytest.mark.parametrize(
        "settings",
        [
            {"rotation_range": 0}, {"flip_prob": 0}, {"noise_level": 0.5}, {"contrast_range": 0.9},
            {"brightness_range": 0.9}, {"gaussian_blur_sigma": 5}, {"temperature": 1},
            {"weight_decay": 10}, {"learning_rate": 0.01}, {"warmup_fraction": 1}, {"seed": 1},
            {"proj_dim": 4}, {"proj_hidden_dim": 8}, {"validation_fraction": 0.5},
            {"voxel_size": "40 4 4"}, {"stage_to_finetune": 2}, {"crop_size": "32 16 16"},
            {"downsampling": "anisotropic"}, {"n_convolutions": "2 2 2 2"}, {"fmaps": 3},
        ],
        ids=lambda settings: next(iter(settings)),
    )  # fmt: skip
    def test_every_setting_changes_what_is_trained(
        self, trained: Path, flags: list[str], settings: dict, tmp_path: Path
    ) -> None:
        more = [p for name, value in settings.items() for p in (f"--{name}", *str(value).split())]
        assert main([*flags, "--train_only", *more]) == 0
        a, b = (
            load_checkpoint(folder / "checkpoints" / "last.pt")["model_state_dict"]
            for folder in (trained, tmp_path / "run")
        )
        assert a.keys() != b.keys() or any(
            a[n].shape != b[n].shape or not torch.equal(a[n], b[n]) for n in a
        )

    def test_the_precision_changes_what_is_trained(self, flags: list[str], tmp_path: Path) -> None:
        # Two stages, whose maps are large enough for gradients in bfloat16.
        options = [*flags, "--train_only", "--n_convolutions", "1", "1", "--layer_num", "3"]
        weights = []
        for precision in ("float32", "bfloat16"):
            folder = tmp_path / precision
            assert main([*options, "--precision", precision, "--output", str(folder)]) == 0
            weights.append(load_checkpoint(folder / "checkpoints" / "last.pt")["model_state_dict"])
        assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    @pytest.mark.real_data
    def test_the_medulla_volume_trains_and_extracts(self, medulla: Path, tmp_path: Path) -> None:
        named = {
            "image": medulla / "training_sample1.tif",
            "synapses": medulla / "training_sample1_sites.csv",
            "voxel_size": "10 10 10",
            "output": tmp_path / "run",
        }
        options = [p for k, v in {**SMALL, **named}.items() for p in (f"--{k}", *str(v).split())]
        assert main([*options, "--fmaps", "4", "--num_epochs", "1", "--batch_size", "16"]) == 0
        table = pd.read_csv(tmp_path / "run" / "features_L20_mean.csv")
        sites = pd.read_csv(medulla / "training_sample1_sites.csv")
        pd.testing.assert_frame_equal(table[sites.columns], sites)
        assert table.filter(regex="^L20_mean").notna().all(axis=None)


class TestEvents:
    @pytest.mark.parametrize(
        "event",
        [
            Message("text", "warning"), Progress("cutting", 1, 2),
            Started(
                "run", device="cpu", precision="float32", n_training=10, n_validation=2,
                batch_size=4, steps_per_epoch=2, total_steps=4, step=0,
            ),
            StepDone(1, 2, 0.5, 1e-4, 12.0, 0.5),
            EpochDone(1, 2, 0.5, None, True), EpochDone(1, 2, 0.5, 0.4, True, 0.1, -2.0, 0.9, 5.0),
            CheckpointSaved("last.pt", 2), Paused(), Resumed(), Finished("stopped", 2, "last.pt"),
            Discarded("run"), Wrote("features", "f.csv"), Failed("why"),
        ],
        ids=lambda event: type(event).__name__,
    )  # fmt: skip
    def test_an_event_survives_its_line(self, event: Event) -> None:
        assert from_line(to_line(event)) == event

    @pytest.mark.parametrize("line", ["{}", "3", "no json", '{"event": "StepDone"}'])
    def test_a_line_that_is_no_event_is_refused(self, line: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            from_line(line)

    def test_a_job_tells_its_events_as_lines(self, flags: list[str]) -> None:
        job = Job(*flags, start=subprocess.Popen)
        events = list(job.events())
        assert job.end() == 0
        kinds = [type(event) for event in events]
        assert kinds.count(StepDone) == 4
        assert kinds.index(Started) < kinds.index(StepDone) < kinds.index(Finished)
        assert [event.what for event in events if isinstance(event, Wrote)] == [
            "settings", "figure", "features", "figure",
        ]  # fmt: skip

    def test_pause_waits_resume_goes_on_and_stop_keeps(
        self, flags: list[str], tmp_path: Path
    ) -> None:
        job = Job(*flags, "--num_epochs", "5000")
        seen: list[Event] = []
        for event in job.events():
            seen.append(event)
            if isinstance(event, StepDone) and event.step == 3:
                job.ask("pause")
            elif isinstance(event, Paused):
                job.ask("resume")
            elif isinstance(event, Resumed):
                job.ask("stop")
        assert job.end() == 0
        kinds = [type(event) for event in seen]
        assert kinds.index(Paused) + 1 == kinds.index(Resumed)
        [finished] = [event for event in seen if isinstance(event, Finished)]
        assert finished.outcome == "stopped"
        assert load_checkpoint(Path(finished.checkpoint))["step"] == finished.step

    def test_a_paused_job_goes_on_when_nobody_is_left_to_resume_it(self, flags: list[str]) -> None:
        job = Job(*flags)
        kinds = []
        for event in job.events():
            kinds.append(type(event))
            if isinstance(event, StepDone) and event.step == 1:
                job.ask("pause")
            elif isinstance(event, Paused):
                assert job.process.stdin is not None
                job.process.stdin.close()
                job.process.stdin = None
                # One that waits for ever is no success either.
                patience = Timer(60, job.process.kill)
                patience.start()
        patience.cancel()
        assert job.end() == 0
        assert kinds[-1] is Wrote

    def test_discard_removes_the_run(self, flags: list[str], tmp_path: Path) -> None:
        job = Job(*flags, "--num_epochs", "5000")
        for event in job.events():
            if isinstance(event, StepDone) and event.step == 2:
                job.ask("discard")
        assert job.end() == 0
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_stops_and_keeps(
        self, flags: list[str], number: signal.Signals, tmp_path: Path
    ) -> None:
        job = Job(*flags, "--num_epochs", "5000")
        for event in job.events():
            if isinstance(event, StepDone) and event.step == 2:
                job.process.send_signal(number)
        assert job.end() == 0
        assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] >= 2

    def test_a_reader_that_goes_away_ends_the_job_with_a_checkpoint(
        self, flags: list[str], tmp_path: Path
    ) -> None:
        job = Job(*flags, "--num_epochs", "5000")
        for event in job.events():
            if isinstance(event, StepDone) and event.step == 3:
                break
        assert job.process.stdout is not None
        job.process.stdout.close()
        job.process.stdout = None
        assert job.end() == 0
        assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] >= 3

    def test_a_failure_is_an_event_too(self, flags: list[str]) -> None:
        job = Job(*flags, "--layer_num", "99")
        [event] = list(job.events())
        assert isinstance(event, Failed)
        assert "no layer 99" in event.message
        assert job.end() == 2


class TestDetaching:
    def leave(self, job: Job) -> None:
        """Close all its pipes, as a window does that closes."""
        for pipe in (job.process.stdin, job.process.stdout, job.process.stderr):
            assert pipe is not None
            pipe.close()
        job.process.stdin = job.process.stdout = job.process.stderr = None

    @pytest.mark.parametrize("paused", [False, True], ids=["", "while paused"])
    def test_a_detached_job_runs_to_its_end_with_no_reader(
        self, paused: bool, flags: list[str], tmp_path: Path
    ) -> None:
        job = Job(*flags, "--num_epochs", "5")
        for event in job.events():
            if isinstance(event, StepDone) and event.step == 1:
                job.ask("detach")
                if not paused:
                    break
                job.ask("pause")
            elif isinstance(event, Paused):
                break
        self.leave(job)
        assert job.process.wait(timeout=60) == 0
        run = tmp_path / "run"
        assert json.loads((run / "status.json").read_text())["state"] == "completed"
        assert read_metrics(run / "steps.csv")["step"].tolist() == list(range(1, 11))
        assert (run / "features_L20_mean.csv").exists()

    def test_a_job_that_fails_with_no_reader_says_so_in_its_folder(
        self, flags: list[str], tmp_path: Path
    ) -> None:
        job = Job(*flags, "--num_epochs", "5000")
        for event in job.events():
            if isinstance(event, StepDone) and event.step == 1:
                job.ask("detach")
            elif isinstance(event, CheckpointSaved):
                break
        self.leave(job)
        shutil.rmtree(tmp_path / "run" / "checkpoints")
        assert job.process.wait(timeout=60) == 1
        status = json.loads((tmp_path / "run" / "status.json").read_text())
        assert status["state"] == "failed"
        assert "cannot be written" in status["message"]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
    @pytest.mark.parametrize("detached", [False, True])
    def test_the_end_of_the_terminal_ends_only_what_is_not_detached(
        self, detached: bool, flags: list[str], tmp_path: Path
    ) -> None:
        # Of few epochs the end may come before the signal does.
        n_epochs = 10 if detached else 5000
        job = Job(*flags, "--num_epochs", str(n_epochs), "--train_only")
        for event in job.events():
            if isinstance(event, StepDone) and event.step == 1 and detached:
                job.ask("detach")
                job.ask("pause")
                job.ask("resume")
            elif isinstance(event, StepDone) and event.step == 5:
                job.process.send_signal(signal.SIGHUP)
        if detached:
            # Its events have ended, and it goes on.
            job.process.send_signal(signal.SIGHUP)
        assert job.end() == 0
        steps = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"]
        assert (steps == 2 * n_epochs) == detached


class TestEndings:
    def test_discarding_tells_of_no_checkpoint(self, flags: list[str]) -> None:
        job = Job(*flags, "--num_epochs", "5000")
        kinds = []
        for event in job.events():
            kinds.append(type(event))
            if isinstance(event, StepDone) and event.step == 1:
                job.ask("discard")
        assert job.end() == 0
        assert kinds[-1] is Discarded
        assert Finished not in kinds

    def test_a_stop_before_the_first_step_leaves_nothing_and_says_so(
        self, flags: list[str], tmp_path: Path
    ) -> None:
        job = Job(*flags)
        seen = []
        for event in job.events():
            seen.append(event)
            if isinstance(event, Progress) and event.done == 1:
                job.ask("stop")
        assert job.end() == 0
        assert isinstance(seen[-1], Discarded)
        assert "before its first step" in seen[-2].text
        assert not (tmp_path / "run").exists()

    def test_a_stop_before_the_first_new_step_keeps_what_there_was(
        self, flags: list[str], tmp_path: Path
    ) -> None:
        assert main([*flags, "--train_only"]) == 0
        shutil.rmtree(next((tmp_path / "run").glob("crops-*")))
        job = Job("--resume", "--output", str(tmp_path / "run"), "--num_epochs", "50")
        for event in job.events():
            if isinstance(event, Progress) and event.done == 1:
                job.ask("stop")
        assert job.end() == 0
        assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] == 4
        assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "stopped"

    def test_a_run_folder_that_vanishes_ends_the_job_in_words(
        self, flags: list[str], tmp_path: Path
    ) -> None:
        job = Job(*flags, "--num_epochs", "5000")
        failed = None
        for event in job.events():
            if isinstance(event, StepDone) and event.step == 3:
                (tmp_path / "run").rename(tmp_path / "moved")
            elif isinstance(event, Failed):
                failed = event.message
        assert job.end() == 1
        assert failed is not None
        assert "no longer there" in failed
        assert not (tmp_path / "run").exists()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
    def test_a_full_disk_ends_the_job_in_words(self, flags: list[str], tmp_path: Path) -> None:
        job = Job(*flags, "--num_epochs", "5000")
        last: Event | None = None
        for last in job.events():
            if isinstance(last, StepDone) and last.step == 1:
                job.ask("pause")
            elif isinstance(last, Paused):
                (tmp_path / "run" / "steps.csv").unlink()
                (tmp_path / "run" / "steps.csv").symlink_to("/dev/full")
                job.ask("resume")
        assert job.end() == 1
        assert isinstance(last, Failed)
        assert "cannot write to the run folder" in last.message
        assert "No space left" in last.message

    @pytest.mark.parametrize(
        ("limit", "told"),
        [
            (MemoryError(), "memory ran out"),
            (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory ran out"),
            (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory ran out"),
            (OSError(errno.EMFILE, "Too many open files"), "too many files are open at once"),
            (ImportError("x.so: failed to map segment from shared object"), "memory ran out"),
        ],
    )
    def test_what_a_limit_keeps_from_being_read_is_not_called_damaged(
        self,
        limit: Exception,
        told: str,
        trained: Path,
        flags: list[str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture,
    ) -> None:
        def load(*_: object, **__: object) -> None:
            raise limit

        monkeypatch.setattr(torch, "load", load)
        assert main([*flags, "--extract_only", "--checkpoint", str(trained)]) == 1
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith(f"synapse-cl: error: {told}")

    def test_memory_that_runs_out_before_the_first_step_is_told(
        self, flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        def measure(*_: object) -> None:
            # oneDNN says no more of it.
            raise RuntimeError("could not create a primitive")

        monkeypatch.setattr(training_preparation, "step_memory", measure)
        assert main(flags) == 1
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith("synapse-cl: error: memory ran out")

    @pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
    def test_less_memory_than_pytorch_takes_is_told_before_it_is_imported(
        self, flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        monkeypatch.setattr("resource.getrlimit", lambda _: (600 * 2**20, 600 * 2**20))
        assert main(flags) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "may take 600 MiB of memory (ulimit -v)" in line


class TestResuming:
    @pytest.mark.parametrize(
        ("n_steps", "more"),
        [
            (3, []),
            (7, ["--precision", "bfloat16", "--n_convolutions", "1", "1", "--layer_num", "3"]),
        ],
        ids=lambda value: value if isinstance(value, int) else " ".join(value),
    )
    def test_a_job_killed_at_once_goes_on_to_the_same_weights(
        self, flags: list[str], n_steps: int, more: list[str], tmp_path: Path
    ) -> None:
        options = [*flags, "--num_epochs", "5", "--train_only", *more]
        assert Job(*options, "--output", str(tmp_path / "whole")).end() == 0

        killed = Job(*options)
        for event in killed.events():
            if isinstance(event, StepDone) and event.step == n_steps:
                killed.process.kill()
                break
        assert killed.end() == -signal.SIGKILL
        resumed = Job("--resume", "--output", str(tmp_path / "run"))
        steps = [event.step for event in resumed.events() if isinstance(event, StepDone)]
        assert resumed.end() == 0
        assert steps[-1] == 10

        a, b = (
            load_checkpoint(tmp_path / name / "checkpoints" / "last.pt")
            for name in ("whole", "run")
        )
        for part in ("model_state_dict", "head_state_dict"):
            for name, tensor in a[part].items():
                assert torch.equal(tensor, b[part][name]), name
        columns = ["epoch", "step", "loss", "learning_rate"]
        whole, run = (pd.read_csv(tmp_path / n / "steps.csv")[columns] for n in ("whole", "run"))
        pd.testing.assert_frame_equal(whole, run, check_exact=True)

    def test_a_finished_run_goes_on_for_more_epochs(
        self,
        flags: list[str],
        sample_files: Files,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert main(flags) == 0
        image, table = sample_files
        monkeypatch.chdir(image.parent)
        same = ["--image", image.name, "--synapses", table.name]
        again = ["--resume", "--output", str(tmp_path / "run"), "--num_epochs", "3"]
        assert main([*again, *same]) == 0
        assert read_metrics(tmp_path / "run" / "epochs.csv")["epoch"].tolist() == [1, 2, 3]

    def test_with_smaller_batches_the_epoch_begins_anew(
        self, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        job = Job(*flags, "--num_epochs", "3", "--train_only")
        for event in job.events():
            # The second of two steps in the second epoch is not taken.
            if isinstance(event, StepDone) and event.step == 3:
                job.ask("stop")
        assert job.end() == 0
        stopped_at = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"]
        resume = ["--resume", "--output", str(tmp_path / "run"), "--train_only"]
        assert main([*resume, "--batch_size", "2"]) == 0
        done = stopped_at // 2
        assert f"goes on at the beginning of epoch {done + 1}" in capsys.readouterr().err
        steps = read_metrics(tmp_path / "run" / "steps.csv")
        # Epochs of 2 steps, then of 5.
        kept = list(range(1, 2 * done + 1))
        assert steps["step"].tolist() == [*kept, *range(5 * done + 1, 16)]
        assert np.bincount(steps["epoch"].astype(int))[1:].tolist() == [2] * done + [5] * (3 - done)
        assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["batch_size"] == 2

    def test_larger_batches_are_refused(
        self, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        assert main([*flags, "--train_only"]) == 0
        resume = ["--resume", "--output", str(tmp_path / "run"), "--batch_size", "5"]
        assert main(resume) == 2
        assert "batch_size was 4" in capsys.readouterr().err

    def test_a_run_that_is_being_trained_is_left_alone(
        self, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        job = Job(*flags, "--num_epochs", "5000")
        for event in job.events():
            if isinstance(event, CheckpointSaved):
                assert main(["--resume", "--output", str(tmp_path / "run")]) == 2
                job.ask("stop")
                break
        error = capsys.readouterr().err
        assert f"being trained by process {job.process.pid}" in error
        assert "commands.txt" in error
        assert job.end() == 0

    def test_of_a_run_on_another_computer_it_warns(
        self, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        assert main([*flags, "--train_only"]) == 0
        file = tmp_path / "run" / "status.json"
        status = {**json.loads(file.read_text()), "state": "running", "host": "elsewhere"}
        file.write_text(json.dumps(status))
        assert main(["--resume", "--output", str(tmp_path / "run"), "--num_epochs", "3"]) == 0
        assert "Warning: the run in" in (error := capsys.readouterr().err)
        assert "on the computer elsewhere" in error

    def test_a_setting_that_cannot_change_is_named(
        self, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        assert main([*flags, "--train_only"]) == 0
        assert main(["--resume", "--output", str(tmp_path / "run"), "--temperature", "0.5"]) == 2
        assert "temperature was 0.07" in capsys.readouterr().err

    def test_a_folder_that_holds_a_run_is_not_trained_in_again(
        self, flags: list[str], capsys: pytest.CaptureFixture
    ) -> None:
        assert main([*flags, "--train_only"]) == 0
        assert main([*flags, "--train_only"]) == 2
        assert "--resume" in capsys.readouterr().err


class TestBadInput:
    """One clear line, exit code 2, nothing written."""

    def refused(self, flags: list[str], capsys: pytest.CaptureFixture, *more: str) -> str:
        run = Path(flags[flags.index("--output") + 1])
        try:
            code = main([*flags, *more])
        except SystemExit as exit_of_parser:
            code = exit_of_parser.code
        assert code == 2
        output = capsys.readouterr()
        assert output.out == ""
        [line] = output.err.splitlines()
        assert line.startswith("synapse-cl: error: ")
        assert not run.exists()
        return line

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--temperature", "0"], "temperature cannot be '0': it must be greater than 0"),
            (["--layer_num", "34"], "no layer 34: this network's features have the layers 0 to 33"),
            (["--crop_size", "20"], "must be a multiple of 16 × 16 × 16"),
            (["--image", "none.tif"], "there is no volume none.tif"),
            (["--synapses", "none.csv"], "there is no synapse table none.csv"),
            (["--pretrained", "none.pt"], "there is no checkpoint none.pt"),
            (["--extract_only", "--checkpoint", "none.pt"], "there is no checkpoint none.pt"),
            (["--config", "none.json"], "cannot read the settings in none.json"),
            (["--label_column", "kind"], "no column kind; it has z, y, x"),
            (["--device", "cuda:7"], "cuda:7 is not available"),
            (["--batch_size"], "expected one argument"),
            (["--no_such_flag"], "unrecognized arguments"),
            (["--resume"], "holds no run"),
        ],
        ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
    )
    def test_settings_and_files(
        self, more: list[str], message: str, flags: list[str], capsys: pytest.CaptureFixture
    ) -> None:
        assert message in self.refused(flags, capsys, *more)

    @pytest.mark.parametrize(
        ("shape", "message"), [((64, 64), "3D volume"), ((64, 64, 3), "colour image")]
    )
    def test_images_that_are_no_volume(
        self, shape: tuple, message: str, flags: list[str], tmp_path: Path,
        capsys: pytest.CaptureFixture,
    ) -> None:  # fmt: skip
        np.save(tmp_path / "flat.npy", np.zeros(shape, np.uint8))
        assert message in self.refused(flags, capsys, "--image", str(tmp_path / "flat.npy"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a,b,c\n1,2,3\n", "no column z, y, x"),
            ("z,y,x\n", "no synapses"),
            ("", "is empty"),
            ("z,y,x\n40,50,a\n40,50,60\n", "x in data row 1 is not a number"),
            ("z,y,x\n40,50,\n40,50,60\n", "only one synapse"),
            ("z,y,x\n9000,5,5\n9000,6,6\n", "all 2 positions"),
            ("z,y,x\n40,50,60\n", "only one synapse"),
            ("z,y,x\n40,50,60\n9000,50,60\n", "only one synapse"),
        ],
    )
    def test_tables(
        self, text: str, message: str, flags: list[str], tmp_path: Path,
        capsys: pytest.CaptureFixture,
    ) -> None:  # fmt: skip
        (tmp_path / "t.csv").write_text(text)
        assert message in self.refused(flags, capsys, "--synapses", str(tmp_path / "t.csv"))

    @pytest.mark.parametrize("kind", ["text", "truncated", "pickle", "other network"])
    @pytest.mark.parametrize("use", ["pretrained", "extract_only"])
    def test_checkpoints(
        self, kind: str, use: str, trained: Path, flags: list[str], tmp_path: Path,
        capsys: pytest.CaptureFixture,
    ) -> None:  # fmt: skip
        file = tmp_path / "c.pt"
        whole = (trained / "checkpoints" / "last.pt").read_bytes()
        if kind == "text":
            file.write_text("no checkpoint")
        elif kind == "truncated":
            file.write_bytes(whole[: len(whole) // 2])
        elif kind == "pickle":
            file.write_bytes(pickle.dumps(subprocess.Popen))
        else:
            torch.save({"layer.weight": torch.zeros(2, 2)}, file)
        flag = ["--pretrained"] if use == "pretrained" else ["--extract_only", "--checkpoint"]
        assert "c.pt" in self.refused(flags, capsys, *flag, str(file))

    def test_a_folder_that_cannot_be_written(
        self, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("")
        flags[flags.index("--output") + 1] = str(tmp_path / "file" / "run")
        assert "cannot write to the output folder" in self.refused(flags, capsys)
