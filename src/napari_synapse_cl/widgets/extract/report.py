"""A window that shows how well each layer describes the synapses."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_synapse_cl.errors import JobError, reason
from napari_synapse_cl.features.layer_report import LayerScore, Report, to_table
from napari_synapse_cl.system.files import replacing
from napari_synapse_cl.system.words import listing
from napari_synapse_cl.widgets.layouts import scrolling
from napari_synapse_cl.widgets.look import Colors, button, paragraph, sentence, tell
from napari_synapse_cl.widgets.plots import Plot

MINIMUM_HEIGHT = 200
TABLE_HEIGHT = 240
"""Room for the best layers, what is joined of them and the baselines."""
SCORES = (("recall", "recall", "blue"), ("knn", "kNN", "orange"), ("linear", "linear", "green"))
"""Attribute of the score, what it is called, and its colour."""

SIZE = (740, 760)
COLUMNS = {
    "Layer": "Index into the network's features, and what the layer is; below the layers what is "
    "joined of them, and what a network has to beat",
    "Channels": "Numbers that describe a synapse",
    "Recall": "Share of augmented views whose nearest other view is that of the same synapse",
    "Rank": "Effective rank: how many dimensions the features fill",
    "kNN": "Balanced accuracy with which the five nearest neighbours in other parts of the volume "
    "tell the label, of crops whose centres are moved",
    "Linear": "The same of a logistic regression",
    "To baseline": "How much higher the mean of both is than that of the strongest baseline, and "
    "between what that lies with 95 % confidence: with 0 between, the two cannot be told apart",
}
MARK = " ★"


class ReportPlot(Plot):
    """Recall and balanced accuracies over the layers; dashed, those of what they have to beat.

    That is the intensity histogram for recall, and the strongest baseline for accuracies.

    Parameters
    ----------
    viewer
        Its theme gives the colours.
    """

    def __init__(self, viewer: Any, report: Report) -> None:
        labels = {"left": "share", "bottom": "network layer"}
        super().__init__(viewer, labels, MINIMUM_HEIGHT, (0, 4, 8, 6))
        self._report = report
        self._main.setMouseEnabled(x=False, y=False)
        self._curves: list[tuple[pg.PlotCurveItem, str, Any]] = []
        self._draw()
        self.follow_theme()

    def color(self, colors: Colors) -> list[str]:
        """Give the curves their colours; return the parts of the legend."""
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
        # The one that recall has to beat, unless it is the strongest of all.
        of_recall = f"color:{colors.named(SCORES[0][2]).name()}"
        beaten = ((of_recall, self._report.baseline), ("", self._report.strongest))
        lines = {score.name: style for style, score in beaten if score is not None}
        return [*parts, *(f"<span style='{s}'>- - {name}</span>" for name, s in lines.items())]

    def _draw(self) -> None:
        layers = self._report.layers
        self._axes["bottom"].setTicks([[(i, str(s.layer)) for i, s in enumerate(layers)]])
        self._main.setRange(xRange=(-0.5, len(layers) - 0.5), yRange=(0, 1), padding=0.02)
        for name, _, color in SCORES:
            values = self._values(name)
            if values:
                places = [i for i, score in enumerate(layers) if getattr(score, name) is not None]
                self._add(places, values, color, None)
            baseline = self._report.to_beat(name)
            if baseline is not None:
                ends = [-0.5, len(layers) - 0.5]
                self._add(ends, [baseline] * 2, color, Qt.PenStyle.DashLine)

    def _add(self, x: list[Any], y: list[float], color: str, style: Any) -> None:
        symbol = "o" if style is None else None
        item = pg.PlotDataItem(np.asarray(x, float), np.asarray(y), symbol=symbol, symbolSize=6)
        self._main.addItem(item)
        self._curves.append((item, color, style))

    def _values(self, name: str) -> list[float]:
        values = [getattr(score, name) for score in self._report.layers]
        return [value for value in values if value is not None]


class ReportDialog(QDialog):
    """The scores as a plot and as a table, and what to know before one trusts them.

    Parameters
    ----------
    viewer
        Its theme gives the colours.
    parent
        The window that it is shown above.

    Attributes
    ----------
    table
        The scores.
    use_button, save_button
        Choose the layers of the row that is selected; save the scores to a file.
    """

    layers_chosen = Signal(object)
    """Emitted with the indices of the layers that are wanted."""

    def __init__(self, viewer: Any, report: Report, parent: QWidget) -> None:
        super().__init__(parent)
        self._report = report
        self.setWindowTitle("Which network layer?")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(QSize(*SIZE).boundedTo(parent.window().size()))
        self.plot = ReportPlot(viewer, report)
        self.table = self._make_table()
        self.use_button = button("", clicked=self._use)
        self.save_button = button("Save …", "Save the scores as a CSV table", self._save)
        self.table.itemSelectionChanged.connect(self._name_button)
        verdict = _words(report.verdict[:1])
        remarks = _words([*report.verdict[1:], *report.remarks])
        buttons = QHBoxLayout()
        buttons.addWidget(self.use_button)
        buttons.addWidget(self.save_button)
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel(_heading(report)))
        layout.addWidget(verdict)
        layout.addWidget(self.plot, stretch=2)
        layout.addWidget(self.table, stretch=2)
        layout.addWidget(scrolling(remarks), stretch=1)
        layout.addLayout(buttons)
        layers = [_layers_of(score) for score in report.scores]
        self.table.setCurrentItem(self.table.topLevelItem(layers.index(report.read)))

    def _make_table(self) -> QTreeWidget:
        table = QTreeWidget()
        table.setHeaderLabels(list(COLUMNS))
        table.setAccessibleName("Scores of network layers")
        table.setRootIsDecorated(False)
        table.setUniformRowHeights(True)
        table.setMinimumHeight(TABLE_HEIGHT)
        header = table.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, tip in enumerate(COLUMNS.values()):
            table.headerItem().setToolTip(column, f"<qt>{tip}</qt>")
        for score in self._report.scores:
            table.addTopLevelItem(self._make_row(score))
        return table

    def _make_row(self, score: LayerScore) -> QTreeWidgetItem:
        is_best = score.layer == self._report.best
        numbers = (score.recall, score.effective_rank, score.knn, score.linear)
        formats = ("{:.2f}", "{:.1f}", "{:.2f}", "{:.2f}")
        row = QTreeWidgetItem(
            [
                score.name + (MARK if is_best else ""),
                "–" if score.channels is None else str(score.channels),
                *("–" if n is None else f.format(n) for n, f in zip(numbers, formats, strict=True)),
                _difference(score),
            ]
        )
        for column in range(len(COLUMNS)):
            font = row.font(column)
            font.setBold(is_best)
            row.setFont(column, font)
            if column:
                row.setTextAlignment(
                    column, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                )
        if not _layers_of(score):
            row.setFlags(row.flags() & ~Qt.ItemFlag.ItemIsSelectable)
        return row

    @property
    def _selected(self) -> tuple[int, ...]:
        rows = self.table.selectedItems()
        if not rows:
            return ()
        return _layers_of(self._report.scores[self.table.indexOfTopLevelItem(rows[0])])

    def _name_button(self) -> None:
        layers = self._selected
        several = f"layers {listing([str(n) for n in layers])}" if len(layers) > 1 else ""
        self.use_button.setText(f"Use {several or (f'layer {layers[0]}' if layers else 'a layer')}")
        self.use_button.setEnabled(bool(layers))

    def _use(self) -> None:
        if self._selected:
            self.layers_chosen.emit(self._selected)

    def _save(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Save the scores", "layers.csv", "CSV (*.csv)"
        )
        if not chosen:
            return
        try:
            with replacing(Path(chosen)) as temporary:
                to_table(self._report).to_csv(temporary, index=False)
        except OSError as error:
            tell(JobError(f"cannot write the scores to {chosen}: {reason(error)}"))


def _heading(report: Report) -> str:
    text = f"{report.n_synapses} synapses"
    if report.label_counts:
        counts = ", ".join(f"{name} {n}" for name, n in report.label_counts.items())
        text += f" · {report.label_column}: {counts}"
    return text


def _layers_of(score: LayerScore) -> tuple[int, ...]:
    """Return the layers that a row stands for."""
    return score.layers if score.layer is None else (score.layer,)


def _difference(score: LayerScore) -> str:
    numbers = (score.difference, score.difference_low, score.difference_high)
    if None in numbers:
        return "–"
    difference, low, high = (f"{n:+z.2f}".replace("-", "−") for n in numbers)
    return f"{difference} ({low} to {high})"


def _words(sentences: Sequence[str]) -> QLabel:
    """Return a label of some sentences, each a paragraph."""
    text = "".join(f"<p>{html.escape(sentence(one))}</p>" for one in sentences)
    label = paragraph(f"<qt>{text}</qt>", selectable=True)
    label.setAlignment(Qt.AlignmentFlag.AlignTop)
    return label
