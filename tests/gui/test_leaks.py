"""Nothing is left running, open or in memory, however long and often one trains."""

import gc
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pytestqt.qtbot import QtBot

from .conftest import (
    ENDLESS,
    LONG,
    SMALL,
    TRAIN,
    click,
    fill_in,
    job_processes,
    n_steps,
    open_widget,
    train,
    wait_for_end,
)

MIB = 2**20


def python_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def open_files() -> set[str]:
    return {file.path for file in psutil.Process().open_files()}


def n_descriptors() -> int:
    return psutil.Process().num_fds() if os.name == "posix" else psutil.Process().num_handles()


def test_four_trainings_leave_no_thread_process_or_file(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    widget = open_widget(window.viewer, TRAIN)

    def one(i: int) -> None:
        train(qtbot, widget, tmp_path / f"run {i}", ENDLESS)
        click(qtbot, widget.stop_button if i % 2 else widget.discard_button)
        wait_for_end(qtbot, widget)

    # What the first one starts for good, such as Qt's pool of threads, is not counted.
    one(0)
    gc.collect()
    threads, files, descriptors = psutil.Process().num_threads(), open_files(), n_descriptors()
    names = python_threads()
    for i in range(1, 4):
        one(i)
    gc.collect()
    assert not job_processes()
    assert python_threads() <= names
    assert psutil.Process().num_threads() <= threads + 1
    assert open_files() <= files
    assert n_descriptors() <= descriptors + 2


def test_forty_epochs_leave_memory_flat(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    widget = open_widget(window.viewer, TRAIN)
    window.viewer.window._qt_window.show()
    fill_in(widget, {**SMALL, "num_epochs": 40, "output": tmp_path / "run"})
    click(qtbot, widget.start_button)
    own: list[int] = []
    child: list[float] = []
    series = widget.view.monitor.series
    qtbot.waitUntil(lambda: n_steps(widget) > 20, timeout=LONG)
    while widget.job is not None:
        own.append(psutil.Process().memory_info().rss)
        child += [process.memory_info().rss for process in job_processes()]
        qtbot.wait(100)
    assert series["validation_loss"].n == 40
    for sizes in (own, child):
        quarter = len(sizes) // 4
        first, last = np.median(sizes[:quarter]), np.median(sizes[-quarter:])
        assert last < 1.05 * first, f"{first / MIB:.0f} MiB became {last / MIB:.0f} MiB"


@pytest.fixture(autouse=True)
def _nothing_left(no_children: None) -> None:
    pass
