"""Which files a process holds, and what Windows does not let it do with them."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def held(file: Path) -> bool:
    """Whether this process has a file open or mapped."""
    path = os.path.realpath(file)
    opened = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            opened.add(os.readlink(descriptor))
        except OSError:
            continue
    maps = Path("/proc/self/maps").read_text().splitlines()
    return path in opened or any(line.endswith(f" {path}") for line in maps)


def hold_as_windows_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is removed, renamed or replaced as long as it is open or mapped, but for locks."""

    def guarded(change: Callable[..., None]) -> Callable[..., None]:
        def refused(*paths: Any, **options: Any) -> None:
            for path in map(Path, paths):
                if path.suffix != ".lock" and path.is_file() and held(path):
                    raise PermissionError(errno.EACCES, "another process uses it", str(path))
            change(*paths, **options)

        return refused

    for name in ("unlink", "remove", "rename", "replace"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    monkeypatch.setattr(shutil, "_use_fd_functions", False)
