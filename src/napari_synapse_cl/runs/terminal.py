"""Tell a person at a terminal what a job does: progress bars, messages, where the results are.

Where standard error is no terminal but a log, progress is a line now and then. Nothing that is said
ends a job, whatever becomes of standard output and error.
"""

import atexit
import io
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import NoReturn, TextIO

from tqdm import tqdm

from napari_synapse_cl.runs.events import (
    Discarded,
    EpochDone,
    Event,
    Finished,
    Message,
    Progress,
    ShardsDone,
    Started,
    StepDone,
    Wrote,
)
from napari_synapse_cl.runs.shards import shards_in_words
from napari_synapse_cl.system.words import counted, duration

SECONDS_BETWEEN_LINES = 60
"""Least time between two lines of progress in a log."""

_OPENED = {0: os.O_RDONLY, 1: os.O_WRONLY, 2: os.O_WRONLY}


def report(events: Iterable[Event]) -> None:
    """Show events on standard error until they end; the last line says where the results are."""
    shown = _Bar() if sys.stderr.isatty() else _Lines()
    results: list[str] = []
    try:
        for event in events:
            match event:
                case Message(text, level):
                    shown.say(f"Warning: {text}" if level == "warning" else text)
                case Started():
                    shown.say(_about(event))
                    shown.begin("training", event.total_steps, event.step, "step")
                case StepDone():
                    speed = f"{event.crops_per_second:.1f} crops/s"
                    shown.advance(event.step, f"loss {event.loss:.3f}, {speed}")
                case EpochDone():
                    shown.say(_epoch(event))
                case Finished(outcome, _, checkpoint):
                    shown.end()
                    results.append(f"checkpoint {checkpoint}")
                    if outcome == "stopped":
                        shown.say("Stopped. Go on with --resume and the same --output.")
                case Progress(name, done, total, unit):
                    if name != shown.task:
                        shown.begin(name, total, 0, unit)
                    # Tiles become more when memory runs short.
                    shown.total = total
                    shown.advance(done)
                case ShardsDone():
                    if event.task != shown.task:
                        shown.begin(event.task, event.total_crops, event.crops, event.unit)
                    shown.advance(event.crops, shards_in_words(event))
                case Wrote(what, path) if what != "settings":
                    shown.end()
                    results.append(f"{what} {path}")
                case Discarded(run):
                    shown.say(f"Discarded the run in {run}.")
                    results.clear()
    finally:
        shown.end()
    text = f"Results: {', '.join(results)}" if results else "No results were kept."
    say(sys.stdout, f"{text}\n")


class _Lines:
    """Progress as lines of a log."""

    def __init__(self) -> None:
        self.task = ""
        self.total = 0
        self._unit = ""
        self._first = 0
        self._begun = self._told = time.monotonic()

    def say(self, text: str) -> None:
        """Write a line."""
        say(sys.stderr, f"{text}\n")

    def begin(self, task: str, total: int, done: int, unit: str) -> None:
        """Begin a task of which a part may be done."""
        self.task, self.total, self._first, self._unit = task, total, done, unit
        self._begun = time.monotonic()

    def advance(self, done: int, more: str = "") -> None:
        """Say how far the task has come, unless that was said a short while ago."""
        now = time.monotonic()
        if now - self._told < SECONDS_BETWEEN_LINES:
            return
        self._told = now
        plural = self._unit if self._unit.endswith("B") else None
        parts = [f"{done} of {counted(self.total, self._unit, plural)}"]
        parts += [more] if more else []
        if done > self._first:
            pace = (now - self._begun) / (done - self._first)
            parts.append(f"about {duration(pace * max(0, self.total - done))} left")
        self.say(f"{self.task.capitalize()}: {', '.join(parts)}")

    def end(self) -> None:
        """End the task."""
        self.task = ""


class _Bar(_Lines):
    """Progress as a bar that is drawn again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._stream = Listener(sys.stderr)
        self._bar: tqdm | None = None

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        tqdm.write(text, file=self._stream)

    def begin(self, task: str, total: int, done: int, unit: str) -> None:
        """Draw a bar in place of another."""
        self.end()
        super().begin(task, total, done, unit)
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=task,
            unit=unit,
            dynamic_ncols=True,
            file=self._stream,
        )

    def advance(self, done: int, more: str = "") -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.total = self.total
            if more:
                self._bar.set_postfix_str(more, refresh=False)
            self._bar.update(done - self._bar.n)

    def end(self) -> None:
        """Leave the bar as it is."""
        super().end()
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def _about(event: Started) -> str:
    done = f", from step {event.step}" if event.step else ""
    return (
        f"Training on {event.n_training} synapses, validating on {event.n_validation}; "
        f"{event.steps_per_epoch} steps of {event.batch_size} pairs an epoch, on {event.device} "
        f"in {event.precision}{done}. Run folder: {event.run}"
    )


def _epoch(event: EpochDone) -> str:
    parts = [f"training loss {event.training_loss:.3f}"]
    if event.validation_loss is not None:
        parts.append(f"validation {event.validation_loss:.3f}")
    if event.retrieval is not None:
        parts.append(f"retrieval {event.retrieval:.0%}")
    if event.effective_rank is not None:
        parts.append(f"effective rank {event.effective_rank:.1f}")
    if event.feature_rank is not None:
        parts.append(f"rank of features {event.feature_rank:.1f}")
    if event.knn_accuracy is not None:
        parts.append(f"kNN accuracy {event.knn_accuracy:.2f}")
    best = " (best so far)" if event.best else ""
    return f"Epoch {event.epoch}: {', '.join(parts)}{best}"


def make_safe() -> None:
    r"""Let every text be written to standard output and error, and none of the three be missing.

    What an encoding has no sign for is written as its escape, as in ``\u2264``. A stream that was
    closed before the program began leads nowhere: a file that is opened later must not become it.
    """
    for number, way in _OPENED.items():
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, way)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(stream: TextIO, text: str) -> bool:
    """Write a text, and return whether somebody can read it.

    Where the reader has gone away or the disk is full, the stream leads nowhere from then on.
    """
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        lead_nowhere(stream)
        return False
    return True


def lead_nowhere(stream: TextIO) -> None:
    """Let nothing more reach the reader of a stream, and tell it that this is the end."""
    # Python flushes it once more when it ends, and calls it a failure if nobody is there.
    with suppress(io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def leave(code: int) -> NoReturn:
    """End this process with an exit code, and do only what was registered for its end.

    After PyTorch was used Python takes itself apart for a second and more, and whoever started a
    job waits for that.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # Nobody is there to be told.
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


class Listener:
    """A stream for libraries that write progress: see :func:`say`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "ascii"

    def write(self, text: str) -> None:
        """Write a text, if somebody is there."""
        say(self._stream, text)

    def flush(self) -> None:
        """Do nothing: what is written is flushed."""

    def fileno(self) -> int:
        """Return the stream's, by which the width of a terminal is asked for."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Return whether a person sees it on a terminal."""
        return self._stream.isatty()
