"""Label volumes, read in the voxels of the image that they belong to."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import VoxelSize, size


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
        """Return the labels of a crop, 0 where it reaches beyond the label volume.

        Parameters
        ----------
        centre
            z, y, x of the image's voxel at index ``shape // 2`` of the crop.
        shape
            Size of the crop along z, y, x in voxels of the image.

        Returns
        -------
        numpy.ndarray
            ``(D, H, W)`` integers: of each voxel of the image the label at its centre.
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
    labels, image
        The volumes.
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
