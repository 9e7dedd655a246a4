"""Arrays that are read region by region, and memory-mapped ones of which little is in memory."""

import mmap
import weakref
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.lib.array_utils import byte_bounds

from napari_synapse_cl.free_memory import main_memory

MAPPED_BYTES = 2**30
"""How much of a memory-mapped file may count as memory of this process, beside what is read."""
MAPPED_AROUND = 2**16
"""Bytes around a place that the system maps with it."""


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
        self._mapped = mapped
        self._n_touched = 0
        self._is_announced = hasattr(mmap, "MADV_WILLNEED") and mapped.nbytes > main_memory().total
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
        pages.madvise(mmap.MADV_WILLNEED, page, place + length - page)


def bounded(mapped: np.memmap) -> Array3D:
    """Return a memory-mapped array of which little counts as memory of this process."""
    return mapped if mapped.nbytes <= MAPPED_BYTES else LargeMappedArray(mapped)
