"""Write what a training tells for TensorBoard."""

import json
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.events import EpochDone, Event, Started, StepDone
from napari_synapse_cl.training.metrics import EPOCH_COLUMNS, STEP_COLUMNS

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event as Record

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
            'pip install "napari-synapse-cl[tensorboard]", or leave the setting out'
        )


class TensorBoardLog:
    """The metrics of a run as TensorBoard reads them.

    Names are those of the columns in ``steps.csv`` and ``epochs.csv``: ``step/loss``,
    ``epoch/validation_loss``. Each event is appended as it comes, so that at most one is lost when
    the process is killed; PyTorch's own writer has a thread do that, whose errors come late and
    with a traceback.

    Parameters
    ----------
    folder
        Where it goes. Each process that trains adds a file; TensorBoard reads them in the order of
        their names.
    config
        The settings.
    step
        The last step that stays of what was logged before.

    Raises
    ------
    OSError
        If it cannot be written.
    """

    def __init__(self, folder: Path, config: Config, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as Record
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._config = config
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("*.tfevents.*"))) + 1
        self._file = folder / f"events.out.tfevents.{number:010d}.synapse-cl"
        # Steps from here on are taken again, and TensorBoard forgets those it has seen.
        began = SessionLog(status=SessionLog.START)
        self._append([Record(file_version="brain.Event:2"), Record(step=step + 1, session_log=began)])

    def record(self, event: Event) -> None:
        """Append what an event says.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        if isinstance(event, Started):
            self._append([_settings(self._config, event)])
        elif isinstance(event, StepDone):
            self._append(_scalars("step", STEP_COLUMNS, event))
        elif isinstance(event, EpochDone):
            self._append(_scalars("epoch", EPOCH_COLUMNS, event))

    def _append(self, records: Iterable["Record"]) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._file.open("ab") as file:
            writer = RecordWriter(file)
            for record in records:
                record.wall_time = time.time()
                writer.write(record.SerializeToString())


def _scalars(
    group: str, columns: tuple[str, ...], event: StepDone | EpochDone
) -> list["Record"]:
    from tensorboard.compat.proto.event_pb2 import Event as Record
    from torch.utils.tensorboard.summary import scalar

    values = {name: getattr(event, name) for name in columns if name not in X_AXIS}
    return [
        Record(step=event.step, summary=scalar(f"{group}/{name}", value))
        for name, value in values.items()
        if value is not None
    ]


def _settings(config: Config, started: Started) -> "Record":
    from tensorboard.compat.proto.event_pb2 import Event as Record
    from torch.utils.tensorboard.summary import text

    values: dict[str, Any] = {
        **config.as_json(),
        "device": started.device,
        "precision": started.precision,
    }
    rows = [f"| {name} | {json.dumps(value)} |" for name, value in values.items()]
    table = "\n".join(["| setting | value |", "| --- | --- |", *rows])
    return Record(step=started.step, summary=text("settings", table))
