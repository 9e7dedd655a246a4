"""What Windows and macOS do otherwise than Linux, as far as Linux can be made to do it."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from conftest import SMALL, Files
from held_files import held, hold_as_windows_does
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops import cache
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features.projections import conversation
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.runs.events import Control, Started
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.following import following_commands
from napari_synapse_cl.system import devices, standard_input, words
from napari_synapse_cl.system.folder_lock import process_lives
from napari_synapse_cl.widgets.jobs import child

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux says what is open")
WINDOWS = SimpleNamespace(platform="win32")


@on_linux
def test_a_training_that_is_left_removes_crops_that_were_mapped(
    sample_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_as_windows_does(monkeypatch)
    image, table = sample_files
    named = {"image": image, "synapses": table, "voxel_size": 10, "output": tmp_path / "run"}
    events = run(Config.from_values({**SMALL, **named, "figures": False}))
    for event in events:
        if isinstance(event, Started):
            assert held(next((tmp_path / "run").glob("crops-*")) / "crops.npy")
            events.close()  # type: ignore[attr-defined]
    assert not (tmp_path / "run").exists()


@on_linux
def test_crops_that_do_not_fit_are_let_go_of_before_they_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, create = tmp_path / "crops.npy", cache.create_array
    np.save(file, np.zeros(3))

    def create_unmapped(path: Path, *rest: Any) -> np.memmap:
        assert not held(path)
        return create(path, *rest)

    monkeypatch.setattr(cache, "create_array", create_unmapped)
    assert cache._open_or_create(file, (4,), np.dtype(float)).shape == (4,)


def test_a_pipe_is_not_read_on_windows_before_something_is_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = os.pipe()
    given = [b"pause\nres", b"", b"ume\r\nst", b"op"]
    waiting = 0

    def peek(handle: int, size: int) -> tuple[int, int]:
        nonlocal waiting
        assert (handle, size) == (ours, 0)
        if not given and not waiting:
            raise BrokenPipeError(errno.EPIPE, "The pipe has been ended")
        if not waiting:
            waiting = os.write(theirs, given.pop(0))
        return waiting, 0

    def read(number: int, size: int) -> bytes:
        nonlocal waiting
        assert waiting or not given, "it would wait in the read"
        if not waiting:
            os.close(theirs)
        waiting = 0
        return inner(number, size)

    inner = os.read
    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(standard_input, "sys", WINDOWS)
    monkeypatch.setattr(standard_input, "LOOK_SECONDS", 0)
    for name, function in {"_winapi.PeekNamedPipe": peek, "msvcrt.get_osfhandle": int}.items():
        module, _, attribute = name.partition(".")
        fake = ModuleType(module)
        setattr(fake, attribute, function)
        monkeypatch.setitem(sys.modules, module, fake)
    with os.fdopen(ours) as stream:
        assert list(standard_input.incoming_lines(stream)) == ["pause", "resume", "stop"]


def test_a_process_that_reads_no_more_is_no_invalid_argument() -> None:
    process = subprocess.Popen(
        [sys.executable, "-Sc", "raise SystemExit('no UMAP today')"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.close()

    def write(_: bytes) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    process.stdin = SimpleNamespace(write=write, close=lambda: None)  # type: ignore[assignment]
    with pytest.raises(JobError, match="no UMAP today"):
        list(conversation(process, np.zeros((3, 2), np.float32)))


def test_a_traceback_in_the_systems_encoding_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = "import sys; sys.stderr.buffer.write(bytes([74, 252, 114, 103])); sys.exit(1)"
    monkeypatch.setattr(child, "PYTHON", [sys.executable, "-Sc", failing])
    with pytest.raises(JobError, match=r"last\.pt could not be looked at: J�rg"):
        child.Question("network").ask("last.pt")


def test_a_command_is_written_as_the_terminal_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["synapse-cl", "--config", r"C:\my runs\config.json", "--output", "new"]
    assert words.command_line(command) == (
        r"synapse-cl --config 'C:\my runs\config.json' --output new"
    )
    monkeypatch.setattr(words, "sys", WINDOWS)
    assert words.command_line(command) == (
        r'synapse-cl --config "C:\my runs\config.json" --output new'
    )


def test_a_process_that_may_not_be_looked_at_is_not_taken_for_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def denied(self: psutil.Process) -> float:
        raise psutil.AccessDenied(self.pid)

    me = psutil.Process()
    known = (os.uname().nodename if hasattr(os, "uname") else "", me.pid, me.create_time())
    assert process_lives(*known)
    monkeypatch.setattr(psutil.Process, "status", denied)
    assert process_lives(*known) is None


def test_commands_that_someone_writes_at_the_end_do_not_end_a_training_badly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    with following_commands(folder, Control()):
        folder.send("pause")

        def refuse(self: Path, **_: Any) -> None:
            raise PermissionError(errno.EACCES, "another process uses it", str(self))

        monkeypatch.setattr(Path, "unlink", refuse)
    assert folder.commands_file.exists()


@pytest.mark.parametrize("spoil", ["wrong", "missing"])
def test_apples_gpu_is_not_taken_where_it_computes_otherwise_than_a_cpu(
    spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = devices._small_step

    def on_mps(device: torch.device) -> torch.Tensor:
        if device.type == "mps" and spoil == "missing":
            raise NotImplementedError("aten::max_pool3d is not implemented for MPS")
        right = step(torch.device("cpu"))
        return right * 1.1 if device.type == "mps" else right

    monkeypatch.setattr(devices, "_convolve", lambda device, *_, **__: None)
    monkeypatch.setattr(devices, "_small_step", on_mps)
    assert devices._works(torch.device("cpu"))
    assert not devices._works(torch.device("mps"))
    monkeypatch.setattr(devices, "_small_step", lambda _: step(torch.device("cpu")))
    assert devices._works(torch.device("mps"))
