"""Where the chunks of an array lie in its folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

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
