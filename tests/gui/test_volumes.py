"""Several volumes, and layers of labels that say what of each crop is kept."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pytestqt.qtbot import QtBot

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.cache import CachedCrops
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets.jobs.child import NetworkReader
from napari_synapse_cl.widgets.layers.features import METADATA_KEY
from napari_synapse_cl.widgets.layers.voxels import LOCATION

from .conftest import LONG, PREVIEW, SMALL, TRAIN, click, fill_in, open_widget, wait_for_end

CLEFT = 7
GREY = 128
NM: dict[str, Any] = {"scale": (10, 10, 10), "units": ("nm",) * 3}


@pytest.fixture
def two(make_napari_viewer: Any) -> Any:
    """A viewer with two volumes, six points in each, and labels: a box of cleft at each point."""
    viewer = make_napari_viewer()
    images, points, labels = [], [], []
    for number in (1, 2):
        draw = np.random.default_rng(number)
        volume = draw.integers(0, 256, (40, 44, 48), dtype=np.uint8)
        places = draw.integers(12, 28, (6, 3))
        clefts = np.zeros(volume.shape, np.uint16)
        for z, y, x in places:
            clefts[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] = CLEFT
        images.append(viewer.add_image(volume, name=f"EM {number}", **NM))
        points.append(viewer.add_points(places, name=f"Points {number}", **NM))
        labels.append(viewer.add_labels(clefts, name=f"Clefts {number}", **NM))
    return SimpleNamespace(viewer=viewer, images=images, points=points, labels=labels)


def choose(widget: Any, two: Any, number: int) -> None:
    widget.image_box.choose(two.images[number])
    widget.points_box.choose(two.points[number])


def list_both(qtbot: QtBot, widget: Any, two: Any) -> None:
    """List the first volume, and choose the second."""
    choose(widget, two, 0)
    click(qtbot, widget.volume_list.add_button)
    choose(widget, two, 1)


def in_sight(widget: Any) -> list[str]:
    return [name for name, box in widget.label_boxes.boxes.items() if not box.isHidden()]


def wait_for_text(qtbot: QtBot, label: Any, *words: str) -> None:
    qtbot.waitUntil(lambda: all(word in label.text() for word in words), timeout=LONG)


def wait_for_synapses(qtbot: QtBot, label: Any, n: int) -> None:
    counted = re.compile(r"(\d+) (?:train|validate|not used)\b")
    qtbot.waitUntil(lambda: sum(map(int, counted.findall(label.text()))) == n, timeout=LONG)


def test_volumes_are_listed_named_and_removed(two: Any, qtbot: QtBot) -> None:
    widget = open_widget(two.viewer, TRAIN)
    volumes = widget.volume_list
    choose(widget, two, 0)
    assert volumes.texts == []
    click(qtbot, volumes.add_button)
    assert volumes.texts == ["EM 1 · Points 1"]
    # What is listed already cannot be listed twice, nor is it trained on twice.
    assert not volumes.add_button.isEnabled()
    assert len(widget.take_several()) == 1
    choose(widget, two, 1)
    assert [data.volume.name for data in widget.take_several()] == [
        "the layer EM 1",
        "the layer EM 2",
    ]
    click(qtbot, volumes.add_button)
    two.images[0].name = "first"
    assert volumes.texts == ["first · Points 1", "EM 2 · Points 2"]
    click(qtbot, volumes.remove_buttons[0])
    assert volumes.texts == ["EM 2 · Points 2"]
    two.viewer.layers.remove(two.points[1])
    assert volumes.texts == []


def test_list_outlives_the_widget(two: Any, qtbot: QtBot) -> None:
    widget = open_widget(two.viewer, TRAIN)
    list_both(qtbot, widget, two)
    two.viewer.window.remove_dock_widget(widget)
    assert open_widget(two.viewer, TRAIN).volume_list.texts == ["EM 1 · Points 1"]


def test_plan_counts_the_synapses_of_all_volumes(two: Any, qtbot: QtBot) -> None:
    widget = open_widget(two.viewer, TRAIN)
    list_both(qtbot, widget, two)
    fill_in(widget, SMALL)
    wait_for_text(qtbot, widget.summary, "EM 1, EM 2")
    wait_for_synapses(qtbot, widget.summary, 12)
    # A volume that is listed is followed as the chosen one is.
    two.points[0].add([[20, 20, 20]])
    wait_for_synapses(qtbot, widget.summary, 13)
    fill_in(widget, {"network_voxel_size": "20"})
    wait_for_text(qtbot, widget.summary, "resampled from voxels of 10 × 10 × 10 nm")


def test_volumes_in_memory_are_trained_on_together_with_their_own_masks(
    two: Any, qtbot: QtBot, tmp_path: Path, no_children: None
) -> None:
    widget = open_widget(two.viewer, TRAIN)
    fill_in(widget, {**SMALL, "keep": "cleft", "roles": f"cleft={CLEFT}", "output": tmp_path / "r"})
    for number in (0, 1):
        choose(widget, two, number)
        widget.label_boxes.boxes["labels"].choose(two.labels[number])
        widget.session.volumes.add(widget._chosen_pair())
    click(qtbot, widget.start_button)
    wait_for_end(qtbot, widget)
    assert "complete" in widget.status.text()
    config = Config.from_file(tmp_path / "r" / "config.json")
    table = pd.read_csv(tmp_path / "r" / "synapses.csv")
    assert list(table["volume"]) == ["EM 1"] * 6 + ["EM 2"] * 6
    assert config.crops is not None
    crops = CachedCrops(config.crops)
    assert crops.settings["keep"] == "cleft"
    for number, (place, crop) in enumerate(
        zip(crops.positions.voxels, crops.read(range(12))[:, 0], strict=True)
    ):
        volume = two.images[number // 6].data
        centre = tuple(n // 2 for n in crop.shape)
        assert crop[centre] * 255 == pytest.approx(volume[tuple(place)])
        assert (crop[0] * 255).round() == pytest.approx(GREY)


def test_volumes_in_files_are_named_in_a_dataset(
    two: Any, qtbot: QtBot, tmp_path: Path, no_children: None
) -> None:
    widget = open_widget(two.viewer, TRAIN)
    for number, (image, labels) in enumerate(zip(two.images, two.labels, strict=True)):
        for layer, name in ((image, "image"), (labels, "labels")):
            path = tmp_path / f"{name}{number}.npy"
            np.save(path, layer.data)
            layer.metadata[METADATA_KEY] = {LOCATION: str(path)}
        widget.session.volumes.choose_labels(image, "labels", labels)
    list_both(qtbot, widget, two)
    settings = {**SMALL, "num_epochs": 1, "keep": "cleft", "roles": f"cleft={CLEFT}"}
    fill_in(widget, {**settings, "output": tmp_path / "run"})
    click(qtbot, widget.start_button)
    wait_for_end(qtbot, widget)
    assert "complete" in widget.status.text()
    config = Config.from_file(tmp_path / "run" / "config.json")
    assert config.dataset == tmp_path / "run" / "dataset.json"
    volumes = json.loads(config.dataset.read_text())["volumes"]
    assert [volume["name"] for volume in volumes] == ["EM 1", "EM 2"]
    for number, volume in enumerate(volumes):
        assert volume["image"] == str(tmp_path / f"image{number}.npy")
        assert volume["labels"] == str(tmp_path / f"labels{number}.npy")
        found = pd.read_csv(volume["synapses"])[["z", "y", "x"]]
        np.testing.assert_array_equal(found, two.points[number].data)


def test_layers_of_labels_are_asked_for_where_they_are_of_use(two: Any) -> None:
    for name in (TRAIN, PREVIEW):
        widget = open_widget(two.viewer, name)
        for keep, wanted in (
            ("cleft", ["labels"]),
            ("cleft+presynapse", ["labels", "segmentation"]),
            ("Sides", ["labels", "segmentation"]),
            ("12+15", ["labels"]),
            ("everything", []),
        ):
            fill_in(widget, {"keep": keep})
            assert in_sight(widget) == wanted
        fill_in(widget, {"presynaptic_shift": 0.5})
        assert in_sight(widget) == ["labels", "segmentation"]
        fill_in(widget, {"presynaptic_shift": 0.0})
    trainer = open_widget(two.viewer, TRAIN)
    fill_in(trainer, {"cell_column": "segmentation"})
    assert in_sight(trainer) == ["segmentation"]


def test_labels_belong_to_an_image_in_all_widgets(two: Any, qtbot: QtBot) -> None:
    preview, trainer = open_widget(two.viewer, PREVIEW), open_widget(two.viewer, TRAIN)
    fill_in(preview, {"keep": "cleft", "crop_size": "16"})
    box, other = preview.label_boxes.boxes["labels"], trainer.label_boxes.boxes["labels"]
    choose(preview, two, 0)
    choose(trainer, two, 1)
    # There is no guess at what labels mean.
    assert (box.layer, other.layer) == (None, None)
    box.choose(two.labels[0])
    assert other.layer is None
    click(qtbot, preview.train_button)
    assert other.layer == two.labels[0]
    other.choose(two.labels[1])
    assert box.layer == two.labels[1]
    choose(preview, two, 1)
    assert box.layer is None
    choose(preview, two, 0)
    assert box.layer == two.labels[1]
    two.viewer.layers.remove(two.labels[1])
    assert (box.layer, other.layer) == (None, None)


def test_missing_labels_and_roles_are_said_before_a_training(two: Any, qtbot: QtBot) -> None:
    widget = open_widget(two.viewer, TRAIN)
    choose(widget, two, 0)
    fill_in(widget, {**SMALL, "keep": "cleft"})
    wait_for_text(qtbot, widget.summary, "say which values of the label volume they are")
    fill_in(widget, {"roles": "cleft=7"})
    wait_for_text(qtbot, widget.summary, "a label volume of structures (labels) is needed")
    widget.label_boxes.boxes["labels"].choose(two.labels[0])
    wait_for_synapses(qtbot, widget.summary, 6)
    fill_in(widget, {"keep": "presynapse"})
    wait_for_text(qtbot, widget.summary, "a label volume of cells (segmentation) is needed")
    widget.label_boxes.boxes["segmentation"].choose(two.labels[1])
    wait_for_text(qtbot, widget.summary, "the synapses need positions in the presynapse")
    # Columns of the points tell them.
    z, y, x = two.points[0].data.T
    two.points[0].features = pd.DataFrame({"pre_z": z, "pre_y": y, "pre_x": x})
    wait_for_synapses(qtbot, widget.summary, 6)


def test_labels_that_were_opened_may_say_themselves_which_values_are_what(
    two: Any, qtbot: QtBot
) -> None:
    widget = open_widget(two.viewer, TRAIN)
    choose(widget, two, 0)
    two.labels[0].metadata["napari_synapse_cl"] = {"roles": [f"cleft={CLEFT}"]}
    fill_in(widget, {**SMALL, "keep": "cleft"})
    widget.label_boxes.boxes["labels"].choose(two.labels[0])
    wait_for_synapses(qtbot, widget.summary, 6)
    (data,) = widget.take_several()
    assert data.part(widget.form.config()).roles == {"cleft": (CLEFT,)}
    fill_in(widget, {"roles": "cleft=1"})
    assert data.part(widget.form.config()).roles == {"cleft": (1,)}


def test_preview_shows_what_is_kept_and_follows_the_brush(two: Any, qtbot: QtBot) -> None:
    widget = open_widget(two.viewer, PREVIEW)
    choose(widget, two, 0)
    fill_in(widget, {"crop_size": "16", "keep": "cleft", "roles": "cleft=7"})
    widget.label_boxes.boxes["labels"].choose(two.labels[0])
    qtbot.waitUntil(lambda: widget.up_to_date, timeout=LONG)

    def kept() -> np.ndarray:
        return np.abs(widget.pair.crop * 255 - GREY) > 0.6

    z, y, x = widget.pair.voxel
    around = tuple(slice(c - 8, c + 8) for c in (z, y, x))
    clefts = two.labels[0].data[around] == CLEFT
    assert kept()[6:11, 6:11, 6:11].mean() > 0.9
    assert not kept()[~clefts].any()
    # A stroke through the middle that touches the cleft.
    two.labels[0].selected_label = CLEFT
    two.labels[0].n_edit_dimensions = 3
    two.labels[0].brush_size = 3
    two.labels[0].paint((z, y, x + 4), CLEFT)
    qtbot.waitUntil(lambda: widget.up_to_date and bool(kept()[8, 8, 12]), timeout=LONG)
    two.labels[0].undo()
    qtbot.waitUntil(lambda: widget.up_to_date and not kept()[8, 8, 12], timeout=LONG)
    fill_in(widget, {"roles": "cleft=8"})
    qtbot.waitUntil(lambda: widget.up_to_date, timeout=LONG)
    assert widget.warnings.text().startswith("⚠ Nothing of what is to be kept")
    fill_in(widget, {"keep": "nonsense"})
    wait_for_text(qtbot, widget.status, "no part", "nonsense")


def test_preview_has_the_voxel_size_that_a_training_on_several_volumes_has(
    two: Any, qtbot: QtBot
) -> None:
    two.images[0].scale = two.points[0].scale = (20, 20, 20)
    trainer, preview = open_widget(two.viewer, TRAIN), open_widget(two.viewer, PREVIEW)
    choose(preview, two, 1)
    fill_in(preview, {"crop_size": "16"})
    qtbot.waitUntil(lambda: preview.up_to_date, timeout=LONG)
    assert preview.pair.voxel_size == (10, 10, 10)
    list_both(qtbot, trainer, two)
    qtbot.waitUntil(lambda: preview.up_to_date, timeout=LONG)
    assert preview.pair.voxel_size == (20, 20, 20)
    assert preview.pair.stride == (2, 2, 2)


def test_plan_and_preview_have_the_voxel_size_of_the_pretrained_network(
    two: Any, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def read(self: NetworkReader, checkpoint: str, which: str) -> Any:
        asked.append(str(checkpoint))
        if "broken" in str(checkpoint):
            raise InputError("it is no checkpoint")
        return SimpleNamespace(voxel_size=(20.0, 20.0, 20.0))

    monkeypatch.setattr(NetworkReader, "read", read)
    trainer, preview = open_widget(two.viewer, TRAIN), open_widget(two.viewer, PREVIEW)
    fill_in(trainer, SMALL)
    for widget in (trainer, preview):
        choose(widget, two, 0)
    for name in ("good.pt", "broken.pt"):
        (tmp_path / name).touch()
    fill_in(trainer, {"pretrained": tmp_path / "good.pt"})
    wait_for_text(qtbot, trainer.summary, "320 × 320 × 320 nm")
    qtbot.waitUntil(lambda: preview.up_to_date, timeout=LONG)
    assert preview.pair.voxel_size == (20, 20, 20)
    fill_in(trainer, {"network_voxel_size": "40"})
    wait_for_text(qtbot, trainer.summary, "640 × 640 × 640 nm")
    qtbot.waitUntil(lambda: preview.up_to_date, timeout=LONG)
    assert preview.pair.voxel_size == (40, 40, 40)
    # Of what is no network, or not there, nothing is known, and it is not asked for again.
    fill_in(trainer, {"network_voxel_size": "", "pretrained": tmp_path / "broken.pt"})
    wait_for_text(qtbot, trainer.summary, "160 × 160 × 160 nm")
    for _ in range(3):
        click(qtbot, preview.new_pair_button)
        qtbot.waitUntil(lambda: preview.up_to_date, timeout=LONG)
    assert preview.pair.voxel_size == (10, 10, 10)
    assert sum("broken" in location for location in asked) <= 2


@pytest.mark.real_data
def test_cells_of_a_real_volume_are_kept(
    make_napari_viewer: Any, qtbot: QtBot, medulla: Path
) -> None:
    import tifffile

    viewer = make_napari_viewer()
    where = tuple(slice(0, 96) for _ in range(3))
    name = "training_sample2"
    image = viewer.add_image(tifffile.imread(medulla / f"{name}.tif")[where], **NM)
    bodies = tifffile.imread(medulla / f"{name}_groundtruth_bodies.tif")[where].astype(np.int64)
    cells = viewer.add_labels(bodies, **NM)
    values, counts = np.unique(bodies[40:56, 40:56, 40:56], return_counts=True)
    cell = values[counts * (values > 0) == (counts * (values > 0)).max()][0]
    place = 40 + np.argwhere(bodies[40:56, 40:56, 40:56] == cell)[0]
    viewer.add_points([place], **NM)
    widget = open_widget(viewer, PREVIEW)
    widget.session.volumes.choose_labels(image, "segmentation", cells)
    fill_in(widget, {"crop_size": "32", "keep": "object", "background": 0.0})
    qtbot.waitUntil(lambda: widget.up_to_date, timeout=LONG)
    around = tuple(slice(c - 16, c + 16) for c in widget.pair.voxel)
    expected = np.where(bodies[around] == cell, image.data[around], 0)
    np.testing.assert_array_equal((widget.pair.crop * 255).round(), expected)


def test_cells_are_read_in_a_layer_that_is_in_no_file(
    two: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    bodies = np.zeros(two.images[0].data.shape, np.uint32)
    bodies[:20], bodies[20:] = 41, 2**32 - 1
    layer = two.viewer.add_labels(bodies, name="Bodies", **NM)
    widget = open_widget(two.viewer, TRAIN)
    choose(widget, two, 0)
    fill_in(widget, {**SMALL, "output": tmp_path / "run", "cell_column": "segmentation"})
    widget.label_boxes.boxes["segmentation"].choose(layer)
    click(qtbot, widget.start_button)
    wait_for_end(qtbot, widget)
    table = pd.read_csv(tmp_path / "run" / "synapses.csv")
    assert table["segmentation"].tolist() == [41 if z < 20 else 2**32 - 1 for z in table["z"]]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["crops"]
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()
