"""What there is to see of a training, and to save: its losses, and whether it is healthy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_synapse_cl.data import pd
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.runs.events import EpochDone, StepDone
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.following import MetricsRead
from napari_synapse_cl.runs.health import chance_of_retrieval
from napari_synapse_cl.system.files import replacing
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import button, paragraph, telling
from napari_synapse_cl.widgets.plots import Curve, LivePlot, Series
from napari_synapse_cl.widgets.train.forming import FormingPlot

LOSS_HELP = (
    "<qt>Loss of every step and its running mean, and of the held-out synapses after every "
    "epoch; lower is better. Drag to move, wheel to zoom, double-click to show all.</qt>"
)
RETRIEVAL_HELP = (
    "<qt>Share of views of held-out synapses whose nearest neighbour is the other view of the same "
    "synapse, after every epoch; higher is better, 100 % is perfect. It tells synapses apart, not "
    "classes.</qt>"
)
DETAILS = {
    "learning_rate": (
        "learning rate",
        "How large the steps are: rises at first, then falls to 0. No sign of success or failure.",
    ),
    "alignment": (
        "alignment, lower is better",
        "Mean squared distance between the two views of a held-out synapse: from 0, where they "
        "agree, to 4. Low at once and everywhere it is a collapse: see uniformity.",
    ),
    "uniformity": (
        "uniformity, lower is better",
        "How evenly the embeddings of held-out synapses are spread: 0 means all in one place, −4 "
        "is evenly spread.",
    ),
    "effective_rank": (
        "rank of embeddings, higher is better",
        "How many dimensions the embeddings of held-out synapses fill; 1 is a collapse.",
    ),
    "feature_rank": (
        "rank of features, higher is better",
        "How many dimensions the features of held-out crops as they are fill. Since it needs no "
        "views it can be compared between recipes.",
    ),
    "knn_accuracy": (
        "kNN accuracy, higher is better",
        "How well the nearest training synapses tell the label of held-out ones: 1 is perfect, "
        "guessing gives 1 by the number of labels. Only with a label column.",
    ),
}
"""What is drawn of a run under Details, each on a scale of its own: its name with its direction,
and what it means."""
METRICS = ("loss", "validation_loss", "retrieval", *DETAILS)
"""What is drawn of a run: columns of its tables, and fields of the events."""
DETAIL_HEIGHT = 80
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
    """Live plots of a training, with values under the cursor and export.

    Parameters
    ----------
    viewer
        Its theme gives the colours.

    Attributes
    ----------
    series
        The points of each metric, by its name.
    losses, retrieval
        The plots that are always there.
    details
        Those that are unfolded, by the names of their metrics.
    forming
        The held-out synapses, unfolded before these; None before.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._folder: Path | None = None
        self.series = {name: Series() for name in METRICS}
        self.losses = LivePlot(viewer, "Loss", bottom="step")
        self.retrieval = LivePlot(viewer, "Found (%)", limits=(0, 100), bottom="step")
        self.details: dict[str, LivePlot] = {}
        self.forming: FormingPlot | None = None
        self._held_out: Path | None = None
        self.losses.setToolTip(LOSS_HELP)
        self.retrieval.setToolTip(RETRIEVAL_HELP)
        loss, validation = self.series["loss"], self.series["validation_loss"]
        self.losses.add_curve(Curve("step", "grey", loss))
        self.losses.add_curve(Curve("training", "orange", loss, smoothed=True))
        self.losses.add_curve(Curve("validation", "blue", validation, symbol="o"))
        found = self.series["retrieval"]
        self.retrieval.add_curve(
            Curve("held-out synapses found again", "blue", found, symbol="o", factor=100)
        )
        self.log_box = QCheckBox("Log axis")
        self.log_box.setToolTip("Show the losses on a logarithmic axis")
        self.log_box.toggled.connect(self.losses.set_logarithmic)
        self.export_button = button(
            "Export …",
            "Save the plots as a picture (.png), or every step and epoch as a table (.csv)",
            self._ask_file,
        )
        self.values = paragraph()
        self.values.setAlignment(Qt.AlignmentFlag.AlignTop)
        # Room for two lines, so that nothing jumps.
        self.values.setMinimumHeight(2 * self.values.fontMetrics().lineSpacing() + 2)
        self.fold = QToolButton()
        self.fold.setCheckable(True)
        self.fold.setAutoRaise(True)
        self.fold.setText("▸ Details")
        self.fold.setToolTip(
            "Held-out synapses as they part, and what tells a healthy network from a collapsed one"
        )
        self.fold.toggled.connect(self._unfold)
        self._folded = QWidget()
        self._folded.hide()
        self._coming = QTimer(self, singleShot=True, interval=0, timeout=self._add_detail)
        for plot in (self.losses, self.retrieval):
            plot.pointed.connect(self._show_values)
        self._lay_out()
        self._show_values(None)

    def begin(self, folder: Path, n_validation: int) -> None:
        """Show the training in a folder from now on.

        Parameters
        ----------
        n_validation
            How many synapses are held out.
        """
        self.clear()
        self._folder = folder
        if n_validation:
            chance = 100 * chance_of_retrieval(n_validation)
            self.retrieval.show_level(f"by chance ({chance:.2g} %)", chance)
        self.retrieval.setVisible(n_validation > 0)
        self._form(RunFolder(folder).held_out_file if n_validation else None)
        self._redraw_soon()

    def clear(self) -> None:
        """Show nothing."""
        self._folder = None
        for series in self.series.values():
            series.clear()
        self._form(None)
        self._redraw_soon()

    def add_step(self, event: StepDone) -> None:
        """Add a step."""
        self.series["loss"].add(event.step, event.loss)
        self.series["learning_rate"].add(event.step, event.learning_rate)
        self.losses.redraw_soon()
        if "learning_rate" in self.details:
            self.details["learning_rate"].redraw_soon()

    def redraw_now(self) -> None:
        """Draw what is to be drawn soon."""
        for plot in self._plots:
            plot.redraw_now()

    def add_epoch(self, event: EpochDone) -> None:
        """Add what was measured after an epoch."""
        for name, series in self.series.items():
            value = getattr(event, name, None)
            if value is not None:
                series.add(event.step, value)
        self._redraw_soon()

    def add_metrics(self, metrics: MetricsRead) -> None:
        """Add many steps and epochs, as a run folder holds them."""
        for columns in (metrics.steps, metrics.epochs):
            for name, series in self.series.items():
                if name in columns:
                    known = np.isfinite(columns[name])
                    series.extend(columns["step"][known], columns[name][known])
        self._redraw_soon()

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
        for plot in self._plots:
            plot.follow_theme()

    @property
    def _plots(self) -> list[LivePlot | FormingPlot]:
        forming = [] if self.forming is None else [self.forming]
        return [self.losses, self.retrieval, *forming, *self.details.values()]

    def _lay_out(self) -> None:
        toolbar = QHBoxLayout()
        toolbar.addWidget(self.log_box)
        toolbar.addStretch()
        toolbar.addWidget(self.export_button)
        layout = bare(QVBoxLayout(self), 2)
        layout.addLayout(toolbar)
        layout.addWidget(self.losses, stretch=1)
        layout.addWidget(self.retrieval, stretch=1)
        layout.addWidget(self.values)
        layout.addWidget(self.fold)
        bare(QVBoxLayout(self._folded), 2)
        layout.addWidget(self._folded)

    def _redraw_soon(self) -> None:
        for plot in self._plots:
            plot.redraw_soon()
        self._show_known()

    def _form(self, held_out: Path | None) -> None:
        self._held_out = held_out
        if self.forming is not None:
            self.forming.begin(held_out)

    def _unfold(self, unfolded: bool) -> None:
        self.fold.setText(f"{'▾' if unfolded else '▸'} Details")
        self._folded.setVisible(unfolded)
        if self.forming is None:
            self.forming = FormingPlot(self._viewer)
            self._folded.layout().addWidget(self.forming)
            self._form(self._held_out)
        if unfolded:
            self._coming.start()

    def _add_detail(self) -> None:
        """Make one more plot: all at once would hold up the window."""
        name = next((name for name in DETAILS if name not in self.details), None)
        if name is None:
            return
        label, meaning = DETAILS[name]
        plot = LivePlot(self._viewer, "", height=DETAIL_HEIGHT)
        plot.setToolTip(f"<qt><b>{label.capitalize()}</b><br>{meaning}</qt>")
        symbol = None if name == "learning_rate" else "o"
        plot.add_curve(Curve(label, "green", self.series[name], symbol=symbol))
        plot.pointed.connect(self._show_values)
        self.details[name] = plot
        self._folded.layout().addWidget(plot)
        self._show_known()
        self._coming.start()

    def _show_known(self) -> None:
        """Show the details of which something is known."""
        for name, plot in self.details.items():
            plot.setVisible(self.series[name].n > 0)

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
