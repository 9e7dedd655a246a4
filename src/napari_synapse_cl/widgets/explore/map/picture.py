"""The picture of a map: dots where few points are in sight, their density where many are.

Neither pyqtgraph nor vispy draws a million points in time where no graphics card helps. After a pan
the picture was there, in a map of 600 x 500 pixels under Xvfb, on two cores that others used too:

=====================================  ==============  ===============
drawn by                               100,000 points  1,000,000
=====================================  ==============  ===============
pyqtgraph, ``ScatterPlotItem``         85 ms           660 ms
vispy, ``Markers`` (llvmpipe)          280 ms          2,500 ms
this module                            23 ms           54 ms
=====================================  ==============  ===============

These are medians of ``benchmarks/explore_map.py --compare``. Points are counted in an array as
large as the picture, in a thread; meanwhile the last picture is moved, which takes 1 ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage

from napari_synapse_cl.widgets.explore.map.points import MapPoints
from napari_synapse_cl.widgets.explore.map.view import View

Color = tuple[int, int, int, int]
"""Red, green, blue and opacity, from 0 to 255."""

MOST_DOTS = 20_000
"""In sight that are drawn one by one; of more the density is."""
MOST_SMOOTH = 5_000
"""In sight whose dots have smooth borders."""
LARGEST, SMALLEST = 10.0, 4.0
"""Diameter of dots in pixels."""
FEW = 300
"""In sight that are drawn largest."""
BIN = 2
"""Side of the squares in which points are counted, in pixels."""
FAINTEST = 0.35
"""Opacity of a square with one point; that with most points has 1."""
DIMMED = 0.25
"""Opacity of what is not selected, while something is."""
BESIDE = 2.0**28
"""What one number is multiplied with to stand beside another in a float64: the sum of as many
shades as a map has points is less."""
RING = 1.5
"""Width of the ring around dots that are selected, in pixels."""


@dataclass(frozen=True)
class Ink:
    """How the points of a map are painted, in their order."""

    colors: np.ndarray
    """``(m, 4)`` uint8, red, green, blue and opacity."""
    is_blank: np.ndarray
    """``(m,)`` bool, points that have no colour of their own; they lie below others."""

    @classmethod
    def of(cls, points: MapPoints, colors: np.ndarray, blank: Color) -> Self:
        """Return the ink of points.

        Parameters
        ----------
        colors
            ``(n, 4)`` uint8 of all rows; those with an opacity of 0 have none.
        blank
            The colour of these.
        """
        own = colors[points.rows]
        is_blank = own[:, 3] == 0
        own[is_blank] = blank
        return cls(own, is_blank)

    @cached_property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """``(m,)`` float64 twice: red and green of a point in one number, and blue and 1.

        Two sums are found in the time of one so.
        """
        red, green, blue = (self.colors[:, i].astype(np.float64) for i in range(3))
        return red + BESIDE * green, blue + BESIDE


@dataclass(frozen=True)
class Request:
    """What a picture shows."""

    positions: np.ndarray
    """``(n, 2)`` x and y, NaN for rows that have no place."""
    visible: np.ndarray
    """``(n,)`` bool."""
    colors: np.ndarray
    """``(n, 4)`` uint8."""
    selected: np.ndarray
    """``(n,)`` bool."""
    view: View | None
    """None to show all that is visible."""
    width: int
    height: int
    ratio: float
    """Pixels of the screen per pixel of the window."""
    blank: Color
    """Of rows without a colour."""
    ring: Color
    """Around dots that are selected."""


@dataclass(frozen=True)
class Picture:
    """What was drawn."""

    image: QImage
    request: Request
    view: View
    points: MapPoints
    n_in_sight: int
    is_density: bool
    """Whether squares stand for several points."""


class Painter:
    """Draws pictures, one at a time; what several have in common is made once."""

    def __init__(self) -> None:
        self._points: tuple[Any, Any, MapPoints] | None = None
        self._ink: tuple[Any, Any, Any, Ink] | None = None

    def paint(self, request: Request) -> Picture:
        """Draw a picture: with a million points in sight it takes less than a tenth of a second.

        Other positions take as long again; it is for a worker.
        """
        points, size = self._points_of(request), (request.width, request.height)
        view = request.view
        if view is None:
            view = View.of(points.bounds or (0.0, 0.0, 0.0, 0.0), *size)
        left, low, right, high = view.box
        reach = LARGEST / view.scale
        parts = list(points.parts_in_box(left - reach, low - reach, right + reach, high + reach))
        ink, has_selected = self._ink_of(points, request), bool(request.selected.any())
        if sum(map(len, parts)) > MOST_DOTS:
            image, n = _density(points, parts, ink, request, view)
            return Picture(image, request, view, points, n, True)
        near = np.concatenate([np.empty(0, np.int64), *parts])
        x, y = view.to_pixels(points.x[near], points.y[near])
        selected, colors = request.selected[points.rows[near]], ink.colors[near]
        if has_selected:
            colors[~selected, 3] = (colors[~selected, 3] * DIMMED).astype(np.uint8)
        rank = np.where(selected, 2, ~ink.is_blank[near])
        image = _dots(x, y, colors, rank, request.ring, view, request.ratio)
        n = int(((x >= 0) & (x < view.width) & (y >= 0) & (y < view.height)).sum())
        return Picture(image, request, view, points, n, False)

    def _points_of(self, request: Request) -> MapPoints:
        kept = self._points
        if kept is None or kept[0] is not request.positions or kept[1] is not request.visible:
            points = MapPoints.of(request.positions, request.visible)
            kept = self._points = (request.positions, request.visible, points)
        return kept[2]

    def _ink_of(self, points: MapPoints, request: Request) -> Ink:
        kept, blank = self._ink, request.blank
        if (
            kept is None
            or kept[0] != blank
            or kept[1] is not points
            or kept[2] is not request.colors
        ):
            ink = Ink.of(points, request.colors, blank)
            kept = self._ink = (blank, points, request.colors, ink)
        return kept[3]


def diameter(n: int) -> float:
    """Return that of dots in pixels where so many are in sight."""
    return float(np.clip(LARGEST * (FEW / max(n, 1)) ** 0.25, SMALLEST, LARGEST))


def _dots(
    x: np.ndarray,
    y: np.ndarray,
    colors: np.ndarray,
    rank: np.ndarray,
    ring: Color,
    view: View,
    ratio: float,
) -> QImage:
    """Draw each point; those of a higher rank lie above, and those of rank 2 are ringed."""
    # Twice as large, and smaller again: so borders become smooth.
    factor = 2 if len(x) <= MOST_SMOOTH else 1
    width, height = round(view.width * ratio), round(view.height * ratio)
    pixels = ratio * factor
    size = diameter(len(x)) * pixels
    # No disc reaches past the array, also none of a point beside what is in sight.
    margin = int((LARGEST + RING) * pixels + size / 2) + 2
    canvas = np.zeros((height * factor + 2 * margin, width * factor + 2 * margin), np.uint32)
    middle = (y * pixels).astype(np.int64) * canvas.shape[1] + (x * pixels).astype(np.int64)
    middle += margin * (canvas.shape[1] + 1)
    values = _premultiplied(colors)
    for number in range(2):
        _stamp(canvas, middle[rank == number], values[rank == number], size)
    selected = rank == 2
    around = _premultiplied(np.array([ring], np.uint8))[0]
    _stamp(canvas, middle[selected], around, size + 2 * RING * pixels)
    _stamp(canvas, middle[selected], values[selected], size)
    return _as_image(canvas[margin:-margin, margin:-margin]).scaled(
        width,
        height,
        Qt.AspectRatioMode.IgnoreAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )


def _stamp(canvas: np.ndarray, middle: np.ndarray, values: np.ndarray, size: float) -> None:
    """Set the pixels of a disc around each of some pixels, which are counted line by line."""
    radius = size / 2
    reach = np.arange(-int(radius), int(radius) + 1)
    flat, width = canvas.reshape(-1), canvas.shape[1]
    for dy in reach:
        for dx in reach[reach**2 + dy**2 <= radius**2]:
            flat[middle + (dy * width + dx)] = values


def _density(
    points: MapPoints, parts: Sequence[np.ndarray], ink: Ink, request: Request, view: View
) -> tuple[QImage, int]:
    """Draw squares in the mean colour of their points, and return how many are in sight too.

    Parameters
    ----------
    parts
        Numbers of the points in sight, and of those around it.
    """
    # Squares around what is in sight have room for all points: none is left out.
    margin = int(LARGEST / BIN) + 2
    inner = -(-view.height // BIN), -(-view.width // BIN)
    height, width = (n + 2 * margin for n in inner)
    # Those that are selected are counted apart, in as many squares again.
    opacities = [DIMMED, 1.0] if request.selected.any() else [1.0]
    sums = np.zeros((2, len(opacities) * height * width))
    for some in parts:
        x, y = view.to_pixels(points.x[some], points.y[some])
        squares = (y * (1 / BIN) + margin).astype(np.int64) * width
        squares += (x * (1 / BIN) + margin).astype(np.int64)
        if len(opacities) > 1:
            squares += request.selected[points.rows[some]] * (height * width)
        for total, weights in zip(sums, ink.weights, strict=True):
            total += np.bincount(squares, weights[some], len(total))
    green, count = np.floor(sums / BESIDE)
    red, blue = sums - BESIDE * np.stack([green, count])
    shown = np.stack([red, green, blue, count]).reshape(4, len(opacities), height, width)
    shown = shown[..., margin : margin + inner[0], margin : margin + inner[1]]
    count = shown[3]
    most = np.log1p(max(1.0, float(count.max(initial=0))))
    canvas = np.zeros((4, *inner))
    for number, opacity in enumerate(opacities):
        some = count[number]
        alpha = opacity * (FAINTEST + (1 - FAINTEST) / most * np.log1p(some)) * (some > 0)
        mean = shown[:3, number] / np.maximum(some, 1)
        canvas *= 1 - alpha
        canvas += alpha * np.concatenate([mean, np.full((1, *inner), 255.0)])
    values = np.rint(canvas).astype(np.uint32)
    scale = BIN * request.ratio
    image = _as_image(_packed(*values)).scaled(round(inner[1] * scale), round(inner[0] * scale))
    image = image.copy(0, 0, round(view.width * request.ratio), round(view.height * request.ratio))
    return image, int(count.sum())


def _premultiplied(colors: np.ndarray) -> np.ndarray:
    """Return ``(m,)`` uint32 of ``(m, 4)`` uint8, as Qt's images with opacity hold pixels."""
    red, green, blue, opacity = colors.T.astype(np.uint32)
    red, green, blue = (part * opacity // 255 for part in (red, green, blue))
    return _packed(red, green, blue, opacity)


def _packed(
    red: np.ndarray, green: np.ndarray, blue: np.ndarray, opacity: np.ndarray
) -> np.ndarray:
    return (opacity << 24) | (red << 16) | (green << 8) | blue


def _as_image(values: np.ndarray) -> QImage:
    height, width = values.shape
    values = np.ascontiguousarray(values)
    kind = QImage.Format.Format_ARGB32_Premultiplied
    # What an image is made of in place of a copy must outlive it.
    return QImage(values.data, width, height, 4 * width, kind).copy()
