"""How long a new pair takes to appear in the "Augmentation preview".

    xvfb-run -s "-screen 0 1280x800x24" python benchmarks/preview.py [--pairs 60] [--size 80]
        [--json preview.json]

Median and 95th percentile in milliseconds, for the sample volume in memory and in a memory-mapped
TIFF. The stages are the functions that the preview calls: the crop is cut, the parameters are
drawn, both views are made, and the pictures are painted. End to end is the real dock widget in a
real viewer: from the move of a slider until the pictures that follow from it have been painted,
once for a slider that leaves the context of the crop as it is and once for that of the rotation.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
import tifffile
import torch
from qtpy.QtCore import QEvent, QEventLoop, QObject
from qtpy.QtWidgets import QApplication

from napari_synapse_cl.augmentations import composition
from napari_synapse_cl.augmentations.resampling import centre_crop
from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.data.crops.sources import StreamedCrops
from napari_synapse_cl.data.dataset import assemble
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.placing import place_points
from napari_synapse_cl.data.sample.volume import make_sample
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.widgets import session as settings_store
from napari_synapse_cl.widgets.open_data.layers import sample_layers
from napari_synapse_cl.widgets.preview.pairs import make_views

WARM_UP = 5
WINDOW = (1280, 800)
SLIDERS = {"noise_level": (0.02, 0.001), "rotation_range": (10.0, 0.1)}
"""Start and step of each slider that is moved."""
VOXEL_SIZE = (1.0, 1.0, 1.0)
LIMIT_SECONDS = 60

Times = dict[str, list[float]]


class LastPaint(QObject):
    """Knows whether the newest pair has been painted."""

    def __init__(self, widget: Any) -> None:
        super().__init__()
        self.is_painted = False
        widget.pictures.installEventFilter(self)
        widget.pair_shown.connect(self.expect)

    def expect(self) -> None:
        """Forget what was painted before."""
        self.is_painted = False

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Notice that the pictures are painted."""
        self.is_painted |= event.type() == QEvent.Type.Paint
        return False


def timed(times: Times, name: str, function: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = function()
    times.setdefault(name, []).append(1000 * (time.perf_counter() - start))
    return result


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the preview did not get so far")
        # Waits for something to happen, as a window does, and takes no time from the worker.
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)


def measure_stages(volume: Volume, table: Any, widget: Any, pairs: int, size: int) -> Times:
    config = widget.form.config(crop_size=(size,) * 3)
    dataset = assemble([Part(volume)], [place_points(table, volume, VOXEL_SIZE)], config)
    positions = dataset.positions
    times: Times = {}
    for i in range(WARM_UP + pairs):
        if i == WARM_UP:
            times.clear()
        row = i % len(positions.rows)
        shape = timed(times, "context", lambda: context_shape(config.crop_size, config))
        crops = StreamedCrops([Part(volume)], positions, config, shape)
        cut = timed(times, "cut", lambda crops=crops, row=row: crops.read([row]))
        pair = timed(times, "draw", lambda i=i, row=row: composition.draw_pair(config, i, 1, [row]))
        crop = torch.from_numpy(cut)
        views = timed(
            times,
            "apply",
            lambda crop=crop, pair=pair: make_views(crop, pair, config.crop_size, VOXEL_SIZE),
        )
        centre = centre_crop(crop, config.crop_size)[0, 0].numpy()

        def show(centre: np.ndarray = centre, views: Any = views) -> None:
            widget.pictures.show_pair(centre, views, VOXEL_SIZE)
            widget.pictures.repaint()

        timed(times, "show", show)
    return times


def measure_end_to_end(widget: Any, pairs: int) -> Times:
    last = LastPaint(widget)
    times: Times = {}
    for name, (start, step) in SLIDERS.items():
        slider = widget.form.editor(name).slider
        label = f"end to end, {name}"
        for i in range(WARM_UP + pairs):
            begin = time.perf_counter()
            slider.setValue(start + i * step)
            assert not widget.up_to_date
            wait(lambda: widget.up_to_date and last.is_painted)
            if i >= WARM_UP:
                times.setdefault(label, []).append(1000 * (time.perf_counter() - begin))
    return times


def volumes(image: np.ndarray, folder: Path) -> Iterator[tuple[str, Any]]:
    yield "in memory", image
    path = folder / "volume.tif"
    tifffile.imwrite(path, image)
    yield "memory-mapped TIFF", tifffile.memmap(path, mode="r")


def measure(array: Any, sample: Any, pairs: int, size: int) -> Times:
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW)
    for data, keywords, kind in sample_layers(array, sample.synapses, sample.voxel_size):
        getattr(viewer, f"add_{kind}")(data, **keywords)
    _, widget = viewer.window.add_plugin_dock_widget("napari-synapse-cl", "Augmentation preview")
    widget.form.editor("crop_size").value = str(size)
    wait(lambda: widget.up_to_date)
    times = measure_stages(Volume(array), sample.synapses, widget, pairs, size)
    times |= measure_end_to_end(widget, pairs)
    viewer.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sample = make_sample()
    results: dict[str, Any] = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "size": options.size,
        "pairs": options.pairs,
        "milliseconds": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        # The person's own settings stay as they are, and have no say.
        settings_store.FILE = Path(folder) / "settings.json"
        settings_store.FIRST_RECIPE = "specification"
        for name, array in volumes(sample.image, Path(folder)):
            print(f"\n{name:36}{'median':>8}{'p95':>8}")
            results["milliseconds"][name] = {}
            for stage, times in measure(array, sample, options.pairs, options.size).items():
                median, p95 = (float(np.percentile(times, q)) for q in (50, 95))
                results["milliseconds"][name][stage] = {"median": median, "p95": p95}
                print(f"  {stage:34}{median:8.1f}{p95:8.1f}", flush=True)
            del array
    text = json.dumps(results, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}")


if __name__ == "__main__":
    sys.exit(main())
