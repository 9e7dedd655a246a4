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
    """How this process was started among others, as torchrun or a cluster tells it.

    Attributes
    ----------
    rank, size
        Its number, from 0, and how many there are.
    local_rank
        Its number on this computer, None where that is not told.
    """

    rank: int = 0
    size: int = 1
    local_rank: int | None = None

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
        if size == 0:
            raise InputError("the environment variable WORLD_SIZE is 0: unset it, or use torchrun")
        if rank and size is None:
            raise InputError(
                f"the environment variable RANK is {rank}, and WORLD_SIZE does not say of how many "
                "processes: start them with torchrun, or unset RANK"
            )
        if rank is None and size is not None and size > 1:
            raise InputError(
                f"the environment variable WORLD_SIZE says that {size} processes work together, "
                "and RANK does not say which of them this is: start them with torchrun, or unset "
                "WORLD_SIZE"
            )
        if rank is not None and size is not None and rank >= size:
            raise InputError(
                f"the environment variable RANK is {rank}, and of {size} processes (WORLD_SIZE) "
                f"the last is {size - 1}: start them with torchrun"
            )
        return cls(rank or 0, size or 1, local_rank)


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
