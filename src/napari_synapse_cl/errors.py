"""Errors that speak to the person who runs the program."""

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_OF_DISKS = {
    # Windows has no number for quotas.
    getattr(errno, "EDQUOT", errno.ENOSPC): "the quota on the disk is used up",
    errno.ENOSPC: "the disk is full",
}
_WRITTEN_IN_PART = re.compile(r"\d+ requested and \d+ written")
"""NumPy says no more of a disk that takes nothing."""


class InputError(ValueError):
    """Something a user gave cannot be used.

    The message is one sentence or two in the user's words: what was wrong, where, and what to do.
    The command line prints it as one line and exits with code 2; the window shows it as a
    notification. Programming mistakes raise other exceptions.
    """


class SettingError(InputError):
    """A setting cannot have the value that it was given, or settings are at odds.

    Parameters
    ----------
    names
        The settings, by name; the first is the one to look at.
    """

    def __init__(self, message: str, names: Sequence[str]) -> None:
        super().__init__(message)
        self.names = tuple(names)


class JobError(Exception):
    """A job that had begun cannot go on: memory or disk ran out, or the loss is not finite.

    Not a RuntimeError, which napari's generator workers swallow.
    """


def reason(error: BaseException) -> str:
    """Return in words why a file could not be read or written.

    The libraries wrap what the system says in errors of their own: it is looked for in what they
    say, and in the errors that came before.
    """
    number = _number(error)
    if number is not None:
        said = os.strerror(number)
        return f"{_OF_DISKS[number]} ({said})" if number in _OF_DISKS else said
    if _WRITTEN_IN_PART.search(str(error)):
        return _OF_DISKS[errno.ENOSPC]
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return without_advice(str(text).splitlines()[0])


def without_advice(text: str) -> str:
    """Return what a library says, unless that is to load what is not safe to load.

    NumPy advises so of any file that is none of its own.
    """
    if "load it unsafely" in text:
        return "it holds no arrays of NumPy, or Python objects, which are not loaded"
    return text


def is_of_disk(error: BaseException) -> bool:
    """Whether the system refused to read or write a file, whatever a library made of it."""
    return isinstance(error, OSError) or _number(error) is not None


@contextmanager
def disk_in_words(say: Callable[[OSError], str]) -> Iterator[None]:
    """Turn what the disk says in the block into words.

    Parameters
    ----------
    say
        Returns them.

    Raises
    ------
    JobError
        If something cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise JobError(say(error)) from error


def _number(error: BaseException | None) -> int | None:
    """Return the system's number of what went wrong, None where nobody says it."""
    while error is not None:
        if isinstance(error, OSError):
            # HDF5 and Arrow write it into their text.
            named = re.search(r"\berrno:? =? ?(\d+)", str(error))
            number = error.errno or (int(named[1]) if named else None)
            if number:
                return number
        error = error.__cause__ or error.__context__
    return None
