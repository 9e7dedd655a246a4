"""The held-out synapses in the widget of trainings: a map that each epoch draws anew."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QLabel

from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.held_out import HeldOut
from napari_synapse_cl.widgets.train.forming import FormingPlot, picture_of

from .conftest import (
    ENDLESS,
    LONG,
    SMALL,
    TRAIN,
    click,
    command_line,
    open_widget,
    select_run,
    train,
    wait_for_end,
)

pytestmark = pytest.mark.usefixtures("no_children")


def unfolded(qtbot: QtBot, widget: Any) -> FormingPlot:
    click(qtbot, widget.view.monitor.fold)
    forming: FormingPlot = widget.view.monitor.forming
    return forming


def epoch_in(plot: FormingPlot) -> int:
    return 0 if plot.picture is None else plot.picture.held_out.epoch


def told(plot: FormingPlot) -> str:
    return str(plot.findChild(QLabel).text())


def held_out(epoch: int, features: np.ndarray, labels: list[str] | None = None) -> HeldOut:
    n = len(features)
    names = np.array(labels or [""] * n)
    return HeldOut(epoch, 4 * epoch, np.arange(n), features.astype(np.float32), names)


def test_it_is_drawn_anew_each_epoch_with_the_colours_of_the_labels(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    widget.form.editor("label_column").value = "class"
    train(qtbot, widget, tmp_path / "run", {**ENDLESS, "validation_fraction": 0.4})
    forming = unfolded(qtbot, widget)
    qtbot.waitUntil(lambda: epoch_in(forming) > 0, timeout=LONG)
    first = forming.picture
    qtbot.waitUntil(lambda: epoch_in(forming) > first.held_out.epoch, timeout=LONG)
    x, _ = forming._dots.getData()
    assert len(x) == widget.view.started.n_validation == 5
    # Nothing is read for a plot that nobody sees.
    click(qtbot, widget.view.monitor.fold)
    seen = epoch_in(forming)
    qtbot.waitUntil(lambda: widget.view.last.epoch > seen + 1, timeout=LONG)
    click(qtbot, widget.stop_button)
    wait_for_end(qtbot, widget)
    assert epoch_in(forming) <= seen + 1
    click(qtbot, widget.view.monitor.fold)
    last = HeldOut.read(RunFolder(tmp_path / "run").held_out_file)
    qtbot.waitUntil(lambda: epoch_in(forming) == last.epoch, timeout=LONG)
    assert f"after epoch {last.epoch} " in told(forming)
    assert len(set(last.labels)) > 1
    for label in last.labels:
        assert f"●</span>&nbsp;{label}" in told(forming)
    colors = [brush.color().name() for brush in forming._dots.data["brush"]]
    assert len(set(zip(last.labels, colors, strict=True))) == len(set(last.labels))


def test_a_training_that_another_process_runs_is_drawn_too(
    window: Any, qtbot: QtBot, tmp_path: Path, sample_files: tuple[Path, Path]
) -> None:
    run = RunFolder(tmp_path / "run")
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    with command_line(sample_files, run.path, ENDLESS):
        qtbot.waitUntil(run.held_out_file.exists, timeout=LONG)
        click(qtbot, select_run(qtbot, window.viewer, run.path).attach_button)
        forming = unfolded(qtbot, widget)
        qtbot.waitUntil(lambda: epoch_in(forming) > 0, timeout=LONG)
        first = epoch_in(forming)
        qtbot.waitUntil(lambda: epoch_in(forming) > first, timeout=LONG)
        click(qtbot, widget.stop_button)
        wait_for_end(qtbot, widget)


def test_where_none_is_held_out_there_is_no_such_plot(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", {**SMALL, "validation_fraction": 0})
    forming = unfolded(qtbot, widget)
    assert not forming.isVisible()
    wait_for_end(qtbot, widget)


def test_it_does_not_jump_from_epoch_to_epoch(tmp_path: Path) -> None:
    file = tmp_path / "held_out.npz"
    features = np.random.default_rng(0).normal(size=(50, 6)) @ np.diag([5, 4, 1, 1, 1, 1])
    mixed = features @ np.random.default_rng(1).normal(size=(6, 6))
    held_out(1, mixed).write(file)
    first = picture_of(file, None)
    # Of as many channels whose signs are others, the components have other signs.
    held_out(2, -mixed).write(file)
    assert np.abs(picture_of(file, None).positions - first.positions).max() > 1
    second = picture_of(file, first)
    np.testing.assert_allclose(second.positions, first.positions, atol=1e-4)
    assert picture_of(file, second) is None


def test_what_cannot_be_shown_is_said(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    plot, file = FormingPlot(window.viewer), tmp_path / "held_out.npz"
    qtbot.addWidget(plot)
    plot.begin(file)
    plot.show()
    assert "after the first epoch" in told(plot)
    file.write_bytes(b"no features")
    plot.redraw_soon()
    qtbot.waitUntil(lambda: "held_out.npz cannot be read" in told(plot))
    held_out(1, np.full((3, 2), np.nan)).write(file)
    plot.redraw_soon()
    qtbot.waitUntil(lambda: "not finite" in told(plot))
    names = [f"<kind {i}>" for i in range(20)]
    held_out(2, np.eye(20), names).write(file)
    plot.redraw_soon()
    qtbot.waitUntil(lambda: epoch_in(plot) == 2)
    assert "&lt;kind 0&gt;" in told(plot)
    assert "and 8 more" in told(plot)
    # Synapses that are all alike lie at one place.
    held_out(3, np.ones((20, 4))).write(file)
    plot.redraw_soon()
    qtbot.waitUntil(lambda: epoch_in(plot) == 3)
    assert not plot.picture.positions.any()
