"""Searches that take long: in a worker, told how far they are, and stopped at any step."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Generator
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_synapse_cl.errors import JobError
from napari_synapse_cl.system.stepping import MODULE, Answer, answers, sent
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.widgets.jobs.child import PYTHON, WINDOWS_FLAGS, step_back
from napari_synapse_cl.widgets.jobs.job import LatestOnly

if TYPE_CHECKING:
    from napari_synapse_cl.features.neighbours import Step

LOOKING_SECONDS = 0.1
"""How often it is looked whether what another process does is still wanted."""


class Search(QObject):
    """A function that yields how far it is, in a worker thread, one call at a time.

    A call ends one that is worked on, of which nothing more is told then.

    Parameters
    ----------
    function
        Called in the worker; what it returns is told.
    """

    done = Signal(object)
    failed = Signal(object)
    """Emitted with the result or the exception."""
    told = Signal(str)
    """Emitted with how far it is, in words."""
    changed = Signal()
    """Emitted when it begins, and when it is over."""

    def __init__(self, function: Callable[..., Generator[Step, None, Any]]) -> None:
        super().__init__()
        self._function = function
        self._ended: Event | None = None
        self._worker = LatestOnly(self._follow)
        self._worker.done.connect(self._on_done)
        self._worker.failed.connect(self._on_failure)

    @property
    def is_running(self) -> bool:
        """Whether there is something to stop."""
        return self._ended is not None

    def start(self, *arguments: Any) -> None:
        """Call the function, in place of a call before."""
        self.stop()
        self._ended = Event()
        self._worker.ask(self._ended, arguments)
        self.changed.emit()

    def stop(self) -> None:
        """End the call; it tells nothing more."""
        if self._ended is not None:
            self._ended.set()
            self._ended = None
            self._worker.forget()
            self.changed.emit()

    def _follow(self, ended: Event, arguments: tuple[Any, ...]) -> tuple[Event, Any]:
        steps, last = self._function(*arguments), None
        while not ended.is_set():
            try:
                step = next(steps)
            except StopIteration as end:
                return ended, end.value
            if step != last:
                task, done, total, what = last = step
                self.told.emit(f"{task}: {done:,} of {counted(total, what)}")
        steps.close()
        return ended, None

    def _on_done(self, found: tuple[Event, Any]) -> None:
        ended, result = found
        if ended is self._ended:
            self._ended = None
            self.changed.emit()
            self.done.emit(result)

    def _on_failure(self, error: Exception) -> None:
        self._ended = None
        self.changed.emit()
        self.failed.emit(error)


def elsewhere(
    function: Callable[..., Generator[Step, None, Any]], *arguments: Any
) -> Generator[Step, None, Any]:
    """Call a function in a process of its own, which ends when this is closed.

    Yields and returns what the function does, again and again while it is at the same step.

    Parameters
    ----------
    function
        One that can be imported by its name.

    Raises
    ------
    JobError
        If it fails, or its process is ended.
    """
    process = subprocess.Popen(
        [*PYTHON, "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        creationflags=WINDOWS_FLAGS,
        process_group=0,
    )
    step_back(process)
    told: SimpleQueue[Answer] = SimpleQueue()

    def talk() -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        # Windows calls a pipe that nobody reads any more an invalid argument.
        with suppress(OSError):
            process.stdin.write(sent(function, arguments))
            process.stdin.flush()
        for answer in answers(process.stdout):
            told.put(answer)

    with process:
        talker = Thread(target=talk, daemon=True)
        talker.start()
        step: Step = ("starting", 0, 1, "process")
        try:
            while True:
                with suppress(Empty):
                    kind, content = told.get(timeout=LOOKING_SECONDS)
                    if kind == "result":
                        return content
                    if kind == "failure":
                        raise JobError(f"this could not be done: {content}")
                    step = content
                yield step
        finally:
            process.kill()
            talker.join()
