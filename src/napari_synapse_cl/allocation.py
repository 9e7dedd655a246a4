"""Keep memory that was freed for what is computed next.

glibc gives every array above 32 MiB back to the system when it is freed, and the system fills the
pages of the next one with zeros before it can be written. Feature maps are that large, and on some
machines a fifth of a training step goes into it.
"""

import ctypes
from typing import Any

# Of <malloc.h>
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep what this process frees from here on, for its next arrays; return whether that is done.

    Only glibc, the C library of most Linux systems, has to be told. Its memory stays as large as it
    was at most; :func:`return_freed_memory` gives back what is free.
    """
    library = _glibc()
    return bool(
        library is not None
        and library.mallopt(_MMAP_MAX, 0)
        and library.mallopt(_TRIM_THRESHOLD, _NEVER)
    )


def return_freed_memory() -> None:
    """Give the memory back to the system that this process has freed."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> Any:
    """Return the C library of this process, or None if it is another one."""
    try:
        library = ctypes.CDLL(None)
    # Windows has no library of that kind.
    except (OSError, TypeError):
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None
