"""Arrays that are read region by region, and memory-mapped ones of which little is in memory."""

import math
import mmap
import operator
import re
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import ArrayLike

from napari_synapse_cl.errors import JobError, without_advice
from napari_synapse_cl.system.memory import main_memory

MAPPED_BYTES = 2**30
"""How much of a memory-mapped file may count as memory of this process, beside what is read."""
MAPPED_AROUND = 2**16
"""Bytes around a place that the system maps with it."""
CAUSE_LENGTH = 200
"""Letters of what a library says about a failure that are shown."""
_WILL_NEED = getattr(mmap, "MADV_WILLNEED", None)
"""Not every system can be told."""
HALF_DECIMALS = 6
"""Digits behind the point, in voxels, by which half a voxel is told from less."""

Region = tuple[slice, slice, slice]


class Array3D(Protocol):
    """What a volume's voxels must offer: numpy, memory-mapped, Zarr and dask arrays do."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along z, y, x."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""

    def __getitem__(self, key: Any) -> Any:
        """Read a region."""


class LargeMappedArray:
    """A memory-mapped file that is mapped anew before too much of it was read.

    What was read through a map counts as memory of the process as long as there is room, its page
    tables even longer, and batch systems end jobs that seem to take too much.

    Of a file that does not fit into the memory, the system is told what will be read. By itself it
    reads around each row of a crop what its disk is set to, which can be megabytes.

    Parameters
    ----------
    mapped
        The file as it was opened for reading.
    """

    def __init__(self, mapped: np.memmap) -> None:
        assert mapped.filename is not None
        self.shape, self.dtype = mapped.shape, mapped.dtype
        self.ndim, self.size = mapped.ndim, mapped.size
        self._mapped = mapped
        self._n_touched = 0
        self._is_announced = _WILL_NEED is not None and mapped.nbytes > main_memory().total
        # Kept open: its name may be another file's one day.
        self._file = open(mapped.filename, "rb", buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return a region, or crops of an array of crops.

        A region is mapped memory as long as it is in use, so it had better be copied.
        """
        if self._n_touched > MAPPED_BYTES:
            self._mapped, self._n_touched = self._map_anew(), 0
        mapped = self._mapped
        region = np.asarray(mapped[key])
        if region.ndim != 3 or not region.size or not np.may_share_memory(region, mapped):
            self._n_touched += region.nbytes
            return region
        along = sorted(zip(map(abs, region.strides), region.shape, strict=True), reverse=True)
        (plane, n_planes), (row, n_rows), (item, n_items) = along
        length = (n_items - 1) * item + region.itemsize
        if row > MAPPED_AROUND:
            self._n_touched += n_planes * n_rows * (length + MAPPED_AROUND)
            return region
        # Rows that are near each other are mapped, and read, with what is between them.
        length += (n_rows - 1) * row
        self._n_touched += n_planes * (length + MAPPED_AROUND)
        if self._is_announced:
            start = byte_bounds(region)[0] - byte_bounds(mapped)[0]
            _announce(mapped, range(start, start + n_planes * plane, plane), length)
        return region

    def _map_anew(self) -> np.memmap:
        """Return another map; the one before ends with the last region of it that is in use."""
        order: Any = "C" if self._mapped.flags.c_contiguous else "F"
        file: Any = self._file
        return np.memmap(file, self.dtype, "r", self._mapped.offset, self.shape, order)


def _announce(mapped: np.memmap, starts: Iterable[int], length: int) -> None:
    """Have some bytes of a map read, at distances from its first element."""
    pages: Any = mapped.base
    # A map begins where a page does, before the element.
    before = mapped.offset % mmap.ALLOCATIONGRANULARITY
    for start in starts:
        place = before + start
        page = place - place % mmap.PAGESIZE
        pages.madvise(_WILL_NEED, page, place + length - page)


def bounded(mapped: np.memmap) -> Array3D:
    """Return a memory-mapped array of which little counts as memory of this process."""
    return mapped if mapped.nbytes <= MAPPED_BYTES else LargeMappedArray(mapped)


class ReadArray:
    """Voxels that a library reads region by region, safely from several threads.

    Parameters
    ----------
    shape
        Size along z, y, x.
    read
        Returns the region between three slices that lie inside, in any memory order.
    name
        How to call the volume in messages.
    is_remote
        Whether it is read from a server.
    chunk
        Size along z, y, x of the chunks that it is stored in, None where there are none.
    """

    ndim = 3

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        read: Callable[[Region], np.ndarray],
        name: str,
        is_remote: bool = False,
        chunk: tuple[int, ...] | None = None,
    ) -> None:
        self.shape, self.dtype, self.chunk = shape, dtype, chunk
        self.size = math.prod(shape)
        self._read = read
        self._name = name
        self._cause = (
            "the server may be down" if is_remote else "the file may be damaged or cut off"
        )

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return a region, which integers and slices without a step name.

        Raises
        ------
        JobError
            If it cannot be read.
        """
        region, picked = _region(key, self.shape)
        shape = tuple(along.stop - along.start for along in region)
        if 0 in shape:
            return np.empty(shape, self.dtype)[picked]
        try:
            voxels = np.asarray(self._read(region))
            if voxels.shape != shape:
                raise ValueError(f"{voxels.shape} voxels were read and not {shape}")
        except (JobError, MemoryError):
            raise
        # Libraries raise a wide range of types, and the cause is the same.
        except Exception as error:
            place = ", ".join(f"{along.start}:{along.stop}" for along in region)
            raise JobError(
                f"{self._name} could not be read at z, y, x = {place}: {first_line(error)}; "
                f"{self._cause}"
            ) from error
        return voxels[picked]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def whole_key(key: Any, ndim: int) -> tuple[Any, ...]:
    """Return a key of an array with an index or a slice for each of its axes.

    Raises
    ------
    IndexError
        If it has more.
    """
    keys = key if isinstance(key, tuple) else (key,)
    place = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
    before, after = keys[:place], keys[place + 1 :]
    n_left = ndim - len(before) - len(after)
    if n_left < 0:
        raise IndexError(f"{len(before + after)} indices for an array of {ndim} axes")
    return (*before, *(slice(None),) * n_left, *after)


def _region(key: Any, shape: tuple[int, ...]) -> tuple[Region, tuple[Any, ...]]:
    """Return the slices that a key stands for, and the key that leaves out axes of integers."""
    region: list[slice] = []
    picked: list[Any] = []
    for k, n in zip(whole_key(key, len(shape)), shape, strict=True):
        if isinstance(k, slice):
            start, stop, step = k.indices(n)
            if step != 1:
                raise IndexError("only whole regions of a volume can be read, without a step")
            region.append(slice(start, max(start, stop)))
            picked.append(slice(None))
            continue
        index = operator.index(k)
        if not -n <= index < n:
            raise IndexError(f"index {index} is out of bounds for an axis of {n} voxels")
        region.append(slice(index % n, index % n + 1))
        picked.append(0)
    z, y, x = region
    return (z, y, x), tuple(picked)


def nearest_voxel(positions: ArrayLike) -> np.ndarray:
    """Return the voxels that positions lie in, where voxel 0 has its centre at 0.

    Voxel i reaches from i − 0.5, which belongs to it, to i + 0.5, which belongs to the next: half a
    voxel goes up everywhere. Rounded to even numbers, places a voxel apart would come to lie in one
    voxel or two apart.

    Parameters
    ----------
    positions
        In voxels, of any shape; NaN stays NaN.

    Returns
    -------
    numpy.ndarray
        float64 whole numbers of the same shape.
    """
    # What conversions leave of half a voxel may be a hair less.
    return np.floor(np.round(np.asarray(positions, dtype=float), HALF_DECIMALS) + 0.5)


def first_line(error: BaseException) -> str:
    """Return what a library says about a failure, in one short line."""
    text = without_advice((str(error).strip().splitlines() or [type(error).__name__])[0])
    # What tensorstore adds for its developers.
    text = re.split(r" \[(?:tensorstore_spec|source locations|kvstore|http_response)", text)[0]
    return text if len(text) <= CAUSE_LENGTH else f"{text[:CAUSE_LENGTH]} …"
