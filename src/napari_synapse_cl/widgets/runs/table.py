"""The table of runs: a row for each, and below it what its network has made."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QAbstractItemView, QTreeWidget, QTreeWidgetItem

from napari_synapse_cl.runs.listing import KEPT_DAYS, ListedRun
from napari_synapse_cl.system.words import storage

COLUMNS = {
    "Name": "What you call it: double-click or F2 to change it. Its folder keeps its name.",
    "State": "Running, paused, finished, stopped, failed or damaged; why is in its tooltip",
    "Epochs": "Epochs that are done, of those that were planned",
    "Best": "The best value by which epochs are judged",
    "Date": "When it was begun",
    "Volume": "What it was trained on",
    "Size": "What its folder takes on the disk",
}
NAME, STATE, EPOCHS, BEST, DATE, VOLUME, SIZE = range(len(COLUMNS))
RIGHT = (EPOCHS, BEST, SIZE)
"""Columns of numbers."""
MINIMUM_HEIGHT = 120
NAME_WIDTH = 150
"""At most, unless it is drawn wider."""


class Row(QTreeWidgetItem):
    """A run, sorted by what its texts mean."""

    def __init__(self, run: ListedRun) -> None:
        best = None if run.best is None else getattr(run.best, run.metric, None)
        begun = run.begun and run.begun.astimezone()
        super().__init__(
            [
                run.name,
                run.state,
                f"{run.epochs} of {run.planned}" if run.planned else str(run.epochs),
                "–" if best is None else f"{best:.3g}",
                begun.strftime("%Y-%m-%d %H:%M") if begun else "–",
                run.volume or "–",
                storage(run.n_bytes),
            ]
        )
        self.run = run
        self._keys: tuple[Any, ...] = (
            run.name.casefold(),
            run.state,
            run.epochs,
            float("inf") if best is None else best,
            str(run.begun or ""),
            run.volume.casefold(),
            run.n_bytes,
        )
        self.setFlags(self.flags() | Qt.ItemFlag.ItemIsEditable)
        tips = {column: self.text(column) for column in range(len(COLUMNS))}
        tips[NAME] = f"{run.name}<br>{run.folder}"
        tips[STATE] = f"{run.state}{': ' if run.note else ''}{run.note}"
        if run.best is not None:
            tips[BEST] = f"{run.metric.replace('_', ' ')} of epoch {run.best.epoch}"
        if run.binned is not None:
            tips[STATE] = (
                f"Discarded on {run.binned.discarded.astimezone():%Y-%m-%d} from "
                f"{run.binned.origin}; kept for {KEPT_DAYS} days"
            )
        for column, tip in tips.items():
            self.setToolTip(column, f"<qt>{tip}</qt>")
        for column in RIGHT:
            self.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
        for path in run.results:
            below = QTreeWidgetItem([path.name])
            below.setToolTip(NAME, f"<qt>{path}</qt>")
            below.setFlags(Qt.ItemFlag.ItemIsEnabled)
            self.addChild(below)

    def __lt__(self, other: Any) -> bool:
        if not isinstance(other, Row):
            return False
        column = self.treeWidget().sortColumn()
        return bool(self._keys[column] < other._keys[column])


class RunTable(QTreeWidget):
    """Shows runs, which can be selected, sorted and named."""

    renamed = Signal(object, str)
    """Emitted with a run and the name that was typed for it."""

    def __init__(self) -> None:
        super().__init__()
        self.setHeaderLabels(list(COLUMNS))
        self.setAccessibleName("Runs")
        self.setUniformRowHeights(True)
        # Names that are times differ at their end.
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setMinimumHeight(MINIMUM_HEIGHT)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.header().setAccessibleName("What is known of each run")
        self.header().setStretchLastSection(False)
        for column, tip in enumerate(COLUMNS.values()):
            self.headerItem().setToolTip(column, f"<qt>{tip}</qt>")
            if column in RIGHT:
                self.headerItem().setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
        self.setSortingEnabled(True)
        self.sortByColumn(DATE, Qt.SortOrder.DescendingOrder)
        self.itemDoubleClicked.connect(self.edit_name)
        self.itemChanged.connect(self._on_change)
        QShortcut(
            QKeySequence(Qt.Key.Key_F2),
            self,
            lambda: self.edit_name(self.currentItem()),
            context=Qt.ShortcutContext.WidgetShortcut,
        )

    @property
    def rows(self) -> list[Row]:
        """A row for each run, in the order in which they are shown."""
        return [self.topLevelItem(i) for i in range(self.topLevelItemCount())]

    @property
    def runs(self) -> list[ListedRun]:
        """The runs that are shown."""
        return [row.run for row in self.rows]

    @property
    def selected(self) -> list[ListedRun]:
        """The runs that are selected."""
        return [row.run for row in self.rows if row.isSelected()]

    @property
    def is_edited(self) -> bool:
        """Whether a name is being typed."""
        return bool(self.state() == QAbstractItemView.State.EditingState)

    def show_runs(self, runs: Sequence[ListedRun], select: Collection[Path] | None) -> None:
        """Show these runs in place of others.

        Parameters
        ----------
        select
            Folders of those to select; None for those that are.
        """
        wanted = [run.folder for run in self.selected] if select is None else select
        unfolded = {row.run.folder for row in self.rows if row.isExpanded()}
        rows = [Row(run) for run in runs]
        with QSignalBlocker(self):
            self.clear()
            self.addTopLevelItems(rows)
            self.setRootIsDecorated(any(run.results for run in runs))
            for row in rows:
                row.setExpanded(row.run.folder in unfolded)
                row.setSelected(row.run.folder in wanted)
            for column in range(len(COLUMNS)):
                self.resizeColumnToContents(column)
            self.setColumnWidth(NAME, min(NAME_WIDTH, self.columnWidth(NAME)))
        chosen = next((row for row in rows if row.isSelected()), None)
        if chosen is not None:
            self.scrollToItem(chosen)

    def edit_name(self, item: QTreeWidgetItem | None, column: int = NAME) -> None:
        """Let the name of a row's run be typed."""
        if isinstance(item, Row) and column == NAME:
            self.editItem(item, NAME)

    def _on_change(self, item: QTreeWidgetItem, column: int) -> None:
        if isinstance(item, Row) and column == NAME and item.text(NAME) != item.run.name:
            self.renamed.emit(item.run, item.text(NAME).strip())
