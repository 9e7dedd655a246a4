"""What a running job tells, and what is asked of it from outside.

It tells small frozen records. The pipeline yields them; the command line turns them into a progress
bar, the widgets into plots, a run folder into files. With ``--events jsonl`` they are the program's
standard output, as lines of JSON.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

LARGEST = 2**31 - 1
"""The largest number that a process can have, or a progress bar show."""
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Level = Literal["detail", "info", "warning"]
"""How much a message matters; details are written down, and the window shows none of them."""

Command = Literal["pause", "resume", "stop", "discard", "detach"]
COMMANDS: tuple[Command, ...] = get_args(Command)


@dataclass(frozen=True)
class Message:
    """A sentence for the person who runs the job."""

    text: str
    level: Level = "info"


@dataclass(frozen=True)
class Progress:
    """How far a task has come that is not training, and what it counts."""

    task: str
    done: int
    total: int
    unit: str = "crop"


@dataclass(frozen=True, kw_only=True)
class ShardsDone:
    """How far an extraction in shards has come, with all who work on it.

    Crops, or what else `unit` says, are those of this start and of those before; `failed` counts
    the rows, or tiles of maps, that are listed as such, `again` the shards whose worker died, hung
    or ran out of memory. `dashboard` is the address of Dask's, empty without one.
    """

    task: str
    done: Count
    total: Count
    crops: int
    total_crops: int
    workers: Count
    crops_per_second: float
    seconds_left: float | None
    failed: int
    again: int
    dashboard: str = ""
    unit: str = "crop"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training is, as it says when it begins and its run folder all along.

    `step` of `total_steps` were done when its process began. `chance_loss` is the loss of a network
    to which all synapses look alike, None where that is no upper bound of a sensible one.
    """

    device: str
    precision: str
    n_training: Count
    n_validation: Count
    batch_size: Count
    steps_per_epoch: Positive
    total_steps: Count
    step: Count
    chance_loss: float | None = None

    def training(self) -> dict[str, Any]:
        """Return these of its values by their names."""
        return {field.name: getattr(self, field.name) for field in fields(Training)}


@dataclass(frozen=True)
class Started(Training):
    """Training begins or goes on."""

    run: str


@dataclass(frozen=True)
class StepDone:
    """One optimiser step; `step` and `epoch` count from 1.

    `memory_gib` is what is in use in GiB: on a GPU what PyTorch holds there, else the process's
    share of the main memory.
    """

    epoch: int
    step: int
    loss: float
    learning_rate: float
    crops_per_second: float
    memory_gib: float


@dataclass(frozen=True)
class EpochDone:
    """One pass over the training synapses; losses are means over its batches.

    What is measured on the validation synapses is None where there are none. The monitors are
    those of :mod:`napari_synapse_cl.features.embeddings`.
    """

    epoch: int
    step: int
    training_loss: float
    validation_loss: float | None
    best: bool
    alignment: float | None = None
    uniformity: float | None = None
    retrieval: float | None = None
    effective_rank: float | None = None
    feature_rank: float | None = None
    knn_accuracy: float | None = None


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint lies whole on the disk."""

    path: str
    step: int


@dataclass(frozen=True)
class Paused:
    """Training waits for ``resume``."""


@dataclass(frozen=True)
class Resumed:
    """Training goes on after a pause."""


@dataclass(frozen=True)
class Finished:
    """Training has ended, and `checkpoint` holds the network as it was then."""

    outcome: Literal["completed", "stopped"]
    step: int
    checkpoint: str


@dataclass(frozen=True)
class Discarded:
    """Training was ended and its run folder removed."""

    run: str


@dataclass(frozen=True)
class Growing:
    """A result that may be looked at while it is written; progress says how far it is.

    "features" are a ``.npy`` array ``(M, K)`` with a row for each synapse of the table and these
    columns, NaN until they are extracted. "maps" are a Zarr group, as
    :mod:`napari_synapse_cl.features.maps.store` describes it; their columns are empty.
    """

    what: Literal["features", "maps"]
    path: str
    columns: list[str]


@dataclass(frozen=True)
class Wrote:
    """A result lies whole on the disk."""

    what: Literal[
        "features", "maps", "report", "figure", "network", "settings", "table", "classifier"
    ]
    path: str


@dataclass(frozen=True)
class Failed:
    """The job has ended with an error."""

    message: str


Event = (
    Message
    | Progress
    | ShardsDone
    | Started
    | StepDone
    | EpochDone
    | CheckpointSaved
    | Paused
    | Resumed
    | Finished
    | Discarded
    | Growing
    | Wrote
    | Failed
)

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in Event.__args__}


def to_line(event: Event) -> str:
    """Return `event` as one line of JSON, its kind under the key ``event``."""
    return json.dumps({"event": type(event).__name__, **asdict(event)})


def from_line(line: str) -> Event:
    """Return the event that :func:`to_line` wrote.

    Raises
    ------
    ValueError
        If the line is not such an event.
    """
    content = json.loads(line)
    if not isinstance(content, dict) or content.get("event") not in _KINDS:
        raise ValueError(f"not an event: {line[:200]!r}")
    kind = _KINDS[content.pop("event")]
    try:
        event: Event = kind(**content)
    except TypeError as error:
        raise ValueError(f"not an event: {error}") from None
    return event


class Control:
    """What the person who runs a job wants of it; any thread may ask, the job looks."""

    def __init__(self) -> None:
        self._running = threading.Event()
        self._running.set()
        self._stopping = threading.Event()
        self.discarding = False
        self.detached = False

    @property
    def paused(self) -> bool:
        """Whether the job should wait."""
        return not self._running.is_set()

    @property
    def stopping(self) -> bool:
        """Whether the job should end."""
        return self._stopping.is_set()

    def request(self, command: Command) -> None:
        """Ask the job to do something at the next occasion.

        ``stop`` ends it and keeps its results so far, ``discard`` ends it and removes them.
        ``detach`` lets it go on when nobody reads what it tells any more.
        """
        match command:
            case "pause":
                self._running.clear()
            case "detach":
                self.detached = True
            case "resume":
                self._running.set()
            case "stop" | "discard":
                self.discarding = self.discarding or command == "discard"
                self._stopping.set()
                self._running.set()

    def wait(self) -> None:
        """Return when the job should no longer wait."""
        self._running.wait()

    def pauses(self) -> Iterator[Paused | Resumed]:
        """Wait for the end of a pause, if there is one, and tell of both."""
        if self.paused:
            yield Paused()
            self.wait()
            yield Resumed()

    def wait_for_stop(self, seconds: float) -> bool:
        """Return after this time, or at once when the job should end; say whether it should."""
        return self._stopping.wait(seconds)
