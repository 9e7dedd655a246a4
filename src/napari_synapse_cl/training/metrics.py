"""The metrics of a run: CSV files that grow while it trains and are read meanwhile."""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.events import EpochDone, StepDone
from napari_synapse_cl.files import replacing

STEP_COLUMNS = ("epoch", "step", "loss", "learning_rate", "crops_per_second", "memory_gib")
EPOCH_COLUMNS = (
    "epoch",
    "step",
    "training_loss",
    "validation_loss",
    "alignment",
    "uniformity",
    "retrieval",
    "effective_rank",
    "knn_accuracy",
)

Rows = dict[str, np.ndarray]
"""One float array a column; missing values are NaN."""


def append_row(file: Path, columns: tuple[str, ...], event: StepDone | EpochDone) -> None:
    """Append what an event says, after a header if the file is new."""
    values = [getattr(event, column) for column in columns]
    row = ["" if value is None else value for value in values]
    if file.exists():
        with file.open("a", newline="", encoding="utf-8") as target:
            csv.writer(target).writerow(row)
    else:
        _write_rows(file, [columns, row])


def keep_until(file: Path, columns: tuple[str, ...], step: int) -> None:
    """Drop the rows of later steps, and bring a file with other columns to these."""
    if not file.exists():
        return
    with file.open(newline="", encoding="utf-8") as source:
        # A row cut short by a crash belongs to a step that comes again.
        whole = [row for row in csv.DictReader(source) if None not in (*row, *row.values())]
    kept = [[row.get(c, "") for c in columns] for row in whole if int(row["step"]) <= step]
    with replacing(file) as temporary:
        _write_rows(temporary, [columns, *kept])


def read_metrics(file: Path) -> Rows:
    """Read all whole rows of ``steps.csv`` or ``epochs.csv``; nothing if there is no such file."""
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as source:
        header, *rows = list(csv.reader(source)) or [[]]
    return _as_arrays(header, rows)


class MetricsTail:
    """Read a file of metrics as it grows, each row once.

    Parameters
    ----------
    file
        ``steps.csv`` or ``epochs.csv``. It need not be there yet.
    columns
        What to read; a column that the file lacks is NaN.
    """

    def __init__(self, file: Path, columns: tuple[str, ...]) -> None:
        self._file = file
        self._columns = columns
        self._header: list[str] = []
        self._offset = 0
        self._identity: tuple[int, int] | None = None

    def read(self) -> Rows | None:
        """Return the rows that are whole and new, or None if the file is no longer the same.

        It reads no more of the file than what is new.
        """
        try:
            with self._file.open("rb") as source:
                stat = os.fstat(source.fileno())
                identity = (stat.st_dev, stat.st_ino)
                if self._identity not in (None, identity) or stat.st_size < self._offset:
                    return None
                self._identity = identity
                source.seek(self._offset)
                new = source.read()
        except FileNotFoundError:
            return None if self._identity else _as_arrays(self._columns, [])
        new = new[: new.rfind(b"\n") + 1]
        self._offset += len(new)
        rows = list(csv.reader(io.StringIO(new.decode("utf-8"), newline="")))
        if not self._header and rows:
            self._header = rows.pop(0)
        found = _as_arrays(self._header, rows)
        n = len(next(iter(found.values()), ()))
        return {column: found.get(column, np.full(n, np.nan)) for column in self._columns}


def step_events(rows: Rows) -> Iterator[StepDone]:
    """Yield the events that these rows of ``steps.csv`` record."""
    for row in _as_dicts(rows):
        yield StepDone(**{**row, "epoch": int(row["epoch"]), "step": int(row["step"])})


def epoch_events(rows: Rows) -> Iterator[EpochDone]:
    """Yield the events that these rows of ``epochs.csv`` record; best is meant among them."""
    lowest = np.inf
    for row in _as_dicts(rows):
        values: dict[str, Any] = {
            name: None if np.isnan(value) else value for name, value in row.items()
        }
        values.update(epoch=int(row["epoch"]), step=int(row["step"]))
        judged = values["validation_loss"]
        judged = row["training_loss"] if judged is None else judged
        yield EpochDone(**values, best=judged < lowest)
        lowest = min(lowest, judged)


def _as_arrays(header: Iterable[str], rows: list[list[str]]) -> Rows:
    header = tuple(header)
    whole = [[float(v) if v else np.nan for v in row] for row in rows if len(row) == len(header)]
    columns = np.array(whole, dtype=np.float64).reshape(len(whole), len(header)).T
    return dict(zip(header, columns, strict=True))


def _as_dicts(rows: Rows) -> Iterator[dict[str, Any]]:
    columns = [column.tolist() for column in rows.values()]
    for values in zip(*columns, strict=True):
        yield dict(zip(rows, values, strict=True))


def _write_rows(file: Path, rows: Iterable[Iterable[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as target:
        csv.writer(target).writerows(rows)
