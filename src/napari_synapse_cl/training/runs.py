"""The folder that a run leaves behind."""

import csv
import shutil
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_synapse_cl import __version__
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.events import EpochDone, Event, StepDone
from napari_synapse_cl.files import new_folder_name, replacing, write_json

STEP_COLUMNS = ("epoch", "step", "loss", "learning_rate", "crops_per_second")
EPOCH_COLUMNS = ("epoch", "step", "training_loss", "validation_loss")


class RunFolder:
    """Settings, metrics, checkpoints and results of one run.

    ``config.json`` holds the settings and can be given to ``--config``; ``run.json`` says when and
    with which versions the run was started; ``steps.csv`` and ``epochs.csv`` grow as it trains;
    ``checkpoints`` holds ``last.pt`` and ``best.pt``.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.steps_file = path / "steps.csv"
        self.epochs_file = path / "epochs.csv"
        self.last_checkpoint = path / "checkpoints" / "last.pt"
        self.best_checkpoint = path / "checkpoints" / "best.pt"
        self.loss_figure = path / "loss.png"
        self._about_file = path / "run.json"

    @property
    def holds_run(self) -> bool:
        """Whether a run was started in this folder."""
        return self._about_file.exists()

    def features_file(self, config: Config) -> Path:
        """Return where the features of this layer and pooling go."""
        name = f"features_L{config.layer_num}_{config.pooling}.{config.feature_format}"
        return self.path / name

    def create(self, config: Config) -> None:
        """Make the folder and write the settings; when and how a run began stays as it was.

        Raises
        ------
        InputError
            If the folder cannot be written.
        """
        about = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": ["synapse-cl", *sys.argv[1:]],
            "versions": {
                "napari-synapse-cl": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": sys.version.split()[0],
            },
        }
        try:
            self.last_checkpoint.parent.mkdir(parents=True, exist_ok=True)
            if not self.holds_run:
                write_json(self._about_file, about)
            write_json(self.config_file, config.as_json())
        except OSError as error:
            raise InputError(
                f"cannot write to the output folder {self.path}: {error.strerror}"
            ) from None

    def record(self, event: Event) -> None:
        """Append what an event says to the metrics."""
        if isinstance(event, StepDone):
            _append(self.steps_file, STEP_COLUMNS, event)
        elif isinstance(event, EpochDone):
            _append(self.epochs_file, EPOCH_COLUMNS, event)

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed training takes again."""
        for file in (self.steps_file, self.epochs_file):
            if file.exists():
                with file.open(newline="", encoding="utf-8") as source:
                    header, *rows = list(csv.reader(source)) or [[]]
                column = header.index("step") if "step" in header else 0
                # A row cut short by a crash has no step, or belongs to a step that comes again.
                kept = [r for r in rows if len(r) == len(header) and int(r[column]) <= step]
                with replacing(file) as temporary:
                    _write_rows(temporary, [header, *kept])

    def discard(self) -> None:
        """Remove the run's files, and the folder if nothing else is in it."""
        for file in (self.config_file, self._about_file, self.steps_file, self.epochs_file):
            file.unlink(missing_ok=True)
        self.loss_figure.unlink(missing_ok=True)
        shutil.rmtree(self.last_checkpoint.parent, ignore_errors=True)
        for cache in self.path.glob("crops-*"):
            shutil.rmtree(cache, ignore_errors=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()


def default_folder() -> Path:
    """Return a new folder name for a run that was given none."""
    return new_folder_name(Path("synapse_cl_runs"))


def read_metrics(file: Path) -> dict[str, np.ndarray]:
    """Read ``steps.csv`` or ``epochs.csv`` as one float array a column; missing values are NaN."""
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as source:
        header, *rows = list(csv.reader(source)) or [[]]
    whole = [[float(v) if v else np.nan for v in row] for row in rows if len(row) == len(header)]
    columns = np.array(whole).reshape(len(whole), len(header)).T
    return dict(zip(header, columns, strict=True))


def _append(file: Path, columns: tuple[str, ...], event: Event) -> None:
    values: list[Any] = [getattr(event, column) for column in columns]
    row = ["" if value is None else value for value in values]
    if file.exists():
        with file.open("a", newline="", encoding="utf-8") as target:
            csv.writer(target).writerow(row)
    else:
        _write_rows(file, [columns, row])


def _write_rows(file: Path, rows: Iterable[Iterable[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as target:
        csv.writer(target).writerows(rows)
