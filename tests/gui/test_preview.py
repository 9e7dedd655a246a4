"""The preview shows what a training sees."""

from typing import Any

import numpy as np
import pytest
import torch
from pytestqt.qtbot import QtBot

from napari_synapse_cl import augmentations
from napari_synapse_cl.config import Config
from napari_synapse_cl.context import context_shape
from napari_synapse_cl.data.crops import StreamedCrops
from napari_synapse_cl.data.sample import Sample
from napari_synapse_cl.data.synapses import positions_inside
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.widgets.pictures import AXES, COLUMNS

from .conftest import LONG, PREVIEW, TRAIN, click, fill_in, open_widget


def views_of_training(
    sample: Sample, config: Config, epoch: int, row: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The crop and both views, by the functions that the trainer calls."""
    volume = Volume(sample.image)
    positions = positions_inside(sample.synapses, volume.shape)
    shape = context_shape(config.crop_size, config, sample.voxel_size)
    crop = torch.from_numpy(StreamedCrops(volume, positions, shape).read([row]))
    pair = augmentations.draw_pair(config, config.seed, epoch, [row])
    views = [augmentations.apply(crop, p, config.crop_size, sample.voxel_size) for p in pair]
    centre = augmentations.centre_crop(crop, config.crop_size)
    return centre[0, 0].numpy(), [view[0, 0].numpy() for view in views]


def shown(widget: Any) -> dict[tuple[str, str], np.ndarray]:
    return {key: image.image for key, image in widget.pictures.images.items()}


def wait_for_pictures(qtbot: QtBot, widget: Any) -> None:
    qtbot.waitUntil(lambda: "View 2" in widget.status.text(), timeout=LONG)


@pytest.fixture
def preview(window: Any, qtbot: QtBot) -> Any:
    widget = open_widget(window.viewer, PREVIEW)
    fill_in(widget, {"crop_size": "16"})
    wait_for_pictures(qtbot, widget)
    return widget


def test_pictures_are_what_training_sees(preview: Any, qtbot: QtBot, sample: Sample) -> None:
    fill_in(preview, {"seed": 7, "rotation_range": 30.0})
    preview.synapse_box.setValue(5)
    preview.epoch_box.setValue(3)
    wait_for_pictures(qtbot, preview)
    config = Config.from_values({"crop_size": 16, "seed": 7, "rotation_range": 30})
    crop, views = views_of_training(sample, config, epoch=3, row=5)
    for name, volume in zip(COLUMNS, (crop, *views), strict=True):
        for i, axis in enumerate(AXES):
            image = preview.pictures.images[name, axis]
            np.testing.assert_array_equal(image.image, np.take(volume, 8, axis=i))
            assert tuple(image.levels) == (0, 1)


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


def test_newest_of_many_requests_is_drawn(preview: Any, qtbot: QtBot, sample: Sample) -> None:
    for seed in range(20):
        fill_in(preview, {"seed": seed})
    wait_for_pictures(qtbot, preview)
    config = Config.from_values({"crop_size": 16, "seed": 19})
    _, views = views_of_training(sample, config, epoch=1, row=0)
    np.testing.assert_array_equal(shown(preview)["View 2", "z"], views[1][8])


def test_synapse_is_chosen_by_buttons_and_by_selecting_a_point(
    preview: Any, window: Any, qtbot: QtBot
) -> None:
    click(qtbot, preview.next_button)
    assert preview.synapse_box.value() == 1
    click(qtbot, preview.previous_button)
    assert preview.synapse_box.value() == 0
    window.points.selected_data = {4}
    assert preview.synapse_box.value() == 4
    wait_for_pictures(qtbot, preview)


def test_settings_are_those_of_the_training(preview: Any, window: Any, qtbot: QtBot) -> None:
    trainer = open_widget(window.viewer, TRAIN)
    assert trainer.form.config().crop_size == (16, 16, 16)
    before = shown(preview)
    fill_in(trainer, {"noise_level": 0.5, "batch_size": 7})
    assert preview.form.config().noise_level == 0.5
    wait_for_pictures(qtbot, preview)
    assert not np.array_equal(shown(preview)["View 1", "z"], before["View 1", "z"])


def test_without_augmentation_both_views_are_the_crop(preview: Any, qtbot: QtBot) -> None:
    settings = ("rotation_range", "flip_prob", "noise_level", "contrast_range")
    settings += ("brightness_range", "gaussian_blur_sigma")
    fill_in(preview, dict.fromkeys(settings, 0.0))
    wait_for_pictures(qtbot, preview)
    pictures = shown(preview)
    for axis in AXES:
        for view in ("View 1", "View 2"):
            np.testing.assert_array_equal(pictures[view, axis], pictures["Original", axis])


def test_what_cannot_be_shown_is_said(preview: Any, window: Any, qtbot: QtBot) -> None:
    fill_in(preview, {"crop_size": "abc"})
    assert "rop_size cannot be 'abc'" in preview.status.text()
    fill_in(preview, {"crop_size": "16"})
    wait_for_pictures(qtbot, preview)
    window.points.add([[500, 500, 500]])
    preview.synapse_box.setValue(12)
    qtbot.waitUntil(lambda: "lies outside" in preview.status.text(), timeout=LONG)
    window.viewer.layers.clear()
    assert "no image layer" in preview.status.text()
