"""Feature maps of volumes, and of boxes drawn on them, as layers of the viewer."""

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import dask.array as da
import napari
import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
import zarr
from napari.components import ViewerModel
from napari.layers import Image, Layer, Shapes
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from torch import nn

from held_files import hold_as_windows_does
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.intensity import intensity_range, to_unit_range, volume_window
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.features.maps.grid import Box, MapGrid, with_halo
from napari_synapse_cl.features.tables import read_table
from napari_synapse_cl.models.architecture import Architecture, NetworkInfo
from napari_synapse_cl.models.checkpoints import load_backbone, save_checkpoint
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.runs.events import Control
from napari_synapse_cl.widgets.extract.maps import MapArray, MapLayers
from napari_synapse_cl.widgets.extract.region import RegionInputs, take_region
from napari_synapse_cl.widgets.extract.selection import SelectedLayer
from napari_synapse_cl.widgets.jobs.child import NetworkReader
from napari_synapse_cl.widgets.layers.features import METADATA_KEY

from .conftest import EXTRACT, LONG, click, fill_in, messages, open_widget, wait_for_end

pytestmark = pytest.mark.usefixtures("no_children")

ON_CPU = {"device": "cpu", "precision": "float32"}
SHAPE = (48, 60, 56)
ARCHITECTURE = Architecture((2, 4, 8, 16))
LAYERS = ARCHITECTURE.layers
COARSE = Architecture((1, 2), (1, 1), ((4, 4, 4), (2, 2, 2)))
"""Reads large volumes quickly: its layer 3 is a pooling behind a single convolution."""
SEVERAL_TILES = (64, 360, 360)
"""Voxels of a volume that the network does not see in one piece."""


def turned() -> np.ndarray:
    """A rotation that leaves no axis where it was."""
    (c, d), (s, t) = np.cos([0.4, -0.7]), np.sin([0.4, -0.7])
    about_z = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    about_x = np.array([[d, -t, 0], [t, d, 0], [0, 0, 1]])
    return about_x @ about_z


ANISOTROPIC = {"scale": (25.0, 10.0, 8.0), "units": ("nm",) * 3, "axis_labels": ("z", "y", "x")}
TURNED = {**ANISOTROPIC, "rotate": turned(), "translate": (300, -40, 7)}
GEOMETRIES = {
    "moved": {**ANISOTROPIC, "translate": (300, -40, 7)},
    "turned about z": {**ANISOTROPIC, "rotate": (0, 0, 30), "translate": (5, 6, 7)},
    "turned": TURNED,
    "sheared": {"scale": (3, 2, 1), "shear": (0.1, -0.3, 0.2), "rotate": turned()},
    "sheared the other way": {
        "scale": (3, 2, 1),
        "shear": [[1, 0, 0], [0.3, 1, 0], [-0.1, 0.2, 1]],
        "rotate": turned(),
    },
    "with an affine": {
        **ANISOTROPIC,
        "translate": (1, 2, 3),
        "shear": (0.1, -0.3, 0.2),
        "affine": [[1, 0.2, 0, 5], [0, 0.9, -0.4, 6], [0.1, 0.4, 0.9, 7], [0, 0, 0, 1]],
    },
}


@pytest.fixture(scope="module")
def voxels(sample: Sample) -> np.ndarray:
    return sample.image[: SHAPE[0], : SHAPE[1], : SHAPE[2]].copy()


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., napari.Viewer]) -> napari.Viewer:
    return make_napari_viewer()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a network whose maps vary as those of one that was trained for long."""
    path = tmp_path_factory.mktemp("network") / "network.pt"
    torch.manual_seed(0)
    network = Vgg3D.from_architecture(ARCHITECTURE)
    for module in network.features:
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.02, 0.3)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    save_checkpoint(path, network, ARCHITECTURE)
    return path


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of an untrained network of the coarse architecture."""
    path = tmp_path_factory.mktemp("coarse") / "network.pt"
    torch.manual_seed(0)
    save_checkpoint(path, Vgg3D.from_architecture(COARSE), COARSE)
    return path


@pytest.fixture
def known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window knows the network, without the seconds in which a process reads it."""
    architecture = COARSE if "coarse" in request.fixturenames else ARCHITECTURE
    info = NetworkInfo(architecture, (16, 16, 16), None, {}, ("trained",))
    monkeypatch.setattr(NetworkReader, "read", lambda *_: info)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window shows what there is of the maps with each tile, not every few seconds."""
    monkeypatch.setattr("napari_synapse_cl.widgets.extract.jobs.LOOK_SECONDS", 0)


def open_filled_in(
    qtbot: QtBot, selected: Layer, viewer: Any, checkpoint: Path, *layers: int, **settings: Any
) -> Any:
    """Select a layer, fill in a checkpoint and tick layers of its network."""
    viewer.layers.selection.active = selected
    widget = open_widget(viewer, EXTRACT)
    fill_in(widget, {**ON_CPU, **settings, "checkpoint": checkpoint})
    qtbot.waitUntil(lambda: widget.panel.info is not None, timeout=LONG)
    widget.panel.table.choose(layers)
    return widget


def plain_map(
    checkpoint: Path, array: np.ndarray, index: int, low: float = 0, high: float = 255
) -> np.ndarray:
    """The map of a whole volume, by the network alone."""
    unit = (array.astype(np.float32) - low) / (high - low)
    network = load_backbone(checkpoint).network.eval()
    with torch.inference_mode():
        raw = torch.from_numpy(unit.astype(np.float32) * 2 - 1)[None, None]
        return network.features[: index + 1](raw)[0].numpy()


def assert_same(found: Any, expected: np.ndarray, whole: np.ndarray | None = None) -> None:
    """Equal to 1e-4 of the largest value of the whole map."""
    whole = expected if whole is None else whole
    scale = float(np.abs(whole).max())
    # A map that hardly varies would say little.
    assert whole.reshape(len(whole), -1).std(axis=1).max() > scale / 20
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=1e-4 * scale)


def assert_lies(layers: list[Image], image: Image, grid: MapGrid) -> None:
    """The elements of maps and of their colours lie where the image's voxels lie that they see."""
    for layer in layers:
        before = () if layer.rgb else (1,)
        for element in product(*((0, n // 3, n - 1) for n in grid.shape)):
            voxel = np.asarray(grid.origin) + np.asarray(element) * grid.stride
            np.testing.assert_allclose(
                np.asarray(layer.data_to_world((*before, *element)))[-3:],
                image.data_to_world(voxel),
                rtol=1e-9,
                atol=1e-6,
            )
        assert layer.units[-3:] == image.units
        assert layer.axis_labels[-3:] == image.axis_labels


def at(image: Image, points: np.ndarray) -> np.ndarray:
    """Voxels of an image in the world."""
    return np.array([image.data_to_world(point) for point in points])


def rectangle(z: float, low: tuple[float, float], high: tuple[float, float]) -> np.ndarray:
    """The corners of a rectangle on a slice, y and x from low to high."""
    (y0, x0), (y1, x1) = low, high
    return np.array([[z, y0, x0], [z, y0, x1], [z, y1, x1], [z, y1, x0]])


def zarrs(folder: Path) -> list[Path]:
    return list(folder.rglob("*.zarr"))


class TestVolume:
    def test_an_image_gets_the_maps_of_the_ticked_layers(
        self,
        viewer: napari.Viewer,
        qtbot: QtBot,
        voxels: np.ndarray,
        checkpoint: Path,
        tmp_path: Path,
        notifications: list[Notification],
    ) -> None:
        image = viewer.add_image(voxels, name="EM", **ANISOTROPIC)
        widget = open_filled_in(qtbot, image, viewer, checkpoint, 3, 20, output=tmp_path / "out")
        click(qtbot, widget.start_button)
        wait_for_end(qtbot, widget)
        added = {"EM · L3", "EM · L3 colours", "EM · L20", "EM · L20 colours"}
        assert {layer.name for layer in viewer.layers} == {"EM", *added}
        assert set(viewer.layers.selection) == {image}
        (folder,) = (tmp_path / "out").glob("*.zarr")
        stored = zarr.open_group(folder, mode="r")
        for index in (3, 20):
            layer, colors = viewer.layers[f"EM · L{index}"], viewer.layers[f"EM · L{index} colours"]
            expected = plain_map(checkpoint, voxels, index)
            assert_same(layer.data, expected)
            np.testing.assert_array_equal(layer.data, stored[f"L{index}"][:])
            assert colors.rgb
            assert colors.data.shape == (*expected.shape[1:], 3)
            assert colors.data.std() > 10
            for one in (layer, colors):
                record = one.metadata[METADATA_KEY]
                assert len(record["sha256"]) == 64
                assert [one["index"] for one in record["layers"]] == [3, 20]
                assert record["settings"]["layer_num"] == [3, 20]
                assert record["region"] == [0, 0, 0, *SHAPE]
                assert record["image"] == "EM"
        assert not messages(notifications, "error")
        assert any(str(folder) in text for text in messages(notifications, "info"))
        assert str(folder) in widget.status.text()

    @pytest.mark.usefixtures("known")
    def test_maps_that_cannot_be_read_end_the_extraction_with_a_word(
        self,
        viewer: napari.Viewer,
        qtbot: QtBot,
        voxels: np.ndarray,
        checkpoint: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        notifications: list[Notification],
    ) -> None:
        def fail(folder: Path) -> Any:
            raise RuntimeError("the maps are locked")

        monkeypatch.setattr("napari_synapse_cl.widgets.extract.jobs.read_maps", fail)
        image = viewer.add_image(voxels, name="EM", **ANISOTROPIC)
        widget = open_filled_in(qtbot, image, viewer, checkpoint, 3, output=tmp_path / "out")
        click(qtbot, widget.start_button)
        wait_for_end(qtbot, widget)
        assert widget.status.text() == "The maps are locked."
        assert messages(notifications, "error") == ["The maps are locked."]
        assert list(viewer.layers) == [image]

    @pytest.mark.usefixtures("known")
    def test_at_a_point_is_what_the_point_gets_at_the_centre_of_its_crop(
        self,
        viewer: napari.Viewer,
        qtbot: QtBot,
        voxels: np.ndarray,
        checkpoint: Path,
        tmp_path: Path,
    ) -> None:
        levels = [voxels, voxels[::2, ::2, ::2]]
        image = viewer.add_image(levels, multiscale=True, name="EM", **TURNED)
        # Crops of 16 voxels begin 8 before them, at a multiple of the stride.
        synapses = np.array([[24, 32, 28], [20, 40, 30]])
        points = viewer.add_points(at(image, synapses), units=("nm",) * 3)
        widget = open_filled_in(qtbot, image, viewer, checkpoint, 12)
        click(qtbot, widget.start_button)
        wait_for_end(qtbot, widget)
        layer, colors = viewer.layers["EM · L12"], viewer.layers["EM · L12 colours"]
        assert_lies([layer, colors], image, MapGrid.of(LAYERS[12], Box((0, 0, 0), SHAPE), SHAPE))
        assert_same(layer.data, plain_map(checkpoint, voxels, 12))
        expected = self._at_centres(checkpoint, voxels, synapses, tmp_path)
        for point, values in zip(points.data, expected, strict=True):
            world = np.asarray(points.data_to_world(point))
            element = np.asarray(layer.world_to_data((0, *world)))[-3:]
            nearest = tuple(np.rint(element).astype(int))
            # Half a voxel from its centre, as a stride of 2 has it.
            np.testing.assert_allclose(np.abs(element - nearest), 0.25, atol=1e-6)
            assert_same(layer.data[(slice(None), *nearest)], values, layer.data)

    def _at_centres(
        self, checkpoint: Path, voxels: np.ndarray, synapses: np.ndarray, folder: Path
    ) -> np.ndarray:
        """Features of synapses, by the command line's code."""
        image, table = folder / "volume.npy", folder / "synapses.csv"
        np.save(image, voxels)
        pd.DataFrame(synapses, columns=["z", "y", "x"]).to_csv(table, index=False)
        values = {"image": image, "synapses": table, "output": folder / "features", **ON_CPU}
        values |= {"checkpoint": checkpoint, "extract_only": True, "crop_size": 16}
        values |= {"layer_num": [12], "pooling": "centre", "n_components": 0}
        for _ in run(Config.from_values(values)):
            pass
        features, _ = read_table(folder / "features" / "features_L12_centre.csv")
        return features.filter(like="L12_centre_").to_numpy()

    @pytest.mark.usefixtures("known", "impatient")
    def test_what_is_removed_meanwhile_does_not_disturb_the_job(
        self,
        viewer: napari.Viewer,
        qtbot: QtBot,
        coarse: Path,
        tmp_path: Path,
        notifications: list[Notification],
    ) -> None:
        widget = self._paused(viewer, qtbot, coarse, tmp_path)
        viewer.layers.clear()
        widget.request("resume")
        wait_for_end(qtbot, widget)
        (folder,) = (tmp_path / "out").glob("*.zarr")
        assert zarr.open_group(folder, mode="r")["L3"].attrs["complete"]
        assert str(folder) in widget.status.text()
        assert not messages(notifications, "error")

    @pytest.mark.usefixtures("known", "impatient")
    def test_cancel_keeps_nothing(
        self,
        viewer: napari.Viewer,
        qtbot: QtBot,
        coarse: Path,
        tmp_path: Path,
        notifications: list[Notification],
    ) -> None:
        widget = self._paused(viewer, qtbot, coarse, tmp_path)
        assert len(viewer.layers) == 2
        click(qtbot, widget.cancel_button)
        wait_for_end(qtbot, widget)
        assert [layer.name for layer in viewer.layers] == ["volume"]
        assert not zarrs(tmp_path / "out")
        assert "Cancelled" in widget.status.text()
        assert not messages(notifications, "error")

    @pytest.mark.usefixtures("known", "impatient")
    def test_cancel_keeps_what_there_is_of_the_maps_if_wanted(
        self, viewer: napari.Viewer, qtbot: QtBot, coarse: Path, tmp_path: Path
    ) -> None:
        widget = self._paused(viewer, qtbot, coarse, tmp_path, keep_partial=True)
        layer = viewer.layers[1]
        begun = np.isfinite(layer.data)
        assert begun.any()
        assert not begun.all()
        click(qtbot, widget.cancel_button)
        wait_for_end(qtbot, widget)
        assert [one.name for one in viewer.layers] == [
            "volume", "volume · L3", "volume · L3 colours"
        ]  # fmt: skip
        np.testing.assert_array_equal(np.isfinite(layer.data), begun)
        # What is missing is black.
        assert not viewer.layers[2].data[~begun[0]].any()
        (folder,) = zarrs(tmp_path / "out")
        assert not zarr.open_group(folder, mode="r")["L3"].attrs["complete"]
        assert str(folder) in widget.status.text()

    def _paused(
        self, viewer: napari.Viewer, qtbot: QtBot, coarse: Path, folder: Path, **settings: Any
    ) -> Any:
        """An extraction that waits after the first of its tiles, which is shown."""
        path = folder / "volume.tif"
        ramp = np.arange(SEVERAL_TILES[2]) % 251
        tifffile.imwrite(path, np.broadcast_to(ramp.astype(np.uint8), SEVERAL_TILES))
        (image,) = viewer.open(path, plugin="napari")
        widget = open_filled_in(qtbot, image, viewer, coarse, 3, output=folder / "out", **settings)
        click(qtbot, widget.start_button)
        widget.request("pause")
        qtbot.waitUntil(lambda: len(viewer.layers) > 1, timeout=LONG)
        return widget


class TestGeometry:
    @pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=list(GEOMETRIES))
    def test_elements_lie_on_the_voxels_that_they_see(self, geometry: dict[str, Any]) -> None:
        viewer = ViewerModel()
        image = viewer.add_image(np.zeros(SHAPE, np.uint8), name="EM", **geometry)
        # The job may have seen a part of the image only.
        corner, region = (8, 16, 12), Box((13, 17, 12), SHAPE)
        grid = MapGrid.of(LAYERS[20], region, SHAPE)
        shared = {
            "layer": 20,
            "origin": tuple(o - c for o, c in zip(grid.origin, corner, strict=True)),
            "stride": grid.stride,
            "contrast": (0.0, 1.0),
            "record": {"region": [5, 1, 0, 40, 44, 44]},
            "is_complete": True,
        }
        maps = [
            MapArray(data=np.zeros((8, *grid.shape), np.float32), is_rgb=False, **shared),
            MapArray(data=np.zeros((*grid.shape, 3), np.uint8), is_rgb=True, **shared),
        ]
        added = MapLayers(viewer, image).show(maps, corner)
        assert_lies(added, image, grid)
        assert added[0].metadata[METADATA_KEY]["region"] == [*region.start, *region.stop]

    def test_what_is_selected_stays_selected(self) -> None:
        viewer = ViewerModel()
        images = [viewer.add_image(np.zeros(SHAPE, np.uint8)) for _ in range(3)]
        viewer.layers.selection = set(images[:2])
        data = np.zeros((*SHAPE, 3), np.uint8)
        record = {"region": [0, 0, 0, *SHAPE]}
        one = MapArray(0, data, True, (0.0,) * 3, (1, 1, 1), (0.0, 1.0), record, True)
        MapLayers(viewer, images[0]).show([one], (0, 0, 0))
        assert set(viewer.layers.selection) == set(images[:2])


class TestBox:
    @pytest.fixture
    def image(self, voxels: np.ndarray) -> Image:
        return Image(voxels, **GEOMETRIES["turned about z"])

    @pytest.mark.parametrize(
        ("depth", "slices"), [(1, slice(20, 21)), (2, slice(20, 22)), (8, slice(17, 25))]
    )
    def test_a_rectangle_on_one_slice_is_as_deep_as_is_chosen(
        self, image: Image, depth: int, slices: slice
    ) -> None:
        drawn = rectangle(20, (10.2, 12.4), (29.6, 40.1))
        shapes = Shapes([drawn], **GEOMETRIES["turned about z"])
        box = take_region(image, shapes, depth).box
        assert box == Box((slices.start, 10, 12), (slices.stop, 31, 41))

    def test_rectangles_on_two_slices_make_a_box_whatever_the_depth(self, image: Image) -> None:
        drawn = [rectangle(z, (10, 12), (30, 40)) for z in (30, 14)]
        shapes = Shapes(drawn, **GEOMETRIES["turned about z"])
        assert take_region(image, shapes, 8).box == Box((14, 10, 12), (31, 31, 41))

    def test_shapes_of_another_layer_meet_the_image_in_the_world(self, image: Image) -> None:
        world = at(image, rectangle(20, (10, 12), (30, 40)))
        shapes = Shapes(
            [(world / 1000 - 0.3) / 0.002],
            scale=(0.002,) * 3,
            translate=(0.3,) * 3,
            units=("um",) * 3,
        )
        assert take_region(image, shapes, 1).box == Box((20, 10, 12), (21, 31, 41))

    def test_the_selected_shapes_count(self, image: Image) -> None:
        drawn = [rectangle(14, (10, 12), (30, 40)), rectangle(30, (4, 5), (8, 9))]
        shapes = Shapes(drawn, **GEOMETRIES["turned about z"])
        shapes.selected_data = {1}
        assert take_region(image, shapes, 1).box == Box((30, 4, 5), (31, 9, 10))

    def test_what_of_a_box_lies_in_the_volume_is_taken(self, image: Image) -> None:
        drawn = rectangle(46, (-20, 40), (20, 90))
        shapes = Shapes([drawn], **GEOMETRIES["turned about z"])
        assert take_region(image, shapes, 9).box == Box((42, 0, 40), (48, 21, 56))

    @pytest.mark.usefixtures("known")
    def test_a_box_gets_its_part_of_the_map_of_the_whole_volume(
        self,
        viewer: napari.Viewer,
        qtbot: QtBot,
        voxels: np.ndarray,
        checkpoint: Path,
        tmp_path: Path,
    ) -> None:
        # Values beyond those of a sample that looks at the box alone.
        values = voxels.astype(np.float64) * 3 - 100
        image = viewer.add_image(values, name="EM", **TURNED)
        # What becomes black and white follows from blocks that hold all of so small a volume.
        low, high = float(values.min()), float(values.max())
        drawn = [rectangle(z, (21, 22), (30, 41)) for z in (17, 30)]
        # In micrometres, with another one that is not meant.
        world = [at(image, one) / 1000 for one in [rectangle(5, (0, 0), (9, 9)), *drawn]]
        shapes = viewer.add_shapes(
            [(one - 0.3) / 0.002 for one in world],
            scale=(0.002,) * 3,
            translate=(0.3,) * 3,
            units=("um",) * 3,
        )
        shapes.selected_data = {1, 2}
        widget = open_filled_in(qtbot, shapes, viewer, checkpoint, 3, 20)
        widget.image_box.setCurrentText("EM")
        click(qtbot, widget.start_button)
        wait_for_end(qtbot, widget)
        region = Box((17, 21, 22), (31, 31, 42))
        for index in (3, 20):
            layer, colors = viewer.layers[f"EM · L{index}"], viewer.layers[f"EM · L{index} colours"]
            grid = MapGrid.of(LAYERS[index], region, SHAPE)
            assert_lies([layer, colors], image, grid)
            whole = plain_map(checkpoint, values, index, low, high)
            part = whole[(slice(None), *grid.slices_from((0, 0, 0)))]
            assert_same(layer.data, part, whole)
            assert layer.metadata[METADATA_KEY]["region"] == [*region.start, *region.stop]
            # On the disk they say the same, though they were made of a copy of the box.
            [folder] = zarrs(tmp_path / "runs")
            for name in (f"L{index}", f"L{index}_rgb"):
                attributes = zarr.open_group(folder, mode="r")[name].attrs
                assert attributes["origin"] == list(grid.origin)
                assert attributes["first"] == list(grid.first)
                assert attributes["complete"] is True
                record = attributes["provenance"]
                assert record["region"] == [*region.start, *region.stop]
                assert record["volume"] == "the layer EM"
                assert record["intensities"] == [low, high]
        assert set(viewer.layers.selection) == {shapes}

    @pytest.mark.usefixtures("known")
    def test_a_large_map_is_read_from_the_disk_as_it_is_looked_at(
        self,
        make_napari_viewer: Callable[..., napari.Viewer],
        qtbot: QtBot,
        voxels: np.ndarray,
        checkpoint: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("napari_synapse_cl.widgets.extract.maps.LARGEST_IN_MEMORY", 0)
        viewer = make_napari_viewer(show=True)
        image = viewer.add_image(voxels, name="EM", **ANISOTROPIC)
        shapes = viewer.add_shapes([rectangle(20, (0, 0), (59, 55))], **ANISOTROPIC)
        widget = open_filled_in(qtbot, shapes, viewer, checkpoint, 20)
        click(qtbot, widget.start_button)
        wait_for_end(qtbot, widget)
        layer, colors = viewer.layers["EM · L20"], viewer.layers["EM · L20 colours"]
        assert isinstance(layer.data, da.Array)
        assert isinstance(colors.data, da.Array)
        whole = plain_map(checkpoint, voxels, 20)
        assert_same(layer.data, whole[:, 5:6], whole)
        image.visible = layer.visible = shapes.visible = False
        viewer.dims.set_point(1, 20 * ANISOTROPIC["scale"][0])
        picture = viewer.screenshot(canvas_only=True, flash=False)
        assert (picture[..., :3].max(axis=2) > 30).mean() > 0.05
        viewer.layers.remove(colors)
        viewer.layers.remove(layer)
        assert list(viewer.layers) == [image, shapes]


class TestCopy:
    """What the command line reads of a volume that no file holds."""

    @pytest.mark.parametrize(
        "region",
        [Box((8, 8, 8), (16, 16, 16)), Box((20, 24, 44), (28, 32, 48))],
        ids=["with contrast", "without contrast"],
    )
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_values_of_a_part_are_mapped_as_those_of_the_whole_volume(
        self, voxels: np.ndarray, tmp_path: Path, region: Box, dtype: type
    ) -> None:
        values = voxels.astype(dtype) / 100
        values[:, :, 24:] = 1.5
        image = Image(values)
        copied, inputs = self._copied(image, region, tmp_path)
        low, high = intensity_range(Volume(values))
        expected = to_unit_range(values[with_halo(region, [LAYERS[20]], SHAPE).slices], (low, high))
        found = to_unit_range(copied.array[:], intensity_range(copied))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
        assert inputs.corner == with_halo(region, [LAYERS[20]], SHAPE).start

    def test_integers_are_copied_as_they_are(self, voxels: np.ndarray, tmp_path: Path) -> None:
        region = Box((8, 8, 8), (16, 16, 16))
        copied, _ = self._copied(Image(voxels), region, tmp_path)
        box = with_halo(region, [LAYERS[20]], SHAPE)
        assert copied.array.dtype == voxels.dtype
        np.testing.assert_array_equal(copied.array, voxels[box.slices])

    def test_percentiles_are_those_of_the_whole_volume(
        self, voxels: np.ndarray, tmp_path: Path
    ) -> None:
        region = Box((8, 8, 8), (16, 16, 16))
        trained = {"intensity": "percentiles", "percentiles": [10, 90]}
        copied, inputs = self._copied(Image(voxels), region, tmp_path, trained)
        window = volume_window(Volume(voxels), "percentiles", (10, 90))
        assert window is not None
        expected = to_unit_range(voxels[with_halo(region, [LAYERS[20]], SHAPE).slices], window)
        found = to_unit_range(copied.array[:], intensity_range(copied))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        assert Config.from_file(inputs.config_file).intensity == "range"

    def _copied(
        self, image: Image, region: Box, folder: Path, trained: dict[str, Any] | None = None
    ) -> tuple[Volume, RegionInputs]:
        data = replace(take_region(image), box=region)
        values = {"layer_num": [20], "dense": True, "extract_only": True, "checkpoint": "c.pt"}
        config = Config.from_values(values)
        network = NetworkInfo(ARCHITECTURE, None, None, trained or {}, ("trained",))
        inputs = RegionInputs(data, config, folder / "inputs", lambda: network)
        for _ in inputs.write(Control()):
            pass
        written = Config.from_file(inputs.config_file)
        assert written.image is not None
        assert written.region is not None
        assert Box(written.region[:3], written.region[3:]) == region.seen_from(inputs.corner)
        return open_volume(written.image), inputs


class TestWhatCannotBe:
    """One sentence each, nothing is added, and no process is left."""

    def assert_refused(
        self, qtbot: QtBot, widget: Any, notifications: list[Notification], words: str, folder: Path
    ) -> None:
        n_layers = len(widget.viewer.layers)
        notifications.clear()
        click(qtbot, widget.start_button)
        wait_for_end(qtbot, widget)
        (message,) = messages(notifications, "error")
        assert words in message
        assert "\n" not in message
        assert message.endswith(".")
        assert len(widget.viewer.layers) == n_layers
        assert not zarrs(folder)

    @pytest.mark.usefixtures("known")
    def test_layers_that_get_no_map_are_said(
        self,
        viewer: napari.Viewer,
        qtbot: QtBot,
        checkpoint: Path,
        tmp_path: Path,
        notifications: list[Notification],
    ) -> None:
        image = self._with_margin(viewer)
        folder = tmp_path / "out"
        widget = open_filled_in(qtbot, image, viewer, checkpoint, 20, output=folder)
        drawn = [rectangle(z, (1, 1), (9, 9)) for z in (49, 60)]
        problems = {
            "The selected layer cells is a Labels layer": viewer.add_labels(
                np.ones((50, 60, 56), int), name="cells"
            ),
            "is a 2D image; a 3D volume is needed": viewer.add_image(np.zeros((32, 32))),
            "is a colour image; a volume of grey values is needed": viewer.add_image(
                np.zeros((32, 32, 32, 3), np.uint8), rgb=True
            ),
            "holds no shapes: draw a rectangle": viewer.add_shapes(ndim=3),
            "holds 2D shapes; draw a rectangle": viewer.add_shapes([drawn[0][:, 1:]]),
            "the last 2 voxels along z do not fill a window of 4": viewer.add_shapes(
                [drawn[0]], **ANISOTROPIC
            ),
            "lies outside the volume, which has 50 × 60 × 56 voxels": viewer.add_shapes(
                [drawn[1]], **ANISOTROPIC
            ),
        }
        widget.image_box.setCurrentText("EM")
        for words, layer in problems.items():
            viewer.layers.selection.active = layer
            self.assert_refused(qtbot, widget, notifications, words, folder)
        viewer.layers.selection = {image, layer}
        words = "2 layers are selected: select a Points, Image or Shapes"
        self.assert_refused(qtbot, widget, notifications, words, folder)
        viewer.layers.selection.clear()
        words = "No layers are selected: select a Points, Image or Shapes"
        self.assert_refused(qtbot, widget, notifications, words, folder)

    @pytest.mark.usefixtures("known")
    def test_what_is_missing_is_said(
        self,
        viewer: napari.Viewer,
        qtbot: QtBot,
        checkpoint: Path,
        tmp_path: Path,
        notifications: list[Notification],
    ) -> None:
        image = self._with_margin(viewer)
        folder = tmp_path / "out"
        widget = open_filled_in(qtbot, image, viewer, checkpoint, output=folder)
        words = "No network layer is ticked: tick one or more"
        self.assert_refused(qtbot, widget, notifications, words, folder)
        widget.panel.table.choose([20])
        widget.form.editor("checkpoint").line_edit.value = ""
        words = "There is no checkpoint: choose the file of a network"
        self.assert_refused(qtbot, widget, notifications, words, folder)
        viewer.add_shapes([rectangle(20, (1, 1), (9, 9))], **ANISOTROPIC)
        viewer.layers.remove(image)
        self.assert_refused(qtbot, widget, notifications, "There is no image layer", folder)

    def _with_margin(self, viewer: napari.Viewer) -> Image:
        """An image whose last two slices no element of layer 20 covers."""
        volume = np.random.default_rng(0).integers(0, 256, (50, 60, 56), np.uint8)
        return viewer.add_image(volume, name="EM", **ANISOTROPIC)

    def test_an_image_that_gets_no_map_is_called_so_when_it_is_selected(self, qtbot: QtBot) -> None:
        viewer = ViewerModel()
        label = SelectedLayer(viewer)
        qtbot.addWidget(label)
        viewer.add_image(np.zeros((32, 32, 32)))
        assert "a map of the whole volume" in label.text()
        for array in (np.zeros((32, 32)), np.zeros((32, 32, 32, 3), np.uint8)):
            viewer.add_image(array)
            assert "no map, for a 3D volume of grey values is needed" in label.text()

    @pytest.mark.usefixtures("known")
    def test_values_that_are_not_finite_are_said_by_their_place_in_the_layer(
        self,
        viewer: napari.Viewer,
        qtbot: QtBot,
        voxels: np.ndarray,
        checkpoint: Path,
        tmp_path: Path,
        notifications: list[Notification],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if sys.platform == "linux":
            hold_as_windows_does(monkeypatch)
        values = voxels / np.float32(255)
        values[30, 40, 41] = np.nan
        viewer.add_image(values, name="EM", **ANISOTROPIC)
        shapes = viewer.add_shapes([rectangle(28, (36, 38), (44, 44))], **ANISOTROPIC)
        widget = open_filled_in(qtbot, shapes, viewer, checkpoint, 20, output=tmp_path / "out")
        words = "layer EM holds values that are not finite (NaN or infinite), one at z, y, x = 30"
        self.assert_refused(qtbot, widget, notifications, words, tmp_path / "out")
