"""What a computer tells a program by its environment: places of a person's own, and processes.

A variable that is empty is taken as not set.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path, user_config_path

from napari_synapse_cl.errors import InputError

NAME = "napari-synapse-cl"
CACHE_VARIABLE = "XDG_CACHE_HOME"
"""What names another folder for :func:`cache_folder`, on POSIX systems."""


def variable(name: str) -> str | None:
    """Return an environment variable, None where it is not set or empty."""
    return os.environ.get(name, "").strip() or None


def whole_number(name: str) -> int | None:
    """Return a whole number, not negative, from an environment variable; None where it is not set.

    Raises
    ------
    InputError
        If it holds something else.
    """
    text = variable(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise InputError(
            f"the environment variable {name} must be a whole number and not negative, and is "
            f"{text!r}: correct it, or unset it"
        )
    return int(text)


@dataclass(frozen=True)
class Launch:
    """How this process was started among others, as torchrun or a cluster tells it."""

    rank: int = 0
    size: int = 1
    """Its number, from 0, and how many there are."""
    local_rank: int | None = None
    """Its number on this computer, None where that is not told."""

    @classmethod
    def of_this_process(cls) -> "Launch":
        """Read the environment.

        Raises
        ------
        InputError
            If it says something that cannot be.
        """
        rank, size = whole_number("RANK"), whole_number("WORLD_SIZE")
        local_rank = whole_number("LOCAL_RANK")
        is_named = rank is not None or size in (None, 1)
        if not is_named or (rank or 0) >= (1 if size is None else size):
            told = f"RANK is {_shown(rank)} and WORLD_SIZE is {_shown(size)}"
            raise InputError(
                f"the environment says that {told}, which cannot be: start the processes with "
                "torchrun, or unset both"
            )
        return cls(rank or 0, size or 1, local_rank)


def _shown(number: int | None) -> str:
    return "not set" if number is None else str(number)


def home() -> Path | None:
    """Return the home directory, None where a person has none: containers run by unknown users."""
    # Empty it would be the root of the file system.
    if sys.platform != "win32" and os.environ.get("HOME") == "":
        return None
    try:
        found = Path.home()
    except (RuntimeError, KeyError):
        return None
    return found if found.is_absolute() else None


def cache_folder() -> Path | None:
    """Return where what can be had again is kept, None where there is no such place."""
    return _folder(user_cache_path, CACHE_VARIABLE)


def settings_folder() -> Path | None:
    """Return where settings outlive the program, None where there is no such place."""
    return _folder(user_config_path, "XDG_CONFIG_HOME")


def _folder(find: Callable[[str], Path], named_by: str) -> Path | None:
    if home() is None and variable(named_by) is None:
        return None
    try:
        found = find(NAME)
    except (RuntimeError, KeyError, OSError):
        return None
    return found if found.is_absolute() else None
