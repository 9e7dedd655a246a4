"""Neuron by neuron: groups of synapses are points with vectors, explored as all others are."""

from typing import Any

import numpy as np
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot

from .conftest import messages
from .test_explore import click_picture, explored, synapses

__all__ = ["synapses"]


def pool_by(widget: Any, column: str) -> None:
    widget.pooler.box.choose(column)
    widget.pooler.box.chosen.emit()


def test_synapses_are_explored_neuron_by_neuron(
    synapses: Any, qtbot: QtBot, notifications: list[Notification]
) -> None:
    points, n = synapses.points, len(synapses.points.data)
    neurons = np.array([720575940625000000 + i % 5 for i in range(n)], object)
    points.features = points.features.assign(neuron=neurons)
    widget = explored(qtbot, synapses)
    with qtbot.waitSignal(widget.explored):
        pool_by(widget, "neuron")
    layer, state = widget.state.layer, widget.state
    assert layer.name == "Synapses by neuron"
    assert state.n == 5
    assert layer.features["neuron"].tolist() == neurons[:5].tolist()
    own = points.features.filter(like="L3_mean_").to_numpy()
    assert np.allclose(state.vectors.values[2], own[2::5].mean(axis=0), atol=1e-6)
    # A neuron lies at one of its synapses, and shows the crop of that.
    row = np.flatnonzero((points.data == layer.data[2]).all(axis=1))[0]
    assert neurons[row] == neurons[2]
    assert np.array_equal(layer.scale, points.scale)
    assert widget.crops.shape == (16, 16, 16)
    qtbot.waitUntil(lambda: widget.gallery.picture(2) is not None)
    # What is selected of neurons is selected of their synapses.
    click_picture(qtbot, widget, 2)
    assert points.selected_data == set(range(2, n, 5))
    assert f"1 group of {len(range(2, n, 5))} rows of Synapses" in widget.status.text()
    with qtbot.waitSignal(state.order_changed):
        widget.similar.find()
    assert state.order[0] == 2
    assert len(state.order) == 5
    # Back to synapses; a column of one value makes no groups.
    widget.points_box.choose(points)
    qtbot.waitUntil(lambda: widget.state.layer is points)
    points.features = points.features.assign(all="a")
    pool_by(widget, "all")
    qtbot.waitUntil(lambda: bool(messages(notifications, "error")))
    assert "at least two groups" in messages(notifications, "error")[0]
