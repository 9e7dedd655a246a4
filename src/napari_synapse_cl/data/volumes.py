"""Open EM volumes as lazy 3D arrays, and label volumes in the voxels of an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from napari_synapse_cl.data.arrays import Array3D, bounded, first_line, nearest_voxel
from napari_synapse_cl.data.formats import hdf5, mrc, tiff
from napari_synapse_cl.data.formats.chunked import open_chunked
from napari_synapse_cl.data.formats.locations import Location, parse, split_file
from napari_synapse_cl.data.formats.places import Found, Messages
from napari_synapse_cl.data.formats.slices import open_slices, slice_files
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.files import encodable
from napari_synapse_cl.system.words import VoxelSize, size, triple

FILE_SUFFIXES = (*tiff.SUFFIXES, *mrc.SUFFIXES, *hdf5.SUFFIXES, ".npy")
REMOTE_FORMATS = "Zarr, OME-Zarr, N5 and neuroglancer precomputed"
ALL_FORMATS = (
    "TIFF stacks (.tif), folders of numbered slices (.tif, .png, .jpg), .npy, MRC (.mrc, .rec), "
    f"HDF5 (.h5), {REMOTE_FORMATS}"
)


@dataclass(frozen=True)
class Volume:
    """An EM volume that is read region by region."""

    array: Array3D
    """``(Z, Y, X)`` grey values of any integer or floating type."""
    name: str = "volume"
    """How to call it in messages."""
    location: str | None = None
    """Path or URL that it can be opened from again, or None for an array in memory."""
    voxel_size: tuple[float, float, float] | None = None
    """Along z, y, x in nm as its file tells, or None where that does not."""
    offset: tuple[int, int, int] = (0, 0, 0)
    """Coordinates of its first voxel along z, y, x, in its voxels."""
    factor: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """How many voxels of the finest level make one of this along z, y, x, in a multiscale
    volume."""
    messages: Messages = ()
    """What to tell of how it was read."""

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.array.shape), self.array.dtype
        if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 16:
            raise InputError(
                f"{self.name} looks like a colour image ({size(shape)}); "
                "a volume of grey values along z, y, x is needed"
            )
        if len(shape) != 3 or min(shape) < 2:
            raise InputError(
                f"{self.name} has the shape {size(shape)}; "
                "a 3D volume of grey values along z, y, x is needed"
            )
        if dtype.kind not in "uif":
            raise InputError(f"{self.name} holds values of type {dtype}; grey values are needed")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size along z, y, x in voxels."""
        return triple(self.array.shape)


def open_volume(
    location: str | Path,
    *,
    voxel_size: Sequence[float] | None = None,
    are_labels: bool = False,
) -> Volume:
    """Open a volume of any of the formats without reading its voxels.

    Parameters
    ----------
    location
        A TIFF stack, a folder of slices, a ``.npy``, MRC or HDF5 file on this machine, or Zarr,
        OME-Zarr, N5 or neuroglancer precomputed on this machine or a server (http, https, gs, s3).
        What is inside a file or a group is named behind it: ``volume.h5/volumes/raw``. A format may
        be named in front: ``precomputed://gs://bucket/volume``.
    voxel_size
        Along z, y, x in nm that it is wanted for: of a multiscale volume the coarsest level is
        opened that is not coarser along any axis. Without it, or if none is so fine, the finest.
    are_labels
        Whether it holds labels. Grey values of images are those that are shown: where 0 is white
        they are inverted, and colours of palettes become grey. Labels are numbers, and stay as
        they are stored.

    Raises
    ------
    InputError
        If there is none, its format is not one of these, it is damaged, or it holds no 3D grey
        values or several volumes.
    """
    place = parse(location)
    try:
        found = _find(place, voxel_size, are_labels)
    except InputError:
        raise
    # The libraries raise a wide range of types on a damaged file, and the cause is the same.
    except Exception as error:
        raise InputError(f"{place.text} cannot be read as a volume: {first_line(error)}") from error
    return Volume(
        found.array,
        place.name,
        found.location or place.text,
        found.voxel_size,
        found.offset,
        found.factor,
        found.messages,
    )


def _find(place: Location, voxel_size: Sequence[float] | None, are_labels: bool) -> Found:
    path = Path(place.base)
    file = None if place.is_remote else split_file(path)
    if file is not None and place.format is None:
        return _open_file(*file, place, are_labels)
    if file is None and (place.is_remote or path.is_dir()):
        if place.base != encodable(place.base):
            raise InputError(f"the name of the folder {place.text} is not in UTF-8: rename it")
        found = open_chunked(place, voxel_size)
        if found is not None:
            return found
        if not place.is_remote and place.format is None and slice_files(path):
            return open_slices(path, are_labels=are_labels)
    elif file is None:
        raise InputError(f"there is no volume {place.text}")
    if place.is_remote and path.suffix.lower() in FILE_SUFFIXES:
        raise InputError(
            f"{place.text} is a file on a server, of which no part can be read; download it, or "
            f"use {REMOTE_FORMATS}"
        )
    if place.is_remote:
        raise InputError(f"there is no volume {place.text}; from servers {REMOTE_FORMATS} are read")
    if place.format is not None:
        raise InputError(f"there is no {place.format} volume in {place.base}")
    raise InputError(f"{place.text} is no volume that can be opened: {ALL_FORMATS} can")


def _open_file(file: Path, inner: str, place: Location, are_labels: bool) -> Found:
    suffix = file.suffix.lower()
    if suffix in hdf5.SUFFIXES:
        return hdf5.open_hdf5(file, inner, place.name)
    if inner:
        raise InputError(f"there is no volume {place.text}: {file} is a file")
    if suffix in tiff.SUFFIXES:
        return tiff.open_tiff(file, are_labels=are_labels)
    if suffix in mrc.SUFFIXES:
        return mrc.open_mrc(file)
    if suffix == ".npy":
        return Found(bounded(np.load(file, mmap_mode="r", allow_pickle=False)))
    raise InputError(f"{file} is no volume that can be opened: {ALL_FORMATS} can")


class AlignedLabels:
    """A label volume over the same place as an image, at its own resolution.

    Parameters
    ----------
    labels
        Integers.
    scale
        Voxels of the label volume in one of the image, along z, y, x.
    start
        Where the corner of the image's first voxel lies, in voxels of the label volume, from the
        corner of its first.

    Raises
    ------
    InputError
        If it holds no integers.
    """

    def __init__(
        self, labels: Volume, scale: ArrayLike = (1, 1, 1), start: ArrayLike = (0, 0, 0)
    ) -> None:
        if labels.array.dtype.kind not in "uib":
            raise InputError(
                f"{labels.name} holds values of type {labels.array.dtype}; labels are integers"
            )
        self.volume = labels
        self.scale = np.asarray(scale, dtype=float)
        self.start = np.asarray(start, dtype=float)

    @property
    def is_aligned(self) -> bool:
        """Whether its voxels are those of the image."""
        return bool(np.allclose(self.scale, 1) and np.allclose(self.start, 0))

    def cut(self, centre: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        """Return the ``(D, H, W)`` labels at the centres of a crop's voxels, 0 beyond the volume.

        Parameters
        ----------
        centre
            z, y, x of the image's voxel at index ``shape // 2`` of the crop.
        shape
            Size of the crop along z, y, x in voxels of the image.
        """
        slices, picks, inside = [], [], []
        for axis, (c, want) in enumerate(zip(centre, shape, strict=True)):
            index = self._index(np.arange(want) + c - want // 2, axis)
            n = self.volume.shape[axis]
            inside.append((index >= 0) & (index < n))
            index = index.clip(0, n - 1)
            slices.append(slice(int(index.min()), int(index.max()) + 1))
            picks.append(index - index.min())
        region = np.asarray(self.volume.array[tuple(slices)])
        crop = region[np.ix_(*picks)]
        if not all(along.all() for along in inside):
            z, y, x = inside
            crop[~(z[:, None, None] & y[:, None] & x)] = 0
        return crop

    def at(self, voxel: ArrayLike) -> int:
        """Return the label at a voxel of the image, 0 outside of the label volume or for NaN."""
        nearest = nearest_voxel(voxel)
        if not np.isfinite(nearest).all():
            return 0
        index = [int(self._index(nearest[axis], axis)) for axis in range(3)]
        if any(not 0 <= i < n for i, n in zip(index, self.volume.shape, strict=True)):
            return 0
        z, y, x = index
        return int(np.asarray(self.volume.array[z : z + 1, y : y + 1, x : x + 1])[0, 0, 0])

    def _index(self, voxels: np.ndarray, axis: int) -> np.ndarray:
        """Return the label volume's voxel in which the centre of each of the image's lies."""
        return np.floor((voxels + 0.5) * self.scale[axis] + self.start[axis]).astype(np.int64)


def aligned(
    labels: Volume, image: Volume, label_size: VoxelSize | None, image_size: VoxelSize | None
) -> AlignedLabels:
    """Return a label volume in its place over an image.

    Parameters
    ----------
    label_size, image_size
        Voxel sizes along z, y, x in nm, or None where they are not known; then the image must have
        a whole number of times as many voxels along each axis.

    Raises
    ------
    InputError
        If its size is another and voxel sizes do not explain that, or it holds no integers.
    """
    if labels.shape == image.shape:
        return AlignedLabels(labels)
    factor = np.array(image.factor)
    if label_size is None and (factor != 1).any() and _is_as_large(labels, image, factor):
        # They are of the finest level, while a coarser one of the image was chosen.
        return AlignedLabels(labels, factor)
    coarser = np.round(np.array(image.shape) / np.array(labels.shape))
    unknown = label_size is None or image_size is None
    if unknown and (coarser >= 1).all() and _is_as_large(labels, image, 1 / coarser):
        # Each of their voxels covers a whole number of the image's.
        return AlignedLabels(labels, 1 / coarser)
    if label_size is None or image_size is None:
        raise InputError(
            f"{labels.name} has {size(labels.shape)} voxels, and {image.name} has "
            f"{size(image.shape)}: labels of another resolution need the voxel sizes of both: "
            "that of the image in its file or as voxel_size, and that of the labels in theirs"
        )
    scale = np.array(image_size) / np.array(label_size)
    # Not all formats can tell where labels begin.
    if not any(labels.offset) and _is_as_large(labels, image, scale):
        return AlignedLabels(labels, scale)
    return AlignedLabels(labels, scale, np.array(image.offset) * scale - np.array(labels.offset))


def _is_as_large(labels: Volume, image: Volume, scale: np.ndarray) -> bool:
    """Whether a label volume is as large as an image, but for less than a voxel."""
    beyond = np.abs(np.array(labels.shape) - np.array(image.shape) * scale)
    return bool((beyond < np.maximum(scale, 1) - 1e-6).all())
