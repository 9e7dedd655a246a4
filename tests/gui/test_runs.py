"""Runs that are continued, and runs of other processes that are attached to."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QDialog

from napari_synapse_cl.config import Config
from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.widgets.jobs.job import AttachedJob
from napari_synapse_cl.widgets.look import EXTRACT, open_dock
from napari_synapse_cl.widgets.train.controls import ContinueDialog
from napari_synapse_cl.widgets.train.widget import TrainWidget

from .conftest import (
    ENDLESS,
    LONG,
    SMALL,
    TRAIN,
    click,
    command_line,
    discard,
    fill_in,
    job_processes,
    messages,
    n_steps,
    open_widget,
    press_in_dialog,
    select_run,
    train,
    wait_for_end,
)


def test_ended_run_is_continued_with_its_own_settings_and_data(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run")
    wait_for_end(qtbot, widget)
    # As after a restart: no layers, other settings.
    window.viewer.layers.clear()
    fill_in(widget, {"batch_size": 3, "fmaps": 4, "output": ""})
    shown: list[str] = []

    def go_further(dialog: QDialog) -> None:
        assert isinstance(dialog, ContinueDialog)
        shown.append(dialog.findChild(type(widget.status)).text())
        dialog.epochs_box.setValue(4)

    runs = select_run(qtbot, window.viewer, tmp_path / "run")
    press_in_dialog("Continue", before=go_further)
    click(qtbot, runs.continue_button)
    wait_for_end(qtbot, widget)
    assert "2 of 2 epochs" in shown[0]
    assert not messages(notifications, "error")
    # The plot shows what was done before, too.
    assert n_steps(widget) == 8
    steps = read_metrics(tmp_path / "run" / "steps.csv")["step"]
    np.testing.assert_array_equal(steps, np.arange(1, 9))
    config = Config.from_file(tmp_path / "run" / "config.json")
    assert (config.num_epochs, config.batch_size, config.fmaps) == (4, 4, 2)
    assert "complete" in widget.status.text()


def test_continuing_can_be_called_off(window: Any, qtbot: QtBot, trained: Path) -> None:
    widget = open_widget(window.viewer, TRAIN)
    runs = select_run(qtbot, window.viewer, trained.parents[1])
    pressed = press_in_dialog("Cancel")
    click(qtbot, runs.continue_button)
    assert pressed
    assert widget.job is None
    assert not job_processes()


def test_discarding_what_was_done_before_is_asked_about(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run")
    wait_for_end(qtbot, widget)
    runs = select_run(qtbot, window.viewer, tmp_path / "run")
    press_in_dialog("Continue", before=lambda dialog: dialog.epochs_box.setValue(100_000))
    click(qtbot, runs.continue_button)
    qtbot.waitUntil(lambda: n_steps(widget) > 4, timeout=LONG)
    press_in_dialog("Cancel")
    click(qtbot, widget.discard_button)
    before = n_steps(widget)
    qtbot.waitUntil(lambda: n_steps(widget) > before, timeout=LONG)
    discard(qtbot, widget)
    assert not (tmp_path / "run").exists()


def test_run_whose_folder_is_gone_takes_no_command_and_that_is_told(
    window: Any, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    widget.job = AttachedJob(tmp_path / "gone")
    widget.request("pause")
    widget.job = None
    (text,) = messages(notifications, "error")
    assert text.startswith("Cannot send pause to the run in")


def test_training_from_a_terminal_is_watched_paused_and_stopped(
    window: Any,
    qtbot: QtBot,
    tmp_path: Path,
    sample_files: tuple[Path, Path],
    notifications: list[Notification],
) -> None:
    run = RunFolder(tmp_path / "run")
    widget = open_widget(window.viewer, TRAIN)
    with command_line(sample_files, run.path, ENDLESS) as process:
        qtbot.waitUntil(lambda: len(read_metrics(run.steps_file).get("step", [])) > 5, timeout=LONG)
        click(qtbot, select_run(qtbot, window.viewer, run.path).attach_button)
        # What it did before, and what it does now.
        qtbot.waitUntil(lambda: n_steps(widget) > 20, timeout=LONG)
        assert not widget.start_button.isEnabled()
        steps = read_metrics(run.steps_file)
        drawn = widget.view.monitor.series["loss"]
        np.testing.assert_allclose(drawn.points[1], steps["loss"][: drawn.n])
        assert "Epoch" in widget.status.text()
        # It runs already, so it is not run a second time.
        click(qtbot, widget.pause_button)
        qtbot.waitUntil(lambda: widget.pause_button.text() == "Resume", timeout=LONG)
        paused_at = len(read_metrics(run.steps_file)["step"])
        time.sleep(0.5)
        assert len(read_metrics(run.steps_file)["step"]) == paused_at
        click(qtbot, widget.pause_button)
        qtbot.waitUntil(lambda: n_steps(widget) > paused_at, timeout=LONG)
        click(qtbot, widget.stop_button)
        wait_for_end(qtbot, widget)
        assert process.wait(LONG / 1000) == 0
    assert load_checkpoint(run.last_checkpoint)["step"] == n_steps(widget)
    assert "stopped at step" in widget.status.text()
    assert widget.session.last_checkpoint == run.best_checkpoint
    assert not messages(notifications, "error")


def test_detaching_leaves_a_training_as_it_is(
    window: Any, qtbot: QtBot, tmp_path: Path, sample_files: tuple[Path, Path]
) -> None:
    run = RunFolder(tmp_path / "run")
    widget = open_widget(window.viewer, TRAIN)
    with command_line(sample_files, run.path, ENDLESS) as process:
        qtbot.waitUntil(run.steps_file.exists, timeout=LONG)
        click(qtbot, select_run(qtbot, window.viewer, run.path).attach_button)
        qtbot.waitUntil(lambda: n_steps(widget) > 0, timeout=LONG)
        click(qtbot, widget.detach_button)
        wait_for_end(qtbot, widget)
        assert "goes on without this window" in widget.status.text()
        before = len(read_metrics(run.steps_file)["step"])
        qtbot.waitUntil(lambda: len(read_metrics(run.steps_file)["step"]) > before, timeout=LONG)
        assert process.poll() is None


def test_killed_training_is_told_and_can_be_continued(
    window: Any,
    qtbot: QtBot,
    tmp_path: Path,
    sample_files: tuple[Path, Path],
    notifications: list[Notification],
) -> None:
    run = RunFolder(tmp_path / "run")
    widget = open_widget(window.viewer, TRAIN)
    with command_line(sample_files, run.path, {**SMALL, "num_epochs": 1000}) as process:
        qtbot.waitUntil(run.last_checkpoint.exists, timeout=LONG)
        click(qtbot, select_run(qtbot, window.viewer, run.path).attach_button)
        qtbot.waitUntil(lambda: n_steps(widget) > 0, timeout=LONG)
        # It runs, so it cannot be run a second time.
        widget.continue_run(run.path)
        assert "is running" in messages(notifications, "error")[0]
        process.kill()
        process.wait()
    wait_for_end(qtbot, widget)
    assert "without a word" in messages(notifications, "error")[1]
    assert "without a word" in widget.status.text()
    before = load_checkpoint(run.last_checkpoint)["step"]
    runs = select_run(qtbot, window.viewer, run.path)
    press_in_dialog("Continue")
    click(qtbot, runs.continue_button)
    qtbot.waitUntil(lambda: widget.view.step > before, timeout=LONG)
    click(qtbot, widget.stop_button)
    wait_for_end(qtbot, widget)
    assert load_checkpoint(run.last_checkpoint)["step"] > before


def test_run_that_has_ended_is_shown_whole(window: Any, qtbot: QtBot, trained: Path) -> None:
    widget = open_widget(window.viewer, TRAIN)
    click(qtbot, select_run(qtbot, window.viewer, trained.parents[1]).attach_button)
    wait_for_end(qtbot, widget)
    assert n_steps(widget) == 2
    assert "is complete" in widget.status.text()
    assert widget.extract_button.isEnabled()


def test_one_training_at_a_time_from_one_window(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    assert not widget.start_button.isEnabled()
    runs = select_run(qtbot, window.viewer, tmp_path / "run")
    assert not runs.continue_button.isEnabled()
    click(qtbot, runs.attach_button)
    assert "one at a time" in messages(notifications, "error")[0]
    # A second widget of the same window knows of it.
    second = TrainWidget(window.viewer)
    click(qtbot, second.start_button)
    assert "one at a time" in messages(notifications, "error")[1]
    second.release()
    second.deleteLater()
    del second
    discard(qtbot, widget)


def test_trained_network_is_one_click_from_features(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    assert not widget.extract_button.isEnabled()
    train(qtbot, widget, tmp_path / "run")
    wait_for_end(qtbot, widget)
    click(qtbot, widget.extract_button)
    extractor = open_dock(window.viewer, EXTRACT)
    checkpoint = tmp_path / "run" / "checkpoints" / "best.pt"
    assert Path(extractor.form.editor("checkpoint").value) == checkpoint
    qtbot.waitUntil(lambda: "new columns" in extractor.status.text(), timeout=LONG)
    [layer] = extractor.panel.table.chosen
    assert f"L{layer}_mean_000" in window.points.features
    # With a volume that the points do not seem to lie in, it is left to whoever sees the warning.
    points = window.points
    place = {"scale": points.scale, "units": points.units}
    others = window.viewer.add_points(points.data, name="others", **place)
    far = points.scale * 1000
    other = window.viewer.add_image(np.zeros((4, 4, 4)), name="other", translate=far, **place)
    wait_for_end(qtbot, extractor)
    extractor.extract_by(checkpoint, other, others)
    assert not extractor.pair_note.isHidden()
    assert extractor.job is None


@pytest.fixture(autouse=True)
def _nothing_left(no_children: None) -> None:
    pass
