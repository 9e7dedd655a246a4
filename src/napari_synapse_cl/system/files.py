"""Write files so that a reader finds the old one or the new one, never a part; and read them.

Whatever is wrong with a file of JSON or YAML, whoever wrote it or damaged it, is a
:class:`ValueError` of one line.
"""

import hashlib
import json
import os
import re
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_synapse_cl.errors import reason
from napari_synapse_cl.system.words import storage

if TYPE_CHECKING:
    from yaml import Node

RENAME_ATTEMPTS = 10
RENAME_WAIT_SECONDS = 0.02
LARGEST_SMALL, SWELLING = 2**26, 100
"""Bytes that any archive may unpack to; with more it may not be so many times its own size."""
DEFLATE_RATIO = 1032
"""As many bytes can zlib make of one."""
HARMLESS_BYTES = 2**28
HEAD_BYTES = 2**16
LONGEST_NAME = 100
"""In bytes, of a name that is made; file systems take 255 with all that is put around it."""

_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE
)
"""Names that Windows keeps for devices, whatever follows them behind a dot."""

MOST_NODES = 1_000_000
"""Values that a YAML file may stand for: a few lines of aliases can name billions."""
_TOO_DEEP = "its values are nested too deeply"


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
        The archive; any other file passes.
    most
        Bytes that it may unpack to in any case.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it unpacks to more, or to many times its size.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as packed:
        unpacked = sum(entry.file_size for entry in packed.infolist())
    check_swelling(unpacked, path, most)


def check_swelling(unpacked: int, path: Path, most: float = inf) -> None:
    """Check that a file does not unpack to fill the memory.

    Parameters
    ----------
    unpacked
        Bytes that it says it unpacks to.
    most
        Bytes that it may unpack to in any case.

    Raises
    ------
    OSError
        If its size cannot be read.
    ValueError
        If it unpacks to more, or to many times its size.
    """
    if unpacked > min(most, max(LARGEST_SMALL, SWELLING * path.stat().st_size)):
        raise ValueError(f"it unpacks to {storage(unpacked)}, more than is read")


def is_harmless(n_packed: int, n_bytes: int) -> bool:
    """Whether so many bytes of zlib data cannot unpack to much more than these bytes."""
    return n_packed * DEFLATE_RATIO <= max(HARMLESS_BYTES, n_bytes)


def inflates_beyond(packed: bytes, n_bytes: int) -> bool:
    """Whether the beginning of zlib data unpacks to more than all are to; damaged ones do not."""
    try:
        return len(zlib.decompressobj().decompress(packed[:HEAD_BYTES], n_bytes + 1)) > n_bytes
    except zlib.error:
        # Whoever reads them says what is wrong.
        return False


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no JSON in UTF-8, names something twice, or is nested too deeply.
    """
    return parse_json(path.read_bytes())


def read_record(path: Path | None) -> dict[str, Any]:
    """Return the object that a JSON file holds; nothing where there is none that can be read."""
    with suppress(OSError, ValueError):
        content = None if path is None else read_json(path)
        return content if isinstance(content, dict) else {}
    return {}


def keep_record(path: Path | None, content: dict[str, Any]) -> None:
    """Write what is to outlive the program; that it cannot is no reason to disturb anyone.

    Parameters
    ----------
    path
        None where there is no place for it.
    """
    if path is not None:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, content)


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds; see :func:`read_json`."""
    if isinstance(text, bytes):
        text = _decoded(text)
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, plain values alone.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no YAML in UTF-8, names something twice, is nested too deeply, or stands for more
        values than memory should be filled with.
    """
    # The window imports this module before anybody asks for a dataset.
    import yaml

    text = _decoded(path.read_bytes())
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _n_values(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {double!r:.100} twice")
    return found


def _n_values(node: "Node", known: dict[int, int]) -> int:
    """Return how many values a node stands for, aliases counted as often as they are named."""
    from yaml import MappingNode, ScalarNode, SequenceNode

    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("one of its values holds itself")
        return known[id(node)]
    # Until it is counted: found again below itself it would have no end.
    known[id(node)] = 0
    inner: list[Node] = []
    if isinstance(node, SequenceNode):
        inner = node.value
    elif isinstance(node, MappingNode):
        inner = [part for pair in node.value for part in pair]
        names = [name.value for name, _ in node.value if isinstance(name, ScalarNode)]
        double = next((n for n in names if n != "<<" and names.count(n) > 1), None)
        if double is not None:
            raise ValueError(f"it names {double!r:.100} twice")
    count = 1 + sum(_n_values(part, known) for part in inner)
    if count > MOST_NODES:
        raise ValueError(f"its aliases stand for more than {MOST_NODES:,} values")
    known[id(node)] = count
    return count
