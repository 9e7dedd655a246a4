"""Keep memory that was freed for what is computed next.

glibc gives every array above 32 MiB back to the system when it is freed, and the system fills the
pages of the next one with zeros before it can be written. Feature maps are that large, and on some
machines a fifth of a training step goes into it.
"""

import ctypes
from typing import Any

from napari_synapse_cl.free_memory import main_memory

ROOM = 1.5
"""How much more than a computation takes has to be free before it, for memory to be kept."""
# Of <malloc.h>, and what glibc begins with, or comes to by itself where arrays are large
_TRIM_THRESHOLD, _GROWN_TRIM_THRESHOLD = -1, 2**26
_MMAP_THRESHOLD, _GROWN_MMAP_THRESHOLD = -3, 2**25
_MMAP_MAX, _FIRST_MMAP_MAX = -4, 2**16
_NEVER = 2**31 - 1
_is_kept = False


def keep_freed_memory() -> bool:
    """Keep what this process frees from here on, for its next arrays; return whether that is done.

    Only glibc, the C library of most Linux systems, has to be told. Its memory stays as large as it
    was at most, and becomes larger than without, up to twice as large, since what is freed has
    seldom the size of what is needed next; see :func:`make_room`.
    """
    global _is_kept
    library = _glibc()
    _is_kept = bool(
        library is not None
        and library.mallopt(_MMAP_MAX, 0)
        and library.mallopt(_TRIM_THRESHOLD, _NEVER)
    )
    return _is_kept


def make_room(needed: int) -> None:
    """Give back what was freed, if less is free than what comes next should find.

    If there is too little even then, nothing is kept from here on. Does nothing where no memory is
    kept.

    Parameters
    ----------
    needed
        Bytes that are taken next, at most.
    """
    if _is_kept and not _is_roomy(needed):
        return_freed_memory()
        if not _is_roomy(needed):
            stop_keeping()


def return_freed_memory() -> None:
    """Give the memory back to the system that this process has freed."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def stop_keeping() -> None:
    """Give the memory back that was freed, and large arrays as soon as they are, from here on."""
    global _is_kept
    if not _is_kept:
        return
    _is_kept = False
    library = _glibc()
    library.mallopt(_MMAP_MAX, _FIRST_MMAP_MAX)
    library.mallopt(_MMAP_THRESHOLD, _GROWN_MMAP_THRESHOLD)
    library.mallopt(_TRIM_THRESHOLD, _GROWN_TRIM_THRESHOLD)
    library.malloc_trim(0)


def _is_roomy(needed: int) -> bool:
    return main_memory().free >= ROOM * needed


def _glibc() -> Any:
    """Return the C library of this process, or None if it is another one."""
    try:
        library = ctypes.CDLL(None)
    # Windows has no library of that kind.
    except (OSError, TypeError):
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None
