"""Napari is closed while a training runs."""

from pathlib import Path
from typing import Any

import psutil
import pytest
from pytestqt.qtbot import QtBot

from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.training.metrics import read_metrics
from napari_synapse_cl.training.runs import RunFolder

from .conftest import (
    ENDLESS,
    LONG,
    TRAIN,
    click,
    job_processes,
    n_steps,
    open_widget,
    press_in_dialog,
    train,
    wait_for_end,
)

pytestmark = pytest.mark.usefixtures("no_children")


@pytest.fixture
def training(window: Any, qtbot: QtBot, tmp_path: Path) -> Any:
    """A training in a window that is shown."""
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    return widget


def test_closing_can_be_called_off(training: Any, window: Any, qtbot: QtBot) -> None:
    press_in_dialog("Cancel")
    assert not window.viewer.window._qt_window.close()
    assert window.viewer.window._qt_window.isVisible()
    before = n_steps(training)
    qtbot.waitUntil(lambda: n_steps(training) > before, timeout=LONG)
    click(qtbot, training.discard_button)
    wait_for_end(qtbot, training)


def test_stop_and_keep_ends_it_with_a_checkpoint(
    training: Any, window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    press_in_dialog("Stop and keep")
    window.viewer.close()
    qtbot.waitUntil(lambda: not job_processes(), timeout=LONG)
    run = RunFolder(tmp_path / "run")
    assert load_checkpoint(run.last_checkpoint)["step"] > 0
    status = run.status()
    assert status is not None
    assert status.state == "stopped"


def test_let_it_run_on_and_attach_later(
    training: Any,
    window: Any,
    qtbot: QtBot,
    tmp_path: Path,
    make_napari_viewer: Any,
    choose: Any,
) -> None:
    run = RunFolder(tmp_path / "run")
    press_in_dialog("Let it run on")
    window.viewer.close()
    qtbot.wait(1000)
    before = len(read_metrics(run.steps_file)["step"])
    qtbot.waitUntil(lambda: len(read_metrics(run.steps_file)["step"]) > before + 5, timeout=LONG)
    status = run.status()
    assert status is not None
    assert status.is_alive()
    widget = open_widget(make_napari_viewer(), TRAIN)
    choose(run.path)
    click(qtbot, widget.attach_button)
    qtbot.waitUntil(lambda: n_steps(widget) > before, timeout=LONG)
    click(qtbot, widget.stop_button)
    wait_for_end(qtbot, widget)
    qtbot.waitUntil(lambda: not job_processes(), timeout=LONG)
    assert not psutil.pid_exists(status.pid)
    assert load_checkpoint(run.last_checkpoint)["step"] == n_steps(widget)


def test_nothing_is_asked_when_nothing_runs(window: Any, qtbot: QtBot) -> None:
    window.viewer.window._qt_window.show()
    open_widget(window.viewer, TRAIN)
    # A question would wait for an answer for ever.
    assert window.viewer.window._qt_window.close()
