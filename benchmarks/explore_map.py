"""How soon the map of vectors answers.

    xvfb-run -s "-screen 0 1280x800x24" python benchmarks/explore_map.py [--compare]

In a map of 600 x 500 pixels of many points in 7 classes, with the mouse and the wheel: how many
milliseconds after a pan, a turn of the wheel, and the end of a lasso around most of all what is
in sight has followed ("moved": the last picture at its new place), how many until the picture of
all points is there ("drawn"), and how many a lasso takes until it is known what is inside. With
--compare also what a pan takes that pyqtgraph and vispy draw.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import napari
import numpy as np
from napari.settings import get_settings
from qtpy.QtCore import QEvent, QEventLoop, QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent, QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_synapse_cl.widgets.explore.map.canvas import MapCanvas
from napari_synapse_cl.widgets.layers.features import CATEGORY_COLORS

SIZE = (600, 500)
N_CLASSES = len(CATEGORY_COLORS)
LASSO = 300
"""Corners of the lasso."""
LIMIT_MS = 120_000


def some_points(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(n, 2)`` float32 positions and ``(n, 4)`` uint8 colours."""
    rng = np.random.default_rng(0)
    middles = 3 * rng.normal(size=(N_CLASSES, 2))
    codes = rng.integers(0, N_CLASSES, n)
    shades = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] + [255] for color in CATEGORY_COLORS]
    positions = middles[codes] + rng.standard_normal((n, 2))
    return positions.astype(np.float32), np.array(shades, np.uint8)[codes]


def wait(canvas: MapCanvas) -> None:
    """Let the window live until its picture shows all that was set, and is painted."""
    loop = QEventLoop()
    canvas.drawn.connect(loop.quit)
    QTimer.singleShot(LIMIT_MS, loop.quit)
    # Not by asking again and again, which would keep the thread that draws from its work.
    loop.exec()
    canvas.drawn.disconnect(loop.quit)
    if not canvas.is_up_to_date:
        raise TimeoutError("the map did not get so far")
    canvas.repaint()


def mouse(
    canvas: Any, kind: QEvent.Type, at: QPointF, held: Qt.MouseButton, button: Any = None
) -> None:
    """Let the mouse press, move or release at a place, and have what follows painted."""
    event = QMouseEvent(
        kind,
        at,
        canvas.mapToGlobal(at),
        button or Qt.MouseButton.NoButton,
        held,
        Qt.KeyboardModifier.NoModifier,
    )
    QApplication.sendEvent(canvas, event)
    canvas.repaint()


def turn(canvas: Any, steps: int) -> None:
    at = QPointF(SIZE[0] / 2, SIZE[1] / 2)
    event = QWheelEvent(
        at,
        canvas.mapToGlobal(at),
        QPoint(),
        QPoint(0, 120 * steps),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(canvas, event)
    canvas.repaint()


def milliseconds(since: float) -> float:
    return 1000 * (time.perf_counter() - since)


def measure(canvas: MapCanvas, repeats: int) -> dict[str, list[float]]:
    """Drive a map that shows its points, and return milliseconds by what was done."""
    found: dict[str, list[float]] = {
        name: []
        for name in ("pan, moved", "pan, drawn", "zoom, moved", "zoom, drawn", "lasso", "selected")
    }
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    middle = QPointF(SIZE[0] / 2, SIZE[1] / 2)

    def timed(name: str, act: Callable[[], None]) -> None:
        start = time.perf_counter()
        act()
        found[f"{name}, moved"].append(milliseconds(start))
        wait(canvas)
        found[f"{name}, drawn"].append(milliseconds(start))

    canvas.set_mode("move")
    mouse(canvas, QEvent.Type.MouseButtonPress, middle, left, left)
    for i in range(repeats):
        at = middle + QPointF(7 * (i % 5), 3 * (i % 7))
        timed("pan", lambda at=at: mouse(canvas, QEvent.Type.MouseMove, at, left))
    mouse(canvas, QEvent.Type.MouseButtonRelease, middle, none, left)
    for i in range(repeats):
        timed("zoom", lambda i=i: turn(canvas, 1 if i % 4 < 2 else -1))
    canvas.fit()
    wait(canvas)
    canvas.set_mode("lasso")
    angles = np.linspace(0, 2 * np.pi, LASSO)
    radius = 0.25 * min(SIZE) * (1 + 0.3 * np.sin(9 * angles))
    path = [
        middle + QPointF(r * np.cos(a), r * np.sin(a)) for a, r in zip(angles, radius, strict=True)
    ]
    picked: list[np.ndarray] = []
    canvas.picked.connect(lambda rows, _: picked.append(rows))
    for i in range(repeats):
        mouse(canvas, QEvent.Type.MouseButtonPress, path[0], left, left)
        for at in path[1:]:
            mouse(canvas, QEvent.Type.MouseMove, at, left)
        start = time.perf_counter()
        mouse(canvas, QEvent.Type.MouseButtonRelease, path[-1], none, left)
        found["lasso"].append(milliseconds(start))
        canvas.set_selected(picked[-1][i:])
        wait(canvas)
        found["selected"].append(milliseconds(start))
    return found


def with_pyqtgraph(positions: np.ndarray, colors: np.ndarray) -> Callable[[], None]:
    """Return what moves a scatter plot, and has it drawn."""
    import pyqtgraph as pg

    view, box = pg.GraphicsView(), pg.ViewBox(enableMenu=False)
    view.setCentralItem(box)
    view.resize(*SIZE)
    for color in np.unique(colors, axis=0):
        some = positions[(colors == color).all(axis=1)]
        brush = pg.mkBrush(*color.tolist())
        box.addItem(pg.ScatterPlotItem(x=some[:, 0], y=some[:, 1], size=4, pen=None, brush=brush))
    view.show()

    def pan() -> None:
        box.translateBy(x=0.1)
        view.viewport().repaint()

    return pan


def with_vispy(positions: np.ndarray, colors: np.ndarray) -> Callable[[], None]:
    """Return what moves markers, and has them drawn."""
    from vispy import gloo, scene

    canvas = scene.SceneCanvas(size=SIZE, show=True)
    view = canvas.central_widget.add_view(camera="panzoom")
    markers = scene.visuals.Markers(parent=view.scene)
    markers.set_data(positions, face_color=colors / 255, edge_width=0, size=4)
    view.camera.set_range()

    def pan() -> None:
        view.camera.pan((0.1, 0))
        canvas.native.repaint()
        canvas.set_current()
        gloo.gl.glFinish()

    return pan


def compare(n: int, repeats: int) -> None:
    for name, make in (("pyqtgraph", with_pyqtgraph), ("vispy", with_vispy)):
        pan = make(*some_points(n))
        QApplication.processEvents()
        pan()
        taken = []
        for _ in range(repeats):
            start = time.perf_counter()
            pan()
            QApplication.processEvents()
            taken.append(milliseconds(start))
        show(n, f"pan by {name}", taken)


def show(n: int, name: str, taken: list[float]) -> None:
    middle, most = np.percentile(taken, [50, 95])
    print(f"| {n:,} | {name} | {middle:.0f} | {most:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--points", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--compare", action="store_true", help="draw with pyqtgraph and vispy too")
    options = parser.parse_args()
    get_settings().application.confirm_close_window = False
    viewer = napari.Viewer(show=False)
    print(f"{os.cpu_count()} cores, load {' '.join(f'{x:.1f}' for x in os.getloadavg())}\n")
    print("| points | what | median, ms | p95, ms |\n| ---: | --- | ---: | ---: |")
    for n in options.points:
        canvas = MapCanvas(viewer)
        canvas.resize(*SIZE)
        canvas.show()
        positions, colors = some_points(n)
        canvas.set_positions(positions)
        canvas.set_colors(colors)
        start = time.perf_counter()
        wait(canvas)
        show(n, "first picture", [milliseconds(start)])
        for name, taken in measure(canvas, options.repeats).items():
            show(n, name, taken)
        canvas.close()
        if options.compare:
            compare(n, max(3, options.repeats // 5))
    viewer.close()


if __name__ == "__main__":
    main()
