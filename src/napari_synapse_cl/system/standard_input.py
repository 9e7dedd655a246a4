"""What another process writes into the standard input of this one, while it works."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

LOOK_SECONDS = 0.1
AT_ONCE = 2**16


def incoming(stream: IO[Any]) -> Iterator[bytes]:
    """Yield what arrives, as it comes, until the other end is closed.

    It is read past the buffer of the stream, whose lock Python would miss if it ends meanwhile.

    Parameters
    ----------
    stream
        One with a file descriptor, such as a pipe.
    """
    while True:
        _wait(stream.fileno())
        part = os.read(stream.fileno(), AT_ONCE)
        if not part:
            return
        yield part


def incoming_lines(stream: IO[Any]) -> Iterator[str]:
    """Yield the lines of a text in UTF-8 as they arrive, without their ends."""
    rest = b""
    for part in incoming(stream):
        *lines, rest = (rest + part).split(b"\n")
        yield from (line.decode("utf-8", "replace").strip() for line in lines)
    if rest:
        yield rest.decode("utf-8", "replace").strip()


def _wait(number: int) -> None:
    """Wait on Windows until there is something to read.

    While a read waits there, everything else waits that looks at the same pipe, and SciPy, as it is
    imported, looks at the standard input: https://github.com/numpy/numpy/issues/24290.
    """
    if sys.platform == "win32":
        from _winapi import PeekNamedPipe
        from msvcrt import get_osfhandle

        # Its end is closed, or it is no pipe: the read says so.
        with suppress(OSError):
            while not PeekNamedPipe(get_osfhandle(number), 0)[0]:
                time.sleep(LOOK_SECONDS)
