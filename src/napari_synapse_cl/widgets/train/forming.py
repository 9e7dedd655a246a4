"""The features of held-out synapses taking shape: their principal components after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtGui import QShowEvent

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.projections import principal_components, turned_like
from napari_synapse_cl.features.vectors import Scaling
from napari_synapse_cl.runs.held_out import HeldOut
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layers.features import MOST_CLASSES, class_color
from napari_synapse_cl.widgets.look import Colors
from napari_synapse_cl.widgets.plots import Plot

HEIGHT = 180
DOT_SIZE = 5
MARGIN = 0.05
LEAST = 1e-3
"""Half of what is shown along an axis at least; a vector has a mean square length of 1."""
LONGEST_NAME = 24
NO_LABEL = "no label"
GREY = "#808080"
HELP = (
    "<qt><b>Held-out synapses</b><br>Each dot is a synapse that is not trained on: what the newest "
    "epoch makes of its crop, by the two principal components of all. It is turned to lie as near "
    "as can be to the epoch before. Colours are those of the label column that the settings name; "
    "none is trained on.</qt>"
)


@dataclass(frozen=True)
class Picture:
    """Where the held-out synapses lie after an epoch."""

    held_out: HeldOut
    positions: np.ndarray
    """``(N, 2)`` float32, with their middle at 0."""
    share: float
    """Of the variance, that both axes show together."""


def picture_of(file: Path, before: Picture | None) -> Picture | None:
    """Return the picture of the newest epoch, None where there is none or it has not changed.

    Parameters
    ----------
    before
        What was shown last of the same run.

    Raises
    ------
    InputError
        If the file cannot be read, or holds features that are not finite.
    """
    found = HeldOut.read(file)
    if found is None or (before is not None and before.held_out.step == found.step):
        return None
    features = found.features
    if not np.isfinite(features).all():
        raise InputError(f"{file} holds features that are not finite")
    scaled = Scaling.of(features, [features.shape[1]]).apply(features)
    positions, shares = principal_components(scaled)
    if before is not None and np.array_equal(before.held_out.synapses, found.synapses):
        positions = turned_like(positions, before.positions)
    return Picture(found, positions, float(shares.sum()))


class FormingPlot(Plot):
    """Draws the held-out synapses of a run, as its newest epoch sees them.

    The file is read, and the picture made, in a thread of its own; while it is hidden nothing is.

    Attributes
    ----------
    picture
        What is drawn, None before the first epoch has ended.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer, {"left": ""}, HEIGHT, (4, 4, 4, 4))
        self.picture: Picture | None = None
        self._file: Path | None = None
        self._problem = ""
        # Its numbers mean nothing: only what lies near what does.
        self._axes["left"].hide()
        self._main.setAspectLocked()
        self._main.setMouseEnabled(False, False)
        self._dots = pg.ScatterPlotItem(size=DOT_SIZE, pen=None)
        self._main.addItem(self._dots)
        self._canvas.setAccessibleName("Plot of the held-out synapses")
        self.setToolTip(HELP)
        self._pictures = LatestOnly(picture_of)
        self._pictures.done.connect(self._show)
        self._pictures.failed.connect(self._tell)
        self.follow_theme()

    def begin(self, file: Path | None) -> None:
        """Show the run whose file it is from now on, None where there is nothing to show."""
        self._pictures.forget()
        self._file, self.picture, self._problem = file, None, ""
        self._dots.clear()
        self.follow_theme()
        self.setVisible(file is not None)
        self.redraw_soon()

    def redraw_now(self) -> None:
        """Leave it as it is: what is new is drawn as soon as it is read."""

    def redraw_soon(self) -> None:
        """Look for what a newer epoch has left."""
        if self._file is not None and self.isVisible():
            self._pictures.ask(self._file, self.picture)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Draw what has come while it was hidden."""
        super().showEvent(event)
        self.redraw_soon()

    def color(self, colors: Colors) -> list[str]:
        """Give the dots their colours; return what they are, and what the colours mean."""
        if self._problem or self.picture is None:
            return [escape(self._problem) or "held-out synapses: after the first epoch"]
        found = self.picture.held_out
        # As elsewhere, a class has the colour of its place in the order of first appearance.
        names = [name for name in dict.fromkeys(found.labels.tolist()) if name]
        shown = {name: class_color(i) for i, name in enumerate(names)}
        if "" in found.labels:
            shown[""] = GREY if names else colors.named("blue").name()
        brushes = {name: pg.mkBrush(color) for name, color in shown.items()}
        self._dots.setBrush([brushes[name] for name in found.labels.tolist()])
        told = f"held-out synapses after epoch {found.epoch} ({self.picture.share:.0%} of variance)"
        return [told, *(_legend(shown) if names else [])]

    def _show(self, picture: Picture | None) -> None:
        if picture is None:
            return
        self.picture, self._problem = picture, ""
        places = picture.positions.astype(float)
        self._dots.setData(*places.T)
        low, high = places.min(axis=0) - LEAST, places.max(axis=0) + LEAST
        self._main.setRange(xRange=(low[0], high[0]), yRange=(low[1], high[1]), padding=MARGIN)
        self.follow_theme()

    def _tell(self, error: Exception) -> None:
        self._problem = str(error)
        self.follow_theme()


def _legend(colors: Mapping[str, str]) -> list[str]:
    """Return a part of the legend for each label; of very many the first are named."""
    known = [
        f"<span style='color:{color}'>●</span>&nbsp;{escape(_short(name) or NO_LABEL)}"
        for name, color in colors.items()
    ]
    more = len(known) - MOST_CLASSES
    return known[:MOST_CLASSES] + ([f"and {more} more"] if more > 0 else [])


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
