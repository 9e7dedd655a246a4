"""Following a training that another process runs."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Job, wait_for
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.runs.events import (
    Control,
    EpochDone,
    Finished,
    Message,
    Paused,
    Resumed,
    Started,
    StepDone,
)
from napari_synapse_cl.runs.folder import RunFolder, RunStatus
from napari_synapse_cl.runs.following import MetricsRead, follow
from napari_synapse_cl.runs.metrics import EPOCH_COLUMNS, STEP_COLUMNS, MetricsTail
from test_run_status import ABOUT

QUICK = 0.01
"""Seconds between two looks."""


class Training:
    """The folder of a training, written as a training writes it."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.folder.create(Config())
        self.status = RunStatus.of_this_process(**ABOUT)
        self.become("running")

    def become(self, state: str, **more: Any) -> None:
        self.status = replace(self.status, state=state, **more)  # type: ignore[arg-type]
        self.folder.write_status(self.status)

    def step(self, *steps: int) -> None:
        for n in steps:
            self.folder.record(StepDone((n + 1) // 2, n, n / 10, 1e-3, 10.0, 0.5))

    def epoch(self, n: int, **more: Any) -> None:
        self.folder.record(EpochDone(n, 2 * n, 1.0, 1.0 / n, True, **more))


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path / "run")


@pytest.fixture
def events(training: Training) -> Iterator[Any]:
    control = Control()
    followed = follow(training.folder, control, QUICK)
    yield followed
    control.request("stop")
    assert list(followed) == []


def steps(event: MetricsRead) -> list[float]:
    return event.steps["step"].tolist()


class TestRows:
    def test_all_there_are_come_first_and_then_the_new_ones_alone(
        self, training: Training, events: Iterator[Any]
    ) -> None:
        training.step(1, 2)
        training.epoch(1, retrieval=0.5)
        started = next(events)
        assert started == Started(
            run=str(training.folder.path),
            **{k: v for k, v in ABOUT.items() if k in Started.__dataclass_fields__},
        )
        first = next(events)
        assert steps(first) == [1, 2]
        assert first.steps.keys() == set(STEP_COLUMNS)
        assert first.epochs.keys() == set(EPOCH_COLUMNS)
        assert first.epochs["retrieval"].tolist() == [0.5]
        assert np.isnan(first.epochs["alignment"]).all()
        training.step(3)
        second = next(events)
        assert steps(second) == [3]
        assert second.epochs["step"].tolist() == []

    def test_a_line_cut_short_waits_until_it_is_whole(
        self, training: Training, tmp_path: Path
    ) -> None:
        training.step(1)
        tail = MetricsTail(training.folder.steps_file, STEP_COLUMNS)
        with training.folder.steps_file.open("a") as file:
            file.write("1,2,0.")
            file.flush()
            assert steps(MetricsRead(tail.read() or {}, {})) == [1]
            file.write("25,0.001,10,0.5\r\n")
        read = tail.read()
        assert read is not None
        assert read["loss"].tolist() == [0.25]

    def test_only_what_is_new_is_read(self, training: Training) -> None:
        training.step(*range(1, 500))
        tail = MetricsTail(training.folder.steps_file, STEP_COLUMNS)
        tail.read()
        # What was read already is not looked at again, whatever it is now.
        text = training.folder.steps_file.read_text()
        with training.folder.steps_file.open("r+") as file:
            file.write("x" * (len(text) - 2))
        training.step(500)
        read = tail.read()
        assert read is not None
        assert read["step"].tolist() == [500]

    def test_columns_that_a_file_lacks_are_missing_values(self, training: Training) -> None:
        training.folder.steps_file.write_text("step,loss\n1,2.5\n")
        read = MetricsTail(training.folder.steps_file, STEP_COLUMNS).read()
        assert read is not None
        assert read["loss"].tolist() == [2.5]
        assert np.isnan(read["memory_gib"]).all()


class TestStates:
    def test_a_pause_and_its_end_are_told(self, training: Training, events: Iterator[Any]) -> None:
        training.become("paused")
        assert isinstance(next(events), Started)
        assert isinstance(next(events), Paused)
        training.become("running")
        assert isinstance(next(events), Resumed)

    @pytest.mark.parametrize("outcome", ["completed", "stopped"])
    def test_a_run_that_has_ended_is_told_whole(self, outcome: Any, training: Training) -> None:
        training.step(1, 2)
        training.epoch(1)
        training.become(outcome)
        events = list(follow(training.folder, Control()))
        assert [type(event) for event in events] == [Started, MetricsRead, Finished]
        assert events[-1] == Finished(outcome, 2, str(training.folder.last_checkpoint))

    @pytest.mark.parametrize("name", ["steps.csv", "epochs.csv"])
    def test_a_completed_run_of_which_a_file_lacks_the_end_is_told(
        self, name: str, training: Training
    ) -> None:
        training.step(1, 2, 3, 4)
        training.epoch(1)
        training.epoch(2)
        training.become("completed")
        file = training.folder.path / name
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
        *_, warning, last = follow(training.folder, Control())
        assert isinstance(last, Finished)
        assert isinstance(warning, Message)
        assert f"{file} does not tell of the end" in warning.text

    def test_a_run_that_failed_ends_with_its_message(self, training: Training) -> None:
        training.step(1)
        training.become("failed", message="memory ran out")
        events = follow(training.folder, Control())
        assert isinstance(next(events), Started)
        assert isinstance(next(events), MetricsRead)
        with pytest.raises(JobError, match="memory ran out"):
            next(events)

    @pytest.mark.parametrize(
        ("checkpoint", "said"), [(True, "checkpoint may be that of step 2"), (False, "begin again")]
    )
    def test_a_process_that_died_is_told_with_how_to_go_on(
        self, checkpoint: bool, said: str, training: Training
    ) -> None:
        training.step(1, 2, 3)
        training.epoch(1)
        if checkpoint:
            training.folder.last_checkpoint.touch()
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            pass
        training.become("running", pid=process.pid, process_started=time.time())
        events = follow(training.folder, Control())
        assert [type(next(events)) for _ in range(2)] == [Started, MetricsRead]
        with pytest.raises(JobError, match=f"after step 3.*{said}.*table of runs"):
            next(events)

    def test_a_run_on_another_computer_is_waited_for(
        self, training: Training, events: Iterator[Any]
    ) -> None:
        training.become("running", host="elsewhere")
        assert isinstance(next(events), Started)
        training.step(1)
        assert isinstance(next(events), MetricsRead)
        training.become("stopped")
        assert isinstance(next(events), Finished)

    def test_a_folder_that_vanishes_is_told(self, training: Training) -> None:
        events = follow(training.folder, Control(), QUICK)
        next(events)
        training.folder.discard()
        with pytest.raises(JobError, match="no longer there"):
            next(events)

    def test_a_status_that_cannot_be_read_for_a_moment_changes_nothing(
        self, training: Training, events: Iterator[Any]
    ) -> None:
        next(events)
        (training.folder.path / "status.json").write_text("{")
        training.step(1)
        assert steps(next(events)) == [1]


class TestResumedMeanwhile:
    def test_another_process_begins_anew(self, training: Training, events: Iterator[Any]) -> None:
        training.step(1, 2, 3)
        assert [type(next(events)) for _ in range(2)] == [Started, MetricsRead]
        training.folder.forget_after(2)
        training.become("running", step=2)
        started = next(event for event in events if isinstance(event, Started) and event.step == 2)
        assert started.total_steps == 8
        assert steps(next(events)) == [1, 2]

    @pytest.mark.parametrize("how", ["replaced", "shrunk"])
    def test_metrics_written_anew_are_read_anew(
        self, how: str, training: Training, events: Iterator[Any]
    ) -> None:
        training.step(1, 2, 3)
        assert [type(next(events)) for _ in range(2)] == [Started, MetricsRead]
        if how == "replaced":
            training.folder.forget_after(2)
        else:
            whole = training.folder.steps_file.read_bytes()
            with training.folder.steps_file.open("rb+") as file:
                file.truncate(whole.rindex(b"2,3,"))
        assert isinstance(next(events), Started)
        assert steps(next(events)) == [1, 2]


class TestWarnings:
    def collapsed(self, training: Training, *epochs: int, rank: float = 1.1) -> None:
        for n in epochs:
            training.epoch(n, uniformity=-2.0, effective_rank=rank)

    def test_they_are_told_after_the_rows(self, training: Training, events: Iterator[Any]) -> None:
        training.become("running", n_validation=8)
        self.collapsed(training, *range(30, 40))
        assert [type(next(events)) for _ in range(3)] == [Started, MetricsRead, Message]
        self.collapsed(training, 40)
        assert isinstance(next(events), MetricsRead)
        training.become("paused")
        assert isinstance(next(events), Paused)

    def test_those_of_the_past_that_no_longer_hold_are_not(
        self, training: Training, events: Iterator[Any]
    ) -> None:
        training.become("stopped", n_validation=8)
        self.collapsed(training, *range(30, 40))
        self.collapsed(training, 40, rank=5.0)
        assert [type(event) for event in events] == [Started, MetricsRead, Finished]


class TestNothingToFollow:
    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no run"):
            next(follow(RunFolder(tmp_path), Control()))

    def test_a_run_that_says_nothing_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("napari_synapse_cl.runs.following.PATIENCE", 0.1)
        folder = RunFolder(tmp_path / "run")
        folder.create(Config())
        with pytest.raises(InputError, match="says nothing of a training"):
            next(follow(folder, Control()))


def test_it_ends_promptly_when_it_is_asked_to(training: Training) -> None:
    control = Control()
    events = follow(training.folder, control, interval=60)
    next(events)
    begun = time.monotonic()
    control.request("stop")
    assert list(events) == []
    assert time.monotonic() - begun < 1


def test_a_real_training_is_followed_and_commanded_from_its_folder(
    flags: list[str], tmp_path: Path
) -> None:
    job = Job(*flags, "--train_only", "--num_epochs", "2000")
    folder = RunFolder(tmp_path / "run")
    wait_for(lambda: folder.status() is not None)
    seen: list[Any] = []
    for event in follow(folder, Control(), 0.05):
        seen.append(event)
        if isinstance(event, MetricsRead) and not any(isinstance(e, Paused) for e in seen):
            folder.send("pause")
        elif isinstance(event, Paused):
            folder.send("resume")
        elif isinstance(event, Resumed):
            folder.send("stop")
    told = [event for event in job.events() if isinstance(event, StepDone)]
    assert job.end() == 0
    read = [event for event in seen if isinstance(event, MetricsRead)]
    for column in ("step", "loss", "memory_gib"):
        assert np.concatenate([r.steps[column] for r in read]).tolist() == [
            getattr(event, column) for event in told
        ]
    kinds = [type(event) for event in seen if not isinstance(event, MetricsRead | Message)]
    assert kinds == [Started, Paused, Resumed, Finished]
    assert seen[-1].outcome == "stopped"
    assert seen[-1].step == told[-1].step


def test_a_training_that_is_killed_is_noticed(flags: list[str], tmp_path: Path) -> None:
    job = Job(*flags, "--train_only", "--num_epochs", "2000")
    folder = RunFolder(tmp_path / "run")
    wait_for(lambda: folder.last_checkpoint.exists())
    events = follow(folder, Control(), 0.05)
    next(events)
    job.process.kill()
    with pytest.raises(JobError, match="ended without a word"):
        list(events)
    job.end()
    assert json.loads((folder.path / "status.json").read_text())["state"] == "running"
    shutil.rmtree(folder.path)
