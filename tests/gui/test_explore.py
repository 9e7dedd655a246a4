"""Exploring features in the viewer: what is chosen, seen, ordered and found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pytest
from napari.layers import Image, Points
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.features.tables import write_table
from napari_synapse_cl.widgets.explore.gallery.crops import Crops
from napari_synapse_cl.widgets.look import open_dock

from .conftest import EXPLORE, EXTRACT, PLUGIN, click, messages, open_widget, write_parts

CHANNELS = 8
RECORD = {"checkpoint": "/runs/first/checkpoints/best.pt", "crop_size": [16, 16, 16]}


def vectors_of(classes: Any, seed: int = 0) -> np.ndarray:
    """Vectors that tell the class, with some noise."""
    codes = pd.factorize(pd.Series(classes).astype(str), sort=True)[0]
    middles = np.random.default_rng(1).normal(size=(codes.max() + 1, CHANNELS))
    noise = np.random.default_rng(seed).normal(size=(len(codes), CHANNELS))
    return (middles[codes] + 0.2 * noise).astype(np.float32)


def with_vectors(table: pd.DataFrame, values: np.ndarray, name: str = "L3_mean") -> pd.DataFrame:
    columns = [f"{name}_{i:03}" for i in range(values.shape[1])]
    return pd.concat([table, pd.DataFrame(values, columns=columns, index=table.index)], axis=1)


@pytest.fixture
def synapses(window: Any) -> Any:
    """A viewer whose points have features of two extractions."""
    points = window.points
    values = vectors_of(points.features["class"])
    table = with_vectors(points.features, values)
    points.features = with_vectors(table, values[:, :3], "L7_max")
    points.metadata = {**points.metadata, "napari_synapse_cl": {"L3_mean": RECORD}}
    window.viewer.window._qt_window.show()
    return window


def explored(qtbot: QtBot, window: Any) -> Any:
    """The widget, when it has read the vectors."""
    widget = open_widget(window.viewer, EXPLORE)
    qtbot.waitUntil(lambda: widget.state.n > 0)
    return widget


def click_picture(qtbot: QtBot, widget: Any, place: int, modifier: Any = None) -> int:
    gallery = widget.gallery
    centre = gallery.rectangle(place).center()
    keys = modifier or Qt.KeyboardModifier.NoModifier
    qtbot.mouseClick(gallery.viewport(), Qt.MouseButton.LeftButton, keys, centre)
    return int(gallery.rows[place])


def turn_wheel(widget: Any, place: QPoint, notches: int) -> None:
    viewport = widget.gallery.viewport()
    event = QWheelEvent(
        QPointF(place),
        QPointF(viewport.mapToGlobal(place)),
        QPoint(),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(viewport, event)


def test_a_vector_is_one_thing_and_says_where_it_comes_from(synapses: Any, qtbot: QtBot) -> None:
    widget = explored(qtbot, synapses)
    box = widget.vector_box
    assert [box.itemText(i) for i in range(box.count())] == [
        "L3_mean, 8 numbers",
        "L7_max, 3 numbers",
    ]
    assert "of the run first" in box.itemData(0, Qt.ItemDataRole.ToolTipRole)
    assert widget.state.vectors.values.shape == (len(synapses.points.data), 8)
    assert not [n for n in widget.state.column_names if n.startswith("L3")]
    assert widget.crops.shape == (16, 16, 16)
    box.setCurrentIndex(1)
    box.activated.emit(1)
    qtbot.waitUntil(lambda: widget.state.vectors.names == ("L7_max",))
    assert "L7_max, 3 numbers" in widget.status.text()


def test_the_gallery_shows_the_crops_around_the_points(synapses: Any, qtbot: QtBot) -> None:
    widget = explored(qtbot, synapses)
    gallery = widget.gallery
    row = int(gallery.rows[0])
    qtbot.waitUntil(lambda: gallery.picture(row) is not None)
    z, y, x = np.round(synapses.points.data[row]).astype(int)
    around = synapses.image.data[z, y - 8 : y + 8, x - 8 : x + 8]
    assert np.array_equal(gallery.picture(row), around)
    # Turned over a picture the wheel goes through its depth, elsewhere it scrolls.
    middle = gallery.rectangle(0).center()
    turn_wheel(widget, middle, 2)
    deeper = synapses.image.data[z + 2, y - 8 : y + 8, x - 8 : x + 8]
    qtbot.waitUntil(lambda: np.array_equal(gallery.picture(row), deeper))
    assert gallery.verticalScrollBar().value() == 0
    turn_wheel(widget, QPoint(1, middle.y()), -1)
    assert gallery.verticalScrollBar().value() > 0
    gallery.verticalScrollBar().setValue(0)
    qtbot.mouseMove(gallery.viewport(), middle)
    qtbot.waitUntil(lambda: gallery._planes.row == row)
    qtbot.mouseMove(gallery.viewport(), QPoint(1, 1))
    qtbot.waitUntil(lambda: gallery._planes.row is None)
    # Where the contrast is none of the pictures', these are none of the viewer's.
    synapses.image.contrast_limits = (0, 1)
    assert widget.crops.grey(around).min() == 255 * (around.min() > 0)


def test_a_click_selects_a_synapse_and_takes_the_viewer_there(synapses: Any, qtbot: QtBot) -> None:
    widget, viewer, points = explored(qtbot, synapses), synapses.viewer, synapses.points
    row = click_picture(qtbot, widget, 2)
    assert points.selected_data == {row}
    world = points.data_to_world(points.data[row])
    assert np.allclose(viewer.dims.point, world, atol=0.51 * np.abs(points.scale))
    assert np.allclose(viewer.scene.camera.center[1:], world[1:])
    click_picture(qtbot, widget, 4, Qt.KeyboardModifier.ShiftModifier)
    assert widget.state.selected.tolist() == [2, 3, 4]
    click_picture(qtbot, widget, 3, Qt.KeyboardModifier.ControlModifier)
    assert points.selected_data == {2, 4}
    # What is selected in the viewer comes into sight here.
    last = len(points.data) - 1
    points.selected_data = {last}
    assert widget.state.selected.tolist() == [last]
    assert last in widget.gallery.in_sight
    qtbot.keyClick(widget.gallery, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    assert len(points.selected_data) == len(points.data)
    click_picture(qtbot, widget, widget.gallery.in_sight.start)
    qtbot.keyClick(widget.gallery, Qt.Key.Key_Right)
    assert len(points.selected_data) == 1


def test_similar_ones_are_found_ranked_and_kept_as_a_column(synapses: Any, qtbot: QtBot) -> None:
    widget, classes = explored(qtbot, synapses), synapses.points.features["class"].to_numpy()
    similar, state = widget.similar, widget.state
    assert not similar.find_button.isEnabled()
    widget.gallery.setFixedHeight(150)
    # What is most similar is seen, wherever the gallery was.
    state.select([row := len(classes) - 1])
    qtbot.waitUntil(lambda: widget.gallery.in_sight.start > 0)
    with qtbot.waitSignal(state.order_changed):
        click(qtbot, similar.find_button)
    assert state.order[0] == row
    assert widget.gallery.in_sight.start == 0
    assert state.scores[1:].tolist() == sorted(state.scores[1:], reverse=True)
    n_alike = (classes == classes[row]).sum() - 1
    assert (classes[state.order[1 : n_alike + 1]] == classes[row]).all()
    # Told that one of another class is not meant, its class comes last.
    other = int(np.flatnonzero(classes != classes[row])[0])
    state.select([other])
    with qtbot.waitSignal(state.order_changed):
        click(qtbot, similar.unlike_button)
    assert "unlike" in widget.status.text()
    n_others = (classes == classes[other]).sum() - 1
    assert (classes[state.order[-n_others:]] == classes[other]).all()
    click(qtbot, similar.column_button)
    column = synapses.points.features["similarity"].to_numpy()
    assert np.array_equal(column[state.order], state.scores, equal_nan=True)
    assert "similarity" in synapses.points.metadata["napari_synapse_cl"]


def test_rows_are_ordered_and_coloured_by_any_column(synapses: Any, qtbot: QtBot) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    n = len(points.data)
    state, ordering = widget.state, widget.ordering
    columns = {
        "id": np.array([2**60 + i for i in range(n)][::-1], object),
        "day": pd.date_range("2024-01-01", periods=n)[::-1],
        "flag": np.arange(n) % 2 == 0,
        "text": [None, *(f"t{i:04}" for i in range(n - 1))],
        "size": [np.nan, *np.arange(n - 1.0)],
        "mixed": ["x", *range(n - 1)],
    }
    state.select([4])
    state.set_order(np.array([4, 2]), "some")
    # Another's columns change nothing of what is looked at.
    with qtbot.waitSignal(widget.explored):
        points.features = points.features.assign(**columns)
    assert state.order.tolist() == [4, 2]
    assert state.selected.tolist() == [4]
    last = {"id": 0, "day": 0, "flag": (n - 1) // 2 * 2, "text": 0, "size": 0, "mixed": 0}
    for name, expected in last.items():
        with qtbot.waitSignal(state.order_changed):
            ordering.order_by(name, largest_first=False)
        assert state.order[-1] == expected
    with qtbot.waitSignal(state.order_changed):
        ordering.order_by("size", largest_first=True)
    # What has no value comes last whatever the direction.
    assert state.order.tolist() == [*range(n - 1, 0, -1), 0]
    for name in columns:
        widget.color_box.choose(name)
        widget.color_box.chosen.emit()
        assert state.color_column == name
        widget.gallery.grab()
    widget.color_box.choose("class")
    widget.color_box.chosen.emit()
    hidden = state.legend[0]
    state.toggle(hidden.label)
    assert len(widget.gallery.rows) == n - hidden.count
    assert points.shown.sum() == n - hidden.count


def test_points_come_and_go_while_they_are_explored(
    synapses: Any, qtbot: QtBot, notifications: list[Notification]
) -> None:
    widget, points, viewer = explored(qtbot, synapses), synapses.points, synapses.viewer
    n = len(points.data)
    points.selected_data = {0, 1}
    points.remove_selected()
    assert widget.state.n == n - 2
    widget.gallery.grab()
    points.data = points.data + 3
    assert "moved" in widget.status.text()
    points.add([5, 5, 5])
    assert widget.state.vectors.n_blank == 1
    click(qtbot, widget.similar.find_button)
    assert "no vector" in widget.status.text()
    points.data = points.data[:1]
    widget.gallery.grab()
    points.data = points.data[:0]
    assert widget.state.n == 0
    widget.gallery.grab()
    viewer.layers.remove(points)
    assert widget.state.layer is None
    viewer.layers.remove(synapses.image)
    viewer.add_points(np.zeros((3, 2)))
    assert "no feature vectors" in widget.status.text()
    assert not messages(notifications, "error")


def test_of_one_point_and_of_none_it_is_said_what_cannot_be(
    synapses: Any, qtbot: QtBot, notifications: list[Notification]
) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    points.remove(range(1, len(points.data)))
    qtbot.waitUntil(lambda: widget.state.n == 1)
    tools = widget.tools
    widget.state.select([0])
    widget.labelling.press(1)
    qtbot.waitUntil(tools.odd.find_button.isEnabled)
    assert not widget.labelling.predict_button.isEnabled()
    for button, refused in (
        (tools.odd.find_button, "there are no two with a vector"),
        (tools.clusters.find_button, "1 row with features cannot make these clusters"),
    ):
        click(qtbot, button)
        qtbot.waitUntil(lambda text=refused: text in " ".join(messages(notifications, "error")))
    click(qtbot, widget.similar.find_button)
    qtbot.waitUntil(lambda: widget.state.order_title.startswith("similar"))
    points.remove([0])
    qtbot.waitUntil(lambda: widget.state.n == 0)
    widget.gallery.grab()
    assert not widget.similar.find_button.isEnabled()


def test_without_a_volume_there_are_no_pictures_and_that_is_said(
    synapses: Any, qtbot: QtBot
) -> None:
    widget = explored(qtbot, synapses)
    synapses.viewer.layers.remove(synapses.image)
    assert "no volume" in widget.note.text()
    assert widget.note.isVisible()
    widget.gallery.grab()
    click_picture(qtbot, widget, 0)
    assert widget.state.selected.tolist() == [0]


def test_rows_of_a_table_are_points_whose_vectors_are_no_columns(
    synapses: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "features.parquet"
    table = pd.DataFrame(synapses.points.data, columns=list("zyx"))
    table["segment"] = [720575940625000000 + i for i in range(len(table))]
    values = vectors_of(synapses.points.features["class"])
    values[3] = np.nan
    table = with_vectors(with_vectors(table, values), values[:, :2], "L9_std")
    # A row without a position is no point, and the others keep their vectors.
    table.loc[1, "z"] = np.nan
    write_table(table, path, {**RECORD, "voxel_size": [40, 4, 4]})
    widget = explored(qtbot, synapses)
    with qtbot.waitSignal(widget.explored):
        widget.opener.open(path)
    layer = widget.state.layer
    assert layer.name == "features"
    assert list(layer.features.columns) == ["segment", "row"]
    assert layer.features["segment"].tolist() == np.delete(table["segment"], 1).tolist()
    kept = np.delete(values, 1, axis=0)
    assert np.array_equal(widget.state.vectors.values, kept, equal_nan=True)
    assert "1 of them without a vector" in widget.status.text()
    assert [widget.vector_box.itemText(i) for i in range(2)] == [
        "L3_mean, 8 numbers, of features.parquet",
        "L9_std, 2 numbers, of features.parquet",
    ]
    layer.remove([0])
    widget.vector_box.setCurrentIndex(1)
    with qtbot.waitSignal(widget.explored):
        widget.vector_box.activated.emit(1)
    assert np.array_equal(widget.state.vectors.values, kept[1:, :2], equal_nan=True)
    # A point that was added has the number of another's row, but not its vector.
    layer.add([1, 2, 3])
    widget.vector_box.setCurrentIndex(0)
    with qtbot.waitSignal(widget.explored):
        widget.vector_box.activated.emit(0)
    assert np.array_equal(widget.state.vectors.values[:-1], kept[1:], equal_nan=True)
    assert np.isnan(widget.state.vectors.values[-1]).all()


def test_of_a_table_in_parts_all_are_opened_whichever_is_chosen(
    synapses: Any,
    qtbot: QtBot,
    choose: Callable[[Path], None],
    notifications: list[Notification],
    tmp_path: Path,
) -> None:
    table = pd.DataFrame(synapses.points.data, columns=list("zyx"))
    values = vectors_of(synapses.points.features["class"])
    folder = write_parts(tmp_path / "out", with_vectors(table, values))
    widget = explored(qtbot, synapses)

    def opened() -> Any:
        choose(folder / "part-00001.parquet")
        with qtbot.waitSignal(widget.explored):
            click(qtbot, widget.opener.button)
        return widget.state

    state = opened()
    assert np.array_equal(state.vectors.values, values)
    assert state.layer.name == "features"
    [text] = messages(notifications, "info")
    assert text == f"part-00001.parquet is one of 3 parts of a table: all of {folder} is opened."
    # Files that are opened elsewhere are several at once, of which each is itself.
    [layer] = synapses.viewer.open(folder / "part-00001.parquet", plugin=PLUGIN)
    assert len(layer.data) == len(np.array_split(values, 3)[1])
    assert "alone is opened: Table …" in messages(notifications, "info")[-1]
    (folder / "_common_metadata").unlink()
    (tmp_path / "out" / "shards").mkdir()
    (tmp_path / "out" / "shards" / "plan.json").touch()
    assert opened().n == len(np.array_split(values, 3)[1])
    assert "in shards that is not finished: it alone" in messages(notifications, "info")[-1]


def test_extracted_features_are_explored_with_one_click(synapses: Any, qtbot: QtBot) -> None:
    extract = open_widget(synapses.viewer, EXTRACT)
    bare = synapses.viewer.add_points(np.ones((2, 3)), name="bare")
    assert not extract.explore_button.isEnabled()
    synapses.viewer.layers.selection.active = synapses.points
    click(qtbot, extract.explore_button)
    widget = open_dock(synapses.viewer, EXPLORE)
    assert widget.points_box.layer is synapses.points
    qtbot.waitUntil(lambda: widget.state.layer is synapses.points)
    widget.points_box.choose(bare)
    assert "bare has no feature vectors" in widget.status.text()


def test_two_viewers_explore_apart_and_a_closed_dock_lets_go(
    synapses: Any, qtbot: QtBot, make_napari_viewer: Any
) -> None:
    widget = explored(qtbot, synapses)
    other = open_widget(make_napari_viewer(), EXPLORE)
    assert other.state.layer is None
    widget.state.select([1])
    widget.similar.find()
    synapses.viewer.window.remove_dock_widget(widget)
    assert widget.state.layer is None
    synapses.points.selected_data = {2}
    synapses.viewer.window.add_dock_widget(widget, name=EXPLORE)
    qtbot.waitUntil(lambda: widget.state.n > 0)
    assert widget.state.selected.tolist() == [2]


def test_above_the_gallery_stands_what_neighbours_reflect(synapses: Any, qtbot: QtBot) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    line = widget.honesty
    qtbot.waitUntil(line.isVisible)
    assert "extract the features with descriptors" in line.text()
    # A histogram that says the same as the vectors.
    values = points.features.filter(like="L3_mean_").to_numpy()
    names = [f"hand_hist_{i:02}" for i in range(CHANNELS)]
    points.features = points.features.assign(**dict(zip(names, values.T, strict=True)))
    text = "neighbours reflect brightness before all else: 100% of 15 neighbours"
    qtbot.waitUntil(lambda: text in line.text().lower(), timeout=20_000)
    assert "⚠" in line.text()
    # It is itself among what is measured by hand.
    box = widget.vector_box
    [by_hand] = [i for i in range(box.count()) if box.itemText(i).startswith("hand")]
    box.setCurrentIndex(by_hand)
    box.activated.emit(by_hand)
    qtbot.waitUntil(lambda: "is among these numbers" in line.text(), timeout=20_000)
    assert "⚠" not in line.text()
    synapses.viewer.layers.remove(points)
    qtbot.waitUntil(lambda: not line.isVisible())


class Broken:
    """A volume whose server is gone."""

    shape, dtype, ndim = (30, 40, 40), np.dtype(np.uint8), 3

    def __getitem__(self, index: Any) -> np.ndarray:
        raise OSError("no route to host")


def test_crops_come_from_lazy_and_multiscale_volumes_and_what_fails_is_said(
    qtbot: QtBot,
) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (30, 40, 40), np.uint8)
    points = Points([[15.0, 20.0, 20.0], [1.0, 2.0, 39.0], [-9.0, 0.0, 0.0]])
    lazy = dask.array.from_array(voxels, chunks=16)
    pyramid = [lazy, lazy[::2, ::2, ::2]]
    for data in (voxels, lazy, pyramid):
        crops = Crops()
        crops.follow(Image(data, contrast_limits=(0, 255)), points, (8, 12, 12))
        crops.want([0, 1, 2])
        qtbot.waitUntil(lambda crops=crops: crops.slice_of(2) is not None)
        assert np.array_equal(crops.slice_of(0), voxels[15, 14:26, 14:26])
        # Reflected where the crop reaches beyond the volume; what lies outside of it has none.
        assert np.array_equal(crops.slice_of(1)[:, 5], crops.slice_of(1)[:, 8])
        assert not crops.slice_of(2).size
        assert crops.whole(0) is None
        qtbot.waitUntil(lambda crops=crops: crops.whole(0) is not None)
        assert np.array_equal(crops.whole(0), voxels[11:19, 14:26, 14:26])
    image = Image(voxels, contrast_limits=(0, 255))
    crops.follow(image, points, None)
    assert crops.shape == (64, 64, 64)
    crops._volume = Volume(Broken(), name="the layer far")
    crops.want([0])
    qtbot.waitUntil(lambda: bool(crops.problem))
    assert "no route to host" in crops.problem


def test_napari_may_be_closed_while_everything_is_under_way(synapses: Any, qtbot: QtBot) -> None:
    widget = explored(qtbot, synapses)
    for digit, row in enumerate((0, 1), start=1):
        widget.state.select([row])
        widget.labelling.press(digit)
    widget.similar.find()
    widget.labelling.predict()
    widget.labelling.measure()
    widget.labelling.ask_next()
    widget.ordering.order_by("class", largest_first=True)
    widget.opener.open(Path("nowhere.parquet"))
    widget.gallery.grab()
    # What comes back finds nobody any more, and nothing is raised.
    synapses.viewer.close()
    qtbot.wait(500)
