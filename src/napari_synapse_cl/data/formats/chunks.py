"""Chunks that are there and cannot be read are no missing ones, which hold the fill value.

For tensorstore anything that is no file of the right name is a missing chunk.
"""

import gzip
import os
import re
import threading
import zlib
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from io import BytesIO
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.data.arrays import Region, first_line
from napari_synapse_cl.data.formats.locations import METADATA, Index, names_of
from napari_synapse_cl.data.formats.places import Messages, no_chunks
from napari_synapse_cl.data.formats.tiff_pages import DECODED
from napari_synapse_cl.errors import JobError

Probe = Callable[[list[str]], dict[str, bytes]]
"""Returns those of some files in a folder on a server that exist."""

REMEMBERED = 2**16
"""Chunks of which it is remembered what is there."""
BLOSC_HEADER_BYTES = 16


class Chunks:
    """The chunks of an array.

    Parameters
    ----------
    array
        As tensorstore opened it.
    axes
        Which of its axes are z, y, x.
    location
        Its folder, as it is written in messages.
    folder
        The same on this machine, None on a server.
    probe
        Reads files in the folder on a server.
    """

    def __init__(
        self,
        array: Any,
        axes: tuple[int, int, int],
        location: str,
        folder: Path | None,
        probe: Probe,
    ) -> None:
        self._spec = array.spec().to_json()
        self._names = names_of(array, self._spec)
        self._dtype = np.dtype(array.dtype.numpy_dtype)
        self._array, self._axes = array, axes
        self._location, self._folder, self._probe = location, folder, probe
        fill = array.fill_value
        self._fill = 0 if fill is None else np.asarray(fill).item()
        self._packed_there = lru_cache(REMEMBERED)(self._packed_on_server)
        self._suffixes_in = lru_cache(REMEMBERED)(_suffixes_in)
        self._check_header = lru_cache(REMEMBERED)(self._check_blosc)
        self._lock = threading.Lock()
        self._key = object()

    @cached_property
    def n_bytes(self) -> int:
        """Size in memory of what one file holds."""
        return prod(self._names.shape) * self._dtype.itemsize

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of what one file holds along z, y, x."""
        return tuple(self._steps)

    @property
    def n_bytes_read(self) -> int:
        """Size in memory of the least that is read, which of shards is a part."""
        return prod(self._array.chunk_layout.read_chunk.shape) * self._dtype.itemsize

    def messages(self, name: str) -> Messages:
        """Return what is to be told of them; of a server it is not known which there are."""
        if self._folder is None:
            return ()
        folder = self._folder / self._names.folder
        if _first(folder, lambda entry: entry.name not in METADATA) is not None:
            return ()
        return ((no_chunks(name, self._fill), "warning"),)

    def check(self, region: Region) -> None:
        """Check that chunks of a region do not unpack to far more than they are to hold.

        Raises
        ------
        JobError
            If one does.
        """
        if self._is_blosc and self._folder is not None and self._names.of is not None:
            for numbers in product(*self._numbers(region)):
                self._check_header(numbers)

    def completed(self, voxels: np.ndarray, region: Region) -> np.ndarray:
        """Return a region with what lies where tensorstore does not look for it.

        Parameters
        ----------
        voxels
            Of the region, as tensorstore read it.
        region
            Along z, y, x.

        Raises
        ------
        JobError
            If a chunk is there and cannot be read.
        """
        ranges = self._numbers(region)
        starts = [
            [max(number * step - part.start, 0) for number in numbers]
            for numbers, step, part in zip(ranges, self._steps, region, strict=True)
        ]
        # Nearly always the first voxel of a chunk tells that it was read.
        for numbers, begins in zip(product(*ranges), product(*starts), strict=True):
            first = voxels.item(*begins)
            if first != self._fill and not _is_nan(first):
                continue
            within = [
                max(part.start - number * step, 0)
                for part, number, step in zip(region, numbers, self._steps, strict=True)
            ]
            lengths = [step - n for step, n in zip(self._steps, within, strict=True)]
            part = voxels[_box(begins, lengths)]
            if not (np.isnan(part) if _is_nan(self._fill) else part == self._fill).all():
                continue
            index = self._index(numbers)
            packed = self._packed(index)
            if packed is not None:
                unpack = partial(self._unpacked, index, packed)
                part[...] = DECODED.get((self._key, index), unpack)[_box(within, part.shape)]
        return voxels

    @cached_property
    def _steps(self) -> list[int]:
        """How far chunks are apart along z, y, x."""
        return [self._names.shape[axis] for axis in self._axes]

    def _numbers(self, region: Region) -> list[range]:
        """Return which chunks a region touches along z, y, x."""
        return [
            range(part.start // step, (part.stop - 1) // step + 1)
            for part, step in zip(region, self._steps, strict=True)
        ]

    def _index(self, numbers: Sequence[int]) -> Index:
        index = [0] * self._array.ndim
        for axis, number in zip(self._axes, numbers, strict=True):
            index[axis] = number
        return tuple(index)

    def _packed(self, index: Index) -> Path | bytes | None:
        """Return a chunk that was compressed as a whole, or its file; None of one that is missing.

        Raises
        ------
        JobError
            If something else is in its place.
        """
        name = self._names.of
        if name is None:
            if self._stranger is not None:
                raise self._unreadable(self._stranger, "lies among shards, and is none")
            return None
        if self._folder is None:
            return self._packed_there(index)
        path = self._folder / name(index)
        if path.is_file():
            return None
        for place in (path, *path.parents):
            if place == self._folder:
                break
            if os.path.lexists(place) and (place == path or not place.is_dir()):
                raise self._unreadable(place, "is there, and is no file that can be read")
        elsewhere = [self._folder / other for other in self._names.elsewhere(index)]
        found = next((other for other in elsewhere if os.path.lexists(other)), None)
        if found is not None:
            raise self._unreadable(found, self._is_named_otherwise(name(index)))
        # Some programs compress a chunk as a whole, others leave one that they did not finish.
        for suffix in self._suffixes_in(path.parent):
            packed = path.with_name(path.name + suffix)
            if os.path.lexists(packed):
                self._check_suffix(packed, suffix)
                return packed
        return None

    def _packed_on_server(self, index: Index) -> bytes | None:
        assert self._names.of is not None
        name, elsewhere = self._names.of(index), self._names.elsewhere(index)
        suffixes = {name + suffix: suffix for suffix in self._names.suffixes}
        found = self._probe([*suffixes, *elsewhere])
        for other, content in found.items():
            if other in elsewhere:
                raise self._unreadable(other, self._is_named_otherwise(name))
            self._check_suffix(other, suffixes[other])
            return content
        return None

    def _check_suffix(self, file: Path | str, suffix: str) -> None:
        if suffix not in self._names.suffixes[:1]:
            raise self._unreadable(
                file,
                "lies in the place of a chunk, in a form that cannot be read here; save the "
                "volume with chunks without a suffix"
                + (", or ending in .gz" if self._names.suffixes else ""),
            )

    @cached_property
    def _stranger(self) -> Path | None:
        """What lies among shards and is none, if there is anything."""
        if self._folder is None:
            return None
        return _first(
            self._folder / self._names.folder,
            lambda entry: not (entry.is_file() and re.fullmatch(r"[0-9a-f]+\.shard", entry.name)),
        )

    @cached_property
    def _is_blosc(self) -> bool:
        metadata = self._spec.get("metadata", {})
        kinds = [metadata.get("compressor"), metadata.get("compression")]
        names = {kind.get("id", kind.get("type")) for kind in kinds if isinstance(kind, dict)}
        return "blosc" in names | {codec["name"] for codec in metadata.get("codecs", ())}

    def _check_blosc(self, numbers: tuple[int, ...]) -> None:
        assert self._folder is not None
        assert self._names.of is not None
        file = self._folder / self._names.of(self._index(numbers))
        if not file.is_file():
            return
        # Blocks of N5 have a header of their own before it.
        before = 4 + 4 * self._array.ndim if self._spec["driver"] == "n5" else 0
        with file.open("rb") as opened:
            opened.seek(before)
            header = opened.read(BLOSC_HEADER_BYTES)
        unpacked = int.from_bytes(header[4:8], "little")
        if len(header) == BLOSC_HEADER_BYTES and unpacked > self.n_bytes:
            raise self._unreadable(file, _too_much(self.n_bytes))

    def _unpacked(self, index: Index, packed: Path | bytes) -> np.ndarray:
        """Return a chunk ``(Z, Y, X)`` of a file that was compressed as a whole."""
        assert self._names.of is not None
        name = self._names.of(index)
        # Most encodings make less of it, and none much more.
        limit = 2 * self.n_bytes + 2**20
        try:
            with BytesIO(packed) if isinstance(packed, bytes) else packed.open("rb") as file:
                content = gzip.GzipFile(fileobj=file).read(limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise self._unreadable(f"{name}.gz", f"is damaged: {first_line(error)}") from None
        if len(content) > limit:
            raise self._unreadable(f"{name}.gz", _too_much(self.n_bytes))
        volume, store = self._memory
        along = zip(index, self._names.shape, self._array.domain, strict=True)
        key = tuple(
            slice(
                part.inclusive_min + i * n, min(part.inclusive_min + i * n + n, part.exclusive_max)
            )
            for i, n, part in along
        )
        with self._lock:
            store[name] = content
            try:
                chunk = np.asarray(volume[key].read().result())
            except ValueError as error:
                raise self._unreadable(f"{name}.gz", f"is damaged: {first_line(error)}") from None
            finally:
                del store[name]
        others = [axis for axis in range(chunk.ndim) if axis not in self._axes]
        return np.squeeze(chunk.transpose([*self._axes, *others]), tuple(range(3, chunk.ndim)))

    @cached_property
    def _memory(self) -> tuple[Any, Any]:
        """An array of the same metadata in memory, where one chunk at a time is decoded."""
        import tensorstore

        place, context = {"driver": "memory", "path": "v/"}, tensorstore.Context()
        spec = {**self._spec, "kvstore": place, "create": True, "open": True}
        spec.pop("transform", None)
        volume = tensorstore.open(spec, context=context).result()
        return volume, tensorstore.KvStore.open(place, context=context).result()

    @staticmethod
    def _is_named_otherwise(name: str) -> str:
        return (
            f"lies where the metadata have {name}: its chunks are named otherwise than the "
            "metadata say (dimension_separator); correct these"
        )

    def _unreadable(self, file: Path | str, why: str) -> JobError:
        shown = file if isinstance(file, Path) else f"{self._location}/{file}"
        return JobError(f"{shown} {why}")


def _box(starts: Sequence[int], lengths: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(starts, lengths, strict=True))


def _is_nan(value: float) -> bool:
    # No other value differs from itself.
    return value != value


def _too_much(n_bytes: int) -> str:
    return f"is damaged: it unpacks to far more than the {n_bytes:,} bytes of a chunk"


def _first(folder: Path, is_wanted: Callable[[os.DirEntry[str]], bool]) -> Path | None:
    """Return something in a folder that is wanted, None if there is nothing."""
    try:
        with os.scandir(folder) as entries:
            return next((Path(entry.path) for entry in entries if is_wanted(entry)), None)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _suffixes_in(folder: Path) -> tuple[str, ...]:
    """Return what stands behind the names of chunks in a folder."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    found = (re.fullmatch(r"[\d._-]*\d(\D.*)", name) for name in names)
    return tuple(sorted({match[1] for match in found if match is not None}))
