"""Standard input, output and error of the command line: nothing that is said ends a job."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

_OPENED = {0: os.O_RDONLY, 1: os.O_WRONLY, 2: os.O_WRONLY}


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


class Listener:
    """A stream for libraries that write progress: see :func:`say`.

    Parameters
    ----------
    stream
        Where it leads.
    """

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
