"""Odd ones: found, struck out, had back, and left out of the next training."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_synapse_cl.features.neighbours import (
    Space,
    disagreement,
    find_neighbours,
    finished,
    oddness,
)
from napari_synapse_cl.features.vectors import Scaling
from napari_synapse_cl.widgets import session
from napari_synapse_cl.widgets.layers.files import read_points, write_points
from napari_synapse_cl.widgets.look import open_dock

from .conftest import EXPLORE, LONG, TRAIN, click, messages, open_widget
from .test_explore import click_picture, explored, synapses

__all__ = ["synapses"]


def choose(widget: Any, column: str | None) -> None:
    widget.tools.odd.by_box.choose(column)


def test_odd_ones_come_first_by_distance_and_by_disagreement(
    synapses: Any, qtbot: QtBot, notifications: list[Notification]
) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    odd, state = widget.tools.odd, widget.state
    widget.tools.show_page(odd)
    click(qtbot, odd.find_button)
    qtbot.waitUntil(lambda: state.order_title == "far from neighbours")
    values = state.vectors.values
    space = Space(Scaling.of(values, [8]).apply(values), "cosine")
    neighbours = finished(find_neighbours(space, 15))
    distances, _ = oddness(neighbours)
    assert state.order.tolist() == np.argsort(-distances, kind="stable").tolist()
    assert np.allclose(state.scores, np.sort(distances)[::-1])
    click(qtbot, odd.column_button)
    assert np.allclose(points.features["outlier_distance"], distances)
    assert points.metadata["napari_synapse_cl"]["outlier_distance"]["neighbours"] == 15
    # What is odd depends on how far apart vectors are, and the column says by what.
    odd.metric_box.setCurrentText("Euclidean")
    with qtbot.waitSignal(state.ordered):
        click(qtbot, odd.find_button)
    by_place, _ = oddness(
        finished(find_neighbours(Space(Scaling.of(values, [8]).apply(values), "euclidean"), 15))
    )
    assert state.order.tolist() == np.argsort(-by_place, kind="stable").tolist()
    click(qtbot, odd.column_button)
    record = points.metadata["napari_synapse_cl"]["outlier_distance_v2"]
    assert record["distance"] == "euclidean"
    odd.metric_box.setCurrentText("Cosine")
    # A class that was written down wrongly is unlike its neighbours.
    classes = points.features["class"].to_numpy(object).copy()
    names = sorted(set(classes))
    classes[3] = next(name for name in names if name != classes[3])
    classes[7] = None
    points.features = points.features.assign(doubtful=classes)
    # The columns are read anew, which says what there is.
    qtbot.waitUntil(lambda: "12 points with" in widget.status.text(), timeout=LONG)
    choose(widget, "doubtful")
    click(qtbot, odd.find_button)
    qtbot.waitUntil(lambda: state.order_title == "unlike in doubtful")
    expected = disagreement(neighbours, np.where(pd.isna(classes), "", classes).astype(str))
    assert state.scores.tolist() == sorted(expected[np.isfinite(expected)], reverse=True)
    assert 7 not in state.order
    assert f"{(expected > 0.5).sum()} have more neighbours of another" in widget.status.text()
    click(qtbot, odd.column_button)
    assert np.array_equal(points.features["label_disagreement"], expected, equal_nan=True)
    # What names each row is no class.
    points.features = points.features.assign(name=[f"n{i}" for i in range(len(classes))])
    choose(widget, "name")
    click(qtbot, odd.find_button)
    qtbot.waitUntil(lambda: bool(messages(notifications, "error")))
    assert "tell rows apart" in messages(notifications, "error")[0]


def test_what_is_struck_out_is_crossed_out_counted_and_had_back(
    synapses: Any, qtbot: QtBot, notifications: list[Notification]
) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    odd, gallery = widget.tools.odd, widget.gallery
    click_picture(qtbot, widget, 0)
    before = gallery.grab().toImage()
    qtbot.keyClick(gallery, Qt.Key.Key_X)
    assert widget.tools.page is odd
    assert points.features["struck_out"].tolist() == [True] + [False] * (len(points.data) - 1)
    assert points.features["struck_out"].dtype == bool
    # The next is selected, so that a row of keys strikes out a row of crops.
    assert widget.state.selected.tolist() == [1]
    click_picture(qtbot, widget, 0)
    middle = gallery.rectangle(0).center()
    widget.color_box.choose(None)
    widget._color()
    assert gallery.grab().toImage().pixel(middle) != before.pixel(middle)
    assert odd.strike_button.text() == "Have back"
    click_picture(qtbot, widget, 2, Qt.KeyboardModifier.ShiftModifier)
    click(qtbot, odd.strike_button)
    assert odd.struck.n == 3
    assert "3 struck out" in odd.count.text()
    # What was struck out is undone where that tool is in front, and labels elsewhere.
    qtbot.keyClick(gallery, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert points.features["struck_out"].sum() == 1
    click(qtbot, odd.redo_button)
    click(qtbot, odd.strike_button)
    assert odd.struck.n == 0
    click(qtbot, odd.undo_button)
    assert odd.struck.n == 3
    # Points that are deleted take it with them, and those that are added are not struck out.
    points.remove([0])
    assert odd.struck.values.tolist()[:3] == [True, True, False]
    points.features["struck_out"] = [False] * (len(points.data) - 1) + [True]
    points.features = points.features.copy()
    points.add(points.data[-1])
    assert odd.struck.values[-2:].tolist() == [True, False]
    # A column of someone else's is left as it is.
    points.features = points.features.assign(struck_out="by pen")
    widget.state.select([0])
    click(qtbot, odd.strike_button)
    assert "something else" in messages(notifications, "error")[0]
    assert (points.features["struck_out"] == "by pen").all()


def test_what_is_struck_out_is_found_again_after_a_crash(synapses: Any, qtbot: QtBot) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    for row in (0, 5, 3):
        widget.state.select([row])
        widget.tools.odd.strike()
    widget.tools.odd.undo_button.click()
    folder = session.FILE.with_name("labels")
    qtbot.waitUntil(
        lambda: [f.read_text().count("true") for f in folder.glob("Synapses*.json")] == [2]
    )
    # The layer has no such column, and a point is missing.
    synapses.viewer.window.remove_dock_widget(widget)
    points.features = points.features.drop(columns=["struck_out"])
    points.remove([0])
    widget = open_dock(synapses.viewer, EXPLORE)
    odd = widget.tools.odd
    qtbot.waitUntil(lambda: odd.struck.n == 1)
    assert np.flatnonzero(points.features["struck_out"]).tolist() == [4]
    click(qtbot, odd.undo_button)
    assert odd.struck.n == 0


def test_a_training_leaves_out_what_is_struck_out_and_says_so(
    synapses: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    train = open_widget(synapses.viewer, TRAIN)
    train.form.editor("crop_size").value = "16"
    qtbot.waitUntil(lambda: "train" in train.summary.text())
    assert "struck out" not in train.summary.text()
    widget.state.select([0, 4, 5])
    widget.tools.odd.strike()
    qtbot.waitUntil(lambda: "3 not used (struck out)" in train.summary.text())
    # A table that was saved knows it still.
    path, _ = write_points(str(tmp_path / "kept.csv"), *points.as_layer_data_tuple()[:2])
    [(_, keywords, _)] = read_points(path)
    assert keywords["features"]["struck_out"].tolist()[:6] == [True, *[False] * 3, True, True]
