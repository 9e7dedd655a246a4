"""Similar crops from a click anywhere in the volume."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.layers import Layer
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QApplication

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.features.tables import read_table
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.widgets.open_data.layers import sample_layers

from .conftest import LONG, click, messages
from .test_explore import explored
from .test_preview import click_in_viewer

pytestmark = pytest.mark.usefixtures("no_children")
NAME = "L20_mean"


@pytest.fixture(scope="module")
def extracted(
    trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Features of the sample's synapses, and where they come from."""
    folder = trained.parents[2]
    named = {"image": folder / "volume.npy", "synapses": folder / "synapses.csv"}
    how = {"extract_only": True, "checkpoint": trained, "layer_num": 20, "device": "cpu"}
    output = tmp_path_factory.mktemp("extracted")
    list(run(Config.from_values({**named, **how, "figures": False, "output": output})))
    return read_table(output / f"features_{NAME}.csv")


@pytest.fixture
def clickable(
    make_napari_viewer: Any, sample: Sample, extracted: tuple[pd.DataFrame, dict[str, Any]]
) -> Any:
    """A viewer that is shown, whose points have these features."""
    viewer = make_napari_viewer(show=True)
    image, points = (
        viewer.add_layer(Layer.create(*layer))
        for layer in sample_layers(sample.image, sample.synapses, sample.voxel_size)
    )
    table, record = extracted
    points.features = table.drop(columns=["z", "y", "x"])
    points.metadata = {**points.metadata, "napari_synapse_cl": {NAME: record}}
    return SimpleNamespace(viewer=viewer, image=image, points=points)


def change_record(window: Any, qtbot: QtBot, widget: Any, **changed: Any) -> None:
    points = window.points
    record = {**points.metadata["napari_synapse_cl"][NAME], **changed}
    points.metadata = {**points.metadata, "napari_synapse_cl": {NAME: record}}
    points.features = points.features.assign(again=1)
    before = widget.state.vectors
    widget.state.leave()
    widget._read()
    qtbot.waitUntil(lambda: widget.state.n > 0 and widget.state.vectors is not before)


def click_voxel(qtbot: QtBot, window: Any, voxel: Any) -> None:
    world = np.array(window.image.data_to_world(voxel))
    window.viewer.dims.set_point(0, world[0])
    QApplication.processEvents()
    click_in_viewer(qtbot, window.viewer, world)


def test_what_is_like_a_clicked_place_is_ranked(
    clickable: Any, qtbot: QtBot, notifications: list[Notification]
) -> None:
    widget = explored(qtbot, clickable)
    places = widget.similar.places
    row = int(np.argmin(np.abs(clickable.points.data - np.array([48, 48, 48])).max(axis=1)))
    voxel = np.round(clickable.points.data[row]).astype(int)
    click(qtbot, places.button)
    assert places.button.isChecked()
    assert "Click a place" in widget.status.text()
    click_voxel(qtbot, clickable, voxel)
    # The camera decides which voxel lies under the pixel.
    assert widget.similar.place is None
    assert places.button.isChecked()
    qtbot.waitUntil(lambda: widget.similar.place is not None, timeout=LONG)
    assert not messages(notifications, "error")
    qtbot.waitUntil(lambda: widget.state.scores is not None)
    place = widget.similar.place
    assert np.abs(place.voxel - voxel).max() <= 1
    assert not places.button.isChecked()
    assert f"similar to {place}" in widget.status.text()
    assert len(widget.state.order) == widget.state.n
    # A crop that is hardly moved is most like the one it was moved from.
    assert widget.state.order[0] == row
    # Another click does not look again.
    click_voxel(qtbot, clickable, voxel + 5)
    assert widget.similar.place is place
    assert not places.button.isChecked()
    other = int(widget.state.order[1])
    widget.state.select([other])
    click(qtbot, widget.similar.unlike_button)
    qtbot.waitUntil(lambda: f"similar to {place}, unlike {other}" in widget.state.order_title)
    assert other not in widget.state.order
    widget.similar.add_column()
    records = clickable.points.metadata["napari_synapse_cl"]
    assert records["similarity"]["place"] == list(place.voxel)


def test_the_vector_of_a_place_is_that_of_a_point_there(clickable: Any, qtbot: QtBot) -> None:
    widget = explored(qtbot, clickable)
    position = clickable.points.data[3]
    widget.similar.places.read_at(position)
    qtbot.waitUntil(lambda: widget.similar.place is not None, timeout=LONG)
    found = widget.similar.place.values[0]
    np.testing.assert_allclose(found, widget.state.vectors.values[3], rtol=1e-4, atol=1e-6)
    qtbot.waitUntil(lambda: widget.state.scores is not None)
    assert widget.state.order[0] == 3
    assert widget.state.scores[0] == pytest.approx(1, abs=1e-4)


def test_what_cannot_be_read_is_said_in_a_line(
    clickable: Any, qtbot: QtBot, notifications: list[Notification]
) -> None:
    widget = explored(qtbot, clickable)
    places = widget.similar.places
    click(qtbot, places.button)
    # Pressed again it waits no longer.
    click(qtbot, places.button)
    assert not places.button.isChecked()
    click_voxel(qtbot, clickable, (48, 48, 48))
    assert not places._search.is_running
    click(qtbot, places.button)
    click_voxel(qtbot, clickable, (48, -9, 48))
    assert "lies outside the layer" in messages(notifications, "error")[-1]
    clickable.viewer.dims.ndisplay = 3
    QApplication.processEvents()
    click(qtbot, places.button)
    click_in_viewer(qtbot, clickable.viewer, clickable.image.data_to_world((48, 48, 48)))
    assert "slices (2D)" in widget.status.text()
    clickable.viewer.dims.ndisplay = 2
    settings = clickable.points.metadata["napari_synapse_cl"][NAME]["settings"]
    change_record(clickable, qtbot, widget, settings={**settings, "keep": "presynapse"})
    click(qtbot, places.button)
    assert "masked or moved by label volumes" in messages(notifications, "error")[-1]
    change_record(clickable, qtbot, widget, settings=settings, checkpoint=None)
    click(qtbot, places.button)
    assert "by which network L20_mean was read is not known" in widget.status.text().replace(
        "By which", "by which"
    )
    assert not places.button.isChecked()


def test_a_network_that_has_become_another_is_refused(
    clickable: Any, qtbot: QtBot, notifications: list[Notification]
) -> None:
    widget = explored(qtbot, clickable)
    change_record(clickable, qtbot, widget, sha256="0" * 64)
    widget.similar.places.read_at((48, 48, 48))
    qtbot.waitUntil(lambda: bool(messages(notifications, "error")), timeout=LONG)
    assert "is another network than" in messages(notifications, "error")[-1]
    # Pressed while it reads, the button ends that.
    widget.similar.places.read_at((48, 48, 48))
    click(qtbot, widget.similar.places.button)
    assert not widget.similar.places.button.isChecked()
    assert widget.similar.place is None
