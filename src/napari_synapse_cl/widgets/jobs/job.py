"""One thread worker that yields the events of a command line: its child, or one that runs alone."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QThreadPool, Signal
from superqt.utils import FunctionWorker, GeneratorWorker, create_worker

from napari_synapse_cl.errors import JobError
from napari_synapse_cl.runs.events import (
    Command,
    Control,
    Discarded,
    Event,
    Finished,
    Message,
    Progress,
)
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.following import follow
from napari_synapse_cl.runs.listing import empty_bins, move_to_bin
from napari_synapse_cl.widgets.jobs.child import GRACE_SECONDS, Child
from napari_synapse_cl.widgets.jobs.inputs import Inputs

PROGRESS_INTERVAL = 0.25
"""Least time in seconds between two reports of progress; cutting crops makes thousands a second."""


class Job:
    """Something that runs outside of the window and tells events.

    All methods may be called from any thread, :meth:`events` from one alone.

    Attributes
    ----------
    discarded_folder
        The folder of a run that goes to the bin when it has ended, None for one that stays.
    """

    discarded_folder: Path | None = None
    may_go_on = False
    """Whether what it tells of may go on when it tells no more."""

    def discard_later(self, folder: Path) -> None:
        """Stop the run in a folder, and have it moved to the bin when it has ended.

        The last event is then a :class:`~napari_synapse_cl.runs.listing.BinnedRun`.
        """
        self.discarded_folder = folder
        self.request("stop")

    def events(self) -> Iterator[Any]:
        """Run, and yield what is told until it ends.

        Raises
        ------
        InputError
            If something that was given cannot be used; nothing is left behind then.
        JobError
            If the job could not go on.
        """
        raise NotImplementedError

    def request(self, command: Command) -> None:
        """Pause, resume, stop or discard; what has nothing to pause or to keep ends."""
        self.end_soon()

    def end_soon(self) -> None:
        """End, and keep what was reached."""
        raise NotImplementedError

    def leave(self) -> None:
        """Let it run on without this window, which ends what has no life of its own."""
        self.end_soon()


class ChildJob(Job):
    """One run of the command line, from its inputs to the end of its process.

    Parameters
    ----------
    inputs
        What the run works on.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs: Inputs | None = inputs
        self._control = Control()
        self._child: Child | None = None
        self._lock = threading.Lock()
        self._deadline: threading.Timer | None = None

    def request(self, command: Command) -> None:
        """Pause, resume, stop or discard the run."""
        with self._lock:
            self._control.request(command)
            if self._child is not None:
                self._child.send(command)

    def end_soon(self) -> None:
        """Stop the run and keep a checkpoint; kill it if that takes too long."""
        if self._control.detached:
            return
        self.request("stop")
        with self._lock:
            if self._child is not None and self._deadline is None:
                self._deadline = threading.Timer(GRACE_SECONDS, self._child.kill)
                self._deadline.daemon = True
                self._deadline.start()

    def leave(self) -> None:
        """Let the run go on by itself; one that has not begun ends."""
        with self._lock:
            begun = self._child is not None
        self.request("detach" if begun else "stop")

    def events(self) -> Iterator[Event]:
        """Write the inputs, start the child and yield what it tells until it ends."""
        inputs = self._inputs
        assert inputs is not None
        try:
            yield from _thinned(inputs.write(self._control))
            if not self._control.stopping:
                yield from _thinned(self._run_child(inputs))
        finally:
            # A run that was left to itself may not have read them yet.
            if not self._control.detached:
                inputs.clean_up()
            # A worker may be kept for long; the volume should not stay with it.
            self._inputs = None

    def _run_child(self, inputs: Inputs) -> Iterator[Event]:
        discarded: Discarded | None = None
        with self._start_child(inputs) as child:
            try:
                for event in child.events():
                    if isinstance(event, Discarded):
                        discarded = event
                    else:
                        yield event
            finally:
                with self._lock:
                    self._child = None
                    if self._deadline is not None:
                        self._deadline.cancel()
        if discarded is not None:
            # The child holds the folder until its end.
            inputs.remove()
            yield discarded

    def _start_child(self, inputs: Inputs) -> Child:
        with self._lock:
            self._child = Child(inputs.config_file)
            # What was asked for while there was no child yet.
            if self._control.discarding:
                self._child.send("discard")
            elif self._control.stopping:
                self._child.send("stop")
            elif self._control.paused:
                self._child.send("pause")
            return self._child


class _Quiet:
    """A worker that tells nobody once napari is gone, and keeps no other waiting."""

    def run(self) -> None:
        """Run, and tell of it."""
        pool = QThreadPool.globalInstance()
        # The pool has as many threads as the computer has cores: a few long searches would keep
        # all else waiting, such as the picture of what is dragged.
        pool.releaseThread()
        try:
            # What goes wrong in the work itself is told. An error here is that of a deleted
            # signal, which would abort Python while it ends.
            with suppress(RuntimeError):
                super().run()  # type: ignore[misc]
        finally:
            pool.reserveThread()


class _QuietFunction(_Quiet, FunctionWorker):
    """Calls a function once."""


class JobWorker(_Quiet, GeneratorWorker):
    """A worker whose end, when napari asks for it, is a clean end of its job.

    It is none of napari's own workers: those show a traceback with every error, stay in napari's
    list of tasks for as long as it runs, and are asked about once more when it is closed.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(_events, job)
        self._job = job

    def quit(self) -> None:
        """Stop the job and keep its checkpoint, unless it was left to itself."""
        self._job.end_soon()


def _events(job: Job) -> Generator[Any, None, None]:
    has_ended = not job.may_go_on
    try:
        for event in job.events():
            has_ended = has_ended or isinstance(event, Finished)
            yield event
        if has_ended and job.discarded_folder is not None:
            binned = move_to_bin(job.discarded_folder)
            yield binned
            if text := empty_bins([binned.origin.parent]):
                yield Message(text)
    except RuntimeError as error:
        # The worker would swallow it, and never end.
        raise JobError(str(error)) from error


def _thinned(events: Iterator[Event]) -> Iterator[Event]:
    """Leave out reports of progress that follow each other faster than anyone can read."""
    last = -PROGRESS_INTERVAL
    for event in events:
        if isinstance(event, Progress) and event.done < event.total:
            now = time.monotonic()
            if now - last < PROGRESS_INTERVAL:
                continue
            last = now
        yield event


class AttachedJob(Job):
    """Follows a run; its end in this window leaves the run as it is."""

    may_go_on = True

    def __init__(self, folder: Path) -> None:
        self._folder = RunFolder(folder)
        self._control = Control()

    def events(self) -> Iterator[Any]:
        """Yield what the run tells in its folder, from its first step on, until it ends."""
        try:
            yield from follow(self._folder, self._control)
        except OSError as error:
            raise JobError(f"the run in {self._folder.path} cannot be followed: {error}") from error

    def request(self, command: Command) -> None:
        """Pause, resume, stop or discard the run, by way of its folder."""
        self._folder.send(command)

    def end_soon(self) -> None:
        """Look at the run no longer."""
        self._control.request("stop")


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
            _worker_class=_QuietFunction,
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
