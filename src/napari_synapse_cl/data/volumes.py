"""Open EM volumes as lazy 3D arrays."""

import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import zarr

from napari_synapse_cl.data.arrays import Array3D, bounded
from napari_synapse_cl.errors import InputError

TIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class Volume:
    """An EM volume that is read region by region.

    Attributes
    ----------
    array
        ``(Z, Y, X)`` grey values of any integer or floating type.
    name
        How to call it in messages.
    location
        Path or URL that it can be opened from again, or None for an array in memory.
    voxel_size
        Along z, y, x in nm as its file tells, or None where that does not.
    offset
        Coordinates of its first voxel along z, y, x, in its voxels.
    factor
        How many voxels of the finest level make one of this along z, y, x, in a multiscale volume.
    """

    array: Array3D
    name: str = "volume"
    location: str | None = None
    voxel_size: tuple[float, float, float] | None = None
    offset: tuple[int, int, int] = (0, 0, 0)
    factor: tuple[float, float, float] = (1.0, 1.0, 1.0)

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
    return Volume(array, name=path.name, location=str(path))


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
