"""Where a volume is: paths and URLs, with or without a format; and where its chunks lie in it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from napari_synapse_cl.config import is_url
from napari_synapse_cl.errors import InputError

FORMATS = {
    "precomputed": "precomputed",
    "neuroglancer-precomputed": "precomputed",
    "zarr": "zarr",
    "zarr2": "zarr2",
    "zarr3": "zarr3",
    "n5": "n5",
}
"""Names of formats before ``://`` or behind ``|``."""
REMOTE = ("http", "https", "gs", "s3")
SUFFIXES = (
    *(".tif", ".tiff", ".btf", ".npy", ".mrc", ".rec", ".st", ".map", ".mrcs"),
    *(".h5", ".hdf5", ".hdf", ".he5", ".zarr", ".n5"),
)
METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", "attributes.json", "info")
"""Names of the documents that tell what a folder of chunks is."""
ENCLOSING = 4
"""How many folders around an array are searched for metadata about it."""


@dataclass(frozen=True)
class Location:
    """A path or a URL, and the format that is expected there."""

    base: str
    """A path of this machine or a URL of a server, without a slash at its end."""
    format: str | None = None
    """A value of :data:`FORMATS`, or None where it is to be found out."""

    @property
    def is_remote(self) -> bool:
        """Whether it is on a server."""
        return is_url(self.base)

    @property
    def text(self) -> str:
        """The location as it is written."""
        return self.base if self.format is None else f"{self.format}://{self.base}"

    @property
    def name(self) -> str:
        """Name from the file or folder that a format's suffix marks, else the last part."""
        path = urlsplit(self.base).path if self.is_remote else self.base
        parts = PurePosixPath(Path(path).as_posix()).parts or (self.base,)
        marked = [i for i, part in enumerate(parts) if part.lower().endswith(SUFFIXES)]
        return "/".join(parts[marked[-1] :] if marked else parts[-1:])

    def inside(self, path: str) -> "Location":
        """Return the location of something inside it."""
        if not path.strip("/"):
            return self
        before, mark, query = self.base.partition("?") if self.is_remote else (self.base, "", "")
        return replace(self, base=f"{before.rstrip('/')}/{path.strip('/')}{mark}{query}")

    def enclosing(self) -> list[tuple["Location", str]]:
        """Return the folders around it, nearest first, and its path in each."""
        before, mark, query = self.base.partition("?") if self.is_remote else (self.base, "", "")
        root, path = "", Path(before).as_posix()
        if self.is_remote:
            scheme, _, rest = before.partition("://")
            server, _, path = rest.partition("/")
            root = f"{scheme}://{server}/"
        parts = path.split("/")
        return [
            (
                replace(self, base=f"{root}{'/'.join(parts[:-n])}{mark}{query}"),
                "/".join(parts[-n:]),
            )
            for n in range(1, min(ENCLOSING, len(parts) - (0 if root else 1)) + 1)
        ]


def parse(location: str | Path) -> Location:
    """Return a location, read from its text.

    Parameters
    ----------
    location
        A path, a URL of http, https, gs, s3 or file, ``FORMAT://`` before either, or ``|FORMAT:``
        behind.

    Raises
    ------
    InputError
        If it is another kind of URL.
    """
    text = str(location)
    format_name: str | None = None
    inner = ""
    if re.search(r"\|[a-z0-9-]+:", text):
        text, *stages = text.split("|")
        stage, _, inner = stages[0].partition(":")
        if stage not in FORMATS or len(stages) > 1:
            raise InputError(f"{location} names no format that can be opened: {_known()} can")
        format_name = FORMATS[stage]
    scheme, mark, rest = text.partition("://")
    if mark and scheme in FORMATS:
        format_name, text = FORMATS[scheme], rest
    scheme, mark, _ = text.partition("://")
    if is_url(text) and scheme == "file":
        text = url2pathname(unquote(urlsplit(text).path))
    elif is_url(text) and scheme not in REMOTE:
        raise InputError(
            f"{location} is no URL that can be opened: those of http, https, gs, s3 and file can"
        )
    base = text.rstrip("/") or "/"
    return Location(base, format_name).inside(inner)


def split_file(path: Path) -> tuple[Path, str] | None:
    """Return the file on a path and what is named inside it, or None if there is no file."""
    for file in (path, *path.parents):
        if file.is_file():
            return file, "/".join(path.parts[len(file.parts) :])
    return None


def _known() -> str:
    return ", ".join(FORMATS)


Index = tuple[int, ...]
"""Which chunk along each axis of the array, in its own order."""


@dataclass(frozen=True)
class ChunkNames:
    """How the files of chunks are called."""

    shape: tuple[int, ...]
    """Of what one file holds, along the axes of the array in its own order."""
    of: Callable[[Index], str] | None
    """Returns the path of a chunk's file, or None where shards have names that do not tell what
    they hold."""
    elsewhere: Callable[[Index], list[str]] = lambda _: []
    """Returns where the same chunk would lie by the other ways that the format has."""
    suffixes: tuple[str, ...] = ()
    """What programs put behind the name of a file that they compress as a whole."""
    folder: str = ""
    """What they lie in."""


def names_of(array: Any, spec: dict[str, Any]) -> ChunkNames:
    """Return how the chunks of an array are called.

    Parameters
    ----------
    array
        As tensorstore opened it.
    spec
        What it tells of it.
    """
    shape = tuple(array.chunk_layout.write_chunk.shape)
    driver, metadata = spec["driver"], spec.get("metadata", {})
    if driver == "neuroglancer_precomputed":
        return _precomputed(shape, spec["scale_metadata"])
    if driver == "n5":
        return ChunkNames(shape, lambda index: _joined("", "/", index))
    if driver == "zarr":
        return _zarr(shape, "", metadata.get("dimension_separator", "."))
    encoding = metadata["chunk_key_encoding"]
    is_default = encoding["name"] == "default"
    separator = encoding.get("configuration", {}).get("separator", "/" if is_default else ".")
    return _zarr(shape, "c" if is_default else "", separator)


def _zarr(shape: tuple[int, ...], prefix: str, separator: str) -> ChunkNames:
    ways = [way for way in product(("", "c"), "./") if way != (prefix, separator)]
    return ChunkNames(
        shape,
        lambda index: _joined(prefix, separator, index),
        lambda index: [_joined(*way, index) for way in ways],
    )


def _joined(prefix: str, separator: str, index: Sequence[int]) -> str:
    return separator.join([*([prefix] if prefix else []), *map(str, index)])


def _precomputed(shape: tuple[int, ...], scale: dict[str, Any]) -> ChunkNames:
    folder = scale["key"]
    if scale.get("sharding") is not None:
        return ChunkNames(shape, None, folder=folder)
    offset, size = scale.get("voxel_offset", (0, 0, 0)), scale["size"]

    def name(index: Index) -> str:
        # The last axis is that of channels, which lie in one chunk.
        along = zip(index[:3], shape[:3], offset, size, strict=True)
        parts = [
            f"{start + i * step}-{start + min((i + 1) * step, n)}" for i, step, start, n in along
        ]
        return f"{folder}/{'_'.join(parts)}"

    return ChunkNames(shape, name, suffixes=(".gz", ".br", ".zstd"), folder=folder)
