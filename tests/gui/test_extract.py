"""Extractions that put features onto the points that are selected."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.layers import Points
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features.descriptors import descriptor_columns
from napari_synapse_cl.features.tables import read_table
from napari_synapse_cl.widgets.extract.columns import PointResults, prefixes

from .conftest import (
    EXTRACT,
    LONG,
    PLUGIN,
    SMALL,
    TRAIN,
    click,
    fill_in,
    job_processes,
    messages,
    open_widget,
    press_in_dialog,
    select_run,
    train,
    wait_for_end,
)

pytestmark = pytest.mark.usefixtures("no_children")

CHANNELS = [f"L20_mean_{channel:03d}" for channel in range(4 * int(str(SMALL["fmaps"])))]
COMPONENTS = [f"L20_mean_PC{i}" for i in (1, 2, 3)]
COLUMNS = [*CHANNELS, *COMPONENTS]
ON_CPU = {"device": "cpu", "precision": "float32"}


@pytest.fixture(scope="session")
def expected(trained: Path, sample: Sample) -> np.ndarray:
    """The features of the sample, by the command line's code."""
    from napari_synapse_cl.config import Config
    from napari_synapse_cl.pipeline import run

    folder = trained.parents[2]
    values = {"image": folder / "volume.npy", "synapses": folder / "synapses.csv", **ON_CPU}
    values |= {"extract_only": True, "checkpoint": trained, "output": folder / "features"}
    for _ in run(Config.from_values(values)):
        pass
    table = pd.read_csv(folder / "features" / "features_L20_mean.csv")
    return table[CHANNELS].to_numpy(np.float32)


def open_on(viewer: Any, checkpoint: Path) -> Any:
    """Open the widget with a checkpoint and layer 20."""
    widget = open_widget(viewer, EXTRACT)
    widget.session.settings.set("layer_num", [20])
    fill_in(widget, {**ON_CPU, "checkpoint": checkpoint})
    return widget


@pytest.fixture
def widget(window: Any, trained: Path) -> Any:
    """The widget, with a checkpoint, and the points selected."""
    window.viewer.layers.selection.active = window.points
    return open_on(window.viewer, trained)


def extract(qtbot: QtBot, widget: Any) -> None:
    click(qtbot, widget.start_button)
    assert widget.cancel_button.isEnabled()
    wait_for_end(qtbot, widget)


def assert_features(points: Points, expected: np.ndarray, columns: list[str] = CHANNELS) -> None:
    features = points.features[columns].to_numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-6)


class TestResults:
    def test_features_are_assigned_in_the_order_of_the_points(
        self, window: Any, widget: Any, qtbot: QtBot, trained: Path, expected: np.ndarray,
        sample: Sample,
    ) -> None:  # fmt: skip
        # Reversed, with one point outside the volume: a mistake in the order would show.
        points = window.points
        classes = list(sample.synapses["class"])[::-1]
        points.data = [*points.data[::-1], [500, 500, 500]]
        points.features = pd.DataFrame({"class": [*classes, "far"]})
        heard: list[object] = []
        points.events.features.connect(heard.append)
        extract(qtbot, widget)
        assert heard
        assert list(points.features.columns) == ["class", *COLUMNS]
        assert list(points.features["class"]) == [*classes, "far"]
        features = points.features[CHANNELS].to_numpy()
        np.testing.assert_allclose(features[:-1], expected[::-1], rtol=1e-4, atol=1e-6)
        assert np.isnan(features[-1]).all()
        record = points.metadata["napari_synapse_cl"]["L20_mean"]
        assert record["checkpoint"] == str(trained)
        assert len(record["sha256"]) == 64
        assert (record["pooling"], record["crop_size"]) == ("mean", [16, 16, 16])
        assert (record["image"], record["settings"]["layer_num"]) == ("EM sample", [20])
        assert record["napari-synapse-cl"]

    def test_several_layers_and_poolings_come_in_one_pass(
        self, window: Any, widget: Any, qtbot: QtBot, expected: np.ndarray
    ) -> None:
        widget.panel.table.choose([3, 20])
        fill_in(widget, {"pooling": "mean+max", "n_components": 1})
        extract(qtbot, widget)
        per_layer = {3: 2, 20: 8}
        names = []
        for layer, n in per_layer.items():
            names += [f"L{layer}_{part}_{c:03d}" for part in ("mean", "max") for c in range(n)]
            names += [f"L{layer}_mean+max_PC1"]
        assert list(window.points.features.columns) == ["class", *names]
        assert_features(window.points, expected)
        origins = window.points.metadata["napari_synapse_cl"]
        assert {"L3_mean", "L3_max", "L20_mean", "L20_max", "L20_mean+max"} <= set(origins)

    def test_descriptors_need_neither_a_network_nor_a_layer(
        self, window: Any, widget: Any, qtbot: QtBot
    ) -> None:
        widget.panel.table.choose([])
        widget.form.editor("checkpoint").line_edit.value = ""
        fill_in(widget, {"descriptors": True, "n_components": 1, "crop_size": "16"})
        extract(qtbot, widget)
        columns = list(window.points.features.columns)
        assert columns == ["class", *descriptor_columns(), "hand_PC1"]
        assert window.points.features["hand_hist_00"].notna().any()
        record = window.points.metadata["napari_synapse_cl"]["hand"]
        assert record["settings"]["descriptors"] is True
        assert "checkpoint" not in record

    def test_descriptors_come_beside_a_layer_and_again_beside_themselves(
        self, window: Any, widget: Any, qtbot: QtBot, expected: np.ndarray
    ) -> None:
        fill_in(widget, {"descriptors": True, "n_components": 0})
        extract(qtbot, widget)
        assert_features(window.points, expected)
        assert prefixes(window.points) == ["L20_mean", "hand"]
        press_in_dialog("Keep both")
        extract(qtbot, widget)
        assert prefixes(window.points) == ["L20_mean", "hand", "L20_mean_v2", "hand_v2"]
        again = window.points.features["hand_v2_centre_gradient_1_mean"]
        pd.testing.assert_series_equal(
            again, window.points.features["hand_centre_gradient_1_mean"], check_names=False
        )

    def test_a_new_layer_gets_them_if_that_is_wanted(
        self, window: Any, widget: Any, qtbot: QtBot, expected: np.ndarray
    ) -> None:
        window.points.rotate = 10
        widget.points_panel.place_box.setCurrentText("a new Points layer")
        extract(qtbot, widget)
        *before, new = window.viewer.layers
        assert before == [window.image, window.points]
        assert list(window.points.features.columns) == ["class"]
        assert list(new.features.columns) == ["class", *COLUMNS]
        np.testing.assert_array_equal(new.data, window.points.data)
        for name in ("scale", "rotate", "translate"):
            np.testing.assert_array_equal(getattr(new, name), getattr(window.points, name))
        assert new.units == window.points.units
        assert "L20_mean" in new.metadata["napari_synapse_cl"]
        # The next extraction is for what was selected before.
        assert window.viewer.layers.selection.active is window.points

    def test_a_new_layer_is_drawn_as_the_old_one_is(
        self, window: Any, widget: Any, qtbot: QtBot
    ) -> None:
        drawn = {"opacity": 0.35, "out_of_slice_display": True, "blending": "additive"}
        for name, value in drawn.items():
            setattr(window.points, name, value)
        window.points.border_width = 0.3
        window.points.shown = np.arange(len(window.points.data)) % 2 == 0
        widget.points_panel.place_box.setCurrentText("a new Points layer")
        extract(qtbot, widget)
        new = window.viewer.layers[-1]
        assert {name: getattr(new, name) for name in drawn} == drawn
        for name in ("border_width", "shown", "size", "symbol", "border_color"):
            np.testing.assert_array_equal(getattr(new, name), getattr(window.points, name))

    def test_the_colours_of_a_new_layer_have_a_legend(
        self, window: Any, widget: Any, qtbot: QtBot
    ) -> None:
        widget.points_panel.place_box.setCurrentText("a new Points layer")
        extract(qtbot, widget)
        new = window.viewer.layers[-1]
        assert len(np.unique(new.face_color, axis=0)) > 4
        window.viewer.layers.selection.active = new
        box = widget.points_panel.color_box
        assert box.column == "L20_mean_PC1"
        assert f"{new.features['L20_mean_PC1'].max():.4g}" in box.legend.text()

    def test_the_line_that_tells_the_result_names_volume_run_network_and_layer(
        self, widget: Any, qtbot: QtBot, trained: Path, notifications: list[Notification]
    ) -> None:
        widget.panel.table.choose([3, 20])
        extract(qtbot, widget)
        said = f"read in EM sample, by network layers 3 and 20 of {trained}."
        assert widget.status.text().endswith(said)
        assert messages(notifications, "info")[-1].endswith(said)

    def test_a_point_that_is_nowhere_has_no_features_and_the_others_have(
        self, window: Any, widget: Any, qtbot: QtBot
    ) -> None:
        data = window.points.data.copy()
        data[2, 1] = np.nan
        window.points.data = data
        extract(qtbot, widget)
        missing = window.points.features["L20_mean_000"].isna()
        assert missing.tolist() == [i == 2 for i in range(len(data))]

    def test_results_that_cannot_be_read_end_the_extraction_with_a_word(
        self,
        widget: Any,
        qtbot: QtBot,
        monkeypatch: pytest.MonkeyPatch,
        notifications: list[Notification],
    ) -> None:
        def fail(path: Path) -> Any:
            raise RuntimeError("the table is locked")

        monkeypatch.setattr("napari_synapse_cl.widgets.extract.jobs._read", fail)
        extract(qtbot, widget)
        assert widget.status.text() == "The table is locked."
        assert widget.start_button.isEnabled()
        assert messages(notifications, "error") == ["The table is locked."]

    def test_what_was_found_is_seen_at_once(self, window: Any, widget: Any, qtbot: QtBot) -> None:
        extract(qtbot, widget)
        box = widget.points_panel.color_box
        assert box.column == "L20_mean_PC1"
        assert len(np.unique(window.points.face_color, axis=0)) > 4
        values = window.points.features["L20_mean_PC1"]
        assert f"{values.max():.4g}" in box.legend.text()
        # What was chosen to colour by stays chosen.
        box.setCurrentText("class")
        box.activated.emit(box.currentIndex())
        press_in_dialog("Replace")
        extract(qtbot, widget)
        assert box.column == "class"
        assert "L20_mean_PC1" in window.points.features

    def test_points_are_coloured_by_the_column_that_is_chosen(
        self, window: Any, widget: Any, qtbot: QtBot
    ) -> None:
        window.points.data = [*window.points.data, [500, 500, 500]]
        fill_in(widget, {"n_components": 0})
        extract(qtbot, widget)
        box = widget.points_panel.color_box
        assert box.column is None
        press_in_dialog("Replace")
        fill_in(widget, {"n_components": 3})
        extract(qtbot, widget)
        assert [box.itemText(i) for i in range(5)] == ["as they are", *COMPONENTS, "class"]
        box.setCurrentText("as they are")
        box.setFocus()
        qtbot.keyClick(box, Qt.Key.Key_Down)
        assert box.column == "L20_mean_PC1"
        values = window.points.features["L20_mean_PC1"].to_numpy()[:-1]
        colors = window.points.face_color
        assert (colors[-1] == 0).all()
        # Viridis, by default, is the brighter the higher the value.
        brightness = colors[:-1, :3] @ [0.299, 0.587, 0.114]
        assert np.corrcoef(np.argsort(np.argsort(values)), brightness)[0, 1] > 0.9

    def test_maps_that_are_not_pooled_are_kept_in_a_file(
        self, window: Any, widget: Any, qtbot: QtBot, tmp_path: Path
    ) -> None:
        fill_in(widget, {"pooling": "none"})
        extract(qtbot, widget)
        [file] = (tmp_path / "runs").rglob("*.npy")
        assert str(file) in widget.status.text()
        assert np.load(file).shape == (12, 8, 4, 4, 4)
        assert list(window.points.features.columns) == ["class"]

    def test_an_output_folder_gets_the_table_too(
        self, widget: Any, qtbot: QtBot, tmp_path: Path, expected: np.ndarray
    ) -> None:
        fill_in(widget, {"output": tmp_path / "kept"})
        extract(qtbot, widget)
        table, record = read_table(tmp_path / "kept" / "features_L20_mean.csv")
        np.testing.assert_allclose(table[CHANNELS], expected, rtol=1e-4, atol=1e-6)
        assert len(record["sha256"]) == 64


class TestGeometry:
    def test_layers_with_other_transforms_meet_in_the_world(
        self, make_napari_viewer: Any, qtbot: QtBot, trained: Path, expected: np.ndarray,
        sample: Sample,
    ) -> None:  # fmt: skip
        viewer = make_napari_viewer()
        where = {"scale": (10, 10, 10), "translate": (100, -50, 7), "units": ("nm",) * 3}
        viewer.add_image(sample.image, **where)
        voxels = sample.synapses[["z", "y", "x"]].to_numpy(float)
        # The points count in micrometres, from another origin, by another step.
        world = (voxels * 10 + [100, -50, 7]) / 1000
        points = viewer.add_points(
            (world - 0.3) / 0.002, scale=(0.002,) * 3, translate=(0.3,) * 3, units=("um",) * 3
        )
        widget = open_on(viewer, trained)
        extract(qtbot, widget)
        assert_features(points, expected)

    def test_rotated_anisotropic_layers_meet_in_the_world(
        self, make_napari_viewer: Any, qtbot: QtBot, trained: Path, expected: np.ndarray,
        sample: Sample,
    ) -> None:  # fmt: skip
        viewer = make_napari_viewer()
        image = viewer.add_image(
            sample.image, scale=(40, 4, 4), rotate=(10, 20, 30), translate=(5, 6, 7)
        )
        voxels = sample.synapses[["z", "y", "x"]].to_numpy(float)
        world = [image.data_to_world(voxel) for voxel in voxels]
        points = viewer.add_points(np.array(world))
        widget = open_on(viewer, trained)
        extract(qtbot, widget)
        assert_features(points, expected)

    def test_multiscale_layer_is_read_at_its_finest_level(
        self, make_napari_viewer: Any, qtbot: QtBot, trained: Path, expected: np.ndarray,
        sample: Sample,
    ) -> None:  # fmt: skip
        viewer = make_napari_viewer()
        levels = [sample.image, sample.image[::2, ::2, ::2]]
        viewer.add_image(levels, multiscale=True, scale=(10, 10, 10))
        points = viewer.add_points(sample.synapses[["z", "y", "x"]] * 10.0)
        widget = open_on(viewer, trained)
        extract(qtbot, widget)
        assert_features(points, expected)


class TestNetworks:
    def test_last_checkpoint_of_a_training_is_preset(
        self, window: Any, qtbot: QtBot, tmp_path: Path
    ) -> None:
        trainer = open_widget(window.viewer, TRAIN)
        train(qtbot, trainer, tmp_path / "run", {**SMALL, "num_epochs": 1})
        wait_for_end(qtbot, trainer)
        widget = open_widget(window.viewer, EXTRACT)
        assert widget.panel.checkpoint == tmp_path / "run" / "checkpoints" / "best.pt"
        qtbot.waitUntil(lambda: "16 × 16 × 16" in widget.panel.note.text(), timeout=LONG)

    def test_each_layer_says_what_it_is_and_how_far_it_sees(
        self, widget: Any, qtbot: QtBot
    ) -> None:
        qtbot.waitUntil(lambda: widget.panel.info is not None, timeout=LONG)
        table = widget.panel.table
        assert table.topLevelItemCount() == 34
        row = table.topLevelItem(20)
        texts = [row.text(column) for column in range(4)]
        # The sample's voxels are cubes of 10 nm.
        assert texts == ["20 · stage 3 conv 1", "8", "4³", "28³ = 280 nm"]
        assert "20 · stage 3 conv 1 · 8 channels" in row.toolTip(0)
        assert "sees 28³ voxels = 280 nm" in row.toolTip(0)

    def test_in_sight_are_the_ends_of_stages_and_what_is_ticked(
        self, widget: Any, qtbot: QtBot
    ) -> None:
        qtbot.waitUntil(lambda: widget.panel.info is not None, timeout=LONG)
        table, box = widget.panel.table, widget.panel.all_box

        def in_sight() -> list[str]:
            rows = [table.topLevelItem(index) for index in range(table.topLevelItemCount())]
            return [row.text(0) for row in rows if not row.isHidden()]

        assert in_sight() == [
            "11 · stage 1", "18 · stage 2", "20 · stage 3 conv 1", "25 · stage 3",
            "32 · stage 4, recommended",
        ]  # fmt: skip
        lowest = table.visualItemRect(table.topLevelItem(32)).bottom()
        assert lowest <= table.viewport().height()
        assert box.text() == "All 34 layers of the network"
        box.click()
        assert len(in_sight()) == 34
        box.click()
        table.topLevelItem(20).setCheckState(0, Qt.CheckState.Unchecked)
        table.choose([32])
        assert "20 · stage 3 conv 1" not in in_sight()

    def test_nothing_is_listed_of_no_network_and_the_one_of_the_program_is_a_click_away(
        self, window: Any, qtbot: QtBot
    ) -> None:
        panel = open_widget(window.viewer, EXTRACT).panel
        assert panel.table.isHidden()
        assert panel.all_box.isHidden()
        [use] = panel.packaged_buttons
        click(qtbot, use)
        qtbot.waitUntil(lambda: panel.info is not None, timeout=LONG)
        assert not panel.table.isHidden()
        assert not panel.all_box.isHidden()
        # Nobody has chosen layers: the recommended one is ticked.
        assert panel.chosen == (32,)
        assert panel.note.text() == "Trained on crops of 32 × 32 × 32 voxels."

    def test_layers_that_someone_has_chosen_stay_ticked(self, window: Any, qtbot: QtBot) -> None:
        widget = open_widget(window.viewer, EXTRACT)
        # The default, but chosen: as a recipe does that names it.
        widget.session.settings.set("layer_num", [20])
        click(qtbot, widget.panel.packaged_buttons[0])
        qtbot.waitUntil(lambda: widget.panel.info is not None, timeout=LONG)
        assert widget.panel.chosen == (20,)

    def test_maps_are_as_large_as_the_crops_that_are_filled_in(
        self, widget: Any, qtbot: QtBot
    ) -> None:
        qtbot.waitUntil(lambda: widget.panel.info is not None, timeout=LONG)
        fill_in(widget, {"crop_size": "16 32 32"})
        assert widget.panel.table.topLevelItem(20).text(2) == "4×8×8"

    def test_a_ticked_layer_is_extracted_and_crops_of_another_size_are_told_of(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        table = widget.panel.table
        table.choose([])
        table.topLevelItem(12).setCheckState(0, Qt.CheckState.Checked)
        fill_in(widget, {"crop_size": "32"})
        extract(qtbot, widget)
        assert "L12_mean_001" in window.points.features
        assert not [name for name in window.points.features if name.startswith("L20")]
        [warning] = messages(notifications, "warning")
        assert "trained on crops of 16 × 16 × 16 voxels and sees crops of 32 × 32 × 32" in warning

    def test_a_run_and_the_network_it_started_from_can_be_chosen(
        self, window: Any, widget: Any, qtbot: QtBot, trained: Path
    ) -> None:
        click(qtbot, widget.panel.run_button)
        runs = select_run(qtbot, window.viewer, trained.parents[1])
        click(qtbot, runs.use_button)
        assert widget.panel.checkpoint == trained.with_name("best.pt")
        fill_in(widget, {"network": "start"})
        extract(qtbot, widget)
        record = window.points.metadata["napari_synapse_cl"]["L20_mean"]
        assert (record["network"], record["seed"]) == ("start", 0)

    def test_a_file_without_a_run_has_no_other_networks(
        self, widget: Any, qtbot: QtBot, trained: Path, tmp_path: Path
    ) -> None:
        network = widget.form.editor("network").native
        qtbot.waitUntil(lambda: widget.panel.info is not None, timeout=LONG)
        assert network.isEnabled()
        (tmp_path / "alone.pt").write_bytes(trained.read_bytes())
        fill_in(widget, {"checkpoint": tmp_path / "alone.pt"})
        qtbot.waitUntil(lambda: widget.panel.info is not None, timeout=LONG)
        assert not network.isEnabled()


class TestColumnsThatAreThere:
    @pytest.fixture(autouse=True)
    def once(self, window: Any, widget: Any) -> None:
        """Features as an extraction before has left them."""
        window.points.features = window.points.features.assign(**dict.fromkeys(COLUMNS, 1.5))
        window.points.metadata = {"napari_synapse_cl": {"L20_mean": {}}}

    def test_they_stay_when_the_person_cancels(
        self, window: Any, widget: Any, qtbot: QtBot
    ) -> None:
        before = window.points.features.copy()
        pressed = press_in_dialog("Cancel")
        click(qtbot, widget.start_button)
        assert pressed
        assert widget.job is None
        pd.testing.assert_frame_equal(window.points.features, before)

    def test_new_ones_come_beside_them(
        self, window: Any, widget: Any, qtbot: QtBot, expected: np.ndarray
    ) -> None:
        press_in_dialog("Keep both")
        extract(qtbot, widget)
        names = [name.replace("mean", "mean_v2") for name in COLUMNS]
        assert list(window.points.features.columns) == ["class", *COLUMNS, *names]
        assert_features(window.points, expected, names[: len(CHANNELS)])
        assert (window.points.features[COLUMNS] == 1.5).all(axis=None)
        assert list(window.points.metadata["napari_synapse_cl"]) == ["L20_mean", "L20_mean_v2"]

    def test_they_are_replaced_where_they_are(
        self, window: Any, widget: Any, qtbot: QtBot, expected: np.ndarray
    ) -> None:
        features = window.points.features
        # As left by a network of more channels; and a column of the person's own.
        window.points.features = features.assign(L20_mean_008=2.5, own=3)
        press_in_dialog("Replace")
        extract(qtbot, widget)
        assert list(window.points.features.columns) == ["class", *COLUMNS, "own"]
        assert_features(window.points, expected)


class TestChangesMeanwhile:
    def test_points_that_changed_get_no_features_but_a_file(
        self, window: Any, widget: Any, qtbot: QtBot, tmp_path: Path, expected: np.ndarray,
        notifications: list[Notification],
    ) -> None:  # fmt: skip
        click(qtbot, widget.start_button)
        window.points.add([[5, 5, 5]])
        wait_for_end(qtbot, widget)
        (message,) = messages(notifications, "error")
        assert "was changed" in message
        assert list(window.points.features.columns) == ["class"]
        (kept,) = (tmp_path / "runs").rglob("*.csv")
        assert str(kept) in message
        table, record = read_table(kept)
        np.testing.assert_allclose(table[CHANNELS], expected, rtol=1e-4, atol=1e-6)
        assert len(record["sha256"]) == 64

    def test_so_do_points_that_were_removed(
        self, window: Any, widget: Any, qtbot: QtBot, tmp_path: Path,
        notifications: list[Notification],
    ) -> None:  # fmt: skip
        click(qtbot, widget.start_button)
        window.viewer.layers.remove(window.points)
        wait_for_end(qtbot, widget)
        (message,) = messages(notifications, "error")
        assert "was removed" in message
        assert len(list((tmp_path / "runs").rglob("*.csv"))) == 1

    @pytest.mark.parametrize("name", ["CON", "a/b\\c:d\0", "🧠" * 300])
    def test_they_are_kept_whatever_the_layer_is_called_and_the_home_takes_nothing(
        self, window: Any, tmp_path: Path, name: str
    ) -> None:
        window.points.name = name
        results = PointResults(window.viewer, window.points, 1, on_new_layer=False, volume="volume")
        n = len(window.points.data)
        table = pd.DataFrame({"L20_mean_000": np.arange(n, dtype=np.float32)})
        window.viewer.layers.remove(window.points)
        (tmp_path / "file").touch()
        with pytest.raises(JobError, match="was removed") as caught:
            results.finish(table, {}, tmp_path / "file" / "runs")
        kept = Path(str(caught.value).partition("they are in ")[2].partition(", one row")[0])
        assert len(read_table(kept)[0]) == n
        shutil.rmtree(kept.parent)

    def test_a_column_that_was_added_meanwhile_stays(
        self, window: Any, widget: Any, qtbot: QtBot, expected: np.ndarray
    ) -> None:
        click(qtbot, widget.start_button)
        window.points.features = window.points.features.assign(own=7)
        wait_for_end(qtbot, widget)
        assert (window.points.features["own"] == 7).all()
        assert_features(window.points, expected)

    def test_cancel_leaves_the_layer_as_it_was(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        click(qtbot, widget.start_button)
        click(qtbot, widget.cancel_button)
        wait_for_end(qtbot, widget)
        assert list(window.points.features.columns) == ["class"]
        assert "Cancelled" in widget.status.text()
        assert not messages(notifications, "error")

    def test_a_closed_widget_ends_the_job_and_leaves_nothing_half_done(
        self, window: Any, qtbot: QtBot, trained: Path
    ) -> None:
        dock, widget = window.viewer.window.add_plugin_dock_widget(PLUGIN, EXTRACT)
        fill_in(widget, {**ON_CPU, "checkpoint": trained})
        click(qtbot, widget.start_button)
        window.viewer.window.remove_dock_widget(dock)
        again = open_widget(window.viewer, EXTRACT)
        qtbot.waitUntil(lambda: "extraction" not in again.session.running, timeout=LONG)
        qtbot.waitUntil(lambda: not job_processes(), timeout=LONG)
        # The whole may have been there already when the job was told to stop.
        whole = [re.sub("^L20", "L32", column) for column in COLUMNS]
        assert list(window.points.features.columns) in (["class"], ["class", *whole])


class TestRefusals:
    @pytest.mark.parametrize("kind", ["none", "missing", "broken"])
    def test_wrong_checkpoint(
        self, window: Any, widget: Any, qtbot: QtBot, tmp_path: Path, kind: str,
        notifications: list[Notification],
    ) -> None:  # fmt: skip
        path = tmp_path / "network.pt"
        if kind == "broken":
            path.write_bytes(b"no checkpoint")
        if kind == "none":
            widget.form.editor("checkpoint").line_edit.value = ""
        else:
            fill_in(widget, {"checkpoint": path})
        self.refused(window, widget, qtbot, notifications, "checkpoint")

    def test_no_layer_is_ticked(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        widget.panel.table.choose([])
        self.refused(window, widget, qtbot, notifications, "no network layer is ticked")

    def test_crops_that_the_network_cannot_take(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        fill_in(widget, {"crop_size": "24"})
        self.refused(window, widget, qtbot, notifications, "must be a multiple of 16 × 16 × 16")

    def test_a_layer_that_another_network_had(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification],
        trained: Path, tmp_path: Path,
    ) -> None:  # fmt: skip
        widget.panel.table.choose([40])
        self.refused(window, widget, qtbot, notifications, "no network layer is ticked")

    def test_points_that_lie_outside(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        window.points.data = window.points.data + 5000
        self.refused(window, widget, qtbot, notifications, "lie outside the volume")

    def test_no_points(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        window.points.data = np.empty((0, 3))
        self.refused(window, widget, qtbot, notifications, "holds no points")

    def test_points_in_2d(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        window.viewer.add_points([[1, 2]])
        self.refused(window, widget, qtbot, notifications, "2D points")

    def test_no_volume(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        window.viewer.layers.remove(window.image)
        window.viewer.layers.selection.active = window.points
        self.refused(window, widget, qtbot, notifications, "there is no image layer")

    def refused(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification], text: str
    ) -> None:
        click(qtbot, widget.start_button)
        qtbot.waitUntil(lambda: bool(messages(notifications, "error")), timeout=LONG)
        wait_for_end(qtbot, widget)
        (message,) = messages(notifications, "error")
        assert text in message.replace("There", "there").replace("No network", "no network")
        assert "\n" not in message
        assert list(window.points.features.columns) == ["class"]


class TestComparison:
    def test_the_best_layer_is_shown_and_ticked(
        self, widget: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        assert widget.points_panel.label_box.column == "class"
        click(qtbot, widget.points_panel.compare_button)
        wait_for_end(qtbot, widget)
        report = widget.report
        assert report.isVisible()
        rows = [report.table.topLevelItem(i) for i in range(report.table.topLevelItemCount())]
        # Ten layers, what is joined of the best, and four baselines.
        assert len(rows) == 16
        [best] = [row for row in rows if "★" in row.text(0)]
        assert int(best.text(0).split(" ")[0]) in widget.panel.table.chosen
        assert rows[-1].text(0) == "intensity histogram"
        assert [row.text(6) for row in rows].count("–") == 1
        assert "on these synapses" in widget.status.text()
        assert "–" not in {row.text(4) for row in rows}
        assert not messages(notifications, "error")
        report.table.setCurrentItem(rows[0])
        click(qtbot, report.use_button)
        assert widget.panel.table.chosen == (0,)
        pair = next(row for row in rows if row.text(0).startswith("layer "))
        report.table.setCurrentItem(pair)
        click(qtbot, report.use_button)
        assert report.use_button.text().startswith("Use layers ")
        assert len(widget.panel.table.chosen) == 2
        report.close()
        qtbot.waitUntil(lambda: widget.report is None)

    def test_without_labels_layers_are_compared_by_recall_alone_and_saved(
        self, widget: Any, qtbot: QtBot, choose: Callable[[Path], None], tmp_path: Path
    ) -> None:
        widget.panel.table.choose([3, 20])
        widget.points_panel.label_box.setCurrentIndex(0)
        click(qtbot, widget.points_panel.compare_button)
        wait_for_end(qtbot, widget)
        table = widget.report.table
        rows = [table.topLevelItem(i) for i in range(table.topLevelItemCount())]
        assert [row.text(0).split(" ")[0] for row in rows] == ["3", "20", "intensity"]
        assert {row.text(4) for row in rows} == {"–"}
        choose(tmp_path / "scores.csv")
        click(qtbot, widget.report.save_button)
        assert len(pd.read_csv(tmp_path / "scores.csv")) == 3
        # The plot follows the theme.
        widget.viewer.theme = "light"

    def test_it_is_for_points(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        window.viewer.layers.selection.active = window.image
        click(qtbot, widget.points_panel.compare_button)
        (message,) = messages(notifications, "error")
        assert "select a Points layer" in message


class TestExport:
    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".h5ad"])
    def test_features_are_saved_and_opened_again(
        self, window: Any, widget: Any, qtbot: QtBot, choose: Callable[[Path], None],
        tmp_path: Path, suffix: str,
    ) -> None:  # fmt: skip
        window.points.features = window.points.features.assign(L20_mean_000=np.float32(1.5))
        file = tmp_path / f"points{suffix}"
        choose(file)
        click(qtbot, widget.export_button)
        qtbot.waitUntil(file.exists)
        [layer] = window.viewer.open(file, plugin="napari-synapse-cl")
        np.testing.assert_array_equal(layer.data, window.points.data)
        assert list(layer.features.columns) == ["class", "L20_mean_000"]
        assert layer.units == window.points.units

    def test_an_image_has_nothing_to_save(
        self, window: Any, widget: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        window.viewer.layers.selection.active = window.image
        click(qtbot, widget.export_button)
        (message,) = messages(notifications, "error")
        assert "elect the Points layer" in message


class TestPartOfResults:
    """Features that are shown before all are there."""

    @pytest.fixture
    def points(self) -> Points:
        points = Points(np.random.default_rng(0).random((4, 3)), name="Synapses")
        points.features = pd.DataFrame(
            {"first": range(4), **dict.fromkeys(COLUMNS, 1.5), "L20_mean_008": 2.5, "own": "a"}
        )
        return points

    @pytest.fixture
    def part(self) -> pd.DataFrame:
        values = np.full((4, len(CHANNELS)), np.nan, np.float32)
        values[:2] = 7
        return pd.DataFrame(values, columns=CHANNELS)

    def test_what_was_replaced_comes_back_in_its_place(
        self, points: Points, part: pd.DataFrame
    ) -> None:
        viewer = ViewerModel()
        viewer.add_layer(points)
        before = points.features.copy()
        results = PointResults(viewer, points, 1, on_new_layer=False, volume="EM")
        results.show(part)
        assert points.features["L20_mean_000"].tolist()[:2] == [7, 7]
        # That of a network with more channels does not belong to what is there now.
        assert "L20_mean_008" not in points.features
        results.undo()
        pd.testing.assert_frame_equal(points.features, before)

    def test_columns_that_were_added_go_again(self, points: Points, part: pd.DataFrame) -> None:
        viewer = ViewerModel()
        viewer.add_layer(points)
        before = points.features.copy()
        results = PointResults(viewer, points, 2, on_new_layer=False, volume="EM")
        results.show(part)
        assert np.isnan(points.features["L20_mean_v2_000"]).tolist() == [False] * 2 + [True] * 2
        points.features = points.features.assign(meanwhile=1)
        results.undo()
        pd.testing.assert_frame_equal(points.features, before.assign(meanwhile=1))

    def test_a_new_layer_goes_again(self, points: Points, part: pd.DataFrame) -> None:
        viewer = ViewerModel()
        viewer.add_layer(points)
        results = PointResults(viewer, points, 1, on_new_layer=True, volume="EM")
        results.show(part)
        assert len(viewer.layers) == 2
        results.undo()
        assert list(viewer.layers) == [points]

    def test_colours_stay_when_their_column_is_replaced(
        self, points: Points, part: pd.DataFrame
    ) -> None:
        viewer = ViewerModel()
        viewer.add_layer(points)
        points.face_color = "L20_mean_000"
        before = points.face_color.copy()
        PointResults(viewer, points, 1, on_new_layer=False, volume="EM").show(part)
        np.testing.assert_array_equal(points.face_color, before)


class TestMasks:
    def test_a_network_that_was_trained_on_clefts_sees_clefts(
        self, window: Any, qtbot: QtBot, tmp_path: Path, sample: Sample
    ) -> None:
        import torch

        from napari_synapse_cl.config import Config
        from napari_synapse_cl.models.architecture import Architecture
        from napari_synapse_cl.models.checkpoints import save_checkpoint
        from napari_synapse_cl.models.vgg3d import Vgg3D
        from napari_synapse_cl.pipeline import run

        clefts = np.zeros(sample.image.shape, np.uint8)
        for z, y, x in sample.synapses[["z", "y", "x"]].to_numpy(int):
            clefts[z - 3 : z + 3, y - 3 : y + 3, x - 3 : x + 3] = 7
        layer = window.viewer.add_labels(clefts, scale=window.image.scale, units=window.image.units)
        trained = Config.from_values({"crop_size": 16, "fmaps": 2, "keep": "cleft"})
        architecture = Architecture.from_config(trained)
        torch.manual_seed(0)
        network = Vgg3D.from_architecture(architecture)
        file = tmp_path / "network.pt"
        save_checkpoint(file, network, architecture, config=trained.as_json())
        window.viewer.layers.selection.active = window.points
        widget = open_widget(window.viewer, EXTRACT)
        box = widget.label_boxes.boxes["labels"]
        assert not box.isVisibleTo(widget)
        widget.session.settings.set("layer_num", [20])
        fill_in(widget, {**ON_CPU, "checkpoint": file})
        qtbot.waitUntil(lambda: box.isVisibleTo(widget), timeout=LONG)
        box.choose(layer)
        widget.session.settings.set("roles", "cleft=7")
        window.viewer.layers.selection.active = window.points
        extract(qtbot, widget)
        named = {"image": sample.image, "labels": clefts}
        for name, array in named.items():
            np.save(tmp_path / f"{name}.npy", array)
        sample.synapses.to_csv(tmp_path / "t.csv", index=False)
        values = {name: tmp_path / f"{name}.npy" for name in named}
        values |= {"synapses": tmp_path / "t.csv", "voxel_size": sample.voxel_size}
        values |= {"extract_only": True, "checkpoint": file, "output": tmp_path / "out", **ON_CPU}
        list(run(Config.from_values({**values, "roles": "cleft=7"})))
        table = pd.read_csv(tmp_path / "out" / "features_L20_mean.csv")
        assert_features(window.points, table[CHANNELS].to_numpy(np.float32))
