"""A training that is discarded: what is asked, what goes, and how it comes back."""

from pathlib import Path
from typing import Any

import pytest
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QDialog, QMessageBox

from conftest import Files
from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.runs.listing import BIN, runs_in_bin

from .conftest import (
    ENDLESS,
    LONG,
    TRAIN,
    click,
    command_line,
    discard,
    fill_in,
    messages,
    n_steps,
    open_widget,
    press_in_dialog,
    select_run,
    train,
    wait_for_end,
)

pytestmark = pytest.mark.usefixtures("no_children")


def test_before_the_first_epoch_has_ended_nothing_is_asked_and_all_goes(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {**ENDLESS, "output": tmp_path / "run"})
    click(qtbot, widget.start_button)
    # It waits before its first step.
    click(qtbot, widget.pause_button)
    qtbot.waitUntil(lambda: widget.pause_button.text() == "Resume", timeout=LONG)
    asked: list[object] = []

    def call_off() -> None:
        if isinstance(dialog := QApplication.activeModalWidget(), QDialog):
            asked.append(dialog)
            dialog.reject()

    QTimer(widget, interval=100, timeout=call_off).start()
    click(qtbot, widget.discard_button)
    assert not asked
    wait_for_end(qtbot, widget)
    assert not list(tmp_path.glob("run*"))
    assert not (tmp_path / BIN).exists()
    assert "there is no network" in widget.status.text()
    assert not widget.discard_button.isEnabled()
    assert not notifications


def test_it_says_how_much_would_go_and_goes_on_if_called_off(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    qtbot.waitUntil(lambda: widget.view.last is not None, timeout=LONG)
    asked: list[QMessageBox] = []

    def read(dialog: Any) -> None:
        asked.append(dialog.text())

    press_in_dialog("Cancel", before=read)
    click(qtbot, widget.discard_button)
    before = n_steps(widget)
    [text] = asked
    assert " s of training would go, " in text
    n_epochs = int(text.partition("would go, ")[2].partition(" epoch")[0])
    assert 1 <= n_epochs <= widget.view.last.epoch
    qtbot.waitUntil(lambda: n_steps(widget) > before, timeout=LONG)
    discard(qtbot, widget)


def test_what_was_discarded_comes_back_by_one_click(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    qtbot.waitUntil(lambda: widget.view.last is not None, timeout=LONG)
    notes = tmp_path / "run" / "notes.txt"
    notes.write_text("mine")
    discard(qtbot, widget)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]
    [binned] = runs_in_bin(tmp_path)
    assert str(binned.path) in widget.status.text()
    assert widget.session.last_checkpoint is None
    # Nothing is shown any more of what is gone.
    assert n_steps(widget) == 0
    assert widget.discard_button.text() == "Undo discard"
    click(qtbot, widget.discard_button)
    qtbot.waitUntil(lambda: "is back in" in widget.status.text(), timeout=LONG)
    assert not (tmp_path / BIN).exists()
    assert notes.read_text() == "mine"
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] > 0
    assert widget.session.last_checkpoint == tmp_path / "run" / "checkpoints" / "best.pt"
    assert not widget.discard_button.isEnabled()
    assert not messages(notifications, "error")


def test_a_run_that_goes_on_is_asked_about_before_it_has_said_anything(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run")
    wait_for_end(qtbot, widget)
    runs = select_run(qtbot, window.viewer, tmp_path / "run")
    press_in_dialog("Continue", before=lambda dialog: dialog.epochs_box.setValue(100_000))
    click(qtbot, runs.continue_button)
    assert widget.view.started is None
    asked: list[str] = []
    press_in_dialog("Discard the run", before=lambda dialog: asked.append(dialog.text()))
    click(qtbot, widget.discard_button)
    wait_for_end(qtbot, widget)
    assert len(asked) == 1
    assert "with everything it had done before" in asked[0]
    [binned] = runs_in_bin(tmp_path)
    assert len((binned.path / "epochs.csv").read_text().splitlines()) >= 3


def test_another_start_leaves_the_bin_as_it_is(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    discard(qtbot, widget)
    train(qtbot, widget, tmp_path / "other", ENDLESS)
    # The button ends this one now.
    assert widget.discard_button.text() == "Discard …"
    discard(qtbot, widget)
    assert {run.origin.name for run in runs_in_bin(tmp_path)} == {"run", "other"}


def test_a_training_from_a_terminal_is_discarded_alike(
    window: Any,
    qtbot: QtBot,
    tmp_path: Path,
    sample_files: Files,
    notifications: list[Notification],
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    with command_line(sample_files, tmp_path / "run", ENDLESS) as process:
        qtbot.waitUntil((tmp_path / "run" / "epochs.csv").exists, timeout=LONG)
        runs = select_run(qtbot, window.viewer, tmp_path / "run")
        click(qtbot, runs.attach_button)
        qtbot.waitUntil(lambda: n_steps(widget) > 0, timeout=LONG)
        discard(qtbot, widget)
        assert process.wait(LONG / 1000) == 0
    assert not (tmp_path / "run").exists()
    assert len(runs_in_bin(tmp_path)) == 1
    assert not messages(notifications, "error")


@pytest.mark.parametrize("width", [1280, 800])
def test_discard_lies_apart_from_stop(width: int, window: Any, qtbot: QtBot) -> None:
    window.viewer.window._qt_window.resize(width, 800)
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    qtbot.waitUntil(widget.stop_button.isVisible)
    stop, lost = widget.stop_button.geometry(), widget.discard_button.geometry()
    assert lost.top() > stop.bottom()
    others = [widget.runs_button.geometry(), widget.extract_button.geometry()]
    # Beside others with a gap, or in a row of its own.
    assert all(lost.left() > other.right() + 20 or lost.top() > other.bottom() for other in others)
