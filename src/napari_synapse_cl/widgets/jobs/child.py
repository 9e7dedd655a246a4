"""The command line as a child process, and what only a process with PyTorch can answer."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import psutil

from napari_synapse_cl.config import Config, absolute, is_url
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.models.architecture import NetworkInfo
from napari_synapse_cl.runs.events import Command, Event, Failed, from_line
from napari_synapse_cl.system.downloads import PACKAGE, is_cached, local_file
from napari_synapse_cl.system.words import VoxelSize
from napari_synapse_cl.widgets.jobs.inputs import HowToCut

NICENESS = 10
"""How far the child steps back behind the window on POSIX systems."""
WINDOWS_FLAGS = (
    getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)
    | getattr(subprocess, "CREATE_NO_WINDOW", 0)
    | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
)
"""The same on Windows, no console that opens, and no part in what ends napari."""
GRACE_SECONDS = 30
"""How long a child that was told to stop may take to finish its step and write its checkpoint."""

_LEFT_TO_THEMSELVES: list[subprocess.Popen] = []
"""Held, for Python warns of a process that is forgotten while it runs."""

PYTHON = [sys.executable, "-P"]
"""-P: a file torch.py in the folder that napari was started from must not be imported."""


def step_back(process: subprocess.Popen) -> None:
    """Let a process give way to the window on POSIX systems; on Windows it is started so."""
    if os.name == "posix":
        with suppress(psutil.Error):
            psutil.Process(process.pid).nice(NICENESS)


class Child:
    """A running command line that tells its events and takes commands.

    Parameters
    ----------
    config_file
        The settings it is given.
    """

    def __init__(self, config_file: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child has ended
        self._process = subprocess.Popen(
            [*PYTHON, "-m", "napari_synapse_cl", "--config", str(config_file), "--events", "jsonl"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            creationflags=WINDOWS_FLAGS,
            # A terminal that napari was started from takes its own processes with it. In a session
            # of its own, though, the child would not step back: Linux shares the processor among
            # sessions, and how nice a process is counts only inside of one.
            process_group=0,
        )
        self._detached = False
        step_back(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing running that was not told to go on by itself."""
        if self._detached:
            _LEFT_TO_THEMSELVES[:] = [p for p in _LEFT_TO_THEMSELVES if p.poll() is None]
            _LEFT_TO_THEMSELVES.append(self._process)
        else:
            self.send("stop")
        with suppress(OSError):
            self._pipes[0].close()
        if not self._detached:
            self._wait_or_kill()
        self._pipes[1].close()
        self._errors.close()

    @property
    def _pipes(self) -> tuple:
        return self._process.stdin, self._process.stdout

    def send(self, command: Command) -> None:
        """Give the child a command; one that has ended takes none.

        After ``detach`` it goes on by itself, tells nothing more and outlives this process.
        """
        self._detached = self._detached or command == "detach"
        with suppress(OSError, ValueError):
            self._pipes[0].write(f"{command}\n")
            self._pipes[0].flush()

    def kill(self) -> None:
        """End the child at once."""
        self._process.kill()

    def events(self) -> Iterator[Event]:
        """Yield what the child tells until it ends.

        Raises
        ------
        InputError
            If it refuses what it was given.
        JobError
            If it could not go on, or crashed.
        """
        failed: Failed | None = None
        for line in self._pipes[1]:
            # Libraries may print to standard output too.
            with suppress(ValueError):
                event = from_line(line)
                if isinstance(event, Failed):
                    failed = event
                else:
                    yield event
        if self._detached:
            return
        code = self._process.wait()
        if code == 0:
            return
        if failed is not None:
            raise (InputError if code == 2 else JobError)(failed.message)
        raise JobError(f"the job ended unexpectedly: {self._last_words(code)}")

    def _wait_or_kill(self) -> None:
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def _last_words(self, code: int) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if code < 0:
            return f"it was killed by signal {-code}" + (
                "; often memory has run out then" if code == -9 else ""
            )
        return lines[-1] if lines else f"exit code {code}"


class Question:
    """A question that another process answers, see :mod:`napari_synapse_cl.pipeline.answers`.

    Parameters
    ----------
    topic
        "machine" or "network".
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._process: subprocess.Popen[str] | None = None

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Return the answer; it takes seconds.

        Raises
        ------
        InputError
            If what it was asked about cannot be used.
        JobError
            If the process has crashed, or was ended.
        """
        self._process = subprocess.Popen(
            [*PYTHON, "-m", "napari_synapse_cl.pipeline.answers", self._topic, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            # Tracebacks come in the encoding of the system.
            errors="replace",
            creationflags=WINDOWS_FLAGS,
        )
        with self._process as process:
            output, errors = process.communicate()
        try:
            answer = json.loads(output)
        except ValueError:
            last = (errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            raise JobError(f"{arguments[0]} could not be looked at: {last}") from None
        if "error" in answer:
            raise InputError(answer["error"])
        return dict(answer)

    def end(self) -> None:
        """End the process, if it runs."""
        if self._process is not None:
            self._process.kill()


class NetworkReader:
    """Asks another process what is in checkpoints and runs; it takes seconds.

    What is known of a file is not asked for again until the file has changed.
    """

    _known: ClassVar[dict[tuple[Any, ...], NetworkInfo]] = {}

    def __init__(self) -> None:
        self._question = Question("network")
        self._unusable: set[tuple[Any, ...]] = set()

    def read(self, checkpoint: str | Path, which: str) -> NetworkInfo:
        """Return what is in a checkpoint or run.

        Raises
        ------
        InputError
            If it holds no such network.
        JobError
            If the process that was asked has crashed, or was ended.
        """
        key = _identity(checkpoint, which)
        info = self._known.get(key)
        if info is None:
            info = self._known[key] = NetworkInfo.from_dict(self._ask(checkpoint, which))
        return info

    def voxel_size_of(self, pretrained: str | None) -> VoxelSize | None:
        """Return the voxel size along z, y, x in nm of a network, None where it is not known.

        Nothing is downloaded for it, and what is wrong with a file others say.

        Parameters
        ----------
        pretrained
            The setting of this name.
        """
        try:
            if pretrained is None or not is_cached(pretrained):
                return None
            if not local_file(pretrained).exists():
                return None
        except InputError:
            return None
        key = _identity(pretrained, "trained")
        if key not in self._unusable:
            try:
                return self.read(pretrained, "trained").voxel_size
            except (InputError, JobError):
                self._unusable.add(key)
        return None

    def end(self) -> None:
        """End the process, if it runs."""
        self._question.end()

    def _ask(self, checkpoint: str | Path, which: str) -> dict[str, Any]:
        location = absolute(str(checkpoint))
        if location.startswith(PACKAGE) and which == "trained":
            # Beside a network of the program lies what would be answered.
            return dict(json.loads(local_file(location).with_suffix(".json").read_text("utf-8")))
        return self._question.ask(location, which)


def _identity(checkpoint: str | Path, which: str) -> tuple[Any, ...]:
    """Return what changes when there may be another network."""
    if is_url(str(checkpoint)):
        return (str(checkpoint), which)
    stats, checkpoint = [], Path(checkpoint)
    for path in (checkpoint, checkpoint / "checkpoints"):
        try:
            stat = path.stat()
        except OSError:
            continue
        stats += [stat.st_mtime_ns, stat.st_size]
    return (str(checkpoint.absolute()), which, *stats)


def how_to_cut(config: Config) -> HowToCut:
    """Return how crops are cut for a training, as the command line would; for a worker."""
    if config.pretrained is None:
        return HowToCut(config)
    return HowToCut(config, NetworkReader().read(config.pretrained, "trained").voxel_size)
