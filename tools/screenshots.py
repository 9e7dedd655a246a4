"""Take the pictures of the three widgets for the documentation.

    xvfb-run -s "-screen 0 1280x800x24" python tools/screenshots.py

It opens napari on the sample volume and drives each widget for real: some ten minutes on two cores.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from magicgui.widgets import LineEdit
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PLUGIN = "napari-synapse-cl"
WINDOW = (1280, 800)
THICKNESS_NM = 140
LIMIT_SECONDS = 3600
TABLE_HEIGHT = 240

SETTINGS: dict[str, Any] = json.loads(Path(__file__).with_name("demo.json").read_text())
"""Those of the demo."""
LAYER = SETTINGS.pop("layer_num")


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
        # Sizes and small numbers are typed.
        editor.value = str(value) if isinstance(editor, LineEdit) else value


def take(viewer: napari.Viewer, name: str) -> None:
    """Save a picture of the whole window."""
    viewer.window.resize(*WINDOW)
    pause(1)
    viewer.reset_view()
    pause(1)
    viewer.window.screenshot(str(IMAGES / name), size=None, flash=False, canvas_only=False)


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


def main() -> None:
    """Drive the widgets and take the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    viewer = open_window()
    points = viewer.layers["Synapses"]
    with tempfile.TemporaryDirectory() as folder:
        preview_dock, preview = viewer.window.add_plugin_dock_widget(PLUGIN, "Augmentation preview")
        fill_in(preview, {name: SETTINGS[name] for name in ("crop_size", "rotation_range")})
        points.selected_data = {0}
        wait(lambda: "View 1" in preview.status.text())
        take(viewer, "preview.png")
        viewer.window.remove_dock_widget(preview_dock)

        train_dock, train = viewer.window.add_plugin_dock_widget(PLUGIN, "Train contrastive")
        points.selected_data = set()
        fill_in(train, SETTINGS | {"output": Path(folder) / "run"})
        train.start_button.click()
        wait(lambda: f"Epoch {SETTINGS['num_epochs'] - 2} of" in train.status.text())
        take(viewer, "train.png")
        wait(lambda: train.job is None)
        viewer.window.remove_dock_widget(train_dock)

        dock, extract = viewer.window.add_plugin_dock_widget(PLUGIN, "Extract features")
        fill_in(extract, {"layer_num": LAYER})
        wait(lambda: f"Layer {LAYER} " in extract.layer_name.text())
        extract.start_button.click()
        wait(lambda: extract.job is None)
        table, _ = viewer.window.add_plugin_dock_widget("napari", "Features table widget")
        heights = [WINDOW[1] - TABLE_HEIGHT, TABLE_HEIGHT]
        viewer.window._qt_window.resizeDocks([dock, table], heights, Qt.Orientation.Vertical)
        take(viewer, "extract.png")
    viewer.close()


if __name__ == "__main__":
    sys.exit(main())
