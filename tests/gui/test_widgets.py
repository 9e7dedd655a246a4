"""Menus, sample data, and widgets that open and close."""

import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from npe2 import PluginManifest
from pytestqt.qtbot import QtBot
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QLabel, QMenu

from napari_synapse_cl.features.tables import write_table
from napari_synapse_cl.widgets.forms.form import Form
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, VOLUME_KEY
from napari_synapse_cl.widgets.layers.voxels import LOCATION
from napari_synapse_cl.widgets.look import OPEN, dock_of, sentence
from napari_synapse_cl.widgets.train.monitor import Monitor

from .conftest import EXPLORE, EXTRACT, LONG, PLUGIN, PREVIEW, RUNS, TRAIN, open_widget


def test_manifest_names_the_widgets_and_what_they_are() -> None:
    manifest = PluginManifest.from_distribution(PLUGIN)
    names = [widget.display_name for widget in manifest.contributions.widgets or []]
    assert names == ["Open data", TRAIN, PREVIEW, EXTRACT, EXPLORE, RUNS]
    for command in manifest.contributions.commands or []:
        assert command.python_name
        module, name = command.python_name.split(":")
        assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize("name", [TRAIN, PREVIEW, EXTRACT, EXPLORE, RUNS])
def test_widget_opens_shows_and_closes_without_warnings(
    make_napari_viewer: Any, qtbot: QtBot, name: str
) -> None:
    viewer = make_napari_viewer(show=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
        qtbot.waitUntil(widget.isVisible)
        assert widget.width() >= widget.minimumWidth()
        viewer.theme = "light"
        viewer.window.remove_dock_widget(dock)
        # A closed widget follows the viewer no longer.
        viewer.add_image(np.zeros((4, 4, 4)))
        viewer.theme = "dark"


def test_extraction_is_in_the_layers_menu(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()

    def action_of(menu: QMenu, name: str) -> QAction:
        # napari fills its menus as they open.
        menu.aboutToShow.emit()
        [action] = [a for a in menu.actions() if a.text().replace("&", "").startswith(name)]
        return action

    bar = viewer.window._qt_window.menuBar()
    [layers] = [a.menu() for a in bar.actions() if a.text().replace("&", "") == "Layers"]
    action_of(action_of(layers, "Measure").menu(), EXTRACT).trigger()
    assert any(name.startswith(EXTRACT) for name in viewer.window.dock_widgets)


def from_the_menu(viewer: Any, name: str) -> Any:
    """Open a widget as the menu Plugins does, or hide and show it."""
    actions = {
        a.text(): a for m in viewer.window.plugins_menu.findChildren(QMenu) for a in m.actions()
    }
    [action] = [action for text, action in actions.items() if text.startswith(name)]
    action.trigger()
    return next((w for w in viewer.window.dock_widgets.values() if w.menu_name == name), None)


def test_a_button_opens_no_second_copy_of_what_the_menu_has_opened(window: Any) -> None:
    viewer = window.viewer
    viewer.window._qt_window.show()
    training = from_the_menu(viewer, TRAIN)
    preview = from_the_menu(viewer, PREVIEW)
    preview.open_training()
    training._open_extraction()
    extraction = from_the_menu(viewer, EXTRACT)
    # The menu hides what the button has opened, in place of a second one.
    assert not dock_of(extraction).isVisible()
    widgets = list(viewer.window.dock_widgets.values())
    assert widgets == [training, preview, extraction]


def test_our_docks_are_tabs_with_short_titles_and_leave_the_window_low(
    window: Any, qtbot: QtBot
) -> None:
    main = window.viewer.window._qt_window
    main.show()
    names = [OPEN, TRAIN, PREVIEW, EXTRACT, EXPLORE, RUNS]
    docks = [dock_of(from_the_menu(window.viewer, name)) for name in names]
    qtbot.waitUntil(lambda: len(main.tabifiedDockWidgets(docks[0])) == 5)
    titles = ["Preview" if name == PREVIEW else name for name in names]
    assert [dock.windowTitle() for dock in docks] == titles
    above = [dock.titleBarWidget().findChildren(QLabel) for dock in docks]
    assert [[label.text() for label in labels] for labels in above] == [[t] for t in titles]
    assert all(dock.minimumSizeHint().height() <= 300 for dock in docks)
    # The one that was opened last is in front.
    qtbot.waitUntil(lambda: not docks[-1].visibleRegion().isEmpty())


@pytest.mark.parametrize("name", [TRAIN, PREVIEW, EXTRACT])
def test_a_widget_that_is_docked_again_goes_on_following(
    window: Any, qtbot: QtBot, name: str
) -> None:
    viewer = window.viewer
    widget = open_widget(viewer, name)
    for _ in range(2):
        viewer.window.remove_dock_widget(widget)
        viewer.window.add_dock_widget(widget, name=name)
    if name == PREVIEW:
        # It draws again without anybody's choosing something.
        qtbot.waitUntil(lambda: widget.pair is not None, timeout=LONG)
    image = viewer.add_image(np.zeros((20, 20, 20), np.uint8), name="another")
    widget.image_box.choose(image)
    assert widget.image_box.layer is image
    image.name = "renamed"
    assert widget.image_box.currentText() == "renamed"
    if name == PREVIEW:
        widget.image_box.choose(window.image)
        qtbot.waitUntil(lambda: widget.up_to_date, timeout=LONG)
    elif name == EXTRACT:
        viewer.layers.selection.active = window.points
        assert widget.selected.text().startswith("Synapses: ")
    else:
        viewer.layers.remove(window.points)
        qtbot.waitUntil(lambda: "no points layer" in widget.summary.text(), timeout=LONG)
    viewer.window.remove_dock_widget(widget)


class TestPointsKnowTheirVolume:
    """The volume that points were opened with is the one that they are worked on with."""

    def other(self, window: Any, shape: tuple[int, int, int], name: str = "other") -> Any:
        return window.viewer.add_image(np.zeros(shape, np.uint8), name=name, units=("nm",) * 3)

    @pytest.mark.parametrize("name", [TRAIN, PREVIEW])
    def test_choosing_the_points_chooses_it(self, window: Any, name: str) -> None:
        elsewhere = window.viewer.add_points(np.ones((3, 3)), name="elsewhere")
        other = self.other(window, (500, 500, 500))
        widget = open_widget(window.viewer, name)
        widget.points_box.choose(elsewhere)
        widget.image_box.choose(other)
        widget.points_box.choose(window.points)
        assert widget.image_box.layer is window.image
        assert widget.pair_note.isHidden()

    def test_selecting_the_points_chooses_it_for_an_extraction(self, window: Any) -> None:
        widget = open_widget(window.viewer, EXTRACT)
        window.viewer.layers.selection = {self.other(window, (500, 500, 500))}
        widget.image_box.choose(window.viewer.layers["other"])
        window.viewer.layers.selection = {window.points}
        assert widget.image_box.layer is window.image

    @pytest.mark.parametrize("name", [TRAIN, PREVIEW, EXTRACT, EXPLORE])
    def test_another_one_that_they_lie_outside_of_is_warned_of_and_put_right_by_a_click(
        self, window: Any, name: str
    ) -> None:
        other = self.other(window, (20, 20, 20), "small <b>")
        window.viewer.layers.selection = {window.points}
        widget = open_widget(window.viewer, name)
        widget.image_box.choose(other)
        text = widget.pair_note.text()
        assert "of Synapses lies outside of small &lt;b&gt;" in text
        assert not widget.pair_note.isHidden()
        widget.pair_note.linkActivated.emit("#")
        assert widget.image_box.layer is window.image
        assert widget.pair_note.isHidden()

    @pytest.mark.parametrize("name", [TRAIN, PREVIEW, EXTRACT, EXPLORE])
    def test_points_opened_with_one_file_are_not_those_of_another(
        self, window: Any, name: str
    ) -> None:
        points, image = window.points, window.image
        image.metadata = {METADATA_KEY: {LOCATION: "/data/a.tif"}}
        points.metadata = {VOLUME_KEY: {"name": "a", LOCATION: "/data/a.tif"}}
        same = self.other(window, image.data.shape, "b")
        same.metadata = {METADATA_KEY: {LOCATION: "/data/b.tif"}}
        window.viewer.layers.selection = {points}
        widget = open_widget(window.viewer, name)
        widget.image_box.choose(same)
        assert "Synapses was opened with a, not with b." in widget.pair_note.text()
        image.name = "renamed"
        widget.pair_note.linkActivated.emit("#")
        assert widget.image_box.layer is image

    @pytest.mark.parametrize("saved_by", ["napari", "the command line"])
    def test_a_table_of_ours_knows_it_too(self, window: Any, tmp_path: Path, saved_by: str) -> None:
        path = tmp_path / "table.csv"
        if saved_by == "napari":
            window.points.save(str(path), plugin=PLUGIN)
        else:
            table = pd.DataFrame(window.points.data, columns=list("zyx")).assign(L20_mean_000=0.5)
            write_table(table, path, {"volume": "EM sample", "voxel_size": [10, 10, 10]})
        window.viewer.layers.remove(window.points)
        other = self.other(window, (500, 500, 500))
        widget = open_widget(window.viewer, TRAIN)
        widget.image_box.choose(other)
        [opened] = window.viewer.open(path, plugin=PLUGIN)
        widget.points_box.choose(opened)
        assert widget.image_box.layer is window.image
        assert widget.pair_note.isHidden()

    def test_other_units_are_named(self, window: Any) -> None:
        window.image.units = ("pixel",) * 3
        window.image.scale = (1, 1, 1)
        window.points.metadata = {}
        widget = open_widget(window.viewer, TRAIN)
        assert "it counts in nanometer, the volume in pixel." in widget.pair_note.text()

    @pytest.mark.parametrize("name", [TRAIN, PREVIEW, EXTRACT, EXPLORE])
    def test_lengths_and_voxels_are_warned_of_wherever_points_lie(
        self, window: Any, name: str
    ) -> None:
        window.points.metadata = {}
        large = window.viewer.add_image(np.zeros((2000, 2000, 4000), bool), name="large")
        window.viewer.layers.selection = {window.points}
        widget = open_widget(window.viewer, name)
        widget.image_box.choose(large)
        assert "Synapses counts in nanometer, the volume in pixel." in widget.pair_note.text()
        assert not widget.pair_note.isHidden()
        # They are drawn in the same place, so nobody has forgotten but the unit.
        window.points.units = ("pixel",) * 3
        widget.image_box.choose(window.image)
        assert widget.pair_note.isHidden()

    def test_points_without_a_history_that_lie_inside_are_taken_as_they_are(
        self, window: Any
    ) -> None:
        window.points.metadata = {}
        widget = open_widget(window.viewer, TRAIN)
        assert widget.pair_note.isHidden()


def test_widgets_follow_the_layer_list(window: Any) -> None:
    widget = open_widget(window.viewer, TRAIN)
    assert widget.image_box.currentText() == "EM sample"
    assert widget.points_box.currentText() == "Synapses"
    window.image.name = "renamed"
    assert widget.image_box.currentText() == "renamed"
    window.viewer.add_image(np.zeros((4, 4, 4)), name="another")
    assert widget.image_box.currentText() == "renamed"
    assert widget.image_box.count() == 2
    window.viewer.layers.remove(window.image)
    assert widget.image_box.currentText() == "another"
    window.viewer.layers.clear()
    assert widget.image_box.layer is None


def test_form_shows_what_the_settings_declare(qtbot: QtBot) -> None:
    form = Form(("learning_rate", "batch_size", "flip_prob", "crop_size"), {"More": ("pooling",)})
    qtbot.addWidget(form)
    assert float(form.editor("learning_rate").value) == 1e-4
    assert form.editor("batch_size").min == 2
    assert form.editor("flip_prob").box.maximum() == 1
    assert form.editor("crop_size").value == "80"
    assert form.editor("pooling").choices[:3] == ("mean", "max", "mean+max")
    assert "learning rate" in form.editor("learning_rate").native.toolTip()
    form.editor("crop_size").value = "16 32 32"
    form.editor("learning_rate").value = "3e-5"
    config = form.config()
    assert config.crop_size == (16, 32, 32)
    assert config.learning_rate == 3e-5


def test_opening_docks_imports_nothing_that_only_jobs_need() -> None:
    code = f"""
import sys, napari
viewer = napari.Viewer(show=False)
before = set(sys.modules)
for name in {["Open data", TRAIN, PREVIEW, EXTRACT, EXPLORE, RUNS]!r}:
    viewer.window.add_plugin_dock_widget({PLUGIN!r}, name)
late = {{"torch", "pandas", "pyarrow", "zarr", "pyqtgraph", "h5py", "tensorstore", "sklearn"}}
assert not late & (set(sys.modules) - before), late & set(sys.modules)
viewer.close()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr


def test_the_plots_of_a_training_are_there_when_they_are_looked_at(
    window: Any, qtbot: QtBot
) -> None:
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    assert not widget.findChildren(Monitor)
    widget.tabs.setCurrentWidget(widget.view)
    qtbot.waitUntil(lambda: len(widget.findChildren(Monitor)) == 1)
    qtbot.waitUntil(widget.view.monitor.isVisible)


@pytest.mark.parametrize(
    ("clause", "said"),
    [
        ("the batch size of 64 is lowered", "The batch size of 64 is lowered."),
        ("crops: none is left!", "Crops: none is left!"),
        ("best_metric cannot be loss", "“Best metric” cannot be loss."),
        ("give it with --voxel_size", "Give it with “Voxel size”."),
        ("temperature cannot be 0", "Temperature cannot be 0."),
        ("go on with it with --resume", "Go on with it with “Continue”."),
        ("cannot read /a/crop_size/x.json", "Cannot read /a/crop_size/x.json."),
        ("t.csv is empty", "t.csv is empty."),
        ("3 of 4 lie inside", "3 of 4 lie inside."),
    ],
)
def test_a_sentence_begins_large_and_names_fields_as_labels_do(clause: str, said: str) -> None:
    assert sentence(clause) == said
