"""Write what a training tells for TensorBoard."""

import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.events import EpochDone, Event, Started, StepDone
from napari_synapse_cl.training.metrics import EPOCH_COLUMNS, STEP_COLUMNS
from napari_synapse_cl.training.runs import RunFolder

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
    config
        The settings.
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
