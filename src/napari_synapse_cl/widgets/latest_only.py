"""Run a function in a thread for the newest request alone."""

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import create_worker


class LatestOnly(QObject):
    """A function in a worker thread, one call at a time.

    A request that comes while another is worked on waits, and takes the place of one that waits
    already, which is then never worked on.

    Parameters
    ----------
    tell_overtaken
        Whether to tell also of a call that has ended while a newer request waits. It makes
        something that is dragged move.
    """

    done = Signal(object)
    failed = Signal(object)
    """Emitted with the result or the exception."""

    def __init__(self, function: Callable[..., Any], *, tell_overtaken: bool = False) -> None:
        super().__init__()
        self._function = function
        self._tell_overtaken = tell_overtaken
        self._running = False
        self._forgotten = False
        self._waiting: tuple[Any, ...] | None = None

    def ask(self, *arguments: Any) -> None:
        """Ask for the function's result for these arguments."""
        self._waiting = arguments
        if not self._running:
            self._start()

    def forget(self) -> None:
        """Drop the request that waits, and the result of the one that is worked on."""
        self._waiting = None
        self._forgotten = True

    def _start(self) -> None:
        arguments, self._waiting = self._waiting or (), None
        self._running = True
        self._forgotten = False
        # Not napari's, which shows a traceback with every error and lists all it has ever made.
        create_worker(
            self._function,
            *arguments,
            _connect={
                "returned": self._on_result,
                "errored": self._on_error,
                "finished": self._on_finished,
            },
        )

    def _on_result(self, result: Any) -> None:
        if self._is_wanted():
            self.done.emit(result)

    def _on_error(self, error: Exception) -> None:
        if self._is_wanted():
            self.failed.emit(error)

    def _is_wanted(self) -> bool:
        return not self._forgotten and (self._waiting is None or self._tell_overtaken)

    def _on_finished(self) -> None:
        self._running = False
        if self._waiting is not None:
            self._start()
