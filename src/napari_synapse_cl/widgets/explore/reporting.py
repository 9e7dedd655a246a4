"""A report on what is shown: the page that the command line writes, made by a child process."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QObject, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_synapse_cl.config import Config
from napari_synapse_cl.data import pd
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError, JobError, reason
from napari_synapse_cl.runs.events import Control, Event, Progress, Wrote
from napari_synapse_cl.system.files import replacing, write_json
from napari_synapse_cl.system.words import VoxelSize, counted
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.jobs.inputs import in_finest
from napari_synapse_cl.widgets.jobs.job import ChildJob, JobWorker
from napari_synapse_cl.widgets.layers.voxels import (
    location_of,
    reopened,
    volume_of,
    voxel_size_of,
    voxels_in,
)
from napari_synapse_cl.widgets.look import ask, button, expected, tell

if TYPE_CHECKING:
    from napari_synapse_cl.features.vectors import VectorTable

FILTER = "Reports (*.html)"
START, STOP, OPEN = "Report …", "Stop report", "Open it"
LARGEST_WRITTEN = 2**30
"""Bytes of a volume in memory that is written beside a report, for crops to be cut from."""
KEPT = ("voxel_size", "geometry")
"""What a record says of the whole table."""


@dataclass(frozen=True, eq=False)
class Shown:
    """What is reported on, as it was at one moment."""

    vectors: VectorTable
    rows: np.ndarray
    """``(n,)`` int64, those that are shown, ascending."""
    columns: pd.DataFrame
    """n rows, the columns of the layer that are no channels."""
    positions: np.ndarray
    """``(n, 3)`` z, y, x, in voxels of the volume where there is one."""
    volume: Volume | None
    location: str | None
    """Where it was opened from."""
    voxel_size: VoxelSize | None
    """Along z, y, x in nm."""
    label_column: str | None

    @classmethod
    def of(cls, state: Exploration, image: Image | None, label_column: str) -> Self:
        """Return what is shown of an exploration.

        Parameters
        ----------
        label_column
            Where labels stand, if there is such a column.
        """
        assert state.layer is not None
        assert state.vectors is not None
        names, is_shown = state.column_names, np.zeros(state.n, bool)
        is_shown[state.order] = True
        rows = np.flatnonzero(is_shown)
        columns = pd.DataFrame({name: state.column(name) for name in names}).iloc[rows]
        positions, volume, location, size = np.asarray(state.layer.data)[rows], None, None, None
        if image is not None and image.ndim == 3 and not image.rgb:
            positions = voxels_in(image, state.layer, positions)
            volume, location = volume_of(image), location_of(image)
            size = voxel_size_of(image)
        labels = label_column if label_column in names else None
        return cls(state.vectors, rows, columns, positions, volume, location, size, labels)


class ReportInputs:
    """A feature table of what is shown, beside the report, and the settings of the job.

    A volume that is in no file, and not too large, is written beside it too.

    Parameters
    ----------
    target
        The report that is written. What lies beside it stays, so that the page can be made again.

    Raises
    ------
    InputError
        If its folder cannot be written.
    """

    def __init__(self, shown: Shown, target: Path) -> None:
        self._shown, self._target = shown, target.absolute()
        self._table = _free(self._target.with_name(f"{target.stem}_features.npz"))
        self._volume = _free(self._target.with_name(f"{target.stem}_volume.npy"))
        try:
            # On the disk of the report, whose place it takes in one step.
            folder = tempfile.mkdtemp(prefix=".synapse_cl_", dir=self._target.parent)
        except OSError as error:
            raise InputError(f"cannot write to {self._target.parent}: {reason(error)}") from None
        self._folder = Path(folder)
        self.config_file = self._folder / "config.json"
        self._is_kept = False

    def write(self, control: Control) -> Iterator[Event]:
        """Write the table and the settings.

        Raises
        ------
        InputError
            If they cannot be written.
        """
        # What writes tables takes longer to import than a dock should to open.
        from napari_synapse_cl.features.tables import write_table

        yield Progress("writing the table", 0, 1, "table")
        shown, positions = self._shown, self._shown.positions
        values: dict[str, Any] = {
            "report": True,
            "features": self._table,
            "output": self._folder,
            "vectors": shown.vectors.names,
        }
        values |= {} if shown.label_column is None else {"label_column": shown.label_column}
        volume = None if shown.volume is None else reopened(shown.location, shown.volume)
        if volume is not None:
            positions = in_finest(positions, volume)
            values["image"] = shown.location
            if shown.voxel_size is not None:
                values["voxel_size"] = (np.array(shown.voxel_size) / volume.factor).tolist()
        elif shown.volume is not None and self._write_volume(shown.volume.array):
            values["image"] = self._volume
            values |= {} if shown.voxel_size is None else {"voxel_size": shown.voxel_size}
        places = pd.DataFrame(positions, columns=list(AXES), index=shown.columns.index)
        columns = shown.columns.drop(columns=list(AXES), errors="ignore")
        vectors = shown.vectors
        table = vectors.written(shown.rows, pd.concat([places, columns], axis=1))
        record = {name: vectors.record[name] for name in KEPT if name in vectors.record}
        record["records"] = {name: vectors.record_of(name) for name in vectors.names}
        try:
            write_table(table, self._table, record)
            settings = Config.from_values(values).model_dump(mode="json", exclude_unset=True)
            write_json(self.config_file, settings)
        except OSError as error:
            raise InputError(f"cannot write {self._table}: {reason(error)}") from None

    def _write_volume(self, array: Any) -> bool:
        """Write a volume that is in memory, and return whether it was not too large."""
        if not isinstance(array, np.ndarray) or array.nbytes > LARGEST_WRITTEN:
            return False
        try:
            with replacing(self._volume) as temporary:
                np.save(temporary, array)
        except OSError as error:
            raise InputError(f"cannot write {self._volume}: {reason(error)}") from None
        return True

    def take(self, report: Path) -> Path:
        """Put the report that was written where it is wanted, and return that place."""
        os.replace(report, self._target)
        self._is_kept = True
        return self._target

    def clean_up(self) -> None:
        """Remove the settings, and what lies beside the report if there is none."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if not self._is_kept:
            self.remove()

    def remove(self) -> None:
        """Remove what was written."""
        for path in (self._table, self._table.with_suffix(".json"), self._volume):
            path.unlink(missing_ok=True)


def _free(path: Path) -> Path:
    """Return a name for a new file: this one, or with a number that is not there yet."""
    names = (path.stem if i == 1 else f"{path.stem}_{i}" for i in count(1))
    paths = (path.with_stem(name) for name in names)
    return next(one for one in paths if not os.path.lexists(one))


class ReportJob(ChildJob):
    """Writes a report; the last event says where it is."""

    def __init__(self, inputs: ReportInputs) -> None:
        super().__init__(inputs)
        self._take = inputs.take

    def events(self) -> Iterator[Event]:
        """Yield what the child tells."""
        with closing(super().events()) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Wrote) and event.what == "report":
                    yield Wrote("report", str(self._take(Path(event.path))))
                else:
                    yield event


class Reporter(QObject):
    """Writes reports in the background, and offers to open them.

    Parameters
    ----------
    window
        The dock, in which it is asked for a file.

    Attributes
    ----------
    button
        Begins a report, or stops it.
    job
        What is under way, None if nothing is.
    """

    told = Signal(str)
    """Emitted with how far it is, in words."""
    asked = Signal()
    """Emitted when a person wants a report."""

    def __init__(self, window: QWidget, state: Exploration) -> None:
        super().__init__(window)
        self._window, self._state = window, state
        self.job: ReportJob | None = None
        self._written: Path | None = None
        self._has_failed = False
        self.button = button(
            START,
            "<qt>Write what is found of the crops that are shown into one file for browsers, "
            "with a map, clusters and crops, to be sent to anyone</qt>",
            self._start_or_stop,
        )
        state.rows_changed.connect(self._update)
        self._update()

    def ask(self, shown: Shown) -> None:
        """Ask for a file, and write a report into it."""
        chosen, _ = QFileDialog.getSaveFileName(self._window, "Report", "report.html", FILTER)
        if chosen:
            path = Path(chosen)
            self.write(shown, path if path.suffix else path.with_suffix(".html"))

    def write(self, shown: Shown, target: Path) -> None:
        """Write a report into a file."""
        try:
            self.job = ReportJob(ReportInputs(shown, target))
        except InputError as error:
            tell(error)
            return
        self._written, self._has_failed = None, False
        worker = JobWorker(self.job)
        worker.yielded.connect(self._on_event)
        worker.errored.connect(self._on_error)
        worker.finished.connect(self._on_finished)
        self.destroyed.connect(self.job.end_soon)
        self.told.emit(f"reporting on {counted(len(shown.rows), 'point')} …")
        self._update()
        worker.start()

    def release(self) -> None:
        """End the report that is under way."""
        if self.job is not None:
            self.job.end_soon()

    def _start_or_stop(self) -> None:
        if self.job is None:
            self.asked.emit()
        else:
            self.told.emit("ending the report …")
            self.job.end_soon()

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Progress):
            self.told.emit(f"report: {event.task}, {event.done:,} of {event.total:,}")
        elif isinstance(event, Wrote) and event.what == "report":
            self._written = Path(event.path)

    def _on_error(self, error: Exception) -> None:
        self._has_failed = True
        tell(expected(error))
        if isinstance(error, InputError | JobError):
            self.told.emit(str(error))

    def _on_finished(self) -> None:
        self.job = None
        self._update()
        if self._written is None:
            if not self._has_failed:
                self.told.emit("the report was ended; nothing of it is kept")
            return
        self.told.emit(f"the report is {self._written}, and what it tells of lies beside it")
        details = f"It is {self._written}: one file that can be sent to anyone."
        answers = {OPEN: QMessageBox.ButtonRole.AcceptRole}
        if ask(self._window, "Report", "The report is written.", details, answers, OPEN) == OPEN:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._written)))

    def _update(self) -> None:
        self.button.setText(START if self.job is None else STOP)
        self.button.setEnabled(self.job is not None or self._state.n > 0)
