"""Loops over large arrays that are compiled when they are first needed.

Where they cannot be compiled, what calls them does the same by other means: numba may not support
the newest Python or numpy yet.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import pairwise
from typing import Any

import torch

from napari_synapse_cl.system.environment import CACHE_VARIABLE, variable

_pool: ThreadPoolExecutor | None = None


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return numba's decorator `njit` with these options.

    What it compiles is kept for the next process where there is a place for it: beside the module,
    or in the user's cache folder.
    """
    from numba import njit

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=_is_place_named(), **options)(function)
        # Numba has looked for a folder that it can write to.
        except RuntimeError:
            return njit(**options)(function)

    return decorate


def _is_place_named() -> bool:
    """Whether Numba knows of a folder of this user.

    Without a home it takes ``~`` for the name of one where the program was started, and would run
    what anybody has left in it.
    """
    folder = os.environ.get(CACHE_VARIABLE, os.path.expanduser("~"))
    return variable("NUMBA_CACHE_DIR") is not None or os.path.isabs(folder)


class Loop:
    """A loop that is compiled at its first run, and run by as many threads as PyTorch uses.

    Parameters
    ----------
    module
        Where it is, by its full name. The module imports numba, so it is imported at the first run.
    name
        Of a function of a start, a stop, and what the loop is given beside the number of rounds. It
        is compiled without the GIL, and does the rounds from start to stop, which no other rounds
        depend on.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name
        self._function: Callable[..., None] | None = None
        self._is_usable = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")

    def __call__(self, n: int, *arguments: Any) -> bool:
        """Do `n` rounds, and return True; or, where it cannot be compiled, do nothing.

        Parameters
        ----------
        arguments
            Arrays and numbers, as the function takes them.
        """
        if not self._is_usable:
            return False
        if self._function is not None:
            share(self._function, n, *arguments)
            return True
        try:
            function = getattr(import_module(self._module), self._name)
            # Nothing to do: it is compiled, and nothing else.
            function(0, 0, *arguments)
        # An import that fails, a numpy that is too new, a cache that cannot be written, LLVM …
        except Exception:
            self._is_usable = False
            return False
        self._function = function
        share(function, n, *arguments)
        return True


def share(function: Callable[..., None], n: int, *arguments: Any) -> None:
    """Share rounds among as many threads as PyTorch uses, of which this is one.

    Parameters
    ----------
    function
        Of a start, a stop and the arguments. It must let go of the GIL to gain anything.
    arguments
        What it is given beside.
    """
    n_parts = max(1, min(n, torch.get_num_threads()))
    bounds = [n * part // n_parts for part in range(n_parts + 1)]
    others = [
        _threads().submit(function, start, stop, *arguments) for start, stop in pairwise(bounds[1:])
    ]
    function(0, bounds[1], *arguments)
    for other in others:
        other.result()


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="compiled")
    return _pool


def _forget_threads() -> None:
    """Start others in a forked process: threads do not come along."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
