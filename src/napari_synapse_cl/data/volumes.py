"""Open EM volumes as lazy 3D arrays."""

import mmap
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
import zarr
from numpy.lib.array_utils import byte_bounds

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.free_memory import main_memory

TIFF_SUFFIXES = (".tif", ".tiff")
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


@dataclass(frozen=True)
class Volume:
    """An EM volume that is read region by region.

    Attributes
    ----------
    array
        ``(Z, Y, X)`` grey values of any integer or floating type.
    name
        How to call it in messages.
    path
        The file it can be opened from again, or None for an array in memory.
    """

    array: Array3D
    name: str = "volume"
    path: Path | None = None

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.array.shape), self.array.dtype
        if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 16:
            raise InputError(
                f"{self.name} looks like a colour image ({_size(shape)}); "
                "a volume of grey values along z, y, x is needed"
            )
        if len(shape) != 3 or min(shape) < 2:
            raise InputError(
                f"{self.name} has the shape {_size(shape)}; "
                "a 3D volume of grey values along z, y, x is needed"
            )
        if dtype.kind not in "uif":
            raise InputError(f"{self.name} holds values of type {dtype}; grey values are needed")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size along z, y, x in voxels."""
        z, y, x = self.array.shape
        return (z, y, x)


def open_volume(path: Path) -> Volume:
    """Open a TIFF stack, a ``.npy`` file or a Zarr array without reading its voxels.

    Uncompressed TIFF and ``.npy`` files are memory-mapped; compressed TIFF is read page by page.

    Parameters
    ----------
    path
        The file, or the folder of a Zarr array.

    Raises
    ------
    InputError
        If there is no such file, its format is not one of these, or it holds no 3D grey values.
    """
    if not path.exists():
        raise InputError(f"there is no volume {path}")
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        opener = _open_tiff
    elif suffix == ".npy":
        opener = _open_npy
    elif path.is_dir():
        opener = _open_zarr
    else:
        raise InputError(
            f"{path} is no volume that can be opened: TIFF stacks (.tif), .npy and Zarr can"
        )
    try:
        array = opener(path)
    except InputError:
        raise
    # The three libraries raise a wide range of types on a damaged file, and the cause is the same.
    except Exception as error:
        raise InputError(f"{path} cannot be read as a volume: {error}") from error
    return Volume(array, name=path.name, path=path)


def intensity_range(volume: Volume) -> tuple[float, float]:
    """Return the values that become 0 and 1.

    The range of the type for integers. For floating types 0 and 1 if a sample of the voxels lies
    within, else the lowest and highest value of that sample.

    Raises
    ------
    InputError
        If the sample holds no finite value, or a single one.
    """
    dtype = volume.array.dtype
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        return float(info.min), float(info.max)
    low, high = np.inf, -np.inf
    for block in sample_blocks(volume):
        finite = block[np.isfinite(block)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if not low < high:
        raise InputError(f"{volume.name} has no contrast: a sample of it holds one value or none")
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def sample_blocks(volume: Volume) -> Iterator[np.ndarray]:
    """Yield blocks of up to 32³ voxels, spread evenly over the volume."""
    starts = [
        np.unique(np.linspace(0, max(n - 32, 0), min(4, -(-n // 32))).astype(int))
        for n in volume.shape
    ]
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                yield np.asarray(volume.array[z : z + 32, y : y + 32, x : x + 32])


def _open_tiff(path: Path) -> Array3D:
    try:
        return bounded(tifffile.memmap(path, mode="r"))
    except ValueError:
        store = tifffile.imread(path, aszarr=True)
        array = zarr.open_array(store, mode="r")
        # Neither closes the file by itself.
        weakref.finalize(array, store.close)
        return array


def _open_npy(path: Path) -> Array3D:
    return bounded(np.load(path, mmap_mode="r", allow_pickle=False))


def _open_zarr(path: Path) -> Array3D:
    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        return node
    names = sorted(name for name, _ in node.arrays())
    if len(names) != 1:
        found = ", ".join(names) if names else "no array"
        raise InputError(f"{path} holds {found}; name one array inside it, as in {path}/NAME")
    return node[names[0]]


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(str(n) for n in shape)
