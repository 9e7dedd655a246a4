"""The live plot of the losses."""

from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_synapse_cl.events import EpochDone, StepDone
from napari_synapse_cl.widgets.theme import Colors

REDRAW_MS = 200
"""Least time between two redraws; a redraw takes a fifth of that."""
MINIMUM_HEIGHT = 190


class LossPlot(QWidget):
    """Training loss of every step, and training and validation loss of every epoch.

    It redraws at most five times a second, however fast losses come.

    Parameters
    ----------
    viewer
        Its theme gives the colours.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._steps: list[tuple[int, float]] = []
        self._training: list[tuple[int, float]] = []
        self._validation: list[tuple[int, float]] = []
        # pyqtgraph's own legend hides curves inside the axes, and is clipped outside of them.
        self._legend = QLabel()
        self._legend.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._plot = pg.PlotWidget()
        self._plot.setMinimumHeight(MINIMUM_HEIGHT)
        self._plot.setMenuEnabled(False)
        self._plot.hideButtons()
        self._plot.setLabel("bottom", "Step")
        self._plot.setLabel("left", "NT-Xent loss")
        self.step_curve = self._plot.plot()
        self.training_curve = self._plot.plot(symbol="o", symbolSize=5)
        self.validation_curve = self._plot.plot(symbol="s", symbolSize=6)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._legend)
        layout.addWidget(self._plot, stretch=1)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REDRAW_MS)
        self._timer.timeout.connect(self._redraw)
        self.follow_theme()

    def clear_losses(self) -> None:
        """Begin anew."""
        for losses in (self._steps, self._training, self._validation):
            losses.clear()
        self._redraw()

    def add_step(self, event: StepDone) -> None:
        """Add the loss of a step."""
        self._steps.append((event.step, event.loss))
        self._redraw_soon()

    def add_epoch(self, event: EpochDone) -> None:
        """Add the mean losses of an epoch, at its last step."""
        self._training.append((event.step, event.training_loss))
        if event.validation_loss is not None:
            self._validation.append((event.step, event.validation_loss))
        self._redraw_soon()

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        colors = Colors(self._viewer)
        self._plot.setBackground(colors.background)
        for name in ("left", "bottom"):
            axis = self._plot.getAxis(name)
            axis.setPen(colors.text)
            axis.setTextPen(colors.text)
        faint = QColor(colors.training)
        faint.setAlpha(110)
        self.step_curve.setPen(faint)
        for curve, color in (
            (self.training_curve, colors.training),
            (self.validation_curve, colors.validation),
        ):
            # Wider lines are drawn many times slower.
            curve.setPen(color)
            curve.setSymbolBrush(color)
            curve.setSymbolPen(None)
        self._legend.setText(
            f"Training: <span style='color:{colors.training.name()}'>─ step ● epoch</span>"
            f" &nbsp; Validation: <span style='color:{colors.validation.name()}'>■ epoch</span>"
        )

    def _redraw_soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _redraw(self) -> None:
        for curve, losses in (
            (self.step_curve, self._steps),
            (self.training_curve, self._training),
            (self.validation_curve, self._validation),
        ):
            curve.setData(*np.array(losses, dtype=float).reshape(-1, 2).T)
