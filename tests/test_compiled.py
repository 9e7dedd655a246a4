"""Loops that are compiled, shared among threads, and done without where they cannot be."""

import os
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_synapse_cl.system.loops import Loop, compiled, share

MODULE = """
import numba


@numba.njit(nogil=True)
def double(start, stop, values):
    for i in range(start, stop):
        values[i] *= 2


def refuse(start, stop, values):
    raise RuntimeError("it cannot be compiled")
"""


@pytest.fixture
def loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with loops."""
    (tmp_path / "loops_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "loops_of_a_test", raising=False)
    return "loops_of_a_test"


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("n", [0, 1, 2, 3, 10])
def test_every_round_is_done_once(loops: str, n: int) -> None:
    values, double = np.ones(n), Loop(loops, "double")
    assert double(n, values)
    assert double(n, values)
    np.testing.assert_array_equal(values, 4)


def test_nothing_is_imported_before_the_first_run(loops: str) -> None:
    double = Loop(loops, "double")
    assert loops not in sys.modules
    double(1, np.ones(1))
    assert loops in sys.modules


@pytest.mark.parametrize(
    ("module", "name"),
    [("no_such_module", "double"), ("loops_of_a_test", "triple"), ("loops_of_a_test", "refuse")],
    ids=["no module", "no function", "not compilable"],
)
@pytest.mark.usefixtures("loops")
def test_a_loop_that_cannot_be_compiled_says_so_and_changes_nothing(module: str, name: str) -> None:
    values, loop = np.ones(3), Loop(module, name)
    assert not loop(3, values)
    assert not loop(3, values)
    np.testing.assert_array_equal(values, 1)


def test_what_cannot_be_compiled_is_tried_once(loops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(name: str) -> None:
        tried.append(name)
        raise ImportError

    monkeypatch.setattr("napari_synapse_cl.system.loops.import_module", fail)
    loop = Loop(loops, "double")
    assert not loop(1, np.ones(1))
    assert not loop(1, np.ones(1))
    assert tried == [loops]


def test_where_numba_is_told_not_to_compile_loops_are_not_run(
    loops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert not Loop(loops, "double")(1, np.ones(1))


@pytest.mark.usefixtures("three_threads")
def test_rounds_are_shared_among_threads_that_work_at_once() -> None:
    meeting, parts = threading.Barrier(3, timeout=30), []

    def work(start: int, stop: int, what: str) -> None:
        meeting.wait()
        parts.append((start, stop, what))

    share(work, 10, "rounds")
    assert sorted(parts) == [(0, 3, "rounds"), (3, 6, "rounds"), (6, 10, "rounds")]


@pytest.mark.usefixtures("three_threads")
def test_what_goes_wrong_in_another_thread_is_raised() -> None:
    def work(start: int, _stop: int) -> None:
        if start > 0:
            raise ValueError("in a thread")

    with pytest.raises(ValueError, match="in a thread"):
        share(work, 3)


def test_where_nothing_can_be_kept_loops_are_compiled_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def njit(cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr("numba.njit", njit)
    assert compiled(nogil=True)(len) is len


@pytest.mark.skipif(sys.platform == "win32", reason="caches have another place there")
@pytest.mark.parametrize("named", [None, ""])
def test_without_a_home_nothing_is_kept_where_the_program_was_started(
    named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, here = f"loop_{named is None}", tmp_path / "here"
    (tmp_path / f"{module}.py").write_text("def double(value):\n    return 2 * value\n")
    # Beside the module nothing can be kept either.
    (tmp_path / "__pycache__").touch()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if named is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", named)
    assert compiled()(import_module(module).double)(2) == 4
    assert not list(here.iterdir())
