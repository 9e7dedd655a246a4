"""Napari is closed while a training runs."""

from pathlib import Path
from typing import Any

import napari
import pytest
from pytestqt.qtbot import QtBot

from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.metrics import read_metrics

from .conftest import (
    ENDLESS,
    LONG,
    TRAIN,
    click,
    discard,
    job_processes,
    n_steps,
    open_widget,
    press_in_dialog,
    select_run,
    train,
    wait_for_end,
)

pytestmark = pytest.mark.usefixtures("no_children")


@pytest.fixture
def quick_starts() -> None:
    """Here the window starts its processes as it does for people."""


def close(viewer: napari.Viewer) -> bool:
    """Close the window as a click on its cross does, and return whether it is closed."""
    closed = bool(viewer.window._qt_window.close())
    if closed:
        # Or napari's fixture would close it again.
        del viewer.window._qt_window
    return closed


def start_training(window: Any, qtbot: QtBot, tmp_path: Path) -> Any:
    """Start a training in a window that is shown."""
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    return widget


def test_closing_can_be_called_off(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    training = start_training(window, qtbot, tmp_path)
    press_in_dialog("Cancel")
    assert not close(window.viewer)
    assert window.viewer.window._qt_window.isVisible()
    before = n_steps(training)
    qtbot.waitUntil(lambda: n_steps(training) > before, timeout=LONG)
    discard(qtbot, training)


def test_stop_ends_it_with_a_checkpoint(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    start_training(window, qtbot, tmp_path)
    press_in_dialog("Stop")
    assert close(window.viewer)
    qtbot.waitUntil(lambda: not job_processes(), timeout=LONG)
    run = RunFolder(tmp_path / "run")
    assert load_checkpoint(run.last_checkpoint)["step"] > 0
    status = run.status()
    assert status is not None
    assert status.state == "stopped"


def test_detach_lets_it_run_on_and_attach_shows_it_later(
    window: Any,
    qtbot: QtBot,
    tmp_path: Path,
    make_napari_viewer: Any,
) -> None:
    start_training(window, qtbot, tmp_path)
    run = RunFolder(tmp_path / "run")
    press_in_dialog("Detach")
    assert close(window.viewer)
    qtbot.wait(1000)
    before = len(read_metrics(run.steps_file)["step"])
    qtbot.waitUntil(lambda: len(read_metrics(run.steps_file)["step"]) > before + 5, timeout=LONG)
    status = run.status()
    assert status is not None
    assert status.is_alive()
    viewer = make_napari_viewer()
    widget = open_widget(viewer, TRAIN)
    click(qtbot, select_run(qtbot, viewer, run.path).attach_button)
    qtbot.waitUntil(lambda: n_steps(widget) > before, timeout=LONG)
    click(qtbot, widget.stop_button)
    wait_for_end(qtbot, widget)
    qtbot.waitUntil(lambda: not job_processes(), timeout=LONG)
    assert not status.is_alive()
    assert load_checkpoint(run.last_checkpoint)["step"] == n_steps(widget)


def test_nothing_is_asked_when_nothing_runs(window: Any, qtbot: QtBot) -> None:
    window.viewer.window._qt_window.show()
    open_widget(window.viewer, TRAIN)
    # A question would wait for an answer for ever.
    assert close(window.viewer)


def test_program_that_closes_the_viewer_is_not_asked(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    start_training(window, qtbot, tmp_path)
    window.viewer.close()
    qtbot.waitUntil(lambda: not job_processes(), timeout=LONG)
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] > 0
