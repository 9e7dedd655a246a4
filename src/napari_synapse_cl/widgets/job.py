"""One thread worker that runs the command line as a child process and yields its events."""

import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

from napari.qt.threading import thread_worker
from superqt.utils import GeneratorWorker

from napari_synapse_cl.control import Command, Control
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.events import Discarded, Event, Progress
from napari_synapse_cl.widgets.child import GRACE_SECONDS, Child
from napari_synapse_cl.widgets.inputs import RunInputs

PROGRESS_INTERVAL = 0.05
"""Least time in seconds between two reports of progress; cutting crops makes thousands a second."""


class Job:
    """One run of the command line, from its inputs to the end of its process.

    :meth:`request` may be called from any thread.

    Parameters
    ----------
    inputs
        What the run works on.
    """

    def __init__(self, inputs: RunInputs) -> None:
        self._inputs: RunInputs | None = inputs
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
        self.request("stop")
        with self._lock:
            if self._child is not None and self._deadline is None:
                self._deadline = threading.Timer(GRACE_SECONDS, self._child.kill)
                self._deadline.daemon = True
                self._deadline.start()

    def events(self) -> Iterator[Event]:
        """Write the inputs, start the child and yield what it tells until it ends.

        Raises
        ------
        InputError
            If something that was given cannot be used; nothing is left behind then.
        JobError
            If the run could not go on.
        """
        # napari keeps workers, and through them jobs, until the window closes; the volume should
        # not stay with them.
        inputs, self._inputs = self._inputs, None
        assert inputs is not None
        try:
            yield from _thinned(inputs.write(self._control))
            if not self._control.stopping:
                yield from _thinned(self._run_child(inputs))
        except RuntimeError as error:
            # The worker would swallow it.
            raise JobError(str(error)) from error
        finally:
            if not inputs.run_was_started:
                inputs.remove()

    def _run_child(self, inputs: RunInputs) -> Iterator[Event]:
        with self._start_child(inputs) as child:
            try:
                for event in child.events():
                    if isinstance(event, Discarded):
                        inputs.remove()
                    yield event
            finally:
                with self._lock:
                    self._child = None
                    if self._deadline is not None:
                        self._deadline.cancel()

    def _start_child(self, inputs: RunInputs) -> Child:
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


class JobWorker(GeneratorWorker):
    """A worker whose end, when napari asks for it, is a clean end of its job.

    It is none of napari's own workers, which show a traceback with every error.
    """

    def __init__(self, function: Any, job: Job) -> None:
        super().__init__(function, job)
        self._job = job

    def quit(self) -> None:
        """Stop the job and keep its checkpoint."""
        self._job.end_soon()


@thread_worker(worker_class=JobWorker)
def run_job(job: Job) -> Generator[Any, None, None]:
    """Run a job in a thread and yield what it tells."""
    yield from job.events()


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
