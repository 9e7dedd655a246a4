"""What a training will be is said before it is started, and follows the form and the layers."""

import threading
from typing import Any

import numpy as np
import pytest
from napari.layers import Points
from pytestqt.qtbot import QtBot

from napari_synapse_cl.data.placing import NO_VOXEL_SIZE
from napari_synapse_cl.training.estimates import plan_of

from .conftest import LONG, SMALL, TRAIN, click, fill_in, job_processes, open_widget


def text(widget: Any) -> str:
    return widget.summary.text().replace("&nbsp;", " ")


def wait_for(qtbot: QtBot, widget: Any, *words: str) -> None:
    qtbot.waitUntil(lambda: all(word in text(widget) for word in words), timeout=LONG)


def test_synapses_crops_and_steps_are_said(window: Any, qtbot: QtBot) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, SMALL)
    wait_for(
        qtbot, widget, "12 used: 10 train, 2 validate", "16 × 16 × 16 voxels", "160 × 160 × 160 nm"
    )
    wait_for(qtbot, widget, "2 per epoch, of 4 pairs each · 4 in all")
    fill_in(widget, {"num_epochs": 5, "crop_size": "16 32 32"})
    wait_for(qtbot, widget, "10 in all", "160 × 320 × 320 nm")


def test_points_that_are_added_outside_are_counted(window: Any, qtbot: QtBot) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, SMALL)
    wait_for(qtbot, widget, "12 used")
    window.points.add([[900, 900, 900]])
    wait_for(qtbot, widget, "12 used", "1 outside the volume is left out")


def test_warnings_are_said_in_words(window: Any, qtbot: QtBot, make_napari_viewer: Any) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {**SMALL, "batch_size": 64})
    wait_for(qtbot, widget, "The batch size of 64 is lowered to the 10 training synapses")
    # Without units the voxel size is not known.
    viewer = make_napari_viewer()
    viewer.add_image(window.image.data)
    viewer.add_points(window.points.data[:, ::-1])
    widget = open_widget(viewer, TRAIN)
    wait_for(qtbot, widget, NO_VOXEL_SIZE.removeprefix("t"))
    assert isinstance(viewer.layers[1], Points)


def test_what_prevents_a_training_is_said(window: Any, qtbot: QtBot) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {"temperature": 0.0})
    wait_for(qtbot, widget, "emperature cannot be 0")
    fill_in(widget, {"temperature": 0.1})
    wait_for(qtbot, widget, "12 used")
    window.points.data = np.array([[900.0, 900, 900]])
    wait_for(qtbot, widget, "outside the volume")
    window.viewer.layers.clear()
    wait_for(qtbot, widget, "no image layer")


def test_window_lives_while_a_plan_is_made(
    window: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, SMALL)
    wait_for(qtbot, widget, "4 in all")
    before = text(widget)
    go_on, plans = threading.Event(), []

    def slow_plan(*arguments: Any) -> Any:
        plans.append(threading.current_thread())
        assert go_on.wait(LONG / 1000)
        return plan_of(*arguments)

    monkeypatch.setattr("napari_synapse_cl.widgets.train.summary.plan_of", slow_plan)
    fill_in(widget, {"num_epochs": 3})
    qtbot.waitUntil(lambda: bool(plans), timeout=LONG)
    # Only the last of what is filled in meanwhile is planned.
    for n_epochs in (4, 5, 6):
        fill_in(widget, {"num_epochs": n_epochs})
        widget._show_plan()
    assert text(widget) == before
    go_on.set()
    wait_for(qtbot, widget, "12 in all")
    assert len(plans) == 2
    assert threading.main_thread() not in plans


def test_machine_is_measured_in_a_process_of_its_own(
    window: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_synapse_cl.widgets.train.summary.PROBE_DELAY_MS", 10)
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, SMALL)
    wait_for(qtbot, widget, "Measuring")
    wait_for(qtbot, widget, "Device", "float32", "GiB free", "Time")
    assert not job_processes()
    # The same settings are not measured twice.
    fill_in(widget, {"num_epochs": 7})
    wait_for(qtbot, widget, "14 in all", "GiB free")
    assert not job_processes()


def test_measurement_ends_with_the_widget(
    window: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_synapse_cl.widgets.train.summary.PROBE_DELAY_MS", 10)
    dock, _ = window.viewer.window.add_plugin_dock_widget("napari-synapse-cl", TRAIN)
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
