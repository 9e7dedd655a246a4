"""What a training is doing, as its run folder tells others."""

import json
import os
import platform
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

import psutil
from pydantic import TypeAdapter, ValidationError

from napari_synapse_cl.runs.events import Positive, Started, Training
from napari_synapse_cl.system.holding import process_lives

State = Literal["running", "paused", "completed", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class RunStatus(Training):
    """What a training is doing, and which process does it.

    Attributes
    ----------
    state
        What it does, or how it ended.
    host, pid, process_started
        The process that trains: its computer's name, its number there, and when it was started in
        seconds since 1970.
    message
        Why it failed.
    """

    state: State
    host: str
    pid: Positive
    process_started: float
    message: str = ""

    @classmethod
    def of_this_process(cls, **more: Any) -> Self:
        """Return the status of a training that this process begins; `more` are the other fields."""
        return cls(
            state="running",
            host=platform.node(),
            pid=os.getpid(),
            process_started=psutil.Process().create_time(),
            **more,
        )

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
