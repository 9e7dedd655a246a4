"""Run the main job on the sample volume, and open napari on the result where there is a display."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from napari_synapse_cl.runs.folder import default_folder

SETTINGS = Path(__file__).with_name("demo.json")
"""A narrow network and small crops, so that a laptop's CPU is done in minutes.

Synapses have any orientation, so views are turned by any angle.
"""

THICKNESS_NM = 300


def main() -> int:
    """Train, extract, and show."""
    folder = default_folder()
    command = [sys.executable, "-m", "napari_synapse_cl", "--config", str(SETTINGS)]
    start = time.monotonic()
    code = subprocess.run([*command, "--output", str(folder), *sys.argv[1:]]).returncode
    if code:
        return code
    print(f"The main job took {time.monotonic() - start:.0f} s.", flush=True)
    if has_display():
        show(folder)
    else:
        print("There is no display, so napari is not opened.")
    return 0


def has_display() -> bool:
    """Return whether a window can be opened."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def show(folder: Path) -> None:
    """Open napari on the sample volume and its features."""
    import napari
    import pandas as pd

    [record] = folder.glob("features_*.json")
    table = pd.read_csv(record.with_suffix(".csv"))
    [component] = [name for name in table.columns if name.endswith("_PC1")]
    viewer = napari.Viewer(title=f"napari-synapse-cl demo: {folder}")
    image, points = viewer.open_sample("napari-synapse-cl", "em_sample")
    points.features = table
    points.face_color = component
    origin = {component.removesuffix("_PC1"): json.loads(record.read_text())}
    points.metadata["napari_synapse_cl"] = origin
    # A slice thick enough to show the synapses around it, of which the image shows the middle.
    viewer.dims.set_point(0, float(image.extent.world[1, 0]) / 2)
    viewer.dims.thickness = (THICKNESS_NM, 0, 0)
    image.projection_mode = "none"
    napari.run()


if __name__ == "__main__":
    raise SystemExit(main())
