"""Write what a training tells into its run folder: files of its own, and logs for TensorBoard."""

import json
import time
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.runs.events import (
    Discarded,
    EpochDone,
    Event,
    Finished,
    Paused,
    Resumed,
    Started,
    StepDone,
)
from napari_synapse_cl.runs.folder import RunFolder, RunStatus, State
from napari_synapse_cl.runs.metrics import EPOCH_COLUMNS, STEP_COLUMNS

FILE_VERSION = "brain.Event:2"
X_AXIS = ("epoch", "step")


def check_tensorboard() -> None:
    """Check, before anything is written, that TensorBoard is there.

    Raises
    ------
    InputError
        If it is not installed.
    """
    if find_spec("tensorboard") is None:
        raise InputError(
            "tensorboard needs TensorBoard, which is not installed: "
            'pip install "napari-synapse-cl[tensorboard]", or leave the setting tensorboard out'
        )


class TensorBoardLog:
    """The metrics of a run as TensorBoard reads them.

    Scalars are named by the columns in ``steps.csv`` and ``epochs.csv``: ``step/loss``,
    ``epoch/validation_loss``. Each event is appended as it comes, so that a kill loses one at most.
    PyTorch's SummaryWriter leaves that to a thread, where a full disk shows late and as a
    traceback.

    Parameters
    ----------
    folder
        Where it goes. Each process that trains adds a file; TensorBoard reads them in the order of
        their names.
    step
        The last step of those logged before that is not taken again.

    Raises
    ------
    OSError
        If it cannot be written.
    """

    def __init__(self, folder: Path, config: Config, step: int) -> None:
        self._config = config
        folder.mkdir(parents=True, exist_ok=True)
        self._file = _next_file(folder)
        self._append(file_version=FILE_VERSION)
        # TensorBoard forgets what it has read of this step and those after it.
        self._append(step=step + 1, session_log={"status": "START"})

    @classmethod
    def of_run(cls, run: RunFolder, config: Config, step: int) -> Self | None:
        """Begin to log a run, or return None where the settings do not ask for it.

        Raises
        ------
        JobError
            If it cannot be written.
        """
        if not config.tensorboard:
            return None
        with run.being_written():
            run.owned.claim(_next_file(run.tensorboard_folder))
            return cls(run.tensorboard_folder, config, step)

    def record(self, event: Event) -> None:
        """Append what an event says.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        match event:
            case Started():
                self._append_settings(event)
            case StepDone():
                self._append_scalars("step", STEP_COLUMNS, event)
            case EpochDone():
                self._append_scalars("epoch", EPOCH_COLUMNS, event)

    def _append_scalars(
        self, group: str, columns: tuple[str, ...], event: StepDone | EpochDone
    ) -> None:
        values = {name: getattr(event, name) for name in columns if name not in X_AXIS}
        scalars = [
            {"tag": f"{group}/{name}", "simple_value": value}
            for name, value in values.items()
            if value is not None
        ]
        self._append(step=event.step, summary={"value": scalars})

    def _append_settings(self, started: Started) -> None:
        # TensorBoard may not be there.
        from torch.utils.tensorboard.summary import text

        chosen = {"device": started.device, "precision": started.precision}
        values = {**self._config.as_json(), **chosen}
        rows = [f"| {name} | {json.dumps(value)} |" for name, value in values.items()]
        table = "\n".join(["| setting | value |", "| --- | --- |", *rows])
        self._append(step=started.step, summary=text("settings", table))

    def _append(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as Record
        from torch.utils.tensorboard import RecordWriter

        record = Record(wall_time=time.time(), **content)
        with self._file.open("ab") as file:
            RecordWriter(file).write(record.SerializeToString())


def _next_file(folder: Path) -> Path:
    number = 1 + len(list(folder.glob("*.tfevents.*")))
    return folder / f"events.out.tfevents.{number:010d}.synapse-cl"


class Recorder:
    """Keep metrics and status of a run up with its events.

    As a context manager it notes how the training ended, also if it did so with an error or because
    nobody asked for more events. In the latter case nothing stays of one without a checkpoint.

    Parameters
    ----------
    status
        What holds at the beginning.
    tensorboard
        Is told everything too.
    """

    def __init__(
        self, folder: RunFolder, status: RunStatus, tensorboard: TensorBoardLog | None = None
    ) -> None:
        self._folder = folder
        self._status = status
        self._tensorboard = tensorboard
        self._removed = False

    def __enter__(self) -> Self:
        self._folder.write_status(self._status)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # What ended the training is to be told, not that its folder takes no status either.
        with suppress(JobError):
            if isinstance(error, GeneratorExit) and not self._folder.last_checkpoint.exists():
                self._folder.discard()
            elif error is None or isinstance(error, GeneratorExit):
                self._become("stopped")
            else:
                self._become("failed", _in_words(error))

    def record(self, event: Event) -> None:
        """Note an event.

        Raises
        ------
        JobError
            If it cannot be written.
        """
        match event:
            case Started():
                self._take(event)
                self._folder.record(event)
            case Paused():
                self._become("paused")
            case Resumed():
                self._become("running")
            case Finished(outcome):
                self._become(outcome)
            case Discarded():
                self._removed = True
            case _:
                self._folder.record(event)
        if self._tensorboard is not None:
            with self._folder.being_written():
                self._tensorboard.record(event)

    def _take(self, started: Started) -> None:
        """Note what the training came to be, once all crops were seen."""
        self._status = self._status.of_training(started)
        self._folder.write_status(self._status)

    def _become(self, state: State, message: str = "") -> None:
        """Change the status, unless the training has ended or was removed."""
        if not self._status.has_ended and not self._removed:
            self._status = replace(self._status, state=state, message=message)
            self._folder.write_status(self._status)


def _in_words(error: BaseException) -> str:
    if isinstance(error, InputError | JobError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted within a step; what came after the last checkpoint is lost"
    return f"it ended unexpectedly: {type(error).__name__}: {error}"
