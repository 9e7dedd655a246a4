"""How much memory there is for a process, and how much of it is free."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

if sys.platform != "win32":
    import resource

CONTROL_GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


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
    if sys.platform != "win32":
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free = min(free, max(0, limit - int(psutil.Process().memory_info().vms)))
            total = min(total, limit)
    return Memory(free, total)


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
