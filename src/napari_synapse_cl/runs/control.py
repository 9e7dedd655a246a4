"""How a running job is paused, resumed and ended from outside."""

import threading
from typing import Literal, get_args

Command = Literal["pause", "resume", "stop", "discard", "detach"]
COMMANDS: tuple[Command, ...] = get_args(Command)


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

    def wait_for_stop(self, seconds: float) -> bool:
        """Return after this time, or at once when the job should end; say whether it should."""
        return self._stopping.wait(seconds)
