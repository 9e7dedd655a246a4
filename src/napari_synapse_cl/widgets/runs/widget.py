"""The dock widget "Runs"."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtCore import QTimer, QUrl, Signal
from qtpy.QtGui import QDesktopServices, QShowEvent
from qtpy.QtWidgets import QFileDialog

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.listing import (
    KEPT_DAYS,
    BinnedRun,
    ListedRun,
    empty_bins,
    list_runs,
    move_to_bin,
    put_back,
)
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.words import counted, listing
from napari_synapse_cl.widgets.base import DockWidget, runs_folder
from napari_synapse_cl.widgets.button_rows import Buttons
from napari_synapse_cl.widgets.extract.jobs import ShardsJob
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layouts import SteadyText
from napari_synapse_cl.widgets.look import (
    COLORS,
    EXTRACT,
    RUNS,
    TRAIN,
    button,
    expected,
    open_dock,
    paragraph,
    sentence,
    tell,
    telling,
)
from napari_synapse_cl.widgets.runs.table import RunTable

REFRESH_MS = 5000
"""How often one looks again while a run is under way."""
STATUS_LINES = 3
NONE_YET = "No runs yet; they will come into {}."

BIN, BACK = "Move to bin", "Put back"


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
        self.table = RunTable()
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
            "<qt>Draw the losses of those that are selected, five at most, into one plot, and what "
            "they find again into another</qt>",
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
        self.other_button = button(
            "Other folder …",
            "<qt>List also the run, or the runs, in another folder; of an extraction in shards, "
            "show how far it is</qt>",
            self._ask_folder,
        )
        self.bin_button = button(BIN, clicked=self._move)
        self._lists = LatestOnly(list_runs)
        self._lists.done.connect(self._show_runs)
        self._lists.failed.connect(lambda error: tell(expected(error)))
        self._moves = LatestOnly(_call)
        self._moves.done.connect(self._on_moved)
        self._moves.failed.connect(self._on_not_moved)
        self._timer = QTimer(self, interval=REFRESH_MS, timeout=self._look_again)
        self._emptied = False
        self.table.itemSelectionChanged.connect(self.update_buttons)
        self.table.renamed.connect(self._rename)
        self._lay_out()
        self.update_buttons()

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
        """List also the run, or the runs, in another folder, and select it.

        Of an extraction in shards it is shown under "Extract features" how far it is.
        """
        if Places(folder).is_begun:
            open_dock(self.viewer, EXTRACT).run(partial(ShardsJob, folder))
            return
        self._opened = folder.absolute()
        self.session.add_run_place(folder)
        self.refresh([self._opened])

    def update_buttons(self) -> None:
        """Enable the buttons that do something now."""
        runs = self.table.selected
        one = runs[0] if len(runs) == 1 else None
        self.show_button.setEnabled(one is not None)
        there = one if one is not None and one.binned is None else None
        self.continue_button.setEnabled(there is not None and there.can_go_on)
        self.attach_button.setEnabled(there is not None and there.state != "damaged")
        self.use_button.setEnabled(there is not None and there.network is not None)
        # With more, two would have the same colour.
        can_compare = len(runs) <= len(COLORS) and any(run.epochs for run in runs)
        self.compare_button.setEnabled(can_compare)
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
        # napari's font size is not that of tables.
        self.table.setFont(self.status.font())
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

    def _lay_out(self) -> None:
        self.body.addWidget(self.table, stretch=1)
        self.body.addWidget(SteadyText(self.status, STATUS_LINES))
        buttons = Buttons(
            (self.continue_button, self.attach_button, self.compare_button),
            (self.use_button, self.show_button, self.other_button),
            # What discards lies apart.
            (None, self.bin_button),
        )
        self.body.addWidget(buttons)

    def _show_runs(self, runs: list[ListedRun]) -> None:
        if self.is_released:
            return
        opened, self._opened = self._opened, None
        if opened is not None and not any(
            run.folder == opened or run.folder.is_relative_to(opened) for run in runs
        ):
            self.session.forget_run_place(opened)
            tell(InputError(f"{opened} holds no run, and no folders of runs; choose another"))
        self.table.show_runs(runs, self._wanted)
        self._wanted = None
        if not runs:
            self.status.setText(NONE_YET.format(runs_folder()))
        elif not self.status.text() or self.status.text().startswith(NONE_YET[:11]):
            self.status.setText(f"{counted(len(runs), 'run')}.")
        self.update_buttons()
        self.listed.emit()

    def _look_again(self) -> None:
        is_changing = any(run.is_active for run in self.table.runs)
        if self.isVisible() and is_changing and not self.table.is_edited:
            self.refresh()

    def _rename(self, run: ListedRun, name: str) -> None:
        with telling():
            RunFolder(run.folder).rename(name)
        self.refresh()

    def _continue(self) -> None:
        [run] = self.table.selected
        open_dock(self.viewer, TRAIN).continue_run(run.folder)

    def _attach(self) -> None:
        [run] = self.table.selected
        open_dock(self.viewer, TRAIN).attach(run.folder)

    def _use(self) -> None:
        [run] = self.table.selected
        self.session.keep_checkpoint(str(run.network))
        widget = open_dock(self.viewer, EXTRACT)
        widget.form.editor("checkpoint").value = run.network

    def _compare(self) -> None:
        # Plots take longer to import than a widget should to open.
        from napari_synapse_cl.widgets.runs.comparison import ComparisonDialog

        if self.comparison is not None:
            # It is forgotten a while after it was closed.
            self.comparison.destroyed.disconnect(self._forget_comparison)
            self.comparison.close()
        self.comparison = ComparisonDialog(self.viewer, self.table.selected, self)
        self.comparison.destroyed.connect(self._forget_comparison)
        self.comparison.show()

    def _forget_comparison(self) -> None:
        self.comparison = None

    def _show_folder(self) -> None:
        [run] = self.table.selected
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(run.folder)))

    def _move(self) -> None:
        runs = self.table.selected
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

    def _on_not_moved(self, error: Exception) -> None:
        tell(expected(error))
        self.status.setText(sentence(str(error)))
        self.refresh()

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
    where = ", ".join(str(binned.path) for binned in moved)
    emptied = empty_bins([binned.origin.parent for binned in moved])
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
    """Empty the bins of some places, or beside them, of what has been there for long."""
    return empty_bins([*places, *(place.parent for place in places)]), [], []
