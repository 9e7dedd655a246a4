"""What is done on other people's machines: without a home, with odd variables, closed streams."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_synapse_cl.cli import main
from napari_synapse_cl.data.formats import stores
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs import terminal
from napari_synapse_cl.runs.events import EpochDone, Event, Message, Progress, StepDone
from napari_synapse_cl.runs.terminal import Listener, make_safe, say
from napari_synapse_cl.system import environment
from napari_synapse_cl.system.distributed import joined, local_cuda_device
from napari_synapse_cl.system.downloads import is_cached, local_file
from napari_synapse_cl.system.environment import Launch, cache_folder, home, settings_folder
from napari_synapse_cl.system.files import LONGEST_NAME, safe_name

RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be no home directory, as for a user whom the computer does not know."""

    def no_home(*_: Any) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)


class TestHome:
    @pytest.mark.usefixtures("homeless")
    def test_without_one_nothing_is_kept_unless_a_place_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert (home(), cache_folder(), settings_folder()) == (None, None, None)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "napari-synapse-cl"

    @pytest.mark.skipif(sys.platform == "win32", reason="the home is not in HOME there")
    def test_an_empty_one_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert (home(), cache_folder()) == (None, None)

    @pytest.mark.skipif(sys.platform == "win32", reason="the home is not in HOME there")
    def test_libraries_are_not_told_of_an_empty_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "")
        with pytest.raises(SystemExit):
            main(["--version"])
        assert "HOME" not in os.environ

    @pytest.mark.usefixtures("homeless")
    def test_a_download_says_where_it_could_be_kept(self) -> None:
        url = "https://example.invalid/network.pt"
        assert not is_cached(url)
        with pytest.raises(InputError, match="no home directory: set XDG_CACHE_HOME"):
            local_file(url)

    def test_a_download_that_cannot_be_kept_says_so_too(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="set XDG_CACHE_HOME to another"):
            local_file("https://example.invalid/network.pt", folder=tmp_path / "file" / "cache")

    @pytest.mark.usefixtures("homeless")
    def test_it_is_not_searched_for_credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"):
            monkeypatch.delenv(name, raising=False)
        assert stores._s3_credentials() == {"aws_credentials": {"type": "anonymous"}}


class TestProcesses:
    @pytest.fixture(autouse=True)
    def nothing_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in RANKS:
            monkeypatch.delenv(name, raising=False)

    @pytest.mark.parametrize(
        "variables", [{}, dict.fromkeys(RANKS, ""), {"RANK": "0"}, {"WORLD_SIZE": " 1 "}]
    )
    def test_what_is_empty_is_not_set(
        self, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert Launch.of_this_process() == Launch()
        assert local_cuda_device() is None
        with joined() as ranks:
            assert ranks.size == 1

    @pytest.mark.parametrize(
        ("variables", "named"),
        [
            ({"WORLD_SIZE": "two"}, "WORLD_SIZE"),
            ({"WORLD_SIZE": "-1"}, "WORLD_SIZE"),
            ({"WORLD_SIZE": "0"}, "WORLD_SIZE"),
            ({"WORLD_SIZE": "1.5"}, "WORLD_SIZE"),
            ({"RANK": "x"}, "RANK"),
            ({"RANK": "1"}, "WORLD_SIZE is not set"),
            ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE is 2"),
            ({"WORLD_SIZE": "2"}, "RANK is not set"),
            ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR does not say"),
            ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"}, "MASTER_PORT does not"),
            ({"LOCAL_RANK": "first"}, "LOCAL_RANK"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_refused_in_one_line(
        self, variables: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture, tmp_path: Path,
    ) -> None:  # fmt: skip
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert main(["--device", "cpu", "--output", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        "variables", [{"RANK": "1"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"WORLD_SIZE": "2"}]
    )
    def test_a_number_that_no_world_has_is_refused(
        self, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(InputError, match="which cannot be: start the processes with torchrun"):
            Launch.of_this_process()


class Dead(io.StringIO):
    """A stream whose reader has gone away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


class TestStreams:
    def test_what_an_encoding_lacks_is_written_as_its_escape(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii"))
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
        make_safe()
        assert say(sys.stderr, "≤ \udcff\n")
        assert say(sys.stdout, "≤ \udcff\n")
        assert raw.getvalue() == b"\\u2264 \\udcff\n"

    def test_so_the_command_line_writes(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii"))
        flags = ["--image", str(tmp_path / "größe.npy"), "--synapses", str(tmp_path / "t.csv")]
        assert main([*flags, "--output", str(tmp_path / "run"), "--device", "cpu"]) == 2
        assert b"gr\\xf6\\xdfe.npy" in raw.getvalue()

    def test_a_finished_job_names_its_results_to_a_terminal_that_lacks_their_signs(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        raw, folder = io.BytesIO(), tmp_path / "größe ≤ 2"
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
        flags = ["--export_only", "--export", "pt", "--checkpoint", "fibsem-10nm"]
        assert main([*flags, "--device", "cpu", "--output", str(folder)]) == 0
        assert b"gr\\xf6\\xdfe \\u2264 2" in raw.getvalue()
        assert (folder / "vgg3d.pt").exists()

    def test_streams_that_are_missing_are_made_up_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("stdin", "stdout", "stderr"):
            monkeypatch.setattr(sys, name, None)
        make_safe()
        assert say(sys.stdout, "text")
        assert sys.stdin.read() == ""

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="other systems have no such processes")
    def test_no_file_that_is_opened_becomes_a_stream_that_was_closed(self, tmp_path: Path) -> None:
        process = os.fork()
        if process == 0:
            os.closerange(0, 3)
            make_safe()
            os._exit(os.open(tmp_path / "results.csv", os.O_WRONLY | os.O_CREAT))
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) > 2

    def test_a_reader_that_has_gone_away_ends_no_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", Dead())
        monkeypatch.setattr(sys, "stdout", Dead())
        terminal.report(iter([Message("text"), Progress("cutting crops", 1, 2)]))
        Listener(sys.stderr).write("text")
        assert not say(sys.stdout, "text")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestProgress:
    def events(self) -> list[Event]:
        steps = [StepDone(1, n, 2.5, 1e-4, 10.0, 0.5) for n in range(1, 51)]
        cutting = [Progress("cutting crops", n, 50) for n in range(51)]
        return [*cutting, *steps]

    def test_a_log_has_a_line_a_minute_and_no_returns(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        clock = iter(range(0, 10_000, 10))
        monkeypatch.setattr(terminal.time, "monotonic", lambda: float(next(clock)))
        terminal.report(self.events()[:51])
        lines = capsys.readouterr().err.splitlines()
        assert 5 < len(lines) < 10
        assert lines[0].startswith("Cutting crops: ")
        assert "of 50 crops, about" in lines[0]

    def test_a_log_has_a_line_an_epoch(self, capsys: pytest.CaptureFixture) -> None:
        epochs = [EpochDone(n, 10 * n, 2.5, 2.75, best=n == 1) for n in (1, 2)]
        terminal.report([*self.events(), epochs[0], *self.events()[51:], epochs[1]])
        error = capsys.readouterr().err
        assert [line.partition(":")[0] for line in error.splitlines()] == ["Epoch 1", "Epoch 2"]
        assert "\r" not in error

    def test_a_short_job_leaves_none(self, capsys: pytest.CaptureFixture) -> None:
        terminal.report(self.events())
        assert capsys.readouterr().err == ""

    def test_a_terminal_has_a_bar(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", stream := Terminal())
        terminal.report(self.events())
        assert "cutting crops: 100%" in stream.getvalue()


class TestFileNames:
    @pytest.mark.parametrize(
        "text",
        [
            "a/b\\c:d*e?f\"g<h>i|j", "nul\0", "\n\t\x7f", "..", ".", "", "   ", "CON", "con.txt",
            "COM1", "lpt9.tar.gz", "é" * 300, "🧠" * 300, "x" * 300, "name.", "name ", "\udcff",
            "a\u202eb",
        ],
    )  # fmt: skip
    def test_every_name_makes_one_that_can_be_written(self, text: str, tmp_path: Path) -> None:
        name = safe_name(text)
        assert 0 < len(os.fsencode(name)) <= LONGEST_NAME + 1
        assert name == name.strip(" .")
        assert not set(name) & set('<>:"/\\|?*\0')
        assert name.partition(".")[0].lower() not in {"con", "nul", "com1", "lpt9"}
        (tmp_path / f"features_{name}.csv").write_text("z,y,x\n", encoding="utf-8")

    def test_an_ordinary_name_stays(self) -> None:
        assert safe_name("synapses of day 2, Größe") == "synapses of day 2, Größe"


def test_variables_are_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_NUMBER", " 7 ")
    assert environment.whole_number("SOME_NUMBER") == 7


def test_a_process_that_leaves_does_what_was_registered_and_waits_for_nothing_else() -> None:
    program = """
import atexit, sys, threading, time
from napari_synapse_cl.runs.terminal import leave
atexit.register(lambda: sys.stderr.write("registered"))
threading.Thread(target=time.sleep, args=(600,)).start()
sys.stdout.write("written")
leave(3)
"""
    # Python itself would wait for the thread.
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, b"written", b"registered")
