"""Plots in the colours of the viewer's theme, and curves that are drawn as their points come."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import ArrayLike, NDArray
from qtpy.QtCore import QEvent, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import Colors, paragraph

POINTS_PER_PIXEL = 2
"""As many are drawn at most; more are averaged."""
REDRAW_MS = 1500
"""After so long points are drawn at the latest: each redraw has the whole window composed anew,
which takes time from the training where no graphics card does it. It is longer than what lies
between two changes of the text beside it, which have the plot drawn along with them: both in turn
would be twice as many."""
MINIMUM_HEIGHT = 110
AXIS_WIDTH = 46
"""One width for all, so that plots below each other stand in line."""
AXIS_HEIGHT = 44
"""Of one below with a label."""
PLACES = {"left": (0, 0), "bottom": (1, 1)}
"""Row and column of each axis beside what is drawn."""


class Series:
    """Points whose x ascend, to which others are added."""

    def __init__(self) -> None:
        self.clear()

    @property
    def n(self) -> int:
        """How many points were added."""
        return len(self._x)

    def clear(self) -> None:
        """Forget all points."""
        self._x, self._y = array("d"), array("d")

    def add(self, x: float, y: float) -> None:
        """Add a point."""
        self._x.append(x)
        self._y.append(y)

    def extend(self, x: ArrayLike, y: ArrayLike) -> None:
        """Add many points."""
        self._x.frombytes(np.ascontiguousarray(x, float).tobytes())
        self._y.frombytes(np.ascontiguousarray(y, float).tobytes())

    @property
    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """X and y of the points."""
        return np.array(self._x), np.array(self._y)

    def near(self, x: float) -> tuple[float, float] | None:
        """Return the point nearest to `x`, None if there is none."""
        if not self.n:
            return None
        xs, ys = self.points
        i = int(np.abs(xs - x).argmin())
        return float(xs[i]), float(ys[i])


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running mean over a twentieth of the values, but at least 5.

    Near the ends it is over those that there are.

    Parameters
    ----------
    values
        ``(N,)``.
    """
    half = max(2, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


@dataclass(frozen=True)
class Curve:
    """How a series of points is drawn."""

    label: str
    """Its name in the legend; empty for none."""
    color: str
    """A name of :data:`~napari_synapse_cl.widgets.look.COLORS`, or "text"."""
    series: Series
    """Its points."""
    symbol: str | None = None
    """Of its points, as pyqtgraph calls them, or None for a line alone."""
    smoothed: bool = False
    """Whether its running mean is drawn in place of its points."""
    factor: float = 1.0
    """What its values are multiplied with to be drawn."""

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y as they are drawn."""
        x, y = self.series.points
        return x, self.factor * (smooth(y) if self.smoothed else y)


class _Canvas(pg.GraphicsLayoutWidget):
    """Takes what room there is, and shrinks before what is around it scrolls."""

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for no more than the least."""
        return QSize(super().sizeHint().width(), self.minimumHeight())


class Plot(QWidget):
    """Axes in the colours of the viewer's theme, and a legend above them.

    Parameters
    ----------
    viewer
        Its theme gives the colours.
    labels
        What the axes say, by their sides: left, bottom.
    height
        The least, in pixels.
    margins
        Of the axes: left, top, right, bottom, in pixels.
    """

    def __init__(
        self, viewer: Any, labels: Mapping[str, str], height: int, margins: tuple[int, ...]
    ) -> None:
        super().__init__()
        self._viewer = viewer
        # pyqtgraph's own legend hides curves inside the axes, and is clipped outside of them.
        self._legend = paragraph()
        self._legend.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._canvas = _Canvas()
        # What it shows is told in words elsewhere: it takes no keys.
        for part in (self._canvas, self._canvas.viewport()):
            part.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._canvas.setAccessibleName(f"Plot of {labels['left'] or 'a metric'}")
        self._canvas.setMinimumHeight(height)
        self._main = pg.ViewBox(enableMenu=False)
        self._axes = {side: pg.AxisItem(side) for side in labels}
        # pyqtgraph's PlotItem would do this too, and bring a dozen menus that nobody deletes.
        grid = self._canvas.ci
        grid.setContentsMargins(*margins)
        grid.setSpacing(0)
        grid.addItem(self._main, 0, 1)
        for side, axis in self._axes.items():
            grid.addItem(axis, *PLACES[side])
            axis.linkToView(self._main)
            # It would be said in the label, which some have not.
            axis.enableAutoSIPrefix(False)
            if labels[side]:
                axis.setLabel(labels[side])
            if side != "bottom":
                axis.setWidth(AXIS_WIDTH)
            elif labels[side]:
                axis.setHeight(AXIS_HEIGHT)
        grid.layout.setColumnStretchFactor(1, 1)
        grid.layout.setRowStretchFactor(0, 1)
        layout = bare(QVBoxLayout(self), 0)
        layout.addWidget(self._legend)
        layout.addWidget(self._canvas, stretch=1)

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        colors = Colors(self._viewer)
        self._canvas.setBackground(colors.background)
        for axis in self._axes.values():
            axis.setPen(colors.text)
            axis.setTextPen(colors.text)
        self._legend.setText(f"<small>{' &nbsp;'.join(self.color(colors))}</small>")

    def color(self, colors: Colors) -> list[str]:
        """Give what is drawn its colours; return the parts of the legend."""
        raise NotImplementedError


class LivePlot(Plot):
    """Curves over the steps of a training, all on one scale.

    It is redrawn at most once a second, however fast points come, and not while it is hidden.

    Parameters
    ----------
    viewer
        Its theme gives the colours.
    left
        What the values are.
    limits
        The lowest and the highest value that there can be, None to show those that there are.
    bottom
        What the points are counted in; empty where that is said elsewhere.

    Attributes
    ----------
    curves
        What is drawn, in the order of the legend.
    """

    pointed = Signal(object)
    """Emitted with the step under the cursor, or None when the cursor has left."""

    def __init__(
        self,
        viewer: Any,
        left: str,
        *,
        limits: tuple[float, float] | None = None,
        height: int = MINIMUM_HEIGHT,
        bottom: str = "",
    ) -> None:
        super().__init__(
            viewer, {"left": left, "bottom": bottom}, height, (0, 4, 8, 6 if bottom else 0)
        )
        self._items: dict[Curve, pg.PlotDataItem] = {}
        self._level: tuple[str, pg.InfiniteLine] | None = None
        self._logarithmic = False
        self._limits = limits
        self._fit()
        self._timer = QTimer(self, singleShot=True, interval=REDRAW_MS, timeout=self._redraw)
        self._canvas.scene().sigMouseMoved.connect(self._on_mouse)
        self._canvas.scene().sigMouseClicked.connect(self._on_click)
        self.follow_theme()

    @property
    def curves(self) -> list[Curve]:
        """What is drawn, in the order of the legend."""
        return list(self._items)

    def drawn(self, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y of a curve as it was drawn last."""
        x, y = self._items[curve].getOriginalDataset()
        return (np.empty(0), np.empty(0)) if x is None else (x, y)

    def add_curve(self, curve: Curve) -> None:
        """Draw one more curve."""
        item = pg.PlotDataItem(
            symbol=curve.symbol,
            symbolSize=5,
            autoDownsample=True,
            downsampleMethod="mean",
            autoDownsampleFactor=POINTS_PER_PIXEL,
        )
        self._items[curve] = item
        item.setLogMode(False, self._logarithmic)
        self._main.addItem(item)
        self.follow_theme()
        self.redraw_soon()

    def show_level(self, label: str, value: float) -> None:
        """Draw a dashed line at a value, in place of the one before."""
        if self._level is not None:
            self._main.removeItem(self._level[1])
        line = pg.InfiniteLine(value, angle=0)
        self._main.addItem(line, ignoreBounds=True)
        self._level = (label, line)
        self.follow_theme()

    def follow_steps_of(self, other: "LivePlot") -> None:
        """Show the same steps as another plot."""
        self._main.setXLink(other._main)

    def redraw_soon(self) -> None:
        """Draw the points that were added."""
        if not self._timer.isActive():
            self._timer.start()

    def redraw_now(self) -> None:
        """Draw what is to be drawn soon, for the window is composed anew now anyway."""
        if self._timer.isActive():
            self._timer.stop()
            self._redraw()

    def set_logarithmic(self, logarithmic: bool) -> None:
        """Show the values on a logarithmic axis, or on a linear one."""
        self._logarithmic = logarithmic
        self._axes["left"].setLogMode(y=logarithmic)
        for item in self._items.values():
            item.setLogMode(False, logarithmic)
        self._fit()

    def color(self, colors: Colors) -> list[str]:
        """Give the curves their colours; return the parts of the legend."""
        legend = []
        for curve, item in self._items.items():
            color = colors.named(curve.color)
            # Wider lines are drawn many times slower.
            item.setPen(color)
            if curve.symbol:
                item.setSymbolBrush(color)
                item.setSymbolPen(None)
            if curve.label:
                mark = "●" if curve.symbol else "─"
                legend.append(
                    f"<span style='color:{color.name()}'>{mark}&nbsp;{curve.label}</span>"
                )
        if self._level is not None:
            label, line = self._level
            line.setPen(pg.mkPen(colors.text, style=Qt.PenStyle.DashLine))
            legend.append(f"- - {label}")
        return legend

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Draw what has come while it was hidden."""
        super().showEvent(event)
        self.redraw_soon()

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Tell that the cursor has left."""
        super().leaveEvent(event)
        self.pointed.emit(None)

    def _fit(self) -> None:
        """Show everything."""
        self._main.enableAutoRange()
        if self._limits is not None:
            self._main.setYRange(*self._limits, padding=0.04)

    def _on_mouse(self, position: Any) -> None:
        if self._main.sceneBoundingRect().contains(position):
            self.pointed.emit(self._main.mapSceneToView(position).x())

    def _on_click(self, event: Any) -> None:
        if event.double():
            self._fit()

    def _redraw(self) -> None:
        if self.isVisible():
            for curve, item in self._items.items():
                item.setData(*curve.points())
            # Axes that are fitted while they are painted have it all painted twice.
            self._canvas.scene().prepareForPaint()
