"""Write files so that a reader finds the old one or the new one, never a part of one."""

import json
import os
import re
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_synapse_cl.errors import reason

RENAME_ATTEMPTS = 10
RENAME_WAIT_SECONDS = 0.02
LARGEST_SMALL, SWELLING = 2**26, 100
"""Bytes that any archive may unpack to; with more it may not be so many times its own size."""
LONGEST_NAME = 100
"""In bytes, of a name that is made; file systems take 255 with all that is put around it."""

_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE
)
"""Names that Windows keeps for devices, whatever follows them behind a dot."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it becomes `path` in one step.

    Parameters
    ----------
    path
        The file to write. Its folder must exist.

    Yields
    ------
    Path
        The temporary file to write to. It is removed if the block raises, and `path` is then
        left as it was.
    """
    # The suffix stays last: some writers choose a format, or add a suffix, by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        _replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial(path: Path) -> None:
    """Remove temporary files of processes that were killed while they wrote `path`."""
    for temporary in path.parent.glob(f".{path.stem}.*.partial{path.suffix}"):
        temporary.unlink(missing_ok=True)


def _replace(source: Path, target: Path) -> None:
    """Rename a file over another, which Windows refuses while someone reads that one."""
    for _ in range(RENAME_ATTEMPTS - 1):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(RENAME_WAIT_SECONDS)
    os.replace(source, target)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path` as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def create_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap:
    """Create a ``.npy`` file of zeros, memory-mapped for reading and writing.

    Raises
    ------
    OSError
        If the disk has no room for it.
    """
    created = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    # A memory map of a sparse file kills the process when the disk turns out to be full.
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return created


def open_array(path: Path, mode: Literal["r", "r+"]) -> np.memmap:
    """Map a ``.npy`` file into memory.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is none, or damaged.
    """
    try:
        found = np.load(path, mmap_mode=mode, allow_pickle=False)
    except OSError:
        raise
    # NumPy parses what its header says as Python, which fails in many ways.
    except Exception as error:
        raise ValueError(f"{path.name} is damaged: {reason(error)}") from None
    if not isinstance(found, np.memmap):
        raise ValueError(f"{path.name} is no array")
    return found


def check_unpacked(path: Path, most: float = inf) -> None:
    """Check that a zip archive, such as ``.npz`` or ``.xlsx``, does not unpack to fill the memory.

    Parameters
    ----------
    path
        The archive.
    most
        Bytes that it may unpack to in any case.

    Raises
    ------
    OSError, zipfile.BadZipFile
        If it cannot be read.
    ValueError
        If it unpacks to more, or to many times its size.
    """
    with zipfile.ZipFile(path) as packed:
        unpacked = sum(entry.file_size for entry in packed.infolist())
    if unpacked > min(most, max(LARGEST_SMALL, SWELLING * path.stat().st_size)):
        raise ValueError(f"it unpacks to {unpacked / 2**30:.1f} GiB, more than is read")


def new_folder_name(parent: Path) -> Path:
    """Return a name for a new folder in `parent`, made of the date and time."""
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    candidates = (parent / (name + suffix) for suffix in ("", *(f"_{i}" for i in range(2, 1000))))
    return next(path for path in candidates if not path.exists())


def safe_name(text: str) -> str:
    """Return a file name, without its suffix, that every system takes, as near a text as can be.

    What a name cannot hold becomes _; a long one is cut.
    """
    printable = "".join(character if character.isprintable() else "_" for character in text)
    name = re.sub(r'[<>:"/\\|?*]', "_", printable)
    name = shortened(name, LONGEST_NAME).strip(" .")
    return f"_{name}" if not name or _RESERVED.fullmatch(name) else name


def shortened(text: str, n_bytes: int) -> str:
    """Return as much of the beginning of a text as takes this many bytes in UTF-8."""
    return text.encode("utf-8", "replace")[:n_bytes].decode("utf-8", "ignore")


def encodable(text: str) -> str:
    """Return a text with escapes for what no encoding takes: parts of names that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
