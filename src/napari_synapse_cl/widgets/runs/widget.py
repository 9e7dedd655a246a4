"""The dock widget "Runs"."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtCore import QSignalBlocker, Qt, QTimer, QUrl, Signal
from qtpy.QtGui import QDesktopServices, QKeySequence, QShortcut, QShowEvent
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QGridLayout, QTreeWidget, QTreeWidgetItem

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.bin import KEPT_DAYS, BinnedRun, empty_bin, move_to_bin, put_back
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.listing import ListedRun, list_runs
from napari_synapse_cl.system.words import counted, listing, storage
from napari_synapse_cl.widgets.base import DockWidget, runs_folder
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.look import (
    EXTRACT,
    RUNS,
    TRAIN,
    bare,
    button,
    expected,
    open_dock,
    paragraph,
    sentence,
    steady,
    tell,
    telling,
)

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
REFRESH_MS = 5000
"""How often one looks again while a run is under way."""
MINIMUM_HEIGHT = 120
NAME_WIDTH = 150
STATUS_LINES = 2
NONE_YET = "No runs yet: those that are trained here come into {}."

BIN, BACK = "Move to bin", "Put back"


class _Row(QTreeWidgetItem):
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
        self._keys = (
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
        for path in run.results:
            below = QTreeWidgetItem([path.name])
            below.setToolTip(NAME, f"<qt>{path}</qt>")
            below.setFlags(Qt.ItemFlag.ItemIsEnabled)
            self.addChild(below)

    def __lt__(self, other: Any) -> bool:
        column = self.treeWidget().sortColumn()
        return bool(self._keys[column] < other._keys[column])


class RunsWidget(DockWidget):
    """The trainings so far: goes on with them, shows, compares and names them.

    Attributes
    ----------
    table
        A row for each, and below it what its network has made.
    """

    menu_name = RUNS
    listed = Signal()
    """Emitted when the table shows what there is."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.comparison: Any = None
        self._wanted: list[Path] | None = None
        self._opened: Path | None = None
        self.table = self._make_table()
        self.status = paragraph(selectable=True)
        self.continue_button = button(
            "Continue …", "<qt>Go on with it, from its last checkpoint</qt>", self._continue
        )
        self.attach_button = button(
            "Attach",
            "<qt>Show it under Train contrastive: live, if it runs in a terminal, on a cluster or "
            "since before napari was closed. It can be paused and stopped from there.</qt>",
            self._attach,
        )
        self.compare_button = button(
            "Compare",
            "<qt>Draw the losses and the retrieval of all that are selected into one plot each"
            "</qt>",
            self._compare,
        )
        self.use_button = button(
            "Use for extraction",
            "<qt>Extract features with the network of its best epoch, or of its last step</qt>",
            self._use,
        )
        self.show_button = button(
            "Show folder", "Open its folder on the desktop", self._show_folder
        )
        self.bin_button = button(BIN, clicked=self._move)
        self.other_button = button(
            "Other folder …",
            "<qt>List also the run, or the runs, in another folder</qt>",
            self._ask_folder,
        )
        self._lists = LatestOnly(list_runs)
        self._lists.done.connect(self._show_runs)
        self._lists.failed.connect(lambda error: tell(expected(error)))
        self._moves = LatestOnly(_call)
        self._moves.done.connect(self._on_moved)
        self._moves.failed.connect(lambda error: tell(expected(error)))
        self._timer = QTimer(self, interval=REFRESH_MS, timeout=self._look_again)
        self._emptied = False
        self._lay_out()
        self.update_buttons()

    @property
    def selected(self) -> list[ListedRun]:
        """The runs that are selected, in the order of the table."""
        rows = [self.table.topLevelItem(i) for i in range(self.table.topLevelItemCount())]
        return [row.run for row in rows if row.isSelected()]

    def refresh(self, select: list[Path] | None = None) -> None:
        """Look again what runs there are.

        Parameters
        ----------
        select
            Folders of runs to select then; None to leave that as it is.
        """
        self._wanted = select or self._wanted
        self._lists.ask([runs_folder(), *self.session.run_places])

    def open_folder(self, folder: Path) -> None:
        """List also the run, or the runs, in another folder, and select it."""
        self._opened = folder.absolute()
        self.session.add_run_place(folder)
        self.refresh([self._opened])

    def update_buttons(self) -> None:
        """Enable the buttons that do something now."""
        runs = self.selected
        one = runs[0] if len(runs) == 1 else None
        self.show_button.setEnabled(one is not None)
        there = one if one is not None and one.binned is None else None
        self.continue_button.setEnabled(there is not None and there.can_go_on)
        self.attach_button.setEnabled(there is not None and there.state != "damaged")
        self.use_button.setEnabled(there is not None and there.network is not None)
        self.compare_button.setEnabled(any(run.epochs for run in runs))
        is_binned = bool(runs) and all(run.binned for run in runs)
        movable = bool(runs) and not any(run.is_active or run.binned for run in runs)
        self.bin_button.setText(BACK if is_binned else BIN)
        self.bin_button.setToolTip(
            "<qt>Move it back to where it was</qt>"
            if is_binned
            else f"<qt>Discard it; for {KEPT_DAYS} days it can be put back. Files that are none of "
            "its own stay.</qt>"
        )
        self.bin_button.setEnabled(is_binned or movable)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Look what runs there are."""
        super().showEvent(event)
        self._timer.start()
        self.refresh()
        if not self._emptied:
            self._emptied = True
            self._moves.ask(_emptied, [runs_folder(), *self.session.run_places])

    def release(self) -> None:
        """Look no longer, when the dock is closed."""
        self._timer.stop()
        self._lists.forget()
        if self.comparison is not None:
            self.comparison.close()

    def _make_table(self) -> QTreeWidget:
        table = QTreeWidget()
        table.setHeaderLabels(list(COLUMNS))
        table.setAccessibleName("Runs")
        table.setUniformRowHeights(True)
        table.setMinimumHeight(MINIMUM_HEIGHT)
        table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.header().setStretchLastSection(False)
        for column, tip in enumerate(COLUMNS.values()):
            table.headerItem().setToolTip(column, f"<qt>{tip}</qt>")
            right = Qt.AlignmentFlag.AlignRight if column in (EPOCHS, BEST, SIZE) else None
            if right is not None:
                table.headerItem().setTextAlignment(column, right)
        table.setSortingEnabled(True)
        table.sortByColumn(DATE, Qt.SortOrder.DescendingOrder)
        table.itemSelectionChanged.connect(self.update_buttons)
        table.itemDoubleClicked.connect(self._edit_name)
        table.itemChanged.connect(self._rename)
        QShortcut(
            QKeySequence(Qt.Key.Key_F2),
            table,
            lambda: self._edit_name(table.currentItem(), NAME),
            context=Qt.ShortcutContext.WidgetShortcut,
        )
        return table

    def _lay_out(self) -> None:
        grid = bare(QGridLayout(), 4)
        for i, one in enumerate(
            (
                self.continue_button,
                self.attach_button,
                self.compare_button,
                self.use_button,
                self.show_button,
                self.other_button,
                self.bin_button,
            )
        ):
            # What discards lies apart.
            grid.addWidget(one, i // 3, i % 3 if i < 6 else 2)
        self.body.addWidget(self.table, stretch=1)
        self.body.addWidget(steady(self.status, STATUS_LINES))
        self.body.addLayout(grid)

    def _show_runs(self, runs: list[ListedRun]) -> None:
        if self.is_released:
            return
        opened, self._opened = self._opened, None
        if opened is not None and not any(
            run.folder == opened or run.folder.is_relative_to(opened) for run in runs
        ):
            self.session.run_places.remove(opened)
            tell(InputError(f"{opened} holds no run, and no folders of runs; choose another"))
        wanted = self._wanted or [run.folder for run in self.selected]
        self._wanted = None
        unfolded = {row.run.folder for row in self._rows if row.isExpanded()}
        with QSignalBlocker(self.table):
            self.table.clear()
            rows = [_Row(run) for run in runs]
            self.table.addTopLevelItems(rows)
            self.table.setRootIsDecorated(any(run.results for run in runs))
            for row in rows:
                for column in (EPOCHS, BEST, SIZE):
                    row.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
                row.setExpanded(row.run.folder in unfolded)
                row.setSelected(row.run.folder in wanted)
            for column in range(len(COLUMNS)):
                self.table.resizeColumnToContents(column)
            self.table.setColumnWidth(NAME, min(NAME_WIDTH, self.table.columnWidth(NAME)))
        chosen = next((row for row in rows if row.isSelected()), None)
        if chosen is not None:
            self.table.scrollToItem(chosen)
        if not runs:
            self.status.setText(NONE_YET.format(runs_folder()))
        elif not self.status.text() or self.status.text().startswith(NONE_YET[:11]):
            self.status.setText(f"{counted(len(runs), 'run')}.")
        self.update_buttons()
        self.listed.emit()

    @property
    def _rows(self) -> list[_Row]:
        return [self.table.topLevelItem(i) for i in range(self.table.topLevelItemCount())]

    def _look_again(self) -> None:
        is_edited = self.table.state() == QAbstractItemView.State.EditingState
        if self.isVisible() and not is_edited and any(row.run.is_active for row in self._rows):
            self.refresh()

    def _edit_name(self, item: QTreeWidgetItem | None, column: int) -> None:
        if isinstance(item, _Row) and column == NAME:
            self.table.editItem(item, NAME)

    def _rename(self, item: QTreeWidgetItem, column: int) -> None:
        if isinstance(item, _Row) and column == NAME and item.text(NAME) != item.run.name:
            with telling():
                RunFolder(item.run.folder).rename(item.text(NAME).strip())
            self.refresh()

    def _continue(self) -> None:
        [run] = self.selected
        open_dock(self.viewer, TRAIN).continue_run(run.folder)

    def _attach(self) -> None:
        [run] = self.selected
        open_dock(self.viewer, TRAIN).attach(run.folder)

    def _use(self) -> None:
        [run] = self.selected
        self.session.keep_checkpoint(str(run.network))
        widget = open_dock(self.viewer, EXTRACT)
        widget.form.editor("checkpoint").value = run.network

    def _compare(self) -> None:
        # Plots take longer to import than a widget should to open.
        from napari_synapse_cl.widgets.runs.comparison import ComparisonDialog

        if self.comparison is not None:
            self.comparison.close()
        self.comparison = ComparisonDialog(self.viewer, self.selected, self)
        self.comparison.destroyed.connect(self._forget_comparison)
        self.comparison.show()

    def _forget_comparison(self) -> None:
        self.comparison = None

    def _show_folder(self) -> None:
        [run] = self.selected
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(run.folder)))

    def _move(self) -> None:
        runs = self.selected
        binned = [run.binned for run in runs if run.binned is not None]
        self.status.setText("Moving …")
        if binned:
            self._moves.ask(_put_all_back, binned)
        else:
            self._moves.ask(_move_all, [run.folder for run in runs])

    def _on_moved(self, told: tuple[str, list[Path], list[Path]]) -> None:
        text, select, gone = told
        for folder in gone:
            self.session.forget_checkpoint(str(folder))
        if text:
            self.status.setText(sentence(text))
            show_info(sentence(text))
        self.refresh(select)

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(
            self, "Folder of a run, or of runs", str(runs_folder())
        )
        if chosen:
            self.open_folder(Path(chosen))


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return partial(function, *arguments)()


def _move_all(folders: list[Path]) -> tuple[str, list[Path], list[Path]]:
    """Move runs to the bin; return what to say, what to select then, and what is gone."""
    moved = [move_to_bin(folder) for folder in folders]
    bins = dict.fromkeys(binned.origin.parent for binned in moved)
    where = ", ".join(str(binned.path) for binned in moved)
    emptied, _, _ = _emptied(list(bins))
    text = f"in the bin for {KEPT_DAYS} days: {where}. “{BACK}” undoes it"
    return (
        ". ".join(filter(None, [text, emptied])),
        [binned.path for binned in moved],
        [binned.origin for binned in moved],
    )


def _put_all_back(runs: list[BinnedRun]) -> tuple[str, list[Path], list[Path]]:
    for run in runs:
        put_back(run)
    where = [str(run.origin) for run in runs]
    return f"back in {listing(where)}", [run.origin for run in runs], []


def _emptied(places: list[Path]) -> tuple[str, list[Path], list[Path]]:
    """Empty the bins of some places of what has been there for long."""
    gone = [run for place in places for run in empty_bin(place)]
    names = listing([run.origin.name for run in gone]) if gone else ""
    what = f"removed from the bin, after more than {KEPT_DAYS} days: {names}"
    return (what if gone else ""), [], []
