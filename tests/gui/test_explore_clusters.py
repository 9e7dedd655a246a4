"""Clusters in the window: found in another process, looked at, named, joined and kept."""

from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from sklearn.metrics import adjusted_rand_score

from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features.clusters import find_clusters
from napari_synapse_cl.features.neighbours import finished
from napari_synapse_cl.widgets.explore.search import elsewhere

from .conftest import LONG, click, job_processes, messages
from .test_explore import explored, synapses, with_vectors

__all__ = ["synapses"]


def find(qtbot: QtBot, widget: Any) -> Any:
    """The panel, when it has found clusters."""
    panel = widget.tools.clusters
    widget.tools.show_page(panel)
    with qtbot.waitSignal(panel.written, timeout=LONG):
        click(qtbot, panel.find_button)
    return panel


def choose(qtbot: QtBot, panel: Any, *lines: int) -> None:
    """Click lines of the table, all but the first with Ctrl."""
    table = panel.table
    keys = Qt.KeyboardModifier.NoModifier
    for line in lines:
        place = table.visualItemRect(table.topLevelItem(line)).center()
        QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, keys, place)
        keys = Qt.KeyboardModifier.ControlModifier


def names(panel: Any) -> list[str]:
    return [panel.table.topLevelItem(i).text(0) for i in range(panel.table.topLevelItemCount())]


def test_clusters_are_found_looked_at_named_and_joined(
    synapses: Any, qtbot: QtBot, notifications: list[Notification]
) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    classes = points.features["class"].to_numpy()
    n = len(np.unique(classes))
    widget.tools.clusters.number_box.setValue(n)
    panel, state = find(qtbot, widget), widget.state
    column = points.features["cluster"]
    assert adjusted_rand_score(classes, column) == 1
    assert names(panel) == [f"cluster {i}" for i in range(1, n + 1)]
    assert "adjusted Rand index" in panel.words.text()
    assert "in the column cluster" in widget.status.text()
    assert state.color_column == "cluster"
    record = points.metadata["napari_synapse_cl"]["cluster"]
    assert (record["clustering"], record["n_clusters"]) == ("kmeans", n)
    # What is typical of a cluster is seen with a click, then what is nearest to another.
    expected = finished(find_clusters(state.space("cosine").points, "kmeans", n))
    choose(qtbot, panel, 0)
    assert state.order.tolist() == expected.typical[1]
    assert state.order_title == "typical of cluster 1"
    click(qtbot, panel.border_button)
    assert state.order.tolist() == expected.borderline[1]
    click(qtbot, panel.all_button)
    assert state.order.tolist() == np.flatnonzero(expected.labels == 1).tolist()
    # A name is given, and another cluster joins this one under it.
    panel.table.topLevelItem(0).setText(0, "tbar")
    assert (points.features["cluster"] == "tbar").tolist() == (expected.labels == 1).tolist()
    choose(qtbot, panel, 0, 1)
    assert not panel.typical_button.isEnabled()
    click(qtbot, panel.join_button)
    assert names(panel) == ["tbar", *(f"cluster {i}" for i in range(3, n + 1))]
    joined = points.features["cluster"] == "tbar"
    assert joined.tolist() == (expected.labels <= 2).tolist()
    choose(qtbot, panel, 0)
    qtbot.waitUntil(panel.typical_button.isEnabled)
    click(qtbot, panel.typical_button)
    assert joined[state.order].all()
    # Rows that go take their cluster with them, and typical ones are found anew.
    points.remove([int(state.order[0])])
    assert panel.groups.counts[1] == joined.sum() - 1
    qtbot.waitUntil(lambda: len(panel.groups.typical) > 0)
    panel.table.topLevelItem(0).setText(0, "left")
    assert (points.features["cluster"] == "left").sum() == joined.sum() - 1
    # What was named by hand is not written over; by places there are others.
    panel.metric_box.setCurrentText("Euclidean")
    find(qtbot, widget)
    assert panel.column == "cluster_v2"
    assert set(points.features["cluster_v2"]) == {f"cluster {i}" for i in range(1, n + 1)}
    assert points.metadata["napari_synapse_cl"]["cluster_v2"]["distance"] == "euclidean"
    expected = finished(find_clusters(state.space("euclidean").points, "kmeans", n))
    choose(qtbot, panel, 0)
    assert state.order.tolist() == expected.typical[1]
    assert not messages(notifications, "error")


def test_what_lies_in_no_cluster_stays_none_and_other_vectors_have_none(
    synapses: Any, qtbot: QtBot
) -> None:
    # Two dense groups, a few scattered between them, and one row without a vector.
    generator = np.random.default_rng(0)
    values = np.repeat(9 * np.eye(2, 8), 15, axis=0) + 0.2 * generator.normal(size=(30, 8))
    values = np.concatenate([values, 9 * generator.normal(size=(10, 8))]).astype(np.float32)
    values[4] = np.nan
    table = with_vectors(
        with_vectors(pd.DataFrame(index=range(40)), values), values[:, :2], "L7_max"
    )
    places = generator.uniform(20, 80, (40, 3))
    points = synapses.viewer.add_points(places, scale=synapses.image.scale, features=table)
    synapses.viewer.layers.remove(synapses.points)
    widget = explored(qtbot, synapses)
    panel = widget.tools.clusters
    panel.method_box.setCurrentText("HDBSCAN")
    panel.method_box.activated.emit(2)
    assert panel.size_box.isVisibleTo(panel)
    assert not panel.number_box.isVisibleTo(panel)
    panel.size_box.setValue(10)
    find(qtbot, widget)
    column = points.features["cluster"]
    assert column.isna().tolist() == [i == 4 for i in range(40)]
    assert "none" in set(column)
    assert names(panel) == ["cluster 1", "cluster 2", "none"]
    # Joined with none a cluster is none.
    choose(qtbot, panel, 0, 2)
    click(qtbot, panel.join_button)
    assert set(points.features["cluster"].dropna()) == {"cluster 2", "none"}
    widget.vector_box.setCurrentIndex(1)
    with qtbot.waitSignal(widget.explored):
        widget.vector_box.activated.emit(1)
    assert panel.groups is None
    assert panel.table.topLevelItemCount() == 0
    assert "cluster" in points.features


@pytest.mark.usefixtures("no_children")
def test_a_search_is_stopped_and_ends_with_the_dock(
    synapses: Any, qtbot: QtBot, notifications: list[Notification]
) -> None:
    widget = explored(qtbot, synapses)
    panel = widget.tools.clusters
    widget.tools.show_page(panel)
    click(qtbot, panel.find_button)
    assert panel.find_button.text() == "Stop"
    qtbot.waitUntil(lambda: bool(job_processes()))
    click(qtbot, panel.find_button)
    assert panel.find_button.text() == "Find clusters"
    qtbot.waitUntil(lambda: not job_processes())
    assert "cluster" not in synapses.points.features
    # Too few rows are refused in words.
    panel.number_box.setValue(90)
    click(qtbot, panel.find_button)
    qtbot.waitUntil(lambda: bool(messages(notifications, "error")))
    assert "at least 180" in messages(notifications, "error")[0]
    panel.number_box.setValue(2)
    panel.find()
    qtbot.waitUntil(lambda: bool(job_processes()))
    synapses.viewer.window.remove_dock_widget(widget)


@pytest.mark.usefixtures("no_children")
def test_what_fails_in_another_process_is_said_and_none_is_left() -> None:
    with pytest.raises(JobError, match="could not be done"):
        finished(elsewhere(find_clusters, np.empty((0, 2), np.float32), "kmeans", 2))
    values = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    steps = elsewhere(find_clusters, values, "mixture", 0)
    next(steps)
    [process] = job_processes()
    psutil.Process(process.pid).kill()
    with pytest.raises(JobError, match="process was ended"):
        finished(steps)
    steps = elsewhere(find_clusters, values, "mixture", 0)
    next(steps)
    steps.close()
    found = finished(elsewhere(find_clusters, values, "kmeans", 3))
    assert pd.Series(found.labels).nunique() == 3
