"""The metrics of a run: CSV files that grow while it trains and are read meanwhile."""

import csv
import os
from collections.abc import Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.events import EpochDone, StepDone
from napari_synapse_cl.system.files import replacing
from napari_synapse_cl.system.words import counted

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
    "feature_rank",
    "knn_accuracy",
)
COUNTED = ("epoch", "step")
LOSSES = {"steps.csv": "loss", "epochs.csv": "training_loss"}
"""What each row of a file tells, by the file's name."""
_KNOWN = {*STEP_COLUMNS, *EPOCH_COLUMNS}
LARGEST_COUNT = 2**31 - 1

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


def keep_until(file: Path, columns: tuple[str, ...], step: int) -> str | None:
    """Drop later and damaged rows, and bring a file to these columns; say what was damaged."""
    if not file.exists():
        is_gone = step > 0 and columns == STEP_COLUMNS
        return f"{file} is gone, and what it told of earlier steps with it" if is_gone else None
    lines, cut_short = _lines(file.read_bytes())
    header = lines[0] if lines else []
    # A row cut short by a crash belongs to a step that comes again.
    rows = lines[1 : len(lines) - cut_short]
    known = _is_header(header, file)
    sound = _sound(header, rows) if known else []
    whole = [dict(zip(header, row, strict=True)) for row in sound]
    kept = [[row.get(c, "") for c in columns] for row in whole if int(row["step"]) <= step]
    with replacing(file) as temporary:
        _write_rows(temporary, [columns, *kept])
    if not known and step > 0:
        return f"{file} was damaged and is written anew: what it told of earlier steps is lost"
    n_lost = len(rows) - len(sound)
    if n_lost:
        return f"{counted(n_lost, 'row')} of {file} were damaged, and are left out"
    last = max((int(row["step"]) for row in whole), default=0)
    if columns == STEP_COLUMNS and last < step:
        return f"{file} ends at step {last}, before the last checkpoint's step {step}: it was cut"
    return None


def read_metrics(file: Path) -> Rows:
    """Read all whole rows of ``steps.csv`` or ``epochs.csv``.

    Nothing if there is no such file, or its header is damaged; damaged rows are left out.
    """
    if not file.exists():
        return {}
    lines, cut_short = _lines(file.read_bytes())
    if not lines or not _is_header(lines[0], file):
        return {}
    return _as_arrays(lines[0], _sound(lines[0], lines[1 : len(lines) - cut_short]))


class MetricsTail:
    """Read a file of metrics as it grows, each row once.

    Parameters
    ----------
    file
        ``steps.csv`` or ``epochs.csv``. It need not be there yet.
    columns
        What to read; a column that the file lacks is NaN.

    Attributes
    ----------
    n_damaged
        How many rows could not be read so far.
    """

    def __init__(self, file: Path, columns: tuple[str, ...]) -> None:
        self._file = file
        self._columns = columns
        self._header: list[str] = []
        self._offset = 0
        self._identity: tuple[int, int] | None = None
        self._last_step = 0
        self.n_damaged = 0

    def read(self) -> Rows | None:
        """Return the rows that are whole and new, or None if the file is no longer the same.

        It reads no more of the file than what is new.

        Raises
        ------
        InputError
            If its header is damaged.
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
        rows, _ = _lines(new)
        if not self._header and rows:
            self._header = rows.pop(0)
            if not _is_header(self._header, self._file):
                raise InputError(
                    f"{self._file} is damaged: it does not begin with the names of its columns. It "
                    "is written anew when the run is continued"
                )
        sound = _sound(self._header, rows, self._last_step)
        self.n_damaged += len(rows) - len(sound)
        found = _as_arrays(self._header, sound)
        n = len(next(iter(found.values()), ()))
        if n:
            self._last_step = int(found["step"][-1])
        return {column: found.get(column, np.full(n, np.nan)) for column in self._columns}


def step_events(rows: Rows) -> Iterator[StepDone]:
    """Yield the events that these rows of ``steps.csv`` record."""
    for row in _as_dicts(rows, STEP_COLUMNS):
        yield StepDone(**{**row, "epoch": int(row["epoch"]), "step": int(row["step"])})


def epoch_events(rows: Rows) -> Iterator[EpochDone]:
    """Yield the events that these rows of ``epochs.csv`` record; best is meant among them."""
    lowest = np.inf
    for row in _as_dicts(rows, EPOCH_COLUMNS):
        values: dict[str, Any] = {
            name: None if np.isnan(value) else value for name, value in row.items()
        }
        values.update(epoch=int(row["epoch"]), step=int(row["step"]))
        judged = values["validation_loss"]
        judged = row["training_loss"] if judged is None else judged
        yield EpochDone(**values, best=judged < lowest)
        lowest = min(lowest, judged)


def _lines(content: bytes) -> tuple[list[list[str]], bool]:
    """Return the fields of each line, and whether the last one is cut short.

    Nothing that is written here is quoted, so that no damage can join lines.
    """
    text = content.decode("utf-8", errors="replace")
    lines = [line.rstrip("\r").split(",") for line in text.split("\n")]
    cut_short = lines.pop() != [""]
    return lines + ([text.rpartition("\n")[2].split(",")] if cut_short else []), cut_short


def _is_header(names: list[str], file: Path) -> bool:
    # Earlier versions had other columns too, and fewer.
    return {"step", LOSSES[file.name]} <= set(names) and len(set(names)) == len(names)


def _sound(header: list[str], rows: list[list[str]], last_step: int = 0) -> list[list[str]]:
    """Return the rows that hold numbers, and come after the one before them."""
    sound = []
    for row in rows:
        step = _step_of(header, row)
        if step is not None and step > last_step:
            sound.append(row)
            last_step = step
    return sound


def _step_of(header: list[str], row: list[str]) -> int | None:
    """Return the step that a row is of; None for one that is damaged."""
    if len(row) != len(header):
        return None
    try:
        values = {n: _number(v) for n, v in zip(header, row, strict=True) if n in _KNOWN}
    except ValueError:
        return None
    if not all(isfinite(values[name]) for name in LOSSES.values() if name in values):
        return None
    counts = [values[name] for name in COUNTED if name in values]
    if not all(isfinite(n) and n == int(n) and 1 <= n <= LARGEST_COUNT for n in counts):
        return None
    return int(values["step"])


def _as_arrays(header: Iterable[str], rows: list[list[str]]) -> Rows:
    return {
        name: np.array([_number(row[i]) for row in rows], dtype=np.float64)
        for i, name in enumerate(header)
        if name in _KNOWN
    }


def _number(text: str) -> float:
    return float(text) if text else float("nan")


def _as_dicts(rows: Rows, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    n = len(next(iter(rows.values()), ()))
    for i in range(n):
        yield {name: float(rows[name][i]) if name in rows else float("nan") for name in names}


def _write_rows(file: Path, rows: Iterable[Iterable[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as target:
        csv.writer(target).writerows(rows)
