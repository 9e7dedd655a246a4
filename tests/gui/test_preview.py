"""The preview shows what a training sees."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QComboBox, QPushButton

from conftest import positions_inside
from napari_synapse_cl.augmentations import composition
from napari_synapse_cl.augmentations.resampling import centre_crop
from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.sources import StreamedCrops
from napari_synapse_cl.data.grey_spread import measure_spreads
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.widgets.look import dock_of, open_dock
from napari_synapse_cl.widgets.preview.pictures import AXES, COLUMNS

from .conftest import LONG, PREVIEW, TRAIN, click, fill_in, open_widget

LEFT = Qt.MouseButton.LeftButton


def views_of_training(
    sample: Sample, config: Config, epoch: int, row: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The crop and both views, by the functions that the trainer calls."""
    part = Part(Volume(sample.image), sample.voxel_size)
    positions = positions_inside(sample.synapses, part.volume.shape)
    shape = context_shape(config.crop_size, config, sample.voxel_size)
    crops = StreamedCrops([part], positions, config, shape, sample.voxel_size)
    crop = torch.from_numpy(crops.read([row]))
    pair = composition.draw_pair(config, config.seed, epoch, [row])
    views = [composition.apply(crop, p, config.crop_size, sample.voxel_size) for p in pair]
    centre = centre_crop(crop, config.crop_size)
    return centre[0, 0].numpy(), [view[0, 0].numpy() for view in views]


def shown(widget: Any) -> dict[tuple[str, str], np.ndarray]:
    return {(name, axis): widget.pictures.picture(name, axis) for name in COLUMNS for axis in AXES}


def wait_for_pictures(qtbot: QtBot, widget: Any) -> None:
    qtbot.waitUntil(lambda: widget.up_to_date, timeout=LONG)


def canvas_point(viewer: Any, world: Any) -> QPoint:
    """Where a position in the world is on the canvas."""
    view = viewer.window._qt_viewer.canvas.view
    displayed = [world[axis] for axis in viewer.dims.displayed]
    x, y = (view.transform * view.scene.transform).map(displayed[::-1])[:2]
    return QPoint(round(x), round(y))


def click_in_viewer(qtbot: QtBot, viewer: Any, world: Any, drag: QPoint | None = None) -> None:
    """Press and release the mouse on the canvas, elsewhere if it is dragged."""
    canvas = viewer.window._qt_viewer.canvas.native
    start = canvas_point(viewer, world)
    qtbot.mousePress(canvas, LEFT, pos=start)
    if drag is not None:
        qtbot.mouseMove(canvas, start + drag)
    qtbot.mouseRelease(canvas, LEFT, pos=start + (drag or QPoint()))
    # napari takes notice of where the camera is as it draws, which it does between two clicks.
    QApplication.processEvents()


@pytest.fixture
def preview(window: Any, qtbot: QtBot) -> Any:
    widget = open_widget(window.viewer, PREVIEW)
    fill_in(widget, {"crop_size": "16"})
    wait_for_pictures(qtbot, widget)
    return widget


@pytest.fixture
def clickable(make_napari_viewer: Callable[..., Any]) -> Callable[..., Any]:
    """Opens a window that is shown, so that its canvas can be clicked."""

    def open_viewer(sample: Sample, **keywords: Any) -> Any:
        viewer = make_napari_viewer(show=True)
        viewer.add_image(sample.image, **keywords)
        return viewer

    return open_viewer


def test_pictures_are_what_training_sees(preview: Any, qtbot: QtBot, sample: Sample) -> None:
    fill_in(preview, {"seed": 7, "rotation_range": 30.0})
    preview.picker.number_box.setValue(5)
    preview.epoch_box.setValue(3)
    wait_for_pictures(qtbot, preview)
    config = Config.from_values({"crop_size": 16, "seed": 7, "rotation_range": 30})
    crop, views = views_of_training(sample, config, epoch=3, row=5)
    for name, volume in zip(COLUMNS, (crop, *views), strict=True):
        for i, axis in enumerate(AXES):
            np.testing.assert_array_equal(
                preview.pictures.picture(name, axis), np.take(volume, 8, axis=i)
            )
    z, y, x = sample.synapses[list(AXES)].iloc[5]
    assert preview.origin.text() == f"Seed 7 · epoch 3 · synapse 5 at {z}, {y}, {x}"
    pair = composition.draw_pair(config, 7, 3, [5])
    for view, (drawn,) in enumerate(pair, start=1):
        assert f"View {view}:</b> {composition.describe(drawn)}" in preview.status.text()


def test_ranges_that_count_in_the_spread_of_grey_values_are_those_of_a_training(
    preview: Any, qtbot: QtBot, sample: Sample
) -> None:
    fill_in(preview, {"seed": 7, "grey_unit": "spread", "brightness_range": 1.0})
    wait_for_pictures(qtbot, preview)
    part = Part(Volume(sample.image), sample.voxel_size)
    positions = positions_inside(sample.synapses, part.volume.shape)
    config = Config.from_values(
        {"crop_size": 16, "seed": 7, "grey_unit": "spread", "brightness_range": 1}
    )
    crops = StreamedCrops([part], positions, config, (16, 16, 16), sample.voxel_size)
    spreads = measure_spreads(crops, config.crop_size, 1)
    ((first,), _) = composition.draw_pair(config, 7, 1, [0], spreads)
    assert f"View 1:</b> {composition.describe(first)}" in preview.status.text()
    assert preview.origin.text().endswith(f" · spread of grey values {spreads[0]:.3f}")


def test_pictures_are_painted_in_the_grey_of_their_voxels(preview: Any, qtbot: QtBot) -> None:
    preview.grab()
    # Large enough for a voxel to be several pixels wide, in however narrow a dock.
    preview.pictures.resize(600, 900)
    preview.pictures.move_centre((0, 0, 0))
    painted = preview.pictures.grab().toImage()
    for key, picture in shown(preview).items():
        rect = preview.pictures.rectangle(*key)
        for row, column in ((5, 9), (12, 3), (15, 15)):
            x = rect.left() + int((column + 0.5) * rect.width() / 16)
            y = rect.top() + int((row + 0.5) * rect.height() / 16)
            assert painted.pixelColor(x, y).red() == round(float(picture[row, column]) * 255)


def test_thick_sections_are_painted_in_their_proportions(
    make_napari_viewer: Any, qtbot: QtBot, sample: Sample
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(sample.image, scale=(40, 10, 10), units=("nm",) * 3)
    viewer.add_points([[30, 60, 60]], scale=(40, 10, 10), units=("nm",) * 3)
    widget = open_widget(viewer, PREVIEW)
    fill_in(widget, {"crop_size": "16 32 32", "rotation_range": 0})
    wait_for_pictures(qtbot, widget)
    widget.pictures.resize(600, 900)
    across_z, across_y = (widget.pictures.rectangle("View 1", axis) for axis in "zy")
    assert across_z.width() == across_z.height() == across_y.width()
    assert across_y.height() == pytest.approx(2 * across_y.width(), abs=2)


def test_same_seed_same_picture_and_another_seed_another(preview: Any, qtbot: QtBot) -> None:
    before = shown(preview)
    fill_in(preview, {"seed": 1})
    wait_for_pictures(qtbot, preview)
    other = shown(preview)
    np.testing.assert_array_equal(other["Original", "z"], before["Original", "z"])
    assert not np.array_equal(other["View 1", "z"], before["View 1", "z"])
    fill_in(preview, {"seed": 0})
    wait_for_pictures(qtbot, preview)
    for key, picture in shown(preview).items():
        np.testing.assert_array_equal(picture, before[key])


def test_new_pair_is_that_of_the_next_epoch(preview: Any, qtbot: QtBot, sample: Sample) -> None:
    click(qtbot, preview.new_pair_button)
    wait_for_pictures(qtbot, preview)
    assert preview.epoch_box.value() == 2
    _, views = views_of_training(sample, Config.from_values({"crop_size": 16}), epoch=2, row=0)
    np.testing.assert_array_equal(shown(preview)["View 1", "y"], views[0][:, 8])


def test_a_dragged_slider_queues_no_work_and_its_end_is_drawn(
    preview: Any, qtbot: QtBot, sample: Sample
) -> None:
    drawn: list[float] = []
    preview.pair_shown.connect(lambda: drawn.append(preview.pair.request.config.noise_level))
    slider = preview.form.editor("noise_level").slider
    for step in range(101):
        slider.setValue(step * 0.002)
    wait_for_pictures(qtbot, preview)
    assert drawn[-1] == 0.2
    assert len(drawn) <= 3
    config = Config.from_values({"crop_size": 16, "noise_level": 0.2})
    _, views = views_of_training(sample, config, epoch=1, row=0)
    np.testing.assert_array_equal(shown(preview)["View 2", "z"], views[1][8])


def test_sliders_have_units_and_boxes_take_what_the_setting_allows(
    preview: Any, qtbot: QtBot
) -> None:
    rotation, blur = (
        preview.form.editor(name) for name in ("rotation_range", "gaussian_blur_sigma")
    )
    assert rotation.box.text() == "15.0 °"
    assert blur.box.text() == "1.00 voxels"
    rotation.box.lineEdit().selectAll()
    qtbot.keyClicks(rotation.box, "120")
    qtbot.keyClick(rotation.box, Qt.Key.Key_Return)
    assert preview.form.config().rotation_range == 120
    assert (
        rotation.slider.value() == rotation.slider.maximum() < 120 < rotation.box.maximum() == 180
    )
    rotation.slider.setValue(33.04)
    assert rotation.value == 33.0
    blur.value = 0.0625
    assert preview.form.config().gaussian_blur_sigma == 0.0625


def test_the_wheel_scrolls_the_form_past_sliders(preview: Any, qtbot: QtBot) -> None:
    editor = preview.form.editor("flip_prob")
    for part in (editor.slider, editor.box):
        turn_wheel(part, QPoint(5, 5), 1)
    assert editor.value == 0.5


def turn_wheel(widget: Any, point: QPoint, notches: int) -> None:
    where = QPointF(point)
    event = QWheelEvent(
        where,
        QPointF(widget.mapToGlobal(point)),
        QPoint(),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


def test_crosshair_is_moved_by_clicks_drags_and_the_wheel_in_any_picture(
    preview: Any, qtbot: QtBot
) -> None:
    pictures = preview.pictures
    # Lays it out.
    preview.grab()
    assert pictures.centre == (8, 8, 8)

    def voxel(name: str, axis: str, row: int, column: int) -> QPoint:
        rect = pictures.rectangle(name, axis)
        right, down = rect.width() / 16, rect.height() / 16
        return rect.topLeft() + QPoint(int((column + 0.5) * right), int((row + 0.5) * down))

    qtbot.mouseClick(pictures, LEFT, pos=voxel("View 1", "z", 3, 12))
    assert pictures.centre == (8, 3, 12)
    qtbot.mousePress(pictures, LEFT, pos=voxel("View 2", "x", 5, 5))
    qtbot.mouseMove(pictures, voxel("View 2", "x", 14, 6))
    assert pictures.centre == (14, 6, 12)
    # Within the picture the drag began in, however far it goes.
    qtbot.mouseMove(pictures, QPoint(2000, 2000))
    qtbot.mouseRelease(pictures, LEFT)
    assert pictures.centre == (15, 15, 12)
    turn_wheel(pictures, voxel("Original", "y", 4, 4), -3)
    assert pictures.centre == (15, 12, 12)
    for name, volume in zip(COLUMNS, (preview.pair.crop, *preview.pair.views), strict=True):
        for i, axis in enumerate(AXES):
            np.testing.assert_array_equal(
                shown(preview)[name, axis], np.take(volume, pictures.centre[i], axis=i)
            )
    click(qtbot, preview.new_pair_button)
    wait_for_pictures(qtbot, preview)
    assert pictures.centre == (15, 12, 12)
    click(qtbot, preview.centre_button)
    assert pictures.centre == (8, 8, 8)


def test_pictures_follow_the_theme(preview: Any, window: Any) -> None:
    def background() -> int:
        return preview.pictures.grab().toImage().pixelColor(1, 1).lightness()

    window.viewer.theme = "dark"
    dark = background()
    window.viewer.theme = "light"
    assert background() > dark + 100


def test_keys_go_from_synapse_to_synapse(preview: Any, window: Any, qtbot: QtBot) -> None:
    main = window.viewer.window._qt_window
    main.show()
    main.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is main and preview.picker.isVisible())
    main.setFocus()
    picker, held = preview.picker, Qt.KeyboardModifier.ControlModifier
    held |= Qt.KeyboardModifier.AltModifier
    qtbot.keyClick(main, Qt.Key.Key_Right, held)
    qtbot.keyClick(main, Qt.Key.Key_Right, held)
    assert picker.row == 2
    qtbot.keyClick(main, Qt.Key.Key_Left, held)
    assert picker.row == 1
    assert "Ctrl+Alt+Right" in picker.next_button.toolTip()


def test_synapse_is_chosen_by_buttons_and_by_selecting_a_point(
    preview: Any, window: Any, qtbot: QtBot
) -> None:
    picker = preview.picker
    click(qtbot, picker.next_button)
    assert picker.row == 1
    click(qtbot, picker.previous_button)
    assert picker.row == 0
    rows = [0]
    for _ in range(20):
        click(qtbot, picker.random_button)
        rows.append(picker.row)
    assert all(a != b for a, b in pairwise(rows))
    assert len(set(rows)) > 3
    window.points.selected_data = {4}
    assert picker.row == 4
    wait_for_pictures(qtbot, preview)
    assert "synapse 4" in preview.origin.text()


@pytest.mark.parametrize("mode", ["pan_zoom", "select", "transform"])
@pytest.mark.parametrize("units", ["nm", "um"])
def test_clicking_a_point_in_the_viewer_shows_it(
    clickable: Any, qtbot: QtBot, sample: Sample, mode: str, units: str
) -> None:
    viewer = clickable(sample, scale=(10, 10, 10), units=("nm",) * 3)
    scale = 10 if units == "nm" else 0.01
    voxels = sample.synapses[list(AXES)].to_numpy(float)
    points = viewer.add_points(voxels, scale=(scale,) * 3, units=(units,) * 3, size=6)
    widget = open_widget(viewer, PREVIEW)
    fill_in(widget, {"crop_size": "16"})
    points.mode = mode
    world = voxels[3] * 10
    viewer.dims.set_point(0, world[0])
    QApplication.processEvents()
    if mode == "pan_zoom":
        click_in_viewer(qtbot, viewer, world, drag=QPoint(40, 0))
        assert widget.picker.row == 0
    click_in_viewer(qtbot, viewer, world)
    assert widget.picker.row == 3
    wait_for_pictures(qtbot, widget)
    # Nothing is there.
    click_in_viewer(qtbot, viewer, world + 150)
    assert widget.picker.row == 3


def test_docked_again_it_hears_of_clicks(clickable: Any, qtbot: QtBot, sample: Sample) -> None:
    viewer = clickable(sample)
    voxels = sample.synapses[list(AXES)].to_numpy(float)
    viewer.add_points(voxels, size=6)
    widget = open_widget(viewer, PREVIEW)
    viewer.window.remove_dock_widget(widget)
    viewer.window.add_dock_widget(widget, name=PREVIEW)
    viewer.dims.set_point(0, voxels[3, 0])
    QApplication.processEvents()
    click_in_viewer(qtbot, viewer, voxels[3])
    assert widget.picker.row == 3


def test_without_points_a_click_in_the_viewer_chooses_the_position(
    clickable: Any, qtbot: QtBot, sample: Sample
) -> None:
    viewer = clickable(sample, scale=(30, 10, 10), translate=(5, -40, 3), units=("nm",) * 3)
    widget = open_widget(viewer, PREVIEW)
    fill_in(widget, {"crop_size": "16"})
    assert widget.points_box.currentText() == "none: click in the viewer"
    assert "Click in the viewer" in widget.status.text()
    image = viewer.layers[0]
    for voxel in ((40, 50, 60), (41, 70, 33)):
        world = np.array(image.data_to_world(voxel))
        viewer.dims.set_point(0, world[0])
        QApplication.processEvents()
        click_in_viewer(qtbot, viewer, world)
        wait_for_pictures(qtbot, widget)
        assert widget.pair.voxel == pytest.approx(voxel, abs=1)
        z, y, x = widget.pair.voxel
        crop = sample.image[z - 8 : z + 8, y - 8 : y + 8, x - 8 : x + 8]
        np.testing.assert_allclose(widget.pair.crop, crop / 255, atol=1e-6)
        assert widget.picker.position_label.text() == f"z, y, x = {z}, {y}, {x}"
    click_in_viewer(qtbot, viewer, image.data_to_world((41, -9, 40)))
    assert "lies outside the layer" in widget.status.text()
    assert widget.pictures.picture("View 1", "z") is None
    viewer.dims.ndisplay = 3
    QApplication.processEvents()
    click_in_viewer(qtbot, viewer, image.data_to_world((41, 50, 40)))
    assert "2D" in widget.picker.position_label.text()


def test_points_can_be_left_aside_for_positions(preview: Any, window: Any, qtbot: QtBot) -> None:
    preview.points_box.setCurrentIndex(preview.points_box.count() - 1)
    assert "Click in the viewer" in preview.status.text()
    window.viewer.add_points([[1, 1, 1]], ndim=3)
    assert preview.points_box.layer is None
    preview.points_box.choose(window.points)
    wait_for_pictures(qtbot, preview)


def test_settings_are_those_of_the_training(preview: Any, window: Any, qtbot: QtBot) -> None:
    trainer = open_widget(window.viewer, TRAIN)
    assert trainer.form.config().crop_size == (16, 16, 16)
    before = shown(preview)
    fill_in(trainer, {"noise_level": 0.5, "batch_size": 7})
    assert preview.form.config().noise_level == 0.5
    wait_for_pictures(qtbot, preview)
    assert not np.array_equal(shown(preview)["View 1", "z"], before["View 1", "z"])


def test_training_is_opened_and_raised_with_the_same_layers_and_settings(
    clickable: Any, qtbot: QtBot, sample: Sample
) -> None:
    viewer = clickable(sample, name="first")
    chosen = viewer.add_image(sample.image, name="second")
    viewer.add_points([[20, 20, 20]], name="few")
    points = viewer.add_points(sample.synapses[list(AXES)], name="all")
    widget = open_widget(viewer, PREVIEW)
    fill_in(widget, {"crop_size": "16", "contrast_range": 0.35})
    widget.image_box.choose(chosen)
    widget.points_box.choose(points)
    click(qtbot, widget.train_button)
    trainer = open_dock(viewer, TRAIN)
    qtbot.waitUntil(trainer.isVisible)
    assert (trainer.image_box.layer, trainer.points_box.layer) == (chosen, points)
    assert trainer.form.config().contrast_range == 0.35
    assert trainer.form.config().crop_size == (16, 16, 16)
    dock_of(trainer).hide()
    click(qtbot, widget.train_button)
    qtbot.waitUntil(trainer.isVisible)
    assert [*viewer.window.dock_widgets.values()] == [widget, trainer]


def test_without_augmentation_both_views_are_the_crop(preview: Any, qtbot: QtBot) -> None:
    settings = ("rotation_range", "flip_prob", "noise_level", "contrast_range")
    settings += ("brightness_range", "gaussian_blur_sigma")
    fill_in(preview, dict.fromkeys(settings, 0.0))
    wait_for_pictures(qtbot, preview)
    pictures = shown(preview)
    for axis in AXES:
        for view in ("View 1", "View 2"):
            np.testing.assert_array_equal(pictures[view, axis], pictures["Original", axis])


def test_doubtful_crops_are_warned_of_in_place(preview: Any, window: Any, qtbot: QtBot) -> None:
    assert preview.warnings.isHidden()
    window.points.data = [[0, 64, 64], [48, 64, 64]]
    preview.picker.number_box.setValue(0)
    wait_for_pictures(qtbot, preview)
    assert "50 % of the crop lies outside the volume and is reflected" in preview.warnings.text()
    assert not preview.warnings.isHidden()
    preview.picker.number_box.setValue(1)
    # In this epoch much noise is drawn for both views.
    preview.epoch_box.setValue(2)
    fill_in(preview, {"noise_level": 1.0})
    wait_for_pictures(qtbot, preview)
    assert "of view 1 is clipped to black or white" in preview.warnings.text()
    assert "outside" not in preview.warnings.text()
    window.image.data = np.full_like(window.image.data, 128)
    fill_in(preview, {"noise_level": 0.0})
    wait_for_pictures(qtbot, preview)
    assert "The crop is constant" in preview.warnings.text()
    window.image.data = np.arange(window.image.data.size, dtype=np.float32).reshape(
        window.image.data.shape
    )
    wait_for_pictures(qtbot, preview)
    assert preview.warnings.isHidden()


def test_a_setting_that_changes_nothing_of_the_pair_says_so(preview: Any, qtbot: QtBot) -> None:
    fill_in(preview, {"uniform_rotation": True})
    wait_for_pictures(qtbot, preview)
    assert preview.warnings.isHidden()
    fill_in(preview, {"rotation_range": 90.0})
    wait_for_pictures(qtbot, preview)
    told = "“Rotation range” has no effect with “Uniform rotation”."
    assert told in preview.warnings.text()
    fill_in(preview, {"uniform_rotation": False})
    wait_for_pictures(qtbot, preview)
    assert "no effect" not in preview.warnings.text()


SHEAR = (0.2, 0.1, -0.15)
AFFINE = [[1, 0.1, 0, 50], [0, 0.9, 0.2, -7], [0.05, 0, 1.1, 3], [0, 0, 0, 1]]
GEOMETRIES: dict[str, dict[str, Any]] = {
    "pixels": {},
    "thick sections": {"scale": (40, 4, 5), "translate": (7, -30, 90), "units": ("nm",) * 3},
    "rotated": {"scale": (2, 1, 1), "rotate": (20, -35, 50), "translate": (1, 2, 3)},
    "sheared": {"scale": (3, 1, 2), "shear": SHEAR, "rotate": (0, 10, 0), "translate": (9, 8, 7)},
    "affine": {"scale": (3, 1, 2), "rotate": (0, 10, 0), "affine": AFFINE, "shear": SHEAR},
    "multiscale": {"scale": (2, 1, 1), "translate": (5, 5, 5), "multiscale": True},
}


@pytest.mark.parametrize("crop_size", ["16", "9 16 11"])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=list(GEOMETRIES))
def test_views_added_as_layers_line_up_with_the_volume(
    make_napari_viewer: Any,
    qtbot: QtBot,
    sample: Sample,
    geometry: dict[str, Any],
    crop_size: str,
) -> None:
    viewer = make_napari_viewer()
    data = [sample.image, sample.image[::2, ::2, ::2]] if "multiscale" in geometry else sample.image
    image = viewer.add_image(data, axis_labels=("z", "y", "x"), **geometry)
    voxel = sample.synapses[list(AXES)].to_numpy(float)[2]
    viewer.add_points([image.data_to_world(voxel)], ndim=3, units=image.units)
    widget = open_widget(viewer, PREVIEW)
    fill_in(widget, {"crop_size": crop_size, "rotation_range": 0, "flip_prob": 0})
    wait_for_pictures(qtbot, widget)
    click(qtbot, widget.add_button)
    shape = np.array(widget.pair.crop.shape)
    first = voxel.astype(int) - shape // 2
    for view, layer in zip(widget.pair.views, viewer.layers[-2:], strict=True):
        np.testing.assert_array_equal(layer.data, view)
        corners = np.array(np.meshgrid(*[[0, n - 1] for n in shape])).reshape(3, -1).T
        for position in (*corners, shape // 2):
            np.testing.assert_allclose(
                layer.data_to_world(position), image.data_to_world(first + position), atol=1e-6
            )
        np.testing.assert_allclose(layer.world_to_data(image.data_to_world(voxel)), shape // 2)
        assert (layer.units, layer.axis_labels) == (image.units, image.axis_labels)
    np.testing.assert_array_equal(
        widget.pair.crop * 255, sample.image[tuple(map(slice, first, first + shape))]
    )
    assert viewer.layers.extent.units is not None


@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"rotate": (20, -35, 50), "translate": (100, 2, 3)},
        {"shear": SHEAR, "rotate": (0, 10, 0), "translate": (9, 8, 7)},
        {"affine": AFFINE, "shear": SHEAR},
    ],
    ids=["straight", "rotated", "sheared", "affine"],
)
def test_resampled_views_lie_where_the_volume_does_and_have_its_proportions(
    make_napari_viewer: Any, qtbot: QtBot, geometry: dict[str, Any]
) -> None:
    viewer = make_napari_viewer()
    # Along each axis grey values rise evenly, so that they tell where a voxel comes from.
    z, y, x = np.meshgrid(np.arange(24), np.arange(120), np.arange(120), indexing="ij")
    ramp = (z * 400 + y * 10 + x).astype(np.float32)
    image = viewer.add_image(ramp, scale=(40, 4, 4), units=("nm",) * 3, **geometry)
    voxel = np.array([11, 61, 58])
    viewer.add_points([image.data_to_world(voxel)], ndim=3, units=image.units)
    widget = open_widget(viewer, PREVIEW)
    still = dict.fromkeys(("rotation_range", "flip_prob", "noise_level", "gaussian_blur_sigma"), 0)
    still |= {"contrast_range": 0, "brightness_range": 0}
    fill_in(widget, {"crop_size": "16 16 24", "network_voxel_size": "8", **still})
    wait_for_pictures(qtbot, widget)
    assert widget.pair.voxel == tuple(voxel)
    assert widget.pair.voxel_size == (8, 8, 8)
    across_z = widget.pictures.rectangle("View 1", "z")
    assert across_z.width() / across_z.height() == pytest.approx(24 / 16, rel=0.05)
    click(qtbot, widget.add_button)
    layer = viewer.layers[-1]
    low, high = ramp.min(), ramp.max()
    centre = np.array(layer.data.shape) // 2
    np.testing.assert_allclose(layer.data_to_world(centre), image.data_to_world(voxel), atol=1e-4)
    for element in (centre, np.array([2, 3, 4]), np.array([13, 12, 20])):
        there = image.world_to_data(layer.data_to_world(element))
        grey = there[0] * 400 + there[1] * 10 + there[2]
        assert layer.data[tuple(element)] * (high - low) + low == pytest.approx(grey, abs=1)


def test_added_layers_show_where_the_volume_does_in_2d_3d_and_grid(
    clickable: Any, qtbot: QtBot, sample: Sample
) -> None:
    viewer = clickable(sample, scale=(20, 10, 10))
    image = viewer.layers[0]
    viewer.add_points(sample.synapses[list(AXES)], scale=(20, 10, 10))
    widget = open_widget(viewer, PREVIEW)
    fill_in(widget, {"crop_size": "16", "rotation_range": 0, "flip_prob": 0, "noise_level": 0})
    wait_for_pictures(qtbot, widget)
    viewer.dims.set_point(0, 0)
    click(qtbot, widget.add_button)
    world = np.array(image.data_to_world(widget.pair.voxel))
    # The slice of the synapse is shown, for there the views are.
    assert viewer.dims.point[0] == world[0]
    canvas = viewer.window._qt_viewer.canvas
    for ndisplay, grid in ((2, False), (2, True), (3, False), (3, True)):
        viewer.dims.ndisplay = ndisplay
        viewer.canvas.grid.enabled = grid
        QApplication.processEvents()
        nodes = [canvas.layer_to_visual[layer].node for layer in (image, viewer.layers[-1])]
        first = np.array(widget.pair.voxel) - 8
        displayed = list(viewer.dims.displayed)
        for position in ((0, 0, 0), (15, 15, 15), (8, 8, 8)):
            # Voxel centres lie half a voxel from the corner of a texture in 2D.
            mapped = [
                node.transform.map((np.array(at)[displayed] + 0.5)[::-1])[:ndisplay]
                for node, at in zip(nodes, (first + position, position), strict=True)
            ]
            np.testing.assert_allclose(mapped[0], mapped[1], atol=1e-3)


def test_added_layers_say_where_they_came_from_and_are_added_anew_each_time(
    preview: Any, window: Any, qtbot: QtBot
) -> None:
    click(qtbot, preview.add_button)
    click(qtbot, preview.new_pair_button)
    wait_for_pictures(qtbot, preview)
    click(qtbot, preview.add_button)
    click(qtbot, preview.add_button)
    views = window.viewer.layers[2:]
    assert len(views) == 6
    assert len({layer.name for layer in views}) == 6
    assert preview.image_box.layer is window.image
    record = views[3].metadata["napari_synapse_cl"]
    assert (record["seed"], record["epoch"], record["synapse"], record["view"]) == (0, 2, 0, 2)
    config = Config.from_values({"crop_size": 16, **record["settings"]})
    _, (second,) = composition.draw_pair(config, record["seed"], record["epoch"], [0])
    assert record["drawn"] == composition.plain_values(second)
    assert record["drawn"]["angles"] == list(second[0].angles)
    assert json.loads(json.dumps(record)) == record
    assert tuple(views[3].contrast_limits) == (0, 1)


def ramp(dtype: Any) -> np.ndarray:
    return np.arange(40**3).reshape(40, 40, 40).astype(dtype)


def with_nan() -> np.ndarray:
    volume = ramp(np.float32)
    # As around a volume that was rotated into place.
    volume[:6], volume[:, :, 35:] = np.nan, np.nan
    return volume


KINDS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "16 bit": (lambda: ramp(np.uint16), {}),
    "dask": (lambda: da.from_array(ramp(np.uint16), chunks=16), {}),
    "zarr": (lambda: zarr.array(ramp(np.uint16), chunks=(16, 16, 16)), {}),
    "multiscale": (lambda: [ramp(np.uint16), ramp(np.uint16)[::2, ::2, ::2]], {"multiscale": True}),
    "float with NaN around": (with_nan, {}),
    "contrast limits the other way": (
        lambda: ramp(np.uint16),
        {"contrast_limits": (0, 9), "colormap": "gray_r"},
    ),
}


@pytest.mark.parametrize(("make", "keywords"), KINDS.values(), ids=list(KINDS))
def test_layers_of_all_kinds_are_cut_alike(
    make_napari_viewer: Any, qtbot: QtBot, make: Callable[[], Any], keywords: dict[str, Any]
) -> None:
    viewer = make_napari_viewer()
    data = make()
    viewer.add_image(data, **{"contrast_limits": (0, 64_000), **keywords})
    viewer.add_points([[20, 18, 22]])
    widget = open_widget(viewer, PREVIEW)
    fill_in(widget, {"crop_size": "8", "rotation_range": 0})
    wait_for_pictures(qtbot, widget)
    volume = np.asarray(data[0] if isinstance(data, list) else data)
    block = volume[16:24, 14:22, 18:26].astype(float)
    low, high = np.nanmin(volume), np.nanmax(volume)
    if volume.dtype == np.uint16:
        low, high = 0, 65_535
    np.testing.assert_allclose(widget.pair.crop, (block - low) / (high - low), atol=1e-3)
    fill_in(widget, {"invert": True})
    wait_for_pictures(qtbot, widget)
    np.testing.assert_allclose(widget.pair.crop, (high - block) / (high - low), atol=1e-3)


def test_settings_of_crops_are_seen_at_once(preview: Any, window: Any, qtbot: QtBot) -> None:
    window.points.data = [[2, 64, 64], [48, 64, 64]]
    fill_in(preview, {"borders": "constant", "background": 1.0})
    wait_for_pictures(qtbot, preview)
    assert (preview.pair.crop[:6] == 1).all()
    assert "lies outside the volume and is grey" in preview.warnings.text()
    fill_in(preview, {"borders": "exclude"})
    qtbot.waitUntil(lambda: "is left out" in preview.status.text(), timeout=LONG)
    preview.picker.number_box.setValue(1)
    fill_in(preview, {"intensity": "crop"})
    wait_for_pictures(qtbot, preview)
    assert (preview.pair.crop.min(), preview.pair.crop.max()) == (0, 1)


def test_what_cannot_be_shown_is_said(preview: Any, window: Any, qtbot: QtBot) -> None:
    fill_in(preview, {"crop_size": "abc"})
    assert "“Crop size” cannot be 'abc': it must be a whole number" in preview.status.text()
    assert not preview.add_button.isEnabled()
    fill_in(preview, {"crop_size": "16"})
    wait_for_pictures(qtbot, preview)
    window.points.add([[500, 500, 500]])
    preview.picker.number_box.setValue(12)
    qtbot.waitUntil(lambda: "lies outside" in preview.status.text(), timeout=LONG)
    window.viewer.layers.clear()
    assert "no image layer" in preview.status.text()


class Broken:
    """A lazy volume whose file is gone."""

    shape, dtype, ndim = (40, 40, 40), np.dtype(np.uint8), 3

    def __init__(self) -> None:
        self.is_gone = False

    def __getitem__(self, key: Any) -> np.ndarray:
        if self.is_gone:
            raise OSError("the share is gone")
        return np.zeros(self.shape, self.dtype)[key]


def test_a_volume_that_cannot_be_read_is_told(make_napari_viewer: Any, qtbot: QtBot) -> None:
    viewer = make_napari_viewer()
    volume = Broken()
    viewer.add_image(volume, contrast_limits=(0, 255))
    viewer.add_points([[20, 20, 20]])
    widget = open_widget(viewer, PREVIEW)
    fill_in(widget, {"crop_size": "16"})
    wait_for_pictures(qtbot, widget)
    volume.is_gone = True
    fill_in(widget, {"seed": 1})
    qtbot.waitUntil(lambda: "the share is gone" in widget.status.text(), timeout=LONG)


def test_pictures_follow_changes_of_the_layers(preview: Any, window: Any, qtbot: QtBot) -> None:
    before = preview.pair.voxel
    window.points.translate = (20, 0, 0)
    wait_for_pictures(qtbot, preview)
    assert preview.pair.voxel == (before[0] + 2, *before[1:])
    window.image.data = 255 - window.image.data
    crop = preview.pair.crop
    wait_for_pictures(qtbot, preview)
    np.testing.assert_allclose(preview.pair.crop, 1 - crop, atol=1e-6)


def test_layers_that_are_removed_while_a_pair_is_drawn_leave_no_picture(
    preview: Any, window: Any, qtbot: QtBot
) -> None:
    fill_in(preview, {"crop_size": "48"})
    window.viewer.layers.clear()
    qtbot.wait(500)
    assert preview.pictures.picture("View 1", "z") is None
    assert "no image layer" in preview.status.text()


def test_viewer_may_close_while_a_pair_is_drawn(window: Any, qtbot: QtBot) -> None:
    widget = open_widget(window.viewer, PREVIEW)
    fill_in(widget, {"crop_size": "64"})
    assert not widget.up_to_date
    window.viewer.close()
    qtbot.wait(500)


def test_a_closed_widget_hears_of_no_click(window: Any) -> None:
    before = list(window.viewer.mouse_drag_callbacks)
    widget = open_widget(window.viewer, PREVIEW)
    assert len(window.viewer.mouse_drag_callbacks) == len(before) + 1
    window.viewer.window.remove_dock_widget(widget)
    assert window.viewer.mouse_drag_callbacks == before
    window.points.selected_data = {3}
    window.points.add([[5, 5, 5]])


def test_every_control_is_explained(preview: Any) -> None:
    controls = [
        control
        for kind in (QPushButton, QAbstractSpinBox, QComboBox)
        for control in preview.findChildren(kind)
    ]
    assert len(controls) >= 14
    for control in controls:
        parents = [control]
        while parents[-1] is not preview:
            parents.append(parents[-1].parentWidget())
        assert any(widget.toolTip() for widget in parents), control
    assert preview.pictures.toolTip()
