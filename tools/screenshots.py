"""Take the pictures of the widgets for the documentation.

    xvfb-run -s "-screen 0 1280x800x24" python tools/screenshots.py [open] [preview] …

open, preview, train, extract and explore name the pictures; without any, all but explore. It opens
napari on the sample volume and drives each widget for real: some ten minutes on two cores.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import napari
import numpy as np
import tifffile
from magicgui.widgets import FileEdit, LineEdit
from napari.layers import Points
from qtpy.QtWidgets import QApplication, QWidget

from napari_synapse_cl.data.sample.volume import make_sample
from napari_synapse_cl.widgets import session as settings_store
from napari_synapse_cl.widgets.look import EXPLORE, EXTRACT, PLUGIN, PREVIEW, TRAIN, open_dock

OPEN = "Open data"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
WINDOW = (1280, 800)
THICKNESS_NM = 140
LIMIT_SECONDS = 3600
MAP_LAYER = 12
BOX = 20
"""Voxels that are left out on each side of the box whose map is shown."""

SETTINGS: dict[str, Any] = json.loads(Path(__file__).with_name("demo.json").read_text())
"""Those of the demo."""
LAYER = SETTINGS.pop("layer_num")
EXPLORED = {"checkpoint": "package://fibsem-10nm", "descriptors": True}
EXPLORED_LAYER = 20
N_WRONG, APART = 20, 24
"""Positions that are no synapses among those that are explored, and voxels that they lie from any
synapse along y or x at least."""


def wait(condition: Callable[[], bool]) -> None:
    """Let the window live until something has come true."""
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the window did not get so far")
        QApplication.processEvents()
        time.sleep(0.01)


def pause(seconds: float) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def fill_in(widget: Any, settings: dict[str, Any]) -> None:
    """Fill in a widget's form."""
    for name, value in settings.items():
        editor = widget.form.editor(name)
        # Sizes, small numbers and the names of networks are typed.
        if isinstance(editor, FileEdit) and isinstance(value, str):
            editor.line_edit.value = value
        else:
            editor.value = str(value) if isinstance(editor, LineEdit) else value


def n_steps(train: Any) -> int:
    """Return how many steps a training widget shows."""
    return int(train.view.monitor.series["loss"].n)


def take(viewer: napari.Viewer, name: str) -> None:
    """Save pictures of the whole window in the dark and in the light theme."""
    viewer.window.resize(*WINDOW)
    for theme, suffix in (("light", "_light"), ("dark", "")):
        viewer.theme = theme
        pause(1)
        # Without a window manager what was told before stays.
        for child in viewer.window._qt_window.findChildren(QWidget):
            if type(child).__name__ == "NapariQtNotification":
                child.close()
        viewer.reset_view()
        pause(1)
        path = IMAGES / f"{name}{suffix}.png"
        viewer.window.screenshot(str(path), size=None, flash=False, canvas_only=False)


def open_window() -> napari.Viewer:
    """Open napari on the sample, with slices thick enough to show the synapses around them."""
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW)
    viewer.open_sample(PLUGIN, "em_sample")
    image, points = viewer.layers
    depth = points.data[0][0] * image.scale[0]
    viewer.dims.set_point(0, depth)
    viewer.dims.thickness = (THICKNESS_NM, 0, 0)
    image.projection_mode = "none"
    return viewer


def show_opening(folder: Path) -> None:
    """Take the picture of the sample, opened from files as laboratories have them."""
    sample = make_sample()
    # Pixels per unit of length, as ImageJ keeps them; its first axis has a spacing.
    z, y, x = (length / 1000 for length in sample.voxel_size)
    tifffile.imwrite(
        folder / "neuropil.tif",
        sample.image,
        imagej=True,
        resolution=(1 / x, 1 / y),
        metadata={"axes": "ZYX", "spacing": z, "unit": "um"},
    )
    table = sample.synapses.drop(columns=["z", "y", "x"])
    for axis, length in zip("zyx", sample.voxel_size, strict=True):
        table[f"{axis}_nm"] = sample.synapses[axis] * length
    table.to_excel(folder / "synapses.xlsx", index=False)
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, OPEN)
    # Without folders the names are to be read in the picture.
    with chdir(folder):
        widget.volume.line.setText("neuropil.tif")
        widget.synapses.line.setText("synapses.xlsx")
        widget.open_button.click()
        wait(lambda: not widget.is_busy)
    viewer.dims.thickness = (THICKNESS_NM, 0, 0)
    viewer.layers[0].projection_mode = "none"
    take(viewer, "open_data")
    viewer.close()


def show_preview(viewer: napari.Viewer) -> None:
    """Take the picture of the preview."""
    points = viewer.layers["Synapses"]
    dock, preview = viewer.window.add_plugin_dock_widget(PLUGIN, PREVIEW)
    fill_in(preview, {name: SETTINGS[name] for name in ("crop_size", "rotation_range")})
    points.selected_data = {0}
    wait(lambda: preview.up_to_date)
    take(viewer, "preview")
    viewer.window.remove_dock_widget(dock)
    points.selected_data = set()


def show_training(viewer: napari.Viewer, folder: Path, *, pictures: bool) -> None:
    """Train, and take the pictures of the settings and of the progress."""
    dock, train = viewer.window.add_plugin_dock_widget(PLUGIN, TRAIN)
    if pictures:
        train.presets.choose("quick")
        wait(lambda: "GiB free" in train.summary.text() and "·" in train.presets.box.currentText())
        take(viewer, "train_settings")
    train.presets.choose("specification")
    fill_in(train, SETTINGS)
    fill_in(train, {"output": folder / "run"})
    train.start_button.click()
    if pictures:
        wait(lambda: f"Epoch {SETTINGS['num_epochs'] - 2} of" in train.status.text())
        take(viewer, "train")
    wait(lambda: n_steps(train) > 0)
    wait(lambda: train.job is None)
    viewer.window.remove_dock_widget(dock)


def show_extraction(viewer: napari.Viewer, folder: Path) -> None:
    """Take the pictures of features on points, of the comparison of layers, and of a map."""
    image, points = viewer.layers["EM sample"], viewer.layers["Synapses"]
    viewer.layers.selection.active = points
    dock, extract = viewer.window.add_plugin_dock_widget(PLUGIN, EXTRACT)
    wait(lambda: extract.panel.info is not None)
    extract.panel.table.choose([LAYER])
    extract.start_button.click()
    wait(lambda: extract.job is None)
    extract.points_panel.color_box.setCurrentText(f"L{LAYER}_mean_PC1")
    extract.points_panel.color_box.activated.emit(extract.points_panel.color_box.currentIndex())
    take(viewer, "extract")
    extract.points_panel.compare_button.click()
    wait(lambda: extract.job is None)
    for theme, suffix in (("light", "_light"), ("dark", "")):
        viewer.theme = theme
        pause(1)
        extract.report.grab().save(str(IMAGES / f"report{suffix}.png"))
    extract.report.close()
    depth, height, width = (int(n) for n in image.data.shape)
    low, high = (BOX, BOX), (height - BOX, width - BOX)
    corners = [(depth // 2, y, x) for y in (low[0], high[0]) for x in (low[1], high[1])]
    rectangle = [corners[i] for i in (0, 1, 3, 2)]
    viewer.add_shapes([rectangle], name="Box", scale=image.scale, units=image.units)
    extract.panel.table.choose([MAP_LAYER])
    fill_in(extract, {"output": folder / "maps"})
    extract.start_button.click()
    wait(lambda: extract.job is None)
    for name in ("Box", f"EM sample · L{MAP_LAYER}"):
        viewer.layers[name].visible = False
    take(viewer, "maps")
    viewer.window.remove_dock_widget(dock)


def with_wrong_ones(viewer: napari.Viewer) -> Points:
    """Add a layer of the sample's synapses and of places where there are none, and return it."""
    image, points = viewer.layers["EM sample"], viewer.layers["Synapses"]
    generator = np.random.default_rng(0)
    wrong: list[np.ndarray] = []
    while len(wrong) < N_WRONG:
        place = generator.integers(16, np.array(image.data.shape) - 16)
        if (np.abs(points.data - place)[:, 1:].max(axis=1) > APART).all():
            wrong.append(place)
    return viewer.add_points(
        np.concatenate([points.data, wrong]),
        name="Proposals",
        scale=points.scale,
        units=points.units,
        features={"truth": ["synapse"] * len(points.data) + ["none"] * N_WRONG},
        size=10,
        border_color="white",
    )


def show_exploration(viewer: napari.Viewer) -> None:
    """Take the pictures of the question which of some positions are no synapses."""
    points = with_wrong_ones(viewer)
    viewer.layers["Synapses"].visible = False
    viewer.layers.selection.active = points
    dock, extract = viewer.window.add_plugin_dock_widget(PLUGIN, EXTRACT)
    fill_in(extract, EXPLORED)
    wait(lambda: extract.panel.info is not None)
    extract.panel.table.choose([EXPLORED_LAYER])
    extract.start_button.click()
    wait(lambda: extract.job is None)
    extract.explore_button.click()
    explore = open_dock(viewer, EXPLORE)
    wait(lambda: explore.state.n == len(points.data))
    viewer.window.remove_dock_widget(dock)
    # The network was trained on other tissue; what is measured by hand fits any.
    names = [explore.vector_box.itemText(i) for i in range(explore.vector_box.count())]
    by_hand = next(i for i, name in enumerate(names) if name.startswith("hand"))
    explore.vector_box.setCurrentIndex(by_hand)
    explore.vector_box.activated.emit(by_hand)
    odd = explore.tools.odd
    explore.tools.show_page(odd)
    wait(lambda: f"points with {names[by_hand]}" in explore.status.text())
    odd.metric_box.setCurrentText("Euclidean")
    odd.find()
    wait(lambda: explore.state.order_title == "far from neighbours")
    order = explore.state.order
    truth = points.features["truth"].to_numpy()
    print(f"{(truth[order[:N_WRONG]] == 'none').sum()} of {N_WRONG} wrong ones come first")
    explore.state.select(order[:8][truth[order[:8]] == "none"])
    odd.strike()
    explore.color_box.choose(None)
    explore.state.select(order[:1])
    take(viewer, "explore_odd")
    panel = explore.tools.clusters
    explore.tools.show_page(panel)
    panel.metric_box.setCurrentText("Euclidean")
    panel.find()
    wait(lambda: panel.groups is not None)
    panel.table.topLevelItem(panel.table.topLevelItemCount() - 1).setSelected(True)
    panel.typical_button.click()
    take(viewer, "explore_clusters")
    print(explore.status.text(), panel.words.text(), explore.honesty.text(), sep="\n")


def main() -> None:
    """Drive the widgets and take the pictures."""
    wanted = sys.argv[1:] or ["open", "preview", "train", "extract"]
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        # The person's own settings stay as they are.
        settings_store.FILE = Path(name) / "settings.json"
        if "open" in wanted:
            show_opening(Path(name))
        if wanted == ["open"]:
            return
        viewer = open_window()
        if "preview" in wanted:
            show_preview(viewer)
        if "train" in wanted or "extract" in wanted:
            show_training(viewer, Path(name), pictures="train" in wanted)
        if "extract" in wanted:
            show_extraction(viewer, Path(name))
        if "explore" in wanted:
            show_exploration(viewer)
        viewer.close()


if __name__ == "__main__":
    sys.exit(main())
