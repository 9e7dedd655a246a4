"""Open data: volumes, positions and labels of any format become layers that lie right."""

import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import napari
import numpy as np
import pandas as pd
import pytest
import tifffile
from napari.layers import Image, Labels, Points
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QAction
from superqt import QCollapsible

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.arrays import ReadArray
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.runs.events import Control
from napari_synapse_cl.widgets.jobs.inputs import RunInputs
from napari_synapse_cl.widgets.layers.taking import take
from napari_synapse_cl.widgets.layers.voxels import in_units_of, is_opened_with
from napari_synapse_cl.widgets.open_data import sessions
from napari_synapse_cl.widgets.open_data.fields import are_swapped
from napari_synapse_cl.widgets.open_data.jobs import is_dataset
from napari_synapse_cl.widgets.open_data.layers import LevelArray
from test_remote_volumes import Server, ome, write_json, write_precomputed, write_zarr

from .conftest import PLUGIN, click, messages, open_widget, write_parts

OPEN = "Open data"
SHAPE = (24, 40, 64)
SIZE = (40.0, 8.0, 4.0)
OFFSET = (3, 10, 100)


def voxels(dtype: str = "u1", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 200, shape).astype(dtype)


def halved(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array[:, ::2, ::2])


def write_table(path: Path, positions: np.ndarray, columns: str, **more: Any) -> Path:
    """Write z, y, x under the names of three columns."""
    table = pd.DataFrame(dict(zip(columns.split(), np.transpose(positions), strict=True)) | more)
    table.to_excel(path, index=False) if path.suffix == ".xlsx" else table.to_csv(path, index=False)
    return path


def write_pyramid(path: Path) -> np.ndarray:
    """Write an OME-Zarr of two levels whose first voxel is not at 0."""
    finest = voxels("u2")
    corner = [float(o * s) for o, s in zip(OFFSET, SIZE, strict=True)]
    scales = [list(SIZE), [SIZE[0], 2 * SIZE[1], 2 * SIZE[2]]]
    # The centre of a voxel that is made of two lies between theirs.
    shifted = [corner[0], corner[1] + SIZE[1] / 2, corner[2] + SIZE[2] / 2]
    write_json(path / ".zgroup", {"zarr_format": 2})
    write_json(path / ".zattrs", ome("0.4", [(scales[0], corner), (scales[1], shifted)]))
    write_zarr(path / "s0", finest, zarr_format=2)
    write_zarr(path / "s1", halved(finest), zarr_format=2)
    return finest


POSITIONS = np.array([[5, 12.5, 30], [11, 3, 60.5], [20, 39, 1]])


@pytest.fixture
def opener(make_napari_viewer: Callable[..., napari.Viewer], qtbot: QtBot) -> Any:
    """The widget in a viewer."""
    viewer = make_napari_viewer()
    widget = open_widget(viewer, OPEN)

    def fill(volume: Path | str, **fields: Any) -> None:
        widget.volume.line.setText(str(volume))
        for name in ("synapses", "labels", "segmentation"):
            getattr(widget, name).line.setText(str(fields.pop(name, "")))
        for name, value in fields.items():
            widget.form.editor(name).value = value

    def run(volume: Path | str, **fields: Any) -> list[Any]:
        fill(volume, **fields)
        click(qtbot, widget.open_button)
        qtbot.waitUntil(lambda: not widget.is_busy, timeout=20_000)
        return list(viewer.layers)

    return SimpleNamespace(viewer=viewer, widget=widget, fill=fill, run=run)


@pytest.fixture(autouse=True)
def small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for coarser levels of the small volumes here, too."""
    monkeypatch.setattr("napari_synapse_cl.widgets.open_data.jobs.LARGEST_IN_SIGHT", 16)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "t.csv", POSITIONS, "z y x", kind=["a", "b", "c"])


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "em.tif", voxels())
    return tmp_path / "em.tif"


class HeldServer(Server):
    """A server that answers nothing until it is let go."""

    def __init__(self, folder: Path) -> None:
        self.go = threading.Event()
        super().__init__(folder)
        handle = self.server.finish_request

        def finish(*arguments: Any) -> None:
            self.go.wait(20)
            handle(*arguments)

        self.server.finish_request = finish  # type: ignore[method-assign, assignment]


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldServer]:
    """A precomputed volume on a server that waits."""
    write_precomputed(tmp_path / "em", [(voxels(), SIZE, OFFSET)])
    server = HeldServer(tmp_path)
    yield server
    server.go.set()
    server.stop()


def as_a_job_reads(opener: Any, folder: Path) -> Dataset:
    """Return what the process of a training makes of the first image and points."""
    layers = opener.viewer.layers
    image = next(layer for layer in layers if isinstance(layer, Image))
    points = next(layer for layer in layers if isinstance(layer, Points))
    chosen = opener.widget.session.volumes.labels_of(image)
    taken = take(image, points, **chosen)

    def not_asked() -> Any:
        raise AssertionError("the volume is read from its file, so no crops are cut")

    inputs = RunInputs([taken], Config.from_values({"crop_size": 8}), folder, not_asked)
    list(inputs.write(Control()))
    return open_dataset(Config.from_file(inputs.config_file))


class TestOpening:
    def test_a_tiff_and_a_sheet_become_image_and_points(
        self, opener: Any, tiff: Path, tmp_path: Path
    ) -> None:
        columns = "central_coord_3 central_coord_2 central_coord_1"
        table = write_table(tmp_path / "em.xlsx", POSITIONS, columns, kind=["a", "b", "c"])
        image, points = opener.run(tiff, synapses=table, voxel_size="40 8 4")
        assert isinstance(image, Image)
        assert isinstance(points, Points)
        np.testing.assert_array_equal(image.data, voxels())
        np.testing.assert_array_equal(points.data, POSITIONS)
        assert list(points.features["kind"]) == ["a", "b", "c"]
        for layer in (image, points):
            np.testing.assert_array_equal(layer.scale, SIZE)
            assert [str(unit) for unit in layer.units] == ["nanometer"] * 3
        assert image.metadata["napari_synapse_cl"] == {"location": str(tiff)}
        assert is_opened_with(points, image)
        assert image.contrast_limits == [0, 255]
        said = opener.widget.status.text()
        assert "24 × 40 × 64 voxels of uint8; voxels of 40 × 8 × 4 nm, as given." in said
        assert "3 of 3 positions in em.xlsx lie inside em.tif" in said

    def test_without_a_voxel_size_lengths_are_in_voxels(self, opener: Any, tiff: Path) -> None:
        [image] = opener.run(tiff)
        assert [str(unit) for unit in image.units] == ["pixel"] * 3
        assert "voxel size not known" in opener.widget.status.text()

    def test_a_multiscale_zarr_opens_with_all_levels_where_it_lies(
        self, opener: Any, tmp_path: Path
    ) -> None:
        finest = write_pyramid(tmp_path / "em.zarr")
        positions = (POSITIONS + OFFSET) * SIZE
        table = write_table(tmp_path / "t.csv", positions, "z_nm y_nm x_nm")
        image, points = opener.run(tmp_path / "em.zarr", synapses=table)
        assert image.multiscale
        np.testing.assert_array_equal(image.data[0], finest)
        np.testing.assert_array_equal(image.data[1], halved(finest))
        np.testing.assert_allclose(image.translate, np.multiply(OFFSET, SIZE))
        np.testing.assert_allclose(points.data, POSITIONS)
        np.testing.assert_allclose(points.data_to_world(points.data[0]), positions[0])
        location = image.metadata["napari_synapse_cl"]["location"]
        assert location == str(tmp_path / "em.zarr/s0")
        said = opener.widget.status.text()
        assert "voxels of 40 × 8 × 4 nm, as its file says" in said
        assert "2 levels" in said
        assert "z_nm" in said

    def test_the_window_lives_while_a_server_is_waited_for(
        self, opener: Any, held: HeldServer, qtbot: QtBot, tmp_path: Path
    ) -> None:
        table = write_table(tmp_path / "t.csv", POSITIONS + OFFSET, "z y x")
        opener.fill(held.url("em"), synapses=table)
        ticks: list[bool] = []
        timer = QTimer()
        timer.timeout.connect(lambda: ticks.append(opener.widget.is_busy))
        timer.start(20)
        qtbot.keyClick(opener.widget.volume.line, Qt.Key.Key_Return)
        qtbot.waitUntil(lambda: ticks.count(True) >= 10)
        assert "Opening" in opener.widget.status.text()
        assert not opener.widget.open_button.isEnabled()
        held.go.set()
        qtbot.waitUntil(lambda: not opener.widget.is_busy, timeout=20_000)
        timer.stop()
        image, points = opener.viewer.layers
        np.testing.assert_array_equal(image.data, voxels())
        np.testing.assert_array_equal(points.data, POSITIONS)
        assert image.metadata["napari_synapse_cl"]["location"].startswith("http://127.0.0.1")

    def test_values_that_are_no_bytes_are_stretched_to_what_a_sample_holds(
        self, opener: Any, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "em.npy", voxels().astype("f4") / 1000)
        np.save(tmp_path / "flat.npy", np.full(SHAPE, 7, "u2"))
        opener.run(tmp_path / "em.npy")
        image, flat = opener.run(tmp_path / "flat.npy")
        low, high = image.contrast_limits
        assert 0 < low < 0.01 < 0.19 < high < 0.2
        assert flat.contrast_limits == [0, 1]

    def test_rows_without_a_position_are_left_out_and_points_outside_stay(
        self, opener: Any, tiff: Path, tmp_path: Path
    ) -> None:
        positions = np.vstack([POSITIONS, [np.nan] * 3, [5, 5, 1000]])
        table = write_table(tmp_path / "t.csv", positions, "z y x", id=range(5))
        points = opener.run(tiff, synapses=table)[1]
        np.testing.assert_array_equal(points.data, positions[[0, 1, 2, 4]])
        assert list(points.features["id"]) == [0, 1, 2, 4]
        said = opener.widget.status.text()
        assert "⚠ 1 of 4 positions lie outside em.tif" in said
        assert "⚠ 1 row of t.csv has no position" in said

    def test_positions_of_partners_are_in_voxels_too(
        self, opener: Any, tiff: Path, tmp_path: Path
    ) -> None:
        sites = pd.DataFrame({"id": [7, 8, 9]})
        for name, shift in (("pre", 0), ("post", 2), ("ctr", 1)):
            sites[f"{name}_pt_position"] = list(((POSITIONS + shift) * SIZE)[:, ::-1])
        sites.to_parquet(tmp_path / "t.parquet")
        given = {"voxel_size": "40 8 4", "position_unit": "nm"}
        points = opener.run(tiff, synapses=tmp_path / "t.parquet", **given)[1]
        np.testing.assert_allclose(points.data, POSITIONS + 1)
        found = points.features
        np.testing.assert_allclose(found["presynapse_x"], POSITIONS[:, 2])
        np.testing.assert_allclose(found["pre_pt_position_x_as_read"], POSITIONS[:, 2] * SIZE[2])
        np.testing.assert_allclose(found["postsynapse_z"], POSITIONS[:, 0] + 2)
        # napari cannot select points whose features are arrays.
        points.selected_data = {1}
        part = take(opener.viewer.layers[0], points).placed
        np.testing.assert_allclose(part.partners["presynapse"], POSITIONS)

    def test_columns_that_count_in_these_voxels_stay_as_they_are(
        self, opener: Any, tiff: Path, tmp_path: Path
    ) -> None:
        sides = {f"side_1_coord_{i}": POSITIONS[:, -i] for i in (1, 2, 3)}
        table = write_table(tmp_path / "t.csv", POSITIONS, "z y x", note="a", **sides)
        points = opener.run(tiff, synapses=table)[1]
        assert list(points.features.columns) == ["note", *sides]

    def test_labels_lie_over_their_image_and_are_chosen_for_it(
        self, opener: Any, tiff: Path, tmp_path: Path
    ) -> None:
        tifffile.imwrite(tmp_path / "cells.tif", voxels("u2"))
        write_zarr(
            tmp_path / "parts.zarr",
            halved(voxels()),
            {"resolution": [SIZE[0], 2 * SIZE[1], 2 * SIZE[2]]},
        )
        given = {"segmentation": tmp_path / "cells.tif", "labels": tmp_path / "parts.zarr"}
        image, parts, cells = opener.run(tiff, voxel_size="40 8 4", **given)
        assert isinstance(parts, Labels)
        assert isinstance(cells, Labels)
        chosen = opener.widget.session.volumes.labels_of(image)
        assert chosen == {"labels": parts, "segmentation": cells}
        np.testing.assert_array_equal(parts.scale, [40, 16, 8])
        # The first voxel covers the first two of the image.
        np.testing.assert_array_equal(image.world_to_data(parts.translate), [0, 0.5, 0.5])
        assert cells.metadata["napari_synapse_cl"] == {"location": str(tmp_path / "cells.tif")}
        assert not cells.editable

    def test_a_dataset_opens_every_box_and_lists_them_for_a_training(
        self, opener: Any, qtbot: QtBot, tmp_path: Path
    ) -> None:
        for i, name in enumerate(("bbox1", "bbox2")):
            for folder in ("raw", "seg"):
                (tmp_path / folder / name).mkdir(parents=True)
                for z, plane in enumerate(voxels() + np.uint8(i)):
                    tifffile.imwrite(tmp_path / folder / name / f"slice_{z}.tif", plane)
            write_table(tmp_path / f"{name}.xlsx", POSITIONS[: 2 + i], "z y x")
        opener.fill(tmp_path)
        widget = opener.widget
        qtbot.waitUntil(lambda: not widget.synapses.isEnabled())
        assert widget.note.isVisibleTo(widget)
        layers = opener.run(tmp_path)
        assert [layer.name for layer in layers] == [
            f"{name}{what}"
            for name in ("bbox1", "bbox2")
            for what in ("", " · cells", " · synapses")
        ]
        assert [layer.visible for layer in layers] == [True] * 3 + [False] * 3
        np.testing.assert_array_equal(layers[3].data[:], voxels() + 1)
        listed = widget.session.volumes.listed
        assert [(pair.image.name, len(pair.points.data)) for pair in listed] == [
            ("bbox1", 2),
            ("bbox2", 3),
        ]


class TestGoingThere:
    """What was opened is in sight, whatever was there before."""

    @pytest.fixture
    def large(self, tmp_path: Path) -> Path:
        np.save(tmp_path / "large.npy", np.zeros((20, 900, 1200), np.uint8))
        return tmp_path / "large.npy"

    @pytest.mark.parametrize("is_alone", [True, False])
    @pytest.mark.parametrize("thickness", ["10", "40 8 4"])
    def test_the_first_synapse_inside_is_in_the_middle_and_large_enough_to_be_seen(
        self, opener: Any, large: Path, tmp_path: Path, is_alone: bool, thickness: str
    ) -> None:
        if not is_alone:
            opener.viewer.add_image(np.zeros((3, 5, 5)), scale=(1, 9, 9), units=("um",) * 3)
        positions = np.array([[5, 5, 9000], [7, 200, 1100], [9, 30, 40]])
        table = write_table(tmp_path / "t.csv", positions, "z y x")
        image, points = opener.run(large, synapses=table, voxel_size=thickness)[-2:]
        viewer = opener.viewer
        middle = (viewer.dims.point[0], *viewer.scene.camera.center[1:])
        in_layer = in_units_of(image, middle, viewer.dims.units)
        np.testing.assert_allclose(image.world_to_data(in_layer), (7, 200, 1100))
        # How many pixels of the canvas the longer edge of a voxel takes.
        pixels = viewer.scene.camera.zoom * max(image.scale[1:])
        assert pixels * points.size[0] > 15
        assert 0.6 * min(viewer.canvas.size) < 300 * pixels <= max(viewer.canvas.size)

    def test_without_synapses_the_whole_volume_is_in_sight_at_its_middle(
        self, opener: Any, large: Path
    ) -> None:
        opener.viewer.add_image(np.zeros((4, 4000, 4000), np.uint8))
        opener.run(large)
        viewer = opener.viewer
        assert viewer.dims.point[0] == 10
        np.testing.assert_allclose(viewer.scene.camera.center[1:], (449.5, 599.5))
        assert viewer.scene.camera.zoom * 1200 < max(viewer.canvas.size)

    def test_a_small_volume_stays_whole(self, opener: Any, tiff: Path, table: Path) -> None:
        opener.run(tiff, synapses=table)
        viewer = opener.viewer
        assert viewer.dims.point[0] == 5
        np.testing.assert_allclose(viewer.scene.camera.center[1:], (19.5, 31.5))


class TestVoxelSize:
    """A voxel size that no file says is asked for where the volume was opened."""

    def test_what_is_filled_in_afterwards_places_all_layers_as_if_it_had_been_given(
        self, opener: Any, qtbot: QtBot, tiff: Path, table: Path, tmp_path: Path
    ) -> None:
        tifffile.imwrite(tmp_path / "cells.tif", voxels("u2"))
        given = {"synapses": table, "segmentation": tmp_path / "cells.tif"}
        opener.run(tiff, **given, voxel_size="40 8 4")
        offer = opener.widget.size_offer
        assert not offer.isVisibleTo(opener.widget)
        expected = list(opener.viewer.layers)
        opener.viewer.layers.clear()
        opener.run(tiff, **given, voxel_size="")
        assert offer.isVisibleTo(opener.widget)
        assert "The voxel size of em.tif is not known" in offer.label.text()
        opener.widget.form.editor("voxel_size").value = "40 8 4"
        click(qtbot, offer.button)
        assert not offer.isVisibleTo(opener.widget)
        for found, wanted in zip(opener.viewer.layers, expected, strict=True):
            np.testing.assert_array_equal(found.scale, wanted.scale)
            np.testing.assert_array_equal(found.translate, wanted.translate)
            assert found.units == wanted.units
        assert opener.viewer.dims.point[0] == 5 * 40
        assert "40 × 8 × 4 nm" in opener.widget.status.text()

    def test_nothing_or_nonsense_is_told_and_asked_for_again(
        self, opener: Any, qtbot: QtBot, tiff: Path, notifications: list[Notification]
    ) -> None:
        [image] = opener.run(tiff)
        for typed, words in [("", "Fill in the voxel size along z, y, x in nm"), ("0", "")]:
            opener.widget.form.editor("voxel_size").value = typed
            notifications.clear()
            click(qtbot, opener.widget.size_offer.button)
            [told] = messages(notifications, "error")
            assert words in told
        assert opener.widget.size_offer.isVisibleTo(opener.widget)
        np.testing.assert_array_equal(image.scale, [1, 1, 1])


class TestSwappedFiles:
    @pytest.mark.parametrize("is_volume_named", [True, False])
    def test_are_recognised_and_swapped_with_a_click(
        self,
        opener: Any,
        qtbot: QtBot,
        tiff: Path,
        table: Path,
        notifications: list[Notification],
        is_volume_named: bool,
    ) -> None:
        widget = opener.widget
        opener.fill(table if is_volume_named else "", synapses=tiff)
        qtbot.waitUntil(lambda: widget.fields.swap_offer.isVisibleTo(widget))
        click(qtbot, widget.open_button)
        [told] = messages(notifications, "error")
        assert ("in each other's fields" in told) == is_volume_named
        click(qtbot, widget.fields.swap_offer.button)
        assert (widget.volume.text, widget.synapses.text) == (
            str(tiff),
            str(table) if is_volume_named else "",
        )
        assert not widget.fields.swap_offer.isVisibleTo(widget)
        click(qtbot, widget.open_button)
        qtbot.waitUntil(lambda: not widget.is_busy, timeout=20_000)
        assert len(opener.viewer.layers) == 1 + is_volume_named

    def test_those_that_are_right_or_not_known_are_left_alone(self) -> None:
        for volume, synapses in [
            ("", ""),
            ("em.tif", "t.csv"),
            ("em", "t"),
            ("https://a.org/em.zarr/s0", "book.xlsx#mine"),
            ("em.n5/", ""),
        ]:
            assert not are_swapped(volume, synapses)
        for volume, synapses in [
            ("t.csv", ""),
            ("t.xlsx#mine", "em.n5"),
            ("", "em.MRC"),
            ("em", "em.h5"),
        ]:
            assert are_swapped(volume, synapses)


class TestRecent:
    def offered(self, widget: Any) -> list[QAction]:
        menu = widget.recent_button.menu()
        menu.aboutToShow.emit()
        return list(menu.actions())

    def test_what_was_opened_is_filled_in_again_at_the_next_start(
        self,
        opener: Any,
        make_napari_viewer: Callable[..., napari.Viewer],
        qtbot: QtBot,
        tiff: Path,
        table: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        [nothing] = self.offered(opener.widget)
        assert not nothing.isEnabled()
        np.save(tmp_path / "other.npy", voxels())
        monkeypatch.chdir(tmp_path)
        opener.run("em.tif", synapses=table, voxel_size="40 8 4", position_columns="z y x")
        opener.run(tmp_path / "none.tif")
        opener.run(tmp_path / "other.npy", voxel_size="", position_columns="")
        widget = open_widget(make_napari_viewer(), OPEN)
        actions = self.offered(widget)
        assert [action.text() for action in actions] == ["other.npy", "em.tif · t.csv"]
        assert actions[1].toolTip() == f"{tiff}\n{table}"
        actions[1].trigger()
        assert (widget.volume.text, widget.synapses.text) == (str(tiff), str(table))
        assert widget.form.editor("voxel_size").value == "40 8 4"
        assert widget.form.editor("position_columns").value == "z y x"
        actions[0].trigger()
        assert (widget.volume.text, widget.synapses.text) == (str(tmp_path / "other.npy"), "")
        assert widget.form.editor("voxel_size").value == ""

    def test_the_list_is_short_and_what_is_opened_again_comes_first(self) -> None:
        for i in [*range(12), 8]:
            sessions.remember_use({"image": f"{i}.tif", "synapses": "t.csv"})
        names = [use["image"] for use in sessions.recent_uses()]
        assert names == [f"{i}.tif" for i in (8, 11, 10, 9, 7, 6, 5, 4)]

    @pytest.mark.parametrize(
        "content",
        ["", "[]", "[" * 100_000, '{"opened": 3}', '{"opened": [3, {}, {"image": 3}]}'],
        ids=["empty", "list", "deep", "number", "entries"],
    )
    def test_a_damaged_list_is_none(self, content: str) -> None:
        assert sessions.FILE is not None
        sessions.FILE.write_text(content)
        assert sessions.recent_uses() == []
        sessions.remember_use({"image": "em.tif"})
        assert sessions.recent_uses() == [{"image": "em.tif"}]


class TestWhatCannotBeOpened:
    def test_is_told_in_a_sentence_and_nothing_is_added(
        self, opener: Any, tiff: Path, tmp_path: Path, notifications: list[Notification]
    ) -> None:
        tiff.write_bytes(tiff.read_bytes()[:-100])
        (tmp_path / "broken.yaml").write_text("volumes: none")
        for volume, words in [
            (tiff, f"{tiff} is cut off: page 24 is not in it."),
            (tmp_path / "none.tif", f"There is no volume {tmp_path / 'none.tif'}."),
            (tmp_path / "broken.yaml", "is no dataset: a list “volumes” is needed"),
            ("", "No volume is named: type its path or URL, or choose a file."),
        ]:
            notifications.clear()
            assert opener.run(volume) == []
            [told] = messages(notifications, "error")
            assert words in told
            assert told in opener.widget.status.text()

    def test_swapped_axes_are_told_with_the_fields_that_help(
        self, opener: Any, tiff: Path, tmp_path: Path, notifications: list[Notification]
    ) -> None:
        positions = np.random.default_rng(0).uniform((0, 0, 26), np.subtract(SHAPE, 1), (40, 3))
        table = write_table(tmp_path / "t.csv", positions, "x y z")
        assert opener.run(tiff, synapses=table) == []
        [told] = messages(notifications, "error")
        assert "in the order x, y, z: “Position columns” x y z" in told
        points = opener.run(tiff, synapses=table, position_columns="x y z")[1]
        np.testing.assert_allclose(points.data, positions)

    @pytest.mark.parametrize("is_noticed_late", [False, True])
    def test_damaged_voxels_leave_no_layer(
        self,
        opener: Any,
        tmp_path: Path,
        notifications: list[Notification],
        monkeypatch: pytest.MonkeyPatch,
        is_noticed_late: bool,
    ) -> None:
        if is_noticed_late:
            monkeypatch.setattr(
                "napari_synapse_cl.widgets.open_data.jobs.read_first", lambda *_: None
            )
        write_zarr(tmp_path / "em.zarr", voxels(), zarr_format=2)
        (tmp_path / "em.zarr/0.0.0").write_bytes(b"broken")
        assert opener.run(tmp_path / "em.zarr") == []
        [told] = messages(notifications, "error")
        assert "could not be read at z, y, x = 0:1, 0:40, 0:64" in told

    def test_a_server_that_is_gone_leaves_no_layer(
        self, opener: Any, tmp_path: Path, notifications: list[Notification]
    ) -> None:
        server = Server(tmp_path)
        server.stop()
        assert opener.run(server.url("em")) == []
        [told] = messages(notifications, "error")
        assert "cannot be reached" in told


class TestBreakingOff:
    def test_cancel_adds_nothing_and_another_can_be_opened_at_once(
        self, opener: Any, held: HeldServer, qtbot: QtBot, tiff: Path
    ) -> None:
        opener.fill(held.url("em"))
        click(qtbot, opener.widget.open_button)
        click(qtbot, opener.widget.cancel_button)
        assert opener.widget.status.text() == "Cancelled: nothing was opened."
        [image] = opener.run(tiff)
        said = opener.widget.status.text()
        held.go.set()
        qtbot.wait(200)
        assert list(opener.viewer.layers) == [image]
        assert opener.widget.status.text() == said

    def test_a_closed_widget_adds_nothing(
        self, opener: Any, held: HeldServer, qtbot: QtBot
    ) -> None:
        opener.fill(held.url("em"))
        click(qtbot, opener.widget.open_button)
        opener.viewer.window.remove_dock_widget(opener.widget)
        held.go.set()
        qtbot.wait(200)
        assert not opener.viewer.layers
        # The test holds it still.
        opener.widget.deleteLater()
        qtbot.wait(50)


class TestJobs:
    """The process of a training reads the very voxels that were opened, at the same places."""

    @pytest.mark.parametrize("level", ["", "/s0", "/s1"])
    def test_of_a_volume_with_an_offset_at_any_level(
        self, opener: Any, tmp_path: Path, level: str
    ) -> None:
        write_pyramid(tmp_path / "em.zarr")
        positions = (POSITIONS + OFFSET) * SIZE
        table = write_table(tmp_path / "t.csv", positions, "z_nm y_nm x_nm")
        location = f"{tmp_path / 'em.zarr'}{level}"
        image, _ = opener.run(location, synapses=table)
        named = Config.from_values({"image": location, "synapses": table, "crop_size": 8})
        here, there = open_dataset(named), as_a_job_reads(opener, tmp_path / "run")
        np.testing.assert_array_equal(there.positions.voxels, here.positions.voxels)
        assert there.voxel_size == pytest.approx(here.voxel_size)
        opened = image.data[0] if image.multiscale else image.data
        np.testing.assert_array_equal(there.parts[0].volume.array[2:9, :, 5], opened[2:9, :, 5])

    def test_of_labels(self, opener: Any, tiff: Path, table: Path, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "cells.tif", voxels("u2"))
        opener.run(tiff, synapses=table, segmentation=tmp_path / "cells.tif")
        part = as_a_job_reads(opener, tmp_path / "run").parts[0]
        assert part.segmentation is not None
        assert part.segmentation.at((5, 6, 7)) == voxels("u2")[5, 6, 7]

    @pytest.mark.real_data
    def test_of_a_real_volume(self, opener: Any, medulla: Path, tmp_path: Path) -> None:
        given = {
            "synapses": medulla / "training_sample2_sites.csv",
            "segmentation": medulla / "training_sample2_groundtruth_bodies.tif",
        }
        image, cells, points = opener.run(
            medulla / "training_sample2.tif", voxel_size="10", **given
        )
        found = as_a_job_reads(opener, tmp_path / "run")
        np.testing.assert_array_equal(found.positions.voxels, np.rint(points.data))
        assert found.voxel_size == (10, 10, 10)
        assert cells.data.shape == image.data.shape


class TestLevels:
    @pytest.fixture
    def read(self) -> list[Any]:
        return []

    @pytest.fixture
    def level(self, read: list[Any]) -> LevelArray:
        array = voxels()

        def read_region(region: tuple[slice, ...]) -> np.ndarray:
            read.append(tuple(along.stop - along.start for along in region))
            return array[region]

        return LevelArray(ReadArray(SHAPE, array.dtype, read_region, "em"))

    def test_a_box_is_read_when_a_slice_of_it_is_taken(
        self, level: LevelArray, read: list[Any]
    ) -> None:
        box: Any = level[:, 5:100, 7:9]
        assert read == []
        assert (box.shape, box.size, box.dtype) == ((24, 35, 2), 24 * 35 * 2, np.uint8)
        np.testing.assert_array_equal(box[3], voxels()[3, 5:, 7:9])
        assert read == [(1, 35, 2)]

    @pytest.mark.parametrize(
        "key", [(), 2, -1, (slice(2, 5),), (..., 3), (1, ..., slice(2, 4)), (4, 5, 6), slice(9, 3)]
    )
    def test_regions_are_those_of_numpy(self, level: LevelArray, key: Any) -> None:
        np.testing.assert_array_equal(np.asarray(level[key]), voxels()[key])

    def test_in_the_viewer_no_more_is_read_than_is_seen(
        self,
        make_napari_viewer: Callable[..., napari.Viewer],
        level: LevelArray,
        read: list[Any],
    ) -> None:
        viewer = make_napari_viewer()
        coarse = LevelArray(halved(voxels()))
        viewer.add_image([level, coarse], multiscale=True, contrast_limits=(0, 255))
        for z in (3, 9):
            viewer.dims.set_point(0, z)
        assert all(depth == 1 for depth, _, _ in read)


class TestFields:
    def test_the_widget_opens_and_closes_without_warnings(
        self, make_napari_viewer: Callable[..., napari.Viewer], qtbot: QtBot
    ) -> None:
        viewer = make_napari_viewer(show=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, OPEN)
            qtbot.waitUntil(widget.isVisible)
            assert widget.width() >= widget.minimumWidth()
            viewer.theme = "light"
            viewer.window.remove_dock_widget(dock)

    def test_each_input_has_a_name_and_the_tab_key_follows_the_eye(
        self, make_napari_viewer: Callable[..., napari.Viewer], qtbot: QtBot, tmp_path: Path
    ) -> None:
        (tmp_path / "s.json").write_text("{}")
        sessions.remember_session(tmp_path / "s.json")
        viewer = make_napari_viewer(show=True)
        widget = open_widget(viewer, OPEN)
        for group in widget.findChildren(QCollapsible):
            group.expand(animate=False)
        widget.volume.text, widget.synapses.text = "t.csv", "em.tif"
        qtbot.waitUntil(widget.fields.swap_offer.isVisible)
        widget.size_offer.make("The voxel size is not known.")
        qtbot.wait(100)
        inputs = []
        one = widget.volume.line.nextInFocusChain()
        while one is not widget.volume.line:
            takes_focus = bool(one.focusPolicy() & Qt.FocusPolicy.TabFocus)
            if takes_focus and widget.isAncestorOf(one) and one.isVisible() and one.isEnabled():
                inputs.append(one)
            one = one.nextInFocusChain()
        inputs = [widget.volume.line, *inputs]
        places = [one.mapTo(widget, one.rect().center()) for one in inputs]
        found = [(round(place.y() / 12), place.x()) for place in places]
        # The chain has no beginning: it is what is highest.
        first = found.index(min(found))
        assert [*found[first:], *found[:first]] == sorted(found)
        assert len(found) == 23
        for one in inputs:
            assert one.accessibleName() or one.text(), one

    def test_a_file_and_a_folder_are_chosen_in_dialogs(
        self, opener: Any, qtbot: QtBot, choose: Callable[[Path], None], tmp_path: Path
    ) -> None:
        for button in (opener.widget.volume.file_button, opener.widget.volume.folder_button):
            choose(tmp_path / "em.zarr")
            opener.widget.volume.line.clear()
            click(qtbot, button)
            assert opener.widget.volume.text == str(tmp_path / "em.zarr")

    def test_of_positions_in_parts_all_are_opened_whichever_is_chosen(
        self, opener: Any, qtbot: QtBot, choose: Callable[[Path], None], tiff: Path, tmp_path: Path
    ) -> None:
        folder = write_parts(tmp_path, pd.DataFrame(POSITIONS, columns=list("zyx")))
        choose(folder / "part-00002.parquet")
        click(qtbot, opener.widget.synapses.file_button)
        assert "is one of 3 parts of a table" in opener.widget.status.text()
        _, points = opener.run(tiff, synapses=opener.widget.synapses.text, voxel_size="40 8 4")
        np.testing.assert_array_equal(points.data, POSITIONS)

    def test_datasets_are_told_from_volumes(self, tmp_path: Path) -> None:
        for name in ("boxes/raw/a", "outer/boxes/raw/a", "em.zarr/raw", "em/raw", "slices"):
            (tmp_path / name).mkdir(parents=True)
        write_json(tmp_path / "em/attributes.json", {})
        names = ("boxes", "outer", "em.zarr", "em", "slices", "none", "d.yml")
        assert [name for name in names if is_dataset(str(tmp_path / name))] == [
            "boxes",
            "outer",
            "d.yml",
        ]
        assert not is_dataset("https://example.org/volumes.json")
        assert not is_dataset("")
