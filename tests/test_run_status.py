"""What a run folder tells of its training, and the commands it passes on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import wait_for
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.runs.events import (
    COMMANDS,
    Command,
    Control,
    EpochDone,
    Finished,
    Paused,
    Resumed,
    StepDone,
)
from napari_synapse_cl.runs.folder import RunFolder, RunStatus
from napari_synapse_cl.runs.following import following_commands
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.runs.recording import Recorder

ABOUT: dict[str, Any] = {
    "device": "cpu",
    "precision": "float32",
    "n_training": 10,
    "n_validation": 2,
    "batch_size": 4,
    "steps_per_epoch": 2,
    "total_steps": 8,
    "step": 0,
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create(Config())
    return folder


@pytest.fixture
def status() -> RunStatus:
    return RunStatus.of_this_process(**ABOUT)


class TestStatus:
    def test_it_is_read_as_it_was_written(self, run: RunFolder, status: RunStatus) -> None:
        assert run.status() is None
        failed = replace(status, state="failed", message="why")
        run.write_status(failed)
        assert run.status() == failed

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "{}", '{"state": "running"}', '{"unknown": 1}', "\xff"]
    )
    def test_what_cannot_be_read_is_none(self, text: str, run: RunFolder) -> None:
        (run.path / "status.json").write_text(text, encoding="latin-1")
        assert run.status() is None

    def test_a_process_is_alive_until_it_ends(self, status: RunStatus) -> None:
        assert status.is_alive() is True
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            started = psutil.Process(process.pid).create_time()
            other = replace(status, pid=process.pid, process_started=started)
            assert other.is_alive() is True
            process.kill()
            wait_for(lambda: other.is_alive() is False)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
    def test_a_process_that_was_halted_is_alive(self, status: RunStatus) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            halted = psutil.Process(process.pid)
            other = replace(status, pid=process.pid, process_started=halted.create_time())
            process.send_signal(signal.SIGSTOP)
            wait_for(lambda: halted.status() == psutil.STATUS_STOPPED)
            is_alive = other.is_alive()
            process.kill()
        assert is_alive is True

    def test_another_process_of_the_same_number_is_not_it(self, status: RunStatus) -> None:
        assert replace(status, process_started=status.process_started - 60).is_alive() is False

    @pytest.mark.parametrize(
        ("state", "alive"), [("running", None), ("paused", None), ("completed", False)]
    )
    def test_of_another_computer_it_is_not_known(
        self, state: Any, alive: bool | None, status: RunStatus
    ) -> None:
        assert replace(status, host="elsewhere", state=state).is_alive() is alive


class TestRecording:
    def state(self, run: RunFolder) -> str:
        status = run.status()
        assert status is not None
        return status.state

    def test_the_status_follows_the_events(self, run: RunFolder, status: RunStatus) -> None:
        with Recorder(run, status) as recorder:
            assert self.state(run) == "running"
            recorder.record(Paused())
            assert self.state(run) == "paused"
            recorder.record(Resumed())
            assert self.state(run) == "running"
            recorder.record(Finished("completed", 8, "last.pt"))
            assert self.state(run) == "completed"
        assert self.state(run) == "completed"

    @pytest.mark.parametrize(
        ("error", "state", "message"),
        [
            (JobError("the disk is full"), "failed", "the disk is full"),
            (KeyError("x"), "failed", "KeyError"),
            (KeyboardInterrupt(), "failed", "interrupted"),
            (GeneratorExit(), "stopped", ""),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
    )
    def test_an_error_ends_it(
        self, error: BaseException, state: str, message: str, run: RunFolder, status: RunStatus
    ) -> None:
        run.last_checkpoint.touch()
        with pytest.raises(type(error)), Recorder(run, status):
            raise error
        found = run.status()
        assert found is not None
        assert found.state == state
        assert message in found.message

    def test_nothing_stays_if_everyone_left_before_the_first_checkpoint(
        self, run: RunFolder, status: RunStatus
    ) -> None:
        with pytest.raises(GeneratorExit), Recorder(run, status):
            raise GeneratorExit
        assert not run.path.exists()

    def test_an_error_after_the_training_leaves_it_completed(
        self, run: RunFolder, status: RunStatus
    ) -> None:
        recorder = Recorder(run, status)
        recorder.record(Finished("completed", 8, "last.pt"))
        with pytest.raises(JobError), recorder:
            raise JobError("the features cannot be written")
        assert self.state(run) == "completed"

    @pytest.mark.parametrize(
        "event", [StepDone(1, 1, 2.5, 1e-4, 10.0, 0.5), EpochDone(1, 2, 2.0, None, True), Paused()]
    )
    def test_a_folder_that_has_vanished_is_said_in_words(
        self, event: Any, run: RunFolder, status: RunStatus
    ) -> None:
        with Recorder(run, status) as recorder:
            run.path.rename(run.path.with_name("moved"))
            with pytest.raises(JobError, match="no longer there"):
                recorder.record(event)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
    def test_a_full_disk_is_said_in_words(self, run: RunFolder) -> None:
        run.steps_file.symlink_to("/dev/full")
        with pytest.raises(JobError, match=r"cannot write to the run folder.*No space left"):
            run.record(StepDone(1, 1, 2.5, 1e-4, 10.0, 0.5))


class TestMetricsOfAnEarlierVersion:
    def test_they_are_brought_to_the_present_columns(self, run: RunFolder) -> None:
        run.steps_file.write_text("step,epoch,loss,gone\n1,1,2.5,x\n2,1,2.25,x\n3,2,2.0,x\n")
        run.forget_after(2)
        run.record(StepDone(2, 3, 1.75, 1e-4, 10.0, 0.5))
        read = read_metrics(run.steps_file)
        assert read["loss"].tolist() == [2.5, 2.25, 1.75]
        assert read["step"].tolist() == [1, 2, 3]
        assert read["memory_gib"][-1] == 0.5
        assert "gone" not in read


class TestCommands:
    def following(self, run: RunFolder, control: Control, *commands: Command) -> None:
        with following_commands(run, control):
            for command in commands:
                run.send(command)
                time.sleep(0.3)

    def test_commands_arrive_in_order(self, run: RunFolder) -> None:
        control = Control()
        self.following(run, control, "pause")
        assert control.paused
        self.following(run, control, "detach")
        assert control.detached
        assert control.paused
        self.following(run, control, "resume", "stop")
        assert not control.paused
        assert control.stopping
        assert not control.discarding

    def test_those_sent_before_are_forgotten(self, run: RunFolder) -> None:
        run.send("discard")
        control = Control()
        self.following(run, control, "pause")
        assert control.paused
        assert not control.stopping

    def test_a_line_is_taken_when_it_is_whole_and_others_are_ignored(self, run: RunFolder) -> None:
        control = Control()
        with following_commands(run, control), run.commands_file.open("ab", buffering=0) as file:
            file.write(b"nonsense\n\xff\nsto")
            time.sleep(0.5)
            assert not control.stopping
            file.write(b"p\r\n")
            wait_for(lambda: control.stopping)

    def test_no_thread_and_no_file_stay_behind(self, run: RunFolder) -> None:
        before = threading.active_count()
        with following_commands(run, Control()):
            run.send("pause")
            assert threading.active_count() == before + 1
        assert threading.active_count() == before
        assert not run.commands_file.exists()

    def test_a_folder_that_vanishes_ends_nothing(self, run: RunFolder) -> None:
        control = Control()
        with following_commands(run, control):
            run.discard()
            time.sleep(0.3)
        assert not control.stopping

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_command_to_no_folder_is_refused(self, command: Command, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=f"cannot send {command}"):
            RunFolder(tmp_path / "none").send(command)


def test_a_status_is_written_whole(run: RunFolder, status: RunStatus) -> None:
    run.write_status(status)
    assert json.loads((run.path / "status.json").read_text())["pid"] == os.getpid()
    run.discard()
    assert not run.path.exists()


@pytest.mark.parametrize("n_refused", [3, 1000])
def test_a_reader_that_holds_the_file_for_a_moment_does_not_end_the_training(
    n_refused: int, run: RunFolder, status: RunStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    replace_file = os.replace

    def as_on_windows(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls <= n_refused:
            raise PermissionError(13, "Access is denied")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", as_on_windows)
    if n_refused > 10:
        with pytest.raises(JobError, match="Permission denied"):
            run.write_status(status)
    else:
        run.write_status(status)
        assert run.status() == status
    assert not list(run.path.glob(".status*"))
