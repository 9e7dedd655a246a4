"""How a running job is paused, resumed and ended from outside."""

import threading
from typing import Literal, get_args

Command = Literal["pause", "resume", "stop", "discard"]
COMMANDS: tuple[Command, ...] = get_args(Command)


class Control:
    """What the person who runs a job wants of it; any thread may ask, the job looks."""

    def __init__(self) -> None:
        self._running = threading.Event()
        self._running.set()
        self.stopping = False
        self.discarding = False

    @property
    def paused(self) -> bool:
        """Whether the job should wait."""
        return not self._running.is_set()

    def request(self, command: Command) -> None:
        """Ask the job to do something at the next occasion.

        ``stop`` ends it and keeps its results so far, ``discard`` ends it and removes them.
        """
        if command == "pause":
            self._running.clear()
            return
        self.discarding = self.discarding or command == "discard"
        self.stopping = self.stopping or command in ("stop", "discard")
        self._running.set()

    def wait(self) -> None:
        """Return when the job should no longer wait."""
        self._running.wait()
