"""How quickly the gallery scrolls, and what is selected and asked for is there.

    xvfb-run python benchmarks/explore_window.py [--rows 1000000] [--channels 96]

A real viewer with a volume in memory and as many points, whose vectors are random ones in 50
clusters. Painting is by the processor, as Xvfb has it.
"""

import argparse
import os
import time
from collections.abc import Callable

import napari
import numpy as np
import pandas as pd
from exploring import some_vectors
from qtpy.QtWidgets import QApplication

from napari_synapse_cl.features.vectors import VectorTable
from napari_synapse_cl.widgets.explore.widget import ExploreWidget
from napari_synapse_cl.widgets.look import EXPLORE, open_dock

SIDE = 400
N_TIMES = 100


def wait(condition: Callable[[], bool]) -> None:
    """Let the window live until something has come true."""
    while not condition():
        QApplication.processEvents()
        time.sleep(0.001)


def some_table(n: int, channels: int, places: np.ndarray) -> VectorTable:
    """Return vectors of points at these places."""
    none = np.empty((n, 0), np.float32)
    return VectorTable(
        pd.DataFrame(places, columns=list("zyx")),
        {"crop_size": [64, 64, 64]},
        ("L20_mean",),
        tuple(f"L20_mean_{i:03}" for i in range(channels)),
        (channels,),
        some_vectors(n, channels),
        none,
        none,
    )


def told(name: str, seconds: list[float]) -> None:
    """Print the median and the 95th percentile in milliseconds."""
    median, high = np.percentile(np.array(seconds) * 1000, [50, 95])
    print(f"| {name} | {median:.1f} | {high:.1f} |", flush=True)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def scrolling(widget: ExploreWidget) -> tuple[list[float], list[float]]:
    """Return seconds to paint after a small step and after a jump, while crops are cut."""
    bar, viewport = widget.gallery.verticalScrollBar(), widget.gallery.viewport()
    rng = np.random.default_rng(0)
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(N_TIMES):
        for kind, target in enumerate((bar.value() + 40, int(rng.integers(0, bar.maximum())))):
            bar.setValue(target)
            found[kind].append(timed(viewport.repaint))
            QApplication.processEvents()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=96)
    options = parser.parse_args()
    rng, n = np.random.default_rng(0), options.rows
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.add_image(rng.integers(0, 255, (SIDE,) * 3, np.uint8))
    places = rng.uniform(0, SIDE, (n, 3))
    widget = open_dock(viewer, EXPLORE)
    points = viewer.add_points(places, size=4, features={"number": np.arange(n)})
    print(f"{n:,} rows; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | median, ms | 95 %, ms |\n| --- | ---: | ---: |")
    table = some_table(n, options.channels, places)
    widget.points_box.choose(points)
    told("take the rows over", [timed(lambda: widget.state.explore(points, table))])
    widget.crops.follow(widget.image_box.layer, points, table.extent)
    wait(lambda: widget.crops.slice_of(0) is not None)
    print(f"{widget.gallery.viewport().width()} × {widget.gallery.viewport().height()} pixels")
    steps, jumps = scrolling(widget)
    told("scroll by 40 pixels", steps)
    told("scroll to anywhere", jumps)
    shown = [int(row) for row in widget.gallery.rows[list(widget.gallery.in_sight)]]
    began = time.perf_counter()
    wait(lambda: all(widget.crops.slice_of(row) is not None for row in shown))
    told(f"until {len(shown)} crops in sight are there", [time.perf_counter() - began])
    for count in (1, 1000, 10_000, n // 10, 2 * n // 3):
        rows = [rng.choice(n, count, replace=False) for _ in range(5)]
        took = [timed(lambda some=some: widget.state.select(some)) for some in rows]
        told(f"select {count:,}", took)
    queries = []
    for number in range(21):
        widget.state.select(rng.choice(n, 3, replace=False))
        widget.state.set_order(np.arange(n), "")
        began = time.perf_counter()
        widget.similar.find()
        wait(lambda: widget.state.scores is not None)
        queries.append(time.perf_counter() - began)
        if number == 0:
            told("first query, with vectors brought to one scale", queries)
    told("query, until the gallery has its order", queries[1:])
    for name in ("order", "colour"):
        began = time.perf_counter()
        if name == "order":
            widget.ordering.order_by("number", largest_first=True)
            wait(lambda: widget.state.order_title == "by number")
        else:
            widget.state.color_by("number")
            wait(lambda: widget.state.scale is not None)
        told(f"{name} by a column of numbers", [time.perf_counter() - began])
    viewer.close()


if __name__ == "__main__":
    main()
