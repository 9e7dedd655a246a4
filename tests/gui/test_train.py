"""Trainings that are started, watched and ended in the window."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QThreadPool, QTimer
from qtpy.QtWidgets import QLabel

from conftest import Files, Job, as_flags
from napari_synapse_cl.config import Config
from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.system.folder_lock import Hold
from napari_synapse_cl.widgets.look import CALM, NORMAL

from .conftest import (
    ENDLESS,
    LONG,
    PLUGIN,
    PREVIEW,
    SMALL,
    TRAIN,
    click,
    discard,
    fill_in,
    job_processes,
    messages,
    n_steps,
    open_widget,
    train,
    wait_for_end,
)

pytestmark = pytest.mark.usefixtures("no_children")


def test_training_runs_to_its_end(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    assert not widget.stop_button.isEnabled()
    train(qtbot, widget, tmp_path / "run")
    assert not widget.start_button.isEnabled()
    wait_for_end(qtbot, widget)
    assert any("complete" in text for text in messages(notifications, "info"))
    assert not messages(notifications, "error")
    assert str(tmp_path / "run") in widget.status.text()
    # 10 of 12 synapses train, in batches of 4: 2 steps an epoch.
    assert n_steps(widget) == 4
    series = widget.view.monitor.series
    steps = read_metrics(tmp_path / "run" / "steps.csv")
    epochs = read_metrics(tmp_path / "run" / "epochs.csv")
    for name in ("loss", "learning_rate"):
        np.testing.assert_allclose(series[name].points[1], steps[name])
    for name in ("validation_loss", "retrieval", "alignment", "uniformity", "effective_rank"):
        np.testing.assert_allclose(series[name].points, (epochs["step"], epochs[name]))
    assert widget.view.bar.value() == widget.view.bar.maximum() == 4
    config = Config.from_file(tmp_path / "run" / "config.json")
    assert config.train_only
    assert config.network_voxel_size == (10.0, 10.0, 10.0)
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["architecture"]
    assert not widget.pause_button.isEnabled()


def test_plot_grows_while_the_window_stays_alive(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    times: list[float] = []
    timer = QTimer()
    timer.setInterval(20)
    timer.timeout.connect(lambda: times.append(time.perf_counter()))
    before = n_steps(widget)
    timer.start()
    qtbot.waitUntil(lambda: n_steps(widget) > before + 10, timeout=LONG)
    qtbot.waitUntil(lambda: len(times) > 100, timeout=LONG)
    timer.stop()
    gaps = np.diff(times) * 1000
    # If steps were computed in this process, each would hold up a frame.
    assert np.percentile(gaps, 95) < 150
    discard(qtbot, widget)


def test_stop_keeps_a_checkpoint_that_loads(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    click(qtbot, widget.stop_button)
    assert not widget.stop_button.isEnabled()
    wait_for_end(qtbot, widget)
    assert "stopped at step" in widget.status.text()
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] > 0
    # One more, into the same folder, would destroy it.
    click(qtbot, widget.start_button)
    assert widget.start_button.isEnabled()


def test_discard_removes_the_run_folder(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    discard(qtbot, widget)
    assert not (tmp_path / "run").exists()
    assert "Discarded" in widget.status.text()
    assert not notifications
    assert widget.session.last_checkpoint is None


def test_pause_and_resume(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    click(qtbot, widget.pause_button)
    qtbot.waitUntil(lambda: widget.pause_button.text() == "Resume", timeout=LONG)
    qtbot.wait(500)
    paused_at = n_steps(widget)
    qtbot.wait(500)
    assert n_steps(widget) == paused_at
    click(qtbot, widget.pause_button)
    qtbot.waitUntil(lambda: n_steps(widget) > paused_at + 5, timeout=LONG)
    discard(qtbot, widget)


def test_removing_the_layers_does_not_disturb_a_training(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    window.viewer.layers.clear()
    before = n_steps(widget)
    qtbot.waitUntil(lambda: n_steps(widget) > before + 10, timeout=LONG)
    click(qtbot, widget.stop_button)
    wait_for_end(qtbot, widget)
    assert not messages(notifications, "error")


def test_closing_the_viewer_ends_the_child_with_a_checkpoint(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    assert job_processes()
    window.viewer.close()
    qtbot.waitUntil(lambda: not job_processes(), timeout=LONG)
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] > 0


def test_closing_the_widget_ends_the_child_with_a_checkpoint(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    dock, widget = window.viewer.window.add_plugin_dock_widget(PLUGIN, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    window.viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not job_processes(), timeout=LONG)
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] > 0
    # Another one can be started from a new widget.
    again = open_widget(window.viewer, TRAIN)
    assert again is not widget
    qtbot.waitUntil(lambda: "training" not in again.session.running, timeout=LONG)


def test_volume_from_a_file_is_not_copied(
    window: Any, qtbot: QtBot, tmp_path: Path, sample: Any
) -> None:
    path = tmp_path / "volume.tif"
    tifffile.imwrite(path, sample.image, photometric="minisblack")
    window.viewer.layers.remove(window.image)
    (image,) = window.viewer.open(path, plugin="napari")
    image.scale, image.units = sample.voxel_size, ("nm",) * 3
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run")
    wait_for_end(qtbot, widget)
    config = Config.from_file(tmp_path / "run" / "config.json")
    assert config.image == str(path)
    assert config.crops is None


def test_settings_that_cannot_be_used_are_told_and_marked(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {"temperature": 0.0, "output": tmp_path / "run"})
    click(qtbot, widget.start_button)
    (message,) = messages(notifications, "error")
    assert message.startswith("Temperature cannot be 0.0: it must be greater than 0")
    assert not (tmp_path / "run").exists()
    assert widget.start_button.isEnabled()


def test_what_the_child_refuses_is_told_in_one_line_and_leaves_nothing(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no checkpoint")
    fill_in(widget, {"crop_size": "16", "pretrained": broken, "output": tmp_path / "run"})
    click(qtbot, widget.start_button)
    qtbot.waitUntil(lambda: bool(messages(notifications, "error")), timeout=LONG)
    wait_for_end(qtbot, widget)
    (message,) = messages(notifications, "error")
    assert str(broken) in message
    assert "\n" not in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("problem", "words"),
    [("nothing", "no image layer"), ("2D", "2D image"), ("RGB", "colour image")],
)
def test_layers_that_cannot_be_used_are_told(
    make_napari_viewer: Any,
    qtbot: QtBot,
    notifications: list[Notification],
    problem: str,
    words: str,
) -> None:
    viewer = make_napari_viewer()
    if problem == "2D":
        viewer.add_image(np.zeros((32, 32)))
        viewer.add_points([[1, 2]])
    elif problem == "RGB":
        viewer.add_image(np.zeros((32, 32, 32, 3), np.uint8), rgb=True)
        viewer.add_points([[1, 2, 3]])
    widget = open_widget(viewer, TRAIN)
    click(qtbot, widget.start_button)
    (message,) = messages(notifications, "error")
    assert words in message


def test_window_and_command_line_take_the_same_steps(
    window: Any, qtbot: QtBot, tmp_path: Path, sample_files: Files
) -> None:
    settings = {**SMALL, "num_epochs": 1}
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "here", settings)
    image, table = sample_files
    named = {"image": image, "synapses": table, "output": tmp_path / "there"}
    job = Job(*as_flags({**settings, **named}), "--train_only")
    list(job.events())
    assert job.end() == 0
    wait_for_end(qtbot, widget)
    here, there = (
        read_metrics(tmp_path / name / "steps.csv")["loss"] for name in ("here", "there")
    )
    np.testing.assert_allclose(here, there, rtol=1e-5)


def test_training_keeps_no_other_work_waiting(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    pool = QThreadPool.globalInstance()
    # As on a computer with one core.
    before = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    try:
        widget = open_widget(window.viewer, TRAIN)
        train(qtbot, widget, tmp_path / "run", ENDLESS)
        preview = open_widget(window.viewer, PREVIEW)
        qtbot.waitUntil(lambda: preview.up_to_date, timeout=LONG)
        discard(qtbot, widget)
    finally:
        pool.setMaxThreadCount(before)
    assert pool.activeThreadCount() <= 1


def test_warning_stays_in_sight(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", {**SMALL, "batch_size": 64})
    assert "lowered to the 10 training synapses" in widget.view.warning.text()
    wait_for_end(qtbot, widget)


def test_run_folder_that_vanishes_ends_the_training_in_words(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    # At once, whatever is being written.
    (tmp_path / "run").rename(tmp_path / "gone")
    wait_for_end(qtbot, widget)
    (message,) = messages(notifications, "error")
    assert str(tmp_path / "run") in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("has_begun", "words"), [(False, "being written to by process"), (True, "holds a run already")]
)
def test_a_start_into_a_folder_that_another_job_holds_is_told_and_changes_nothing(
    has_begun: bool,
    words: str,
    window: Any,
    qtbot: QtBot,
    tmp_path: Path,
    notifications: list[Notification],
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {**SMALL, "output": tmp_path / "run"})
    with Hold(tmp_path / "run"):
        if has_begun:
            RunFolder(tmp_path / "run").create(Config())
        files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
        before = {path: path.read_bytes() for path in files}
        click(qtbot, widget.start_button)
        wait_for_end(qtbot, widget)
        (message,) = messages(notifications, "error")
        assert words in message
        files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
        assert {path: path.read_bytes() for path in files} == before
    assert n_steps(widget) == 0


def test_a_start_into_a_folder_with_anothers_files_is_told_and_changes_nothing(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {**SMALL, "output": tmp_path / "run"})
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "synister.pt").write_text("mine")
    click(qtbot, widget.start_button)
    qtbot.waitUntil(lambda: bool(messages(notifications, "error")), timeout=LONG)
    (message,) = messages(notifications, "error")
    assert "checkpoints/synister.pt is there already" in message
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [path.read_text() for path in files] == ["mine"]
    assert n_steps(widget) == 0


def test_a_run_folder_whose_name_is_too_long_is_told(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {**SMALL, "output": tmp_path / ("y" * 300)})
    click(qtbot, widget.start_button)
    wait_for_end(qtbot, widget)
    (message,) = messages(notifications, "error")
    assert "File name too long" in message


def test_animation_moves_with_the_steps_that_are_told_and_by_itself_no_more(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    bar = window.viewer.window._qt_window.statusBar()
    [movie] = [label.movie() for label in bar.findChildren(QLabel) if label.movie()]
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {**ENDLESS, "output": tmp_path / "run"})
    click(qtbot, widget.start_button)
    assert movie.speed() == CALM
    qtbot.waitUntil(lambda: n_steps(widget) > 0, timeout=60_000)
    assert movie.speed() == 0
    click(qtbot, widget.pause_button)
    qtbot.waitUntil(lambda: widget.status.text() == "Paused.", timeout=60_000)
    still = movie.currentFrameNumber()
    qtbot.wait(1500)
    assert movie.currentFrameNumber() == still
    click(qtbot, widget.pause_button)
    qtbot.waitUntil(lambda: movie.currentFrameNumber() != still, timeout=60_000)
    discard(qtbot, widget)
    assert movie.speed() == NORMAL
