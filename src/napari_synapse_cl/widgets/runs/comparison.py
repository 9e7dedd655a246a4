"""A window that draws what several runs have come to, in one plot of each kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QCheckBox, QDialog, QVBoxLayout, QWidget

from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.listing import ListedRun
from napari_synapse_cl.runs.metrics import Rows, read_metrics
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.look import COLORS, expected, paragraph, tell
from napari_synapse_cl.widgets.plots import Curve, LivePlot, Series

SIZE = (740, 640)
REFRESH_MS = 5000
"""How often one looks again while one of the runs is under way."""
NOTE = (
    "Lines are the loss in training, dots what was measured on held-out synapses. Losses compare "
    "runs of one batch size, temperature and objective, retrieval runs of one set of augmentations."
)


@dataclass(frozen=True)
class _Drawn:
    """The points of a run."""

    training: Series
    validation: Series
    retrieval: Series


class ComparisonDialog(QDialog):
    """Losses of several runs in one plot, and what is found again in another, over the epochs.

    Parameters
    ----------
    viewer
        Its theme gives the colours.
    parent
        The window that it is shown above.

    Attributes
    ----------
    losses, retrieval
        The plots.
    """

    def __init__(self, viewer: Any, runs: Sequence[ListedRun], parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Runs compared")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(QSize(*SIZE).boundedTo(parent.window().size()))
        self._viewer = viewer
        self.losses = LivePlot(viewer, "Loss")
        self.retrieval = LivePlot(viewer, "Found (%)", limits=(0, 100), bottom="epoch")
        self.retrieval.follow_steps_of(self.losses)
        self._drawn: dict[Path, _Drawn] = {}
        colors = list(COLORS)
        for i, run in enumerate(runs):
            color = colors[i % len(colors)]
            drawn = _Drawn(Series(), Series(), Series())
            self._drawn[run.folder] = drawn
            self.losses.add_curve(Curve(run.name, color, drawn.training, smoothed=True))
            self.losses.add_curve(Curve("", color, drawn.validation, symbol="o"))
            self.retrieval.add_curve(
                Curve(run.name, color, drawn.retrieval, symbol="o", factor=100)
            )
        self.log_box = QCheckBox("Log axis")
        self.log_box.setToolTip("Show the losses on a logarithmic axis")
        self.log_box.toggled.connect(self.losses.set_logarithmic)
        layout = QVBoxLayout(self)
        for part in (self.losses, self.retrieval):
            layout.addWidget(part, stretch=1)
        layout.addWidget(self.log_box)
        layout.addWidget(paragraph(NOTE))
        self._reads = LatestOnly(_read_all)
        self._reads.done.connect(self._draw)
        self._reads.failed.connect(lambda error: tell(expected(error)))
        self._timer = QTimer(self, interval=REFRESH_MS, timeout=self._read)
        if any(run.is_active for run in runs):
            self._timer.start()
        viewer.events.theme.connect(self._on_theme)
        self._read()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Look no longer."""
        self._timer.stop()
        self._reads.forget()
        self._viewer.events.theme.disconnect(self._on_theme)
        super().closeEvent(event)

    def _read(self) -> None:
        self._reads.ask(list(self._drawn))

    def _draw(self, found: list[tuple[Rows, Rows]]) -> None:
        for drawn, (steps, epochs) in zip(self._drawn.values(), found, strict=True):
            n = _steps_per_epoch(epochs)
            _fill(drawn.training, steps, "loss", n)
            _fill(drawn.validation, epochs, "validation_loss", n)
            _fill(drawn.retrieval, epochs, "retrieval", n)
        self.losses.redraw_soon()
        self.retrieval.redraw_soon()

    def _on_theme(self, event: Any = None) -> None:
        self.losses.follow_theme()
        self.retrieval.follow_theme()


def _read_all(folders: Sequence[Path]) -> list[tuple[Rows, Rows]]:
    runs = [RunFolder(folder) for folder in folders]
    return [(read_metrics(run.steps_file), read_metrics(run.epochs_file)) for run in runs]


def _steps_per_epoch(epochs: Rows) -> float:
    """Return how many steps an epoch had; runs are drawn over epochs, whatever their batches."""
    known = epochs.get("epoch", np.empty(0))
    return float(epochs["step"][-1] / known[-1]) if len(known) else 1.0


def _fill(series: Series, rows: Rows, name: str, steps_per_epoch: float) -> None:
    series.clear()
    if name in rows:
        known = np.isfinite(rows[name])
        series.extend(rows["step"][known] / steps_per_epoch, rows[name][known])
