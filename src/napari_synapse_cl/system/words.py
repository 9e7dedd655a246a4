"""Sizes along z, y and x, and numbers in words, as the window and the command line show them."""

import re
import reprlib
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

Triple = tuple[int, int, int]
"""Voxels along z, y, x."""
VoxelSize = tuple[float, float, float]
"""Lengths along z, y, x, in nm."""
One = TypeVar("One")
_MINUTE, _HOUR = 60, 3600
_UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel = 4
_SHOWN.maxlong = 80
_SHOWN.maxstring = _SHOWN.maxother = 400
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = 12


def triple(values: Iterable[One]) -> tuple[One, One, One]:
    """Return three values, along z, y, x, as a tuple of three."""
    z, y, x = values
    return (z, y, x)


def command_line(words: Sequence[str]) -> str:
    """Return a command as a terminal of this system takes it."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def duration(seconds: float) -> str:
    """Return a length of time in words: "45 s", "12 min", "3 h 20 min", "4 days".

    Parameters
    ----------
    seconds
        Not negative.
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE)
    if minutes < 100:
        return f"{minutes} min"
    if seconds < 48 * _HOUR:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    return counted(round(seconds / (24 * _HOUR)), "day")


def counted(n: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 synapse", "2 synapses".

    Parameters
    ----------
    singular, plural
        The noun; without a plural an s is added.
    """
    return f"{n} {singular if n == 1 else plural or singular + 's'}"


def size(lengths: Sequence[float]) -> str:
    """Return lengths along z, y, x in words: "80 × 80 × 80", "41.6 × 8 × 8"."""
    return " × ".join(f"{n:.1f}".removesuffix(".0") if n >= 1 else f"{n:.2g}" for n in lengths)


def storage(n_bytes: float) -> str:
    """Return a size in memory or on a disk in words: "12.3 GiB", "200 MiB", "190 bytes".

    Parameters
    ----------
    n_bytes
        Not negative.
    """
    unit = next((unit for unit in _UNITS if n_bytes >= _UNITS[unit]), None)
    if unit is None:
        return counted(round(n_bytes), "byte")
    return f"{n_bytes / _UNITS[unit]:,.1f}".removesuffix(".0") + f" {unit}"


def listing(words: Sequence[str], joint: str = "and") -> str:
    """Return words as a list: "a", "a and b", "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} {joint} {last}" if first else last


def natural(name: str) -> list[tuple[str, int]]:
    """Return what to sort names by, so that 2 comes before 10."""
    texts = re.split(r"(\d+)", name)
    numbers = [int(number) for number in texts[1::2]]
    return list(zip(texts[::2], [*numbers, 0], strict=True))


def shown(value: Any) -> str:
    """Return a value as it was given, to be named in a message; the middle of a long one left out.

    Parameters
    ----------
    value
        Of any kind, and nested as deeply as can be.
    """
    return _SHOWN.repr(value)
