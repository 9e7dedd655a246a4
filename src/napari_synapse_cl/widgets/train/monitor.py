"""What there is to see of a training, and to save: its losses, and whether it is healthy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QVBoxLayout,
    QWidget,
)

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.runs.events import EpochDone, StepDone
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.following import MetricsRead
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.system.files import replacing
from napari_synapse_cl.widgets.look import bare, button, paragraph, telling
from napari_synapse_cl.widgets.plots import Curve, LivePlot, Series

METRICS = (
    "loss",
    "learning_rate",
    "validation_loss",
    "retrieval",
    "alignment",
    "uniformity",
    "effective_rank",
    "feature_rank",
    "knn_accuracy",
)
"""What is drawn of a run: columns of its tables, and fields of the events."""
LOSS_HELP = (
    "<qt>Loss of every step and its running mean, and of the held-out synapses after every "
    "epoch. Drag to move, wheel to zoom, double-click to show all.</qt>"
)
HEALTH_HELP = (
    "<qt>On the held-out synapses, after every epoch.<br>"
    "<b>Retrieval</b>: share of views whose nearest neighbour is the other view of the same "
    "synapse; 1 is perfect.<br>"
    "<b>Alignment</b>: mean squared distance between the two views; low is good.<br>"
    "<b>Uniformity</b>: how evenly the embeddings are spread; 0 means all in one place, −4 is "
    "evenly spread.<br>"
    "<b>Rank of features</b>: how many dimensions the features of crops as they are fill; more is "
    "better, and since it needs no views it can be compared between recipes.<br>"
    "<b>kNN accuracy</b>: how well the nearest training synapses tell the labels, if a label "
    "column is set.</qt>"
)
COMPARISON_COLORS = ("purple", "text")
PICTURES, TABLES = "Pictures (*.png)", "Tables (*.csv)"


def export_picture(widget: QWidget, path: Path) -> None:
    """Save a widget as it is drawn, as a PNG file.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    _write(path, lambda temporary: widget.grab().save(str(temporary), "PNG"))


def export_table(folder: Path, path: Path) -> None:
    """Save the metrics of a run as one CSV table: a row a step, an epoch's values at its last.

    Raises
    ------
    InputError
        If there are none, or the file cannot be written.
    """
    run = RunFolder(folder)
    try:
        steps = pd.read_csv(run.steps_file)
        epochs = pd.read_csv(run.epochs_file) if run.epochs_file.exists() else None
    except (OSError, ValueError):
        raise InputError(f"there are no metrics in {folder} to save") from None
    if epochs is not None:
        steps = steps.merge(epochs.drop(columns="epoch"), on="step", how="left")

    def write(temporary: Path) -> bool:
        steps.to_csv(temporary, index=False)
        return True

    _write(path, write)


def _write(path: Path, write: Callable[[Path], bool]) -> None:
    try:
        with replacing(path) as temporary:
            if not write(temporary):
                raise OSError("Qt could not write the picture")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {reason(error)}") from None


class Monitor(QWidget):
    """Two live plots of a training, with values under the cursor, comparisons and export.

    Parameters
    ----------
    viewer
        Its theme gives the colours.

    Attributes
    ----------
    series
        The points of each metric, by its name.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.series = {name: Series() for name in METRICS}
        self.losses = LivePlot(viewer, "Loss", "Learning rate")
        self.health = LivePlot(viewer, "On held-out pairs", "Effective rank")
        self._add_curves()
        self.losses.setToolTip(LOSS_HELP)
        self.health.setToolTip(HEALTH_HELP)
        self.log_box = QCheckBox("Log axis")
        self.log_box.setToolTip("Show the losses on a logarithmic axis")
        self.log_box.toggled.connect(self.losses.set_logarithmic)
        self.compare_button = button(
            "Compare …", "Draw the losses of a past run beside these", self._ask_run
        )
        self.clear_button = button("Clear", "Draw this run alone", self.compare_none)
        self.clear_button.setEnabled(False)
        self.export_button = button(
            "Export …",
            "Save the plots as a picture (.png), or every step and epoch as a table (.csv)",
            self._ask_file,
        )
        self.values = paragraph()
        self.values.setAlignment(Qt.AlignmentFlag.AlignTop)
        # Room for two lines, so that nothing jumps.
        self.values.setMinimumHeight(2 * self.values.fontMetrics().lineSpacing() + 2)
        self._folder: Path | None = None
        self._compared: dict[Path, list[Curve]] = {}
        for plot in (self.losses, self.health):
            plot.pointed.connect(self._show_values)
        self._lay_out()
        self._show_values(None)

    def begin(self, folder: Path, first_step: int = 0) -> None:
        """Show the training in a folder from now on.

        Parameters
        ----------
        first_step
            Steps it has done already; they are read from the folder.
        """
        self._folder = folder
        for series in self.series.values():
            series.clear()
        run = RunFolder(folder)
        for columns in (read_metrics(run.steps_file), read_metrics(run.epochs_file)):
            if columns and first_step:
                done = columns["step"] <= first_step
                self._extend({name: values[done] for name, values in columns.items()})
        self._redraw_soon()

    def add_step(self, event: StepDone) -> None:
        """Add a step."""
        self.series["loss"].add(event.step, event.loss)
        self.series["learning_rate"].add(event.step, event.learning_rate)
        self.losses.redraw_soon()

    def add_epoch(self, event: EpochDone) -> None:
        """Add what was measured after an epoch."""
        for name, series in self.series.items():
            value = getattr(event, name, None)
            if value is not None:
                series.add(event.step, value)
        self._redraw_soon()

    def add_metrics(self, metrics: MetricsRead) -> None:
        """Add many steps and epochs, as a run folder holds them."""
        self._extend(metrics.steps)
        self._extend(metrics.epochs)
        self._redraw_soon()

    def compare(self, folder: Path) -> None:
        """Draw the losses of another run too.

        Raises
        ------
        InputError
            If the folder holds no training.
        """
        run = RunFolder(folder)
        steps, epochs = read_metrics(run.steps_file), read_metrics(run.epochs_file)
        if not steps:
            raise InputError(f"{folder} holds no training: there is no {run.steps_file.name} in it")
        if folder in self._compared:
            return
        color = COMPARISON_COLORS[len(self._compared) % len(COMPARISON_COLORS)]
        training, validation = Series(), Series()
        _extend(training, steps, "loss")
        _extend(validation, epochs, "validation_loss")
        curves = [
            Curve(folder.name, color, training, smoothed=True),
            Curve("", color, validation, symbol="o"),
        ]
        for curve in curves:
            self.losses.add_curve(curve)
        self._compared[folder] = curves
        self.clear_button.setEnabled(True)

    def compare_none(self) -> None:
        """Draw this run alone."""
        for curves in self._compared.values():
            for curve in curves:
                self.losses.remove_curve(curve)
        self._compared.clear()
        self.clear_button.setEnabled(False)

    def export(self, path: Path) -> None:
        """Save the plots as a PNG file, or every step and epoch as a CSV table.

        Raises
        ------
        InputError
            If there is nothing to save, the file cannot be written, or its suffix is another.
        """
        if path.suffix.lower() == ".png":
            export_picture(self, path)
        elif path.suffix.lower() != ".csv":
            raise InputError(f"{path.name} ends neither in .png nor in .csv")
        elif self._folder is None:
            raise InputError("there is no training whose numbers could be saved")
        else:
            export_table(self._folder, path)

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        self.losses.follow_theme()
        self.health.follow_theme()

    def _add_curves(self) -> None:
        series = self.series
        loss = series["loss"]
        self.losses.add_curve(Curve("step", "orange", loss, faint=True))
        self.losses.add_curve(Curve("smoothed", "orange", loss, smoothed=True))
        self.losses.add_curve(Curve("validation", "blue", series["validation_loss"], symbol="o"))
        rate = Curve("learning rate", "green", series["learning_rate"], axis="right")
        self.losses.add_curve(rate)
        for name, color in (
            ("retrieval", "blue"),
            ("alignment", "orange"),
            ("uniformity", "purple"),
            ("knn_accuracy", "text"),
        ):
            label = name.replace("knn_", "kNN ")
            self.health.add_curve(Curve(label, color, series[name], symbol="o"))
        rank = Curve("rank of features", "green", series["feature_rank"], axis="right", symbol="o")
        self.health.add_curve(rank)

    def _lay_out(self) -> None:
        toolbar = QHBoxLayout()
        toolbar.addWidget(self.log_box)
        toolbar.addStretch()
        for one in (self.compare_button, self.clear_button, self.export_button):
            toolbar.addWidget(one)
        layout = bare(QVBoxLayout(self), 2)
        layout.addLayout(toolbar)
        layout.addWidget(self.losses, stretch=1)
        layout.addWidget(self.health, stretch=1)
        layout.addWidget(self.values)

    def _redraw_soon(self) -> None:
        self.losses.redraw_soon()
        self.health.redraw_soon()

    def _extend(self, columns: dict[str, np.ndarray]) -> None:
        for name, series in self.series.items():
            _extend(series, columns, name)

    def _show_values(self, step: float | None) -> None:
        if step is None:
            self.values.setText("Point at a plot to read its values.")
            return
        parts = []
        for name, series in self.series.items():
            if (point := series.near(step)) is not None:
                if name == "loss":
                    parts.append(f"<b>Step {point[0]:.0f}</b>")
                parts.append(f"{name.replace('_', ' ')} {point[1]:.3g}")
        self.values.setText(" · ".join(parts))

    def _ask_run(self) -> None:
        start = "" if self._folder is None else str(self._folder.parent)
        chosen = QFileDialog.getExistingDirectory(self, "Folder of a past run", start)
        if chosen:
            with telling():
                self.compare(Path(chosen))

    def _ask_file(self) -> None:
        chosen, kind = QFileDialog.getSaveFileName(
            self, "Save the plots or their numbers", "training.png", f"{PICTURES};;{TABLES}"
        )
        if not chosen:
            return
        path = Path(chosen)
        if not path.suffix:
            path = path.with_suffix(".csv" if kind == TABLES else ".png")
        with telling():
            self.export(path)
            show_info(f"Saved {path}")


def _extend(series: Series, columns: dict[str, np.ndarray], name: str) -> None:
    if name in columns:
        known = np.isfinite(columns[name])
        series.extend(columns["step"][known], columns[name][known])
