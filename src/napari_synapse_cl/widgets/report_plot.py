"""The scores of layers as curves."""

from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_synapse_cl.features.layer_report import Report
from napari_synapse_cl.widgets.theme import Colors

MINIMUM_HEIGHT = 200
AXIS_WIDTH, AXIS_HEIGHT = 46, 44
SCORES = (("recall", "recall", "blue"), ("knn", "kNN", "orange"), ("linear", "linear", "green"))
"""Attribute of the score, what it is called, and its colour."""


class ReportPlot(QWidget):
    """Recall and balanced accuracies over the layers; dashed, those of the intensity histogram.

    Parameters
    ----------
    viewer
        Its theme gives the colours.
    report
        The scores.
    """

    def __init__(self, viewer: Any, report: Report) -> None:
        super().__init__()
        self._viewer = viewer
        self._report = report
        self._legend = QLabel()
        self._legend.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._canvas = pg.GraphicsLayoutWidget()
        self._canvas.setMinimumHeight(MINIMUM_HEIGHT)
        self._box = pg.ViewBox(enableMenu=False)
        self._box.setMouseEnabled(x=False, y=False)
        self._axes = {side: pg.AxisItem(side) for side in ("left", "bottom")}
        self._curves: list[tuple[pg.PlotCurveItem, str, Any]] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._legend)
        layout.addWidget(self._canvas, stretch=1)
        self._lay_out_axes()
        self._draw()
        self.follow_theme()

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        colors = Colors(self._viewer)
        self._canvas.setBackground(colors.background)
        for axis in self._axes.values():
            axis.setPen(colors.text)
            axis.setTextPen(colors.text)
        for curve, name, style in self._curves:
            curve.setPen(pg.mkPen(colors.named(name, 1.0 if style is None else 0.6), style=style))
            if style is None:
                curve.setSymbolBrush(colors.named(name))
                curve.setSymbolPen(None)
        parts = [
            f"<span style='color:{colors.named(color).name()}'>●&nbsp;{label}</span>"
            for name, label, color in SCORES
            if self._values(name)
        ]
        parts.append("- - of the intensity histogram")
        self._legend.setText(f"<small>{' &nbsp;'.join(parts)}</small>")

    def _lay_out_axes(self) -> None:
        # pyqtgraph's PlotItem would do this too, and bring a dozen menus that nobody deletes.
        grid = self._canvas.ci
        grid.setContentsMargins(0, 4, 8, 6)
        grid.setSpacing(0)
        grid.addItem(self._axes["left"], 0, 0)
        grid.addItem(self._box, 0, 1)
        grid.addItem(self._axes["bottom"], 1, 1)
        grid.layout.setColumnStretchFactor(1, 1)
        grid.layout.setRowStretchFactor(0, 1)
        self._axes["left"].setLabel("share")
        self._axes["left"].setWidth(AXIS_WIDTH)
        self._axes["bottom"].setLabel("layer")
        self._axes["bottom"].setHeight(AXIS_HEIGHT)
        for axis in self._axes.values():
            axis.linkToView(self._box)

    def _draw(self) -> None:
        layers = self._report.layers
        self._axes["bottom"].setTicks([[(i, str(s.layer)) for i, s in enumerate(layers)]])
        self._box.setRange(xRange=(-0.5, len(layers) - 0.5), yRange=(0, 1), padding=0.02)
        for name, _, color in SCORES:
            values = self._values(name)
            if values:
                places = [i for i, score in enumerate(layers) if getattr(score, name) is not None]
                self._add(places, values, color, None)
            baseline = getattr(self._report.baseline, name, None)
            if baseline is not None:
                ends = [-0.5, len(layers) - 0.5]
                self._add(ends, [baseline] * 2, color, Qt.PenStyle.DashLine)

    def _add(self, x: list[Any], y: list[float], color: str, style: Any) -> None:
        symbol = "o" if style is None else None
        item = pg.PlotDataItem(np.asarray(x, float), np.asarray(y), symbol=symbol, symbolSize=6)
        self._box.addItem(item)
        self._curves.append((item, color, style))

    def _values(self, name: str) -> list[float]:
        values = [getattr(score, name) for score in self._report.layers]
        return [value for value in values if value is not None]
