"""How much memory a process has, what it keeps of what it freed, and what says that it ran out."""

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from napari_synapse_cl.errors import JobError

if sys.platform != "win32":
    import resource

GIB = 2**30
LEAST_ADDRESS_SPACE = 1.5 * GIB
"""In bytes: with fewer PyTorch for CPUs cannot be imported and compute."""
CONTROL_GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

ROOM = 1.5
"""How much more than a computation takes has to be free before it, for memory to be kept."""
# Of <malloc.h>, and what glibc begins with, or comes to by itself where arrays are large
_TRIM_THRESHOLD, _GROWN_TRIM_THRESHOLD = -1, 2**26
_MMAP_THRESHOLD, _GROWN_MMAP_THRESHOLD = -3, 2**25
_MMAP_MAX, _FIRST_MMAP_MAX = -4, 2**16
_NEVER = 2**31 - 1
_is_kept = False
SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "bad_alloc",
    "can't start new thread",
    # oneDNN, which computes convolutions on CPUs
    "could not create a memory object",
    "could not create a primitive",
)
"""How a RuntimeError says that memory has run out, on one device or another."""


class Memory(NamedTuple):
    """In bytes."""

    free: int
    total: int


def main_memory(groups: Path = CONTROL_GROUPS, membership: Path = MEMBERSHIP) -> Memory:
    """Return the memory of this machine, or what a limit leaves this process of it.

    Containers and batch jobs on a cluster are limited by control groups: Linux ends a process that
    takes more than its group may, whatever the machine has. Some schedulers limit the size of a
    process instead.

    Parameters
    ----------
    groups, membership
        Where Linux shows its control groups, and of which this process is a member.

    References
    ----------
    https://docs.kernel.org/admin-guide/cgroup-v2.html and
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
    """
    machine = psutil.virtual_memory()
    free, total = machine.available, machine.total
    for limit, used in _limits(groups, membership):
        free, total = min(free, max(0, limit - used)), min(total, limit)
    own = _limit_of_process()
    if own is not None:
        free = min(free, max(0, own - int(psutil.Process().memory_info().vms)))
        total = min(total, own)
    return Memory(free, total)


def check_address_space() -> None:
    """Check that a limit of this process lets PyTorch be loaded.

    Where it does not, the libraries end in many ways, of which some cannot be caught.

    Raises
    ------
    JobError
        If it is too low.
    """
    limit = _limit_of_process()
    if limit is not None and limit < LEAST_ADDRESS_SPACE:
        raise JobError(
            f"this process may take {limit / 2**20:.0f} MiB of memory (ulimit -v), and PyTorch "
            f"alone takes {LEAST_ADDRESS_SPACE / GIB:.1f} GiB: raise that limit"
        )


def _limit_of_process() -> int | None:
    """Return how many bytes of addresses this process may have, None where that is not limited."""
    if sys.platform != "win32":
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        return None if limit == resource.RLIM_INFINITY else limit
    return None


def _limits(groups: Path, membership: Path) -> Iterator[tuple[int, int]]:
    """Yield the limit of each group that this process is in, and what is used of it."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = groups / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # A group lies within its parents' limits. Inside a container its own folder may be hidden.
        own = root / path.lstrip("/")
        for folder in [own, *own.parents]:
            if folder.is_relative_to(root):
                limit = _read_group(folder, *names)
                if limit is not None:
                    yield limit


def _read_group(
    folder: Path, limit_file: str, usage_file: str, reclaimable: str
) -> tuple[int, int] | None:
    """Return limit and usage, or None where there is no limit."""
    try:
        limit = int((folder / limit_file).read_text(encoding="ascii"))
        usage = int((folder / usage_file).read_text(encoding="ascii"))
        statistics = (folder / "memory.stat").read_text(encoding="ascii").split()
        # Cached files count as used, and are given up when memory is needed.
        cached = int(statistics[statistics.index(reclaimable) + 1])
    # Version 2 writes "max" for no limit.
    except (OSError, ValueError):
        return None
    return limit, usage - cached


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


def is_shortage(error: BaseException) -> bool:
    """Return whether an error says that memory has run out, on whatever device."""
    # PyTorch, whose own error this is by name, is not imported for it.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
