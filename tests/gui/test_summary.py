"""What a training will be is said before it is started, and follows the form and the layers."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Points
from pytestqt.qtbot import QtBot

from conftest import Files
from napari_synapse_cl.config import Config
from napari_synapse_cl.training.estimates import plan_of
from napari_synapse_cl.widgets.train.progress import Pace

from .conftest import (
    ENDLESS,
    LONG,
    SMALL,
    TRAIN,
    click,
    command_line,
    fill_in,
    job_processes,
    open_widget,
    select_run,
)


def text(widget: Any) -> str:
    return widget.summary.text().replace("&nbsp;", " ")


def wait_for(qtbot: QtBot, widget: Any, *words: str) -> None:
    qtbot.waitUntil(lambda: all(word in text(widget) for word in words), timeout=LONG)


def test_synapses_crops_and_steps_are_said(window: Any, qtbot: QtBot) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, SMALL)
    wait_for(qtbot, widget, "10 train, 2 validate", "16 × 16 × 16 voxels", "160 × 160 × 160 nm")
    wait_for(qtbot, widget, "2 per epoch, of 4 pairs each · 4 in all")
    fill_in(widget, {"num_epochs": 5, "crop_size": "16 32 32"})
    wait_for(qtbot, widget, "10 in all", "160 × 320 × 320 nm")


def test_points_that_are_added_outside_are_counted(window: Any, qtbot: QtBot) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, SMALL)
    wait_for(qtbot, widget, "10 train")
    window.points.add([[900, 900, 900]])
    wait_for(qtbot, widget, "10 train, 2 validate, 1 not used (outside the volume)")


def test_warnings_are_said_in_words(window: Any, qtbot: QtBot, make_napari_viewer: Any) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {**SMALL, "batch_size": 64})
    wait_for(qtbot, widget, "The batch size of 64 is lowered to the 10 training synapses")
    # Without units the voxel size is not known.
    viewer = make_napari_viewer()
    viewer.add_image(window.image.data)
    viewer.add_points(window.points.data[:, ::-1])
    widget = open_widget(viewer, TRAIN)
    wait_for(
        qtbot, widget, "The voxel size is not known", "with “<a href='voxel_size'", "Voxel size"
    )
    assert "--" not in text(widget)
    assert isinstance(viewer.layers[1], Points)


def test_what_prevents_a_training_is_said(window: Any, qtbot: QtBot) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {"temperature": 0.0})
    wait_for(qtbot, widget, "Temperature</a> cannot be 0.0: it must be greater than 0")
    fill_in(widget, {"temperature": 0.1})
    wait_for(qtbot, widget, "10 train")
    qtbot.waitUntil(lambda: widget.status.text() == "Ready.", timeout=LONG)
    window.points.data = np.array([[900.0, 900, 900]])
    wait_for(qtbot, widget, "outside the volume")
    qtbot.waitUntil(lambda: widget.status.text() == "", timeout=LONG)
    window.viewer.layers.clear()
    wait_for(qtbot, widget, "no image layer")


def test_window_lives_while_a_plan_is_made(
    window: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, SMALL)
    wait_for(qtbot, widget, "4 in all")
    before = text(widget)
    go_on, threads, planned = threading.Event(), set(), []

    def slow_plan(dataset: Any, config: Config, machine: Any) -> Any:
        threads.add(threading.current_thread())
        planned.append(config.num_epochs)
        assert go_on.wait(LONG / 1000)
        return plan_of(dataset, config, machine)

    monkeypatch.setattr("napari_synapse_cl.widgets.train.summary.plan_of", slow_plan)
    fill_in(widget, {"num_epochs": 3})
    qtbot.waitUntil(lambda: bool(planned), timeout=LONG)
    # Only the last of what is filled in meanwhile is planned.
    for n_epochs in (4, 5, 6):
        fill_in(widget, {"num_epochs": n_epochs})
        widget._show_plan()
    assert text(widget) == before
    go_on.set()
    wait_for(qtbot, widget, "12 in all")
    # The last may be planned twice, where its timer comes late.
    assert set(planned) == {3, 6}
    assert threading.main_thread() not in threads


def test_machine_is_measured_in_a_process_of_its_own_and_by_each_training(
    window: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("napari_synapse_cl.widgets.train.summary.PROBE_DELAY_MS", 10)
    # All that was measured for a moment is told as a range.
    monkeypatch.setattr("napari_synapse_cl.training.estimates.SURE", 1.0)
    widget = open_widget(window.viewer, TRAIN)
    # The settings of a run name the file of its network; those that were measured name the network.
    widget.form.editor("pretrained").line_edit.value = "fibsem-10nm"
    fill_in(widget, SMALL)
    wait_for(qtbot, widget, "Measuring")
    wait_for(qtbot, widget, "Device", "float32", "GiB free", "Time")
    # Then for what the presets would take.
    box = widget.presets.box
    qtbot.waitUntil(lambda: all(" · " in box.itemText(i) for i in range(box.count())), timeout=LONG)
    assert box.itemText(box.findData("specification")).endswith((" min", " h", " days"))
    assert not job_processes()
    # The same settings are not measured twice.
    fill_in(widget, {"num_epochs": 7})
    wait_for(qtbot, widget, "14 in all", "GiB free")
    assert not job_processes()
    # What a training took is known better than what a few steps did.
    assert " to " in text(widget).partition("Time")[2]
    fill_in(widget, {"num_epochs": 1, "output": tmp_path / "run"})
    click(qtbot, widget.start_button)
    wait_for(qtbot, widget, "Time</b>  about")
    assert "complete" in widget.status.text()


def test_measurement_ends_with_the_widget(
    window: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_synapse_cl.widgets.train.summary.PROBE_DELAY_MS", 10)
    dock, widget = window.viewer.window.add_plugin_dock_widget("napari-synapse-cl", TRAIN)
    fill_in(widget, SMALL)
    qtbot.waitUntil(lambda: bool(job_processes()), timeout=LONG)
    window.viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not job_processes(), timeout=LONG)


def test_a_training_is_started_while_the_machine_is_measured(
    window: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("napari_synapse_cl.widgets.train.summary.PROBE_DELAY_MS", 10)
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {**SMALL, "output": tmp_path / "run"})
    qtbot.waitUntil(lambda: bool(job_processes()), timeout=LONG)
    click(qtbot, widget.start_button)
    qtbot.waitUntil(lambda: "complete" in widget.status.text(), timeout=LONG)


class TestTimeLeft:
    def pace(self, monkeypatch: pytest.MonkeyPatch) -> tuple[Pace, list[float]]:
        clock = [1000.0]
        monkeypatch.setattr("time.monotonic", lambda: clock[0])
        return Pace(), clock

    def test_it_counts_what_lies_between_steps_but_no_pause(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pace, clock = self.pace(monkeypatch)
        # The first step is slow, every tenth is followed by a validation.
        clock[0] += 60
        pace.take(1)
        for step in range(2, 102):
            clock[0] += 5 if step % 10 == 1 else 1
            if step == 50:
                pace.interrupt()
                clock[0] += 1000
            pace.take(step)
        assert pace.left(1000) == "about 23 min left"

    def test_it_is_not_said_before_it_was_measured_and_then_as_a_range(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pace, clock = self.pace(monkeypatch)
        # All that was done before is told at once.
        clock[0] += 0.1
        pace.take(500)
        for step, words in enumerate(("measuring", "measuring", "measuring", "3 to 8 min")):
            assert pace.left(100).startswith(words), step
            clock[0] += 3
            pace.take(501 + step)

    def test_it_follows_a_change(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pace, clock = self.pace(monkeypatch)
        for step in range(3000):
            clock[0] += 1 if step < 1500 else 3
            pace.take(step)
        assert pace.left(100) == "about 5 min left"

    def test_after_attaching_it_is_measured(
        self, window: Any, qtbot: QtBot, sample_files: Files, tmp_path: Path
    ) -> None:
        widget = open_widget(window.viewer, TRAIN)
        with command_line(sample_files, tmp_path / "run", ENDLESS):
            steps = tmp_path / "run" / "steps.csv"
            qtbot.waitUntil(
                lambda: steps.exists() and len(steps.read_text().splitlines()) > 40, timeout=LONG
            )
            click(qtbot, select_run(qtbot, window.viewer, tmp_path / "run").attach_button)
            qtbot.waitUntil(lambda: "measuring" in widget.status.text(), timeout=LONG)
            qtbot.waitUntil(lambda: " left" in widget.status.text(), timeout=LONG)
            click(qtbot, widget.detach_button)
            qtbot.waitUntil(widget.start_button.isEnabled, timeout=LONG)
