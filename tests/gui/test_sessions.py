"""Sessions: what a viewer holds is saved to one file, and is there again at the next start."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pandas as pd
import pytest
import tifffile
from napari.layers import Image, Labels, Points
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QMenu

from conftest import full_disk
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.widgets.layers.boxes import VolumePair
from napari_synapse_cl.widgets.layers.voxels import is_opened_with
from napari_synapse_cl.widgets.look import dock_of
from napari_synapse_cl.widgets.open_data import sessions
from napari_synapse_cl.widgets.session import session_of

from .conftest import EXTRACT, LONG, PLUGIN, PREVIEW, TRAIN, click, messages, open_widget
from .test_open_data import OPEN, POSITIONS, SIZE, voxels, write_pyramid, write_table

TRANSFORMS = ("scale", "translate", "rotate", "shear")


@pytest.fixture
def start(make_napari_viewer: Callable[..., napari.Viewer]) -> Callable[[], Any]:
    """Starts napari with "Open data" open."""

    def start() -> Any:
        viewer = make_napari_viewer(show=True)
        return open_widget(viewer, OPEN)

    return start


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    tifffile.imwrite(tmp_path / "em.tif", voxels())
    tifffile.imwrite(tmp_path / "cells.tif", voxels("u2"))
    table = write_table(tmp_path / "t.csv", POSITIONS, "z y x", kind=["a", "b", "c"])
    return {
        "volume": tmp_path / "em.tif",
        "segmentation": tmp_path / "cells.tif",
        "synapses": table,
    }


@pytest.fixture
def opened(start: Callable[[], Any], files: dict[str, Path], qtbot: QtBot) -> Any:
    """A window in which files were opened, with the widget that did so."""
    widget = start()
    for name, path in files.items():
        getattr(widget, name).text = str(path)
    widget.form.editor("voxel_size").value = "40 8 4"
    click(qtbot, widget.open_button)
    wait(qtbot, widget)
    return widget


def wait(qtbot: QtBot, widget: Any) -> None:
    qtbot.waitUntil(lambda: not widget.is_busy, timeout=20_000)


def choose_in_menu(widget: Any, text: str) -> None:
    [action] = [a for a in widget.session_button.menu().actions() if a.text() == text]
    action.trigger()


def save(qtbot: QtBot, widget: Any, path: Path, choose: Callable[[Path], None]) -> dict[str, Any]:
    choose(path)
    choose_in_menu(widget, "Save session …")
    qtbot.waitUntil(lambda: "is saved in" in widget.status.text(), timeout=20_000)
    return json.loads(path.read_text())


def open_again(qtbot: QtBot, widget: Any, path: Path, choose: Callable[[Path], None]) -> list[Any]:
    choose(path)
    choose_in_menu(widget, "Open session …")
    wait(qtbot, widget)
    return list(widget.viewer.layers)


def assert_same_layer(found: Any, before: Any) -> None:
    assert (type(found), found.name) == (type(before), before.name)
    np.testing.assert_array_equal(np.asarray(found.data), np.asarray(before.data))
    for name in TRANSFORMS:
        np.testing.assert_allclose(getattr(found, name), getattr(before, name), atol=1e-12)
    np.testing.assert_allclose(found.affine.affine_matrix, before.affine.affine_matrix)
    assert found.units == before.units
    assert found.axis_labels == before.axis_labels
    for name in ("visible", "opacity", "blending"):
        assert getattr(found, name) == getattr(before, name)


def test_all_is_there_again_with_one_click_at_the_next_start(
    opened: Any,
    start: Callable[[], Any],
    qtbot: QtBot,
    tmp_path: Path,
    trained: Path,
    choose: Callable[[Path], None],
) -> None:
    viewer = opened.viewer
    image, cells, points = viewer.layers
    image.contrast_limits, image.colormap, image.opacity = (20, 180), "magma", 0.7
    image.affine = np.diag([1, 1, 1, 1]) + np.eye(4, k=3) * 5
    cells.visible = False
    points.face_color = ["red", "green", "blue"]
    points.shown = [True, False, True]
    points.size = [10, 12, 14]
    mine = viewer.add_points(
        [[1, 2, 3], [4, 5, 6]],
        name="by hand",
        features={"sure": [True, False], "when": pd.to_datetime(["2024-01-02", None])},
        scale=SIZE,
        units=("nm",) * 3,
        symbol="ring",
    )
    opened.session.volumes.add(VolumePair(image, points))
    opened.session.keep_checkpoint(str(trained))
    training, preview = open_widget(viewer, TRAIN), open_widget(viewer, PREVIEW)
    extraction = open_widget(viewer, EXTRACT)
    extraction.form.editor("network").value = "start"
    training.points_box.choose(mine)
    preview.points_box.choose(points)
    qtbot.waitUntil(extraction.isVisible)
    dock_of(preview).raise_()
    qtbot.waitUntil(lambda: not preview.visibleRegion().isEmpty())
    viewer.layers.selection.active = mine
    viewer.dims.set_point(0, 440)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 77, 88), 3.5
    content = save(qtbot, opened, tmp_path / "mine.json", choose)
    assert "Not kept" not in opened.status.text()
    assert len(json.dumps(content)) < 100_000

    widget = start()
    assert widget.session_offer.isVisibleTo(widget)
    assert widget.session_offer.label.text().startswith("Last session: mine, ")
    click(qtbot, widget.session_offer.button)
    wait(qtbot, widget)
    again = widget.viewer
    qtbot.waitUntil(lambda: len(again.window.dock_widgets) == 4, timeout=20_000)
    assert "Opened 4 layers of the session." in widget.status.text()
    assert "Not opened" not in widget.status.text()
    assert not widget.session_offer.isVisibleTo(widget)
    for found, before in zip(again.layers, viewer.layers, strict=True):
        assert_same_layer(found, before)
    new_image, new_cells, new_points, new_mine = again.layers
    assert isinstance(new_image, Image)
    assert isinstance(new_cells, Labels)
    assert not new_cells.editable
    assert new_image.contrast_limits == [20, 180]
    assert new_image.colormap.name == "magma"
    assert new_image.metadata == image.metadata
    for found, before in ((new_points, points), (new_mine, mine)):
        assert isinstance(found, Points)
        pd.testing.assert_frame_equal(found.features, before.features)
        for name in ("face_color", "border_color", "shown", "size", "symbol", "border_width"):
            np.testing.assert_array_equal(getattr(found, name), getattr(before, name))
    assert is_opened_with(new_points, new_image)
    session = session_of(again)
    assert session.volumes.labels_of(new_image) == {"segmentation": new_cells}
    assert session.volumes.listed == [(new_image, new_points)]
    assert session.last_checkpoint == trained
    docks = {dock.menu_name: dock for dock in again.window.dock_widgets.values()}
    assert docks[TRAIN].points_box.layer is new_mine
    assert docks[PREVIEW].points_box.layer is new_points
    assert docks[EXTRACT].panel.checkpoint == trained
    assert docks[EXTRACT].form.editor("network").value == "start"
    qtbot.waitUntil(docks[PREVIEW].isVisible)
    assert not docks[PREVIEW].visibleRegion().isEmpty()
    assert docks[TRAIN].visibleRegion().isEmpty()
    assert again.layers.selection.active == new_mine
    assert again.dims.point[0] == 440
    np.testing.assert_allclose(again.scene.camera.center, (0, 77, 88))
    assert again.scene.camera.zoom == 3.5
    # What looks into the network has threads that other tests would wait for.
    for dock in (extraction, docks[EXTRACT]):
        qtbot.waitUntil(lambda dock=dock: dock.panel.info is not None, timeout=LONG)


def test_a_multiscale_volume_is_opened_with_all_its_levels(
    start: Callable[[], Any],
    qtbot: QtBot,
    tmp_path: Path,
    choose: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It looks for coarser levels of this small one, too.
    monkeypatch.setattr("napari_synapse_cl.widgets.open_data.jobs.LARGEST_IN_SIGHT", 16)
    finest = write_pyramid(tmp_path / "em.zarr")
    widget = start()
    widget.volume.text = str(tmp_path / "em.zarr")
    click(qtbot, widget.open_button)
    wait(qtbot, widget)
    [before] = widget.viewer.layers
    save(qtbot, widget, tmp_path / "s.json", choose)
    [image] = open_again(qtbot, start(), tmp_path / "s.json", choose)
    assert image.multiscale
    assert len(image.data) == len(before.data) == 2
    np.testing.assert_array_equal(np.asarray(image.data[0]), finest)
    np.testing.assert_array_equal(image.translate, before.translate)
    assert image.metadata == before.metadata


def test_the_sample_is_kept_with_points_that_were_changed(
    start: Callable[[], Any],
    qtbot: QtBot,
    sample: Sample,
    tmp_path: Path,
    choose: Callable[[Path], None],
    sample_at_hand: None,
) -> None:
    widget = start()
    image, points = widget.viewer.open_sample(PLUGIN, "em_sample")
    points.add([[1, 2, 3]])
    save(qtbot, widget, tmp_path / "s.json", choose)
    new_image, new_points = open_again(qtbot, start(), tmp_path / "s.json", choose)
    assert_same_layer(new_image, image)
    assert_same_layer(new_points, points)
    assert list(new_points.features["class"])[:-1] == list(sample.synapses["class"])


class TestWhatIsMissing:
    def test_files_that_are_gone_or_others_are_named_in_one_line_and_the_rest_opens(
        self,
        opened: Any,
        start: Callable[[], Any],
        files: dict[str, Path],
        qtbot: QtBot,
        tmp_path: Path,
        choose: Callable[[Path], None],
    ) -> None:
        opened.session.keep_checkpoint(str(tmp_path / "gone.pt"))
        save(qtbot, opened, tmp_path / "s.json", choose)
        files["segmentation"].unlink()
        tifffile.imwrite(files["volume"], voxels(shape=(5, 6, 7)))
        widget = start()
        [points] = open_again(qtbot, widget, tmp_path / "s.json", choose)
        np.testing.assert_array_equal(points.data, POSITIONS)
        _, said = widget.status.text().split("<br>")
        for words in (
            f"{files['volume']} holds another volume now, of 5 × 6 × 7 voxels",
            f"there is no volume {files['segmentation']}",
            f"there is no {tmp_path / 'gone.pt'}",
        ):
            assert words in said

    def test_what_no_file_holds_is_said_when_it_is_saved(
        self, start: Callable[[], Any], qtbot: QtBot, tmp_path: Path, choose: Any
    ) -> None:
        widget = start()
        tifffile.imwrite(tmp_path / "cells.tif", voxels("u2"))
        widget.viewer.open(tmp_path / "cells.tif", layer_type="labels", plugin="napari")
        widget.viewer.add_image(np.zeros((4, 4, 4)), name="made here")
        widget.viewer.add_shapes([np.eye(2)], name="a line")
        widget.viewer.add_points(ndim=3, name="none yet")
        widget.viewer.add_points(np.ones((1, 3)), name="kept")
        content = save(qtbot, widget, tmp_path / "s.json", choose)
        assert [entry["name"] for entry in content["layers"]] == ["cells", "kept"]
        assert (
            "Not kept: cells (what may have been painted into it); made here (no file holds it); "
            "a line (Shapes are not kept); none yet (it holds no points)"
        ) in widget.status.text()

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "is damaged, or no JSON"),
            ("{", "is damaged, or no JSON"),
            ("[" * 100_000, "nested too deeply"),
            ("[]", "is no session"),
            ('{"crop_size": 16}', "is no session"),
            ('{"napari-synapse-cl session": "0.1.0", "layers": [3]}', "its layers are none"),
            (None, "No such file"),
        ],
    )
    def test_a_file_of_something_else_is_refused_in_a_line(
        self,
        start: Callable[[], Any],
        qtbot: QtBot,
        tmp_path: Path,
        choose: Any,
        notifications: list[Notification],
        content: str | None,
        words: str,
    ) -> None:
        if content is not None:
            (tmp_path / "s.json").write_text(content)
        widget = start()
        assert open_again(qtbot, widget, tmp_path / "s.json", choose) == []
        [told] = messages(notifications, "error")
        assert words in told
        assert len(told.splitlines()) == 1

    def test_an_entry_that_is_damaged_costs_no_other(
        self,
        opened: Any,
        start: Callable[[], Any],
        qtbot: QtBot,
        tmp_path: Path,
        choose: Callable[[Path], None],
    ) -> None:
        content = save(qtbot, opened, tmp_path / "s.json", choose)
        widget = start()
        # Each kind of damage in turn, so that every key meets one and every layer all.
        damages = itertools.cycle((3, None, "x", [], {}))
        for i, entry in enumerate(content["layers"]):
            for name in [key for key in entry if key not in ("name", "volume", "metadata")]:
                layers = list(content["layers"])
                layers[i] = {**entry, name: next(damages)}
                (tmp_path / "s.json").write_text(json.dumps({**content, "layers": layers}))
                widget.viewer.layers.clear()
                found = open_again(qtbot, widget, tmp_path / "s.json", choose)
                others = {e["name"] for j, e in enumerate(content["layers"]) if j != i}
                assert others <= {layer.name for layer in found}

    @pytest.mark.parametrize("part", ["labels", "listed", "network", "docks", "selected", "view"])
    def test_a_part_that_is_damaged_is_said(
        self,
        opened: Any,
        start: Callable[[], Any],
        qtbot: QtBot,
        tmp_path: Path,
        choose: Callable[[Path], None],
        part: str,
    ) -> None:
        content = save(qtbot, opened, tmp_path / "s.json", choose)
        del content[part]
        (tmp_path / "s.json").write_text(json.dumps(content))
        widget = start()
        assert len(open_again(qtbot, widget, tmp_path / "s.json", choose)) == 3
        assert "a part of the session, which is damaged" in widget.status.text()


class TestFiles:
    def test_a_session_that_cannot_be_written_leaves_the_old_one(
        self,
        opened: Any,
        qtbot: QtBot,
        tmp_path: Path,
        choose: Callable[[Path], None],
        notifications: list[Notification],
    ) -> None:
        before = save(qtbot, opened, tmp_path / "s.json", choose)
        with full_disk(1000):
            opened.save_session(tmp_path / "s.json")
            qtbot.waitUntil(lambda: bool(messages(notifications, "error")))
        assert "Cannot write the session" in messages(notifications, "error")[0]
        assert json.loads((tmp_path / "s.json").read_text()) == before
        assert not list(tmp_path.glob("*.partial*"))

    def test_points_that_go_into_no_table_are_said_and_cost_no_other_layer(
        self, opened: Any, qtbot: QtBot, tmp_path: Path, choose: Callable[[Path], None]
    ) -> None:
        opened.viewer.layers[-1].features = {"phase": [1j, 2j, 3j]}
        content = save(qtbot, opened, tmp_path / "s.json", choose)
        assert [entry["kind"] for entry in content["layers"]] == ["image", "labels"]
        assert "Not kept: em.tif · synapses (the column phase holds" in opened.status.text()

    def test_a_name_without_a_suffix_becomes_json_and_is_the_one_offered_next(
        self, opened: Any, qtbot: QtBot, tmp_path: Path, choose: Callable[[Path], None]
    ) -> None:
        choose(tmp_path / "mine")
        choose_in_menu(opened, "Save session …")
        qtbot.waitUntil((tmp_path / "mine.json").is_file, timeout=20_000)
        qtbot.waitUntil(lambda: sessions.last_session() == tmp_path / "mine.json")
        (tmp_path / "mine.json").unlink()
        assert sessions.last_session() is None

    def test_nothing_is_offered_where_something_is_open_or_nothing_was_saved(
        self, opened: Any, start: Callable[[], Any], qtbot: QtBot, tmp_path: Path, choose: Any
    ) -> None:
        assert not (widget := start()).session_offer.isVisibleTo(widget)
        save(qtbot, opened, tmp_path / "s.json", choose)
        widget = start()
        assert widget.session_offer.isVisibleTo(widget)
        widget.viewer.add_image(np.zeros((4, 4, 4)))
        assert not widget.session_offer.isVisibleTo(widget)


def test_the_file_menu_saves_and_opens(
    opened: Any, qtbot: QtBot, tmp_path: Path, choose: Callable[[Path], None]
) -> None:
    def trigger(text: str) -> None:
        # napari fills its menus as they open.
        utilities.aboutToShow.emit()
        [action] = [a for a in utilities.actions() if a.text().startswith(text)]
        action.trigger()

    # That of the plugin hides the window's parts.
    viewer = opened.viewer.__wrapped__
    [utilities] = [
        menu
        for menu in viewer.window.file_menu.findChildren(QMenu)
        if menu.title() == "IO Utilities"
    ]
    choose(tmp_path / "s.json")
    trigger("Save session …")
    qtbot.waitUntil((tmp_path / "s.json").is_file, timeout=20_000)
    viewer.layers.clear()
    trigger("Open session …")
    wait(qtbot, opened)
    assert len(viewer.layers) == 3
