"""The folder that a run leaves behind, and what it says of the training there."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from napari_synapse_cl.config import ABOUT, Config
from napari_synapse_cl.config.fields import ExportFormat
from napari_synapse_cl.errors import InputError, disk_in_words, reason
from napari_synapse_cl.runs.events import (
    Command,
    EpochDone,
    Event,
    Positive,
    Started,
    StepDone,
    Training,
)
from napari_synapse_cl.runs.held_out import HeldOut, forget_after
from napari_synapse_cl.runs.metrics import EPOCH_COLUMNS, STEP_COLUMNS, append_row, keep_until
from napari_synapse_cl.runs.ownership import ALWAYS, FROM_THE_START, Ownership, export_name
from napari_synapse_cl.system.files import (
    new_folder_name,
    read_json,
    read_record,
    remove_partial,
    write_json,
)
from napari_synapse_cl.system.folder_lock import Holder, check_folder, process_lives, remove_marks

BY_HAND = "hand"
"""What names of files and columns call descriptors that no network has made."""
REPRODUCE = "reproduce"
"""In what ``config.json`` says beside the settings: the command that makes the run again."""

State = Literal["running", "paused", "completed", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class RunStatus(Training):
    """What a training is doing, and which process does it."""

    state: State
    """What it does, or how it ended."""
    host: str
    pid: Positive
    process_started: float
    """The process that trains: its computer's name, its number there, and when it was started in
    seconds since 1970."""
    message: str = ""
    """Why it failed."""

    @classmethod
    def of_this_process(cls, **more: Any) -> Self:
        """Return the status of a training that this process begins; `more` are the other fields."""
        own = Holder.this_process()
        return cls(state="running", host=own.host, pid=own.pid, process_started=own.started, **more)

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Return the status that :meth:`as_json` described.

        Raises
        ------
        ValueError
            If it is no such description.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(content, dict) or set(content) - names:
            raise ValueError("not the status of a run")
        try:
            return TypeAdapter(cls).validate_json(json.dumps(content), strict=True)
        except ValidationError as error:
            raise ValueError(f"not the status of a run: {error}") from None

    def of_training(self, started: Started) -> Self:
        """Return the status with what a training says of itself when it starts."""
        return replace(self, **started.training())

    def as_started(self, run: str) -> Started:
        """Return how the training in the folder `run` started."""
        return Started(run=run, **self.training())

    def as_json(self) -> dict[str, Any]:
        """Return it in plain types."""
        return asdict(self)

    @property
    def has_ended(self) -> bool:
        """Whether the training has said that it is over."""
        return self.state in ("completed", "stopped", "failed")

    def is_alive(self) -> bool | None:
        """Return whether the process still runs; None if that cannot be seen from this computer."""
        lives = process_lives(self.host, self.pid, self.process_started)
        return False if lives is None and self.has_ended else lives


class RunFolder:
    """Settings, status, metrics, checkpoints and results of one run.

    ``config.json`` holds the settings and what else decides the run, and can be given to
    ``--config``; ``run.json`` says when and by which command the run was started, and what a
    person calls it, ``status.json`` what it does now; ``steps.csv`` and ``epochs.csv`` grow as it
    trains, and so does ``tensorboard`` where that is wanted; ``held_out.npz`` has what the newest
    epoch makes of the held-out synapses; ``commands.txt`` is where commands to it arrive;
    ``checkpoints`` holds ``last.pt`` and ``best.pt``. What of all that is there the run has made
    is what `owned` says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.steps_file = path / "steps.csv"
        self.epochs_file = path / "epochs.csv"
        self.last_checkpoint = path / "checkpoints" / "last.pt"
        self.best_checkpoint = path / "checkpoints" / "best.pt"
        self.held_out_file = path / "held_out.npz"
        self.loss_figure = path / "loss.png"
        self.commands_file = path / "commands.txt"
        self.tensorboard_folder = path / "tensorboard"
        self._status_file = path / "status.json"
        self._started_file = path / "run.json"
        self.owned = Ownership(path)

    @property
    def holds_run(self) -> bool:
        """Whether a run was started in this folder."""
        # Unlike a path's own method it knows names that are too long.
        return os.path.exists(self._started_file)

    @property
    def has_status(self) -> bool:
        """Whether a training has told what it does, even if that cannot be read."""
        return self._status_file.exists()

    @property
    def name(self) -> str:
        """What a person calls the run; the name of its folder, if nothing else."""
        return str(self.begun().get("name") or self.path.name)

    def rename(self, name: str) -> None:
        """Call the run otherwise; its folder keeps its name. Without one it is called as that.

        Raises
        ------
        InputError
            If that cannot be written.
        """
        try:
            write_json(self._started_file, {**read_json(self._started_file), "name": name})
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"the run in {self.path} cannot be given a name: {reason(error)}"
            ) from None

    def begun(self) -> dict[str, Any]:
        """Return when and by which command the run was started, and its name if it has one.

        Nothing where that cannot be read.
        """
        return read_record(self._started_file)

    def features_file(self, config: Config) -> Path:
        """Return where the table of features of these layers and this pooling goes."""
        parts = [f"L{index}" for index in config.layer_num]
        parts += [config.pooling] if parts else []
        parts += [BY_HAND] if config.descriptors else []
        return self.path / f"features_{'_'.join(parts)}.{config.feature_format}"

    def export_file(self, kind: ExportFormat) -> Path:
        """Return where the network goes in a format for other programs."""
        return self.path / export_name(kind)

    def about(self) -> dict[str, Any]:
        """Return what ``config.json`` says beside the settings; nothing of runs of old versions."""
        about = read_record(self.config_file).get(ABOUT)
        return about if isinstance(about, dict) else {}

    def create(self, config: Config, about: Mapping[str, Any] | None = None) -> None:
        """Make the folder and write the settings; how a run began stays as it was.

        Parameters
        ----------
        about
            What else decides the run, as the pipeline's ``about_run`` says.

        Raises
        ------
        InputError
            If the folder cannot be written.
        """
        started = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": ["synapse-cl", *sys.argv[1:]],
        }
        told = dict(about or {})
        if self.last_checkpoint.exists():
            # The command names the folder, which may have been moved.
            told |= {name: value for name, value in self.about().items() if name != REPRODUCE}
        check_folder(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # That nobody's files are here has been looked at before.
            self.owned.claim(*(self.path / name for name in FROM_THE_START), replace=True)
            self.last_checkpoint.parent.mkdir(exist_ok=True)
            self._remove_unfinished()
            write_json(self.config_file, {**config.as_json(), ABOUT: told})
            # It makes the folder a run's, which goes on by its settings: so it comes after them.
            if not self.holds_run:
                write_json(self._started_file, started)
        except OSError as error:
            raise InputError(
                f"cannot write to the output folder {self.path}: {reason(error)}"
            ) from None

    def _remove_unfinished(self) -> None:
        """Remove what a process had begun to write when it was killed."""
        for name in ALWAYS:
            remove_partial(self.path / name)

    def status(self) -> RunStatus | None:
        """Return what the training in this folder does; None if that is missing or unreadable."""
        try:
            return RunStatus.from_json(read_json(self._status_file))
        except (OSError, ValueError):
            return None

    def write_status(self, status: RunStatus) -> None:
        """Tell others what the training does.

        Raises
        ------
        JobError
            If it cannot be written.
        """
        with self.being_written():
            write_json(self._status_file, status.as_json())

    def send(self, command: Command) -> None:
        """Give the training in this folder a command, wherever it runs.

        Raises
        ------
        InputError
            If the folder cannot be written.
        """
        try:
            with self.commands_file.open("a", encoding="utf-8") as file:
                file.write(f"{command}\n")
        except OSError as error:
            raise InputError(
                f"cannot send {command} to the run in {self.path}: {reason(error)}"
            ) from None

    def record(self, event: Event) -> None:
        """Append what an event says to the metrics.

        Raises
        ------
        JobError
            If they cannot be written.
        """
        with self.being_written():
            if isinstance(event, StepDone):
                append_row(self.steps_file, STEP_COLUMNS, event)
            elif isinstance(event, EpochDone):
                append_row(self.epochs_file, EPOCH_COLUMNS, event)

    def keep_held_out(self, held_out: HeldOut, *, replace: bool = False) -> None:
        """Write what the network makes of the held-out synapses, in place of the epoch before.

        Parameters
        ----------
        replace
            Whether a file of that name that no job of this run has made is given up by its owner.

        Raises
        ------
        JobError
            If it cannot be written.
        """
        with self.being_written():
            self.owned.claim(self.held_out_file, replace=replace)
            held_out.write(self.held_out_file)

    def forget_after(self, step: int) -> list[str]:
        """Drop what was told of steps that a resumed training takes again; say what was damaged.

        Raises
        ------
        JobError
            If they cannot be written.
        """
        with self.being_written():
            told = [
                keep_until(self.steps_file, STEP_COLUMNS, step),
                keep_until(self.epochs_file, EPOCH_COLUMNS, step),
            ]
            if self.owned.owns(self.held_out_file):
                forget_after(self.held_out_file, step)
        return [text for text in told if text is not None]

    def being_written(self) -> AbstractContextManager[None]:
        """Return the context in which what the disk says becomes a JobError."""
        return disk_in_words(self.why_unwritable)

    def why_unwritable(self, error: BaseException) -> str:
        """Return in words why something could not be written to this folder."""
        if not self.path.is_dir():
            return (
                f"the run folder {self.path} is no longer there: it was moved or removed, or its "
                "disk was taken away"
            )
        return f"cannot write to the run folder {self.path}: {reason(error)}"

    def discard(self) -> None:
        """Remove the run's files, and the folder if nothing else is in it."""
        self.owned.remove()
        remove_marks(self.path)


def default_folder() -> Path:
    """Return a new folder name for a run that was given none."""
    return new_folder_name(Path("synapse_cl_runs"))
