"""One job at a time writes to a folder."""

import errno
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from threading import Timer

import psutil
import pytest

from napari_synapse_cl.cli import main
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.folder_lock import HOLDER, LOCK, MARK, PATIENCE, HeldError, Hold

HOLDS = """
import subprocess, sys, time
from pathlib import Path
from napari_synapse_cl.system.folder_lock import Hold
hold = Hold(Path(sys.argv[1]))
asleep = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(asleep, stdout=subprocess.DEVNULL, close_fds=False)
print(child.pid, flush=True)
time.sleep(600)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestOneHolder:
    def test_a_second_is_told_who_the_first_is(self, tmp_path: Path) -> None:
        with Hold(tmp_path), pytest.raises(HeldError) as refused:
            Hold(tmp_path)
        assert f"process {os.getpid()} on this computer {platform.node()}" in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_a_link_to_a_folder_is_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "link").symlink_to("run")
        with Hold(tmp_path / "link"), pytest.raises(HeldError):
            Hold(tmp_path / "run")

    def test_folders_in_each_other_are_two(self, tmp_path: Path) -> None:
        with Hold(tmp_path / "run"), Hold(tmp_path / "run" / "features"):
            pass

    def test_it_is_let_go_of_without_a_trace(self, tmp_path: Path) -> None:
        for _ in range(2):
            with Hold(tmp_path):
                assert names(tmp_path) == {LOCK, HOLDER}
            assert not names(tmp_path)

    def test_what_is_refused_leaves_no_folder_that_was_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for folder in (tmp_path / "a" / "b", tmp_path / "empty"):
            with pytest.raises(InputError, match="no such volume"), Hold(folder):
                raise InputError("no such volume")
        assert names(tmp_path) == {"empty"}

    def test_a_killed_holder_holds_no_longer_nor_does_a_child_of_it(self, tmp_path: Path) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process:
            child = psutil.Process(int(process.stdout.readline()))
            with pytest.raises(HeldError, match=f"process {process.pid} on this computer"):
                Hold(tmp_path)
            process.kill()
            process.wait()
        # Its marks are still there.
        assert names(tmp_path) == {LOCK, HOLDER}
        assert child.is_running()
        try:
            with Hold(tmp_path):
                assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
        finally:
            child.kill()

    def test_of_who_died_and_who_has_just_taken_it_the_latter_is_told(self, tmp_path: Path) -> None:
        with Hold(tmp_path):
            own = (tmp_path / HOLDER).read_text()
            (tmp_path / HOLDER).write_text(json.dumps({**json.loads(own), "pid": 2**30}))
            timer = Timer(2 * PATIENCE, (tmp_path / HOLDER).write_text, (own,))
            timer.start()
            with pytest.raises(HeldError, match=f"process {os.getpid()} on this computer"):
                Hold(tmp_path)
            timer.join()

    def test_a_folder_that_vanishes_and_is_made_anew_is_left_to_its_new_holder(
        self, tmp_path: Path
    ) -> None:
        folder = tmp_path / "run"
        first = Hold(folder)
        folder.rename(tmp_path / "moved")
        with Hold(folder):
            first.release()
            with pytest.raises(HeldError):
                Hold(folder)


class TestPlaces:
    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("mine")
        with pytest.raises(InputError, match=r"output folder .*run: it is a file and no folder"):
            Hold(tmp_path / "run")
        assert (tmp_path / "run").read_text() == "mine"

    def test_a_link_that_leads_nowhere_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "run").symlink_to(tmp_path / "gone")
        with pytest.raises(InputError, match=r"it is a link to .*gone, which is not there"):
            Hold(tmp_path / "run")

    def test_a_name_that_is_too_long_is_told(
        self, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for long in (tmp_path / ("y" * 300), tmp_path / ("y" * 300) / "run"):
            for more in (["--output", str(long)], ["--synapses", str(long)]):
                assert main([*flags, *more]) == 2
                (line,) = capsys.readouterr().err.splitlines()
                assert "File name too long" in line
        assert not names(tmp_path)

    def test_a_place_that_takes_no_file_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr("filelock.FileLock.acquire", refuse)
        with pytest.raises(InputError, match=r"cannot write to the output folder.*Read-only"):
            Hold(tmp_path / "run")
        assert not names(tmp_path)


def refuse_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)


@pytest.mark.skipif(os.name != "posix", reason="flock is of POSIX systems")
class TestNoLocks:
    """A network disk may know none."""

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
    def test_a_mark_stands_in_and_is_told(
        self, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse_locks(monkeypatch, number)
        with Hold(tmp_path) as hold:
            assert "knows no locks" in str(hold.note)
            with pytest.raises(HeldError, match=r"process .* \(if that job has died, remove "):
                Hold(tmp_path)
        assert not names(tmp_path)

    def test_the_mark_of_a_dead_process_holds_no_longer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse_locks(monkeypatch, errno.ENOLCK)
        process = os.fork()
        if process == 0:
            _held = Hold(tmp_path)
            os._exit(0)
        os.waitpid(process, 0)
        assert names(tmp_path) == {MARK, HOLDER}
        with Hold(tmp_path):
            assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
