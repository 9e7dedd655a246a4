"""Levels of multiscale volumes, as napari reads them: a box first, and then one slice of it."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from napari_synapse_cl.data.arrays import Array3D


class LevelArray:
    """An array of which a box, taken with slices alone, is read when it is asked for its values.

    napari cuts what is in sight out of a level along two axes, and then takes a slice of that. Read
    at once, the first would be all slices of the volume.

    Parameters
    ----------
    array
        ``(Z, Y, X)``.
    along
        The box in it, as the indices along z, y, x; without it the whole array.
    """

    ndim = 3

    def __init__(self, array: Array3D, along: Sequence[range] | None = None) -> None:
        self._array = array
        self._along = tuple(along or (range(n) for n in array.shape))
        self.dtype = array.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size along z, y, x."""
        z, y, x = (len(indices) for indices in self._along)
        return (z, y, x)

    @property
    def size(self) -> int:
        """Number of voxels."""
        z, y, x = self.shape
        return z * y * x

    def __getitem__(self, key: Any) -> Self | np.ndarray:
        """Return a box, unread, or read the slice, row or voxel that integers name."""
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            place = keys.index(Ellipsis)
            filling = (slice(None),) * (self.ndim - len(keys) + 1)
            keys = keys[:place] + filling + keys[place + 1 :]
        keys += (slice(None),) * (self.ndim - len(keys))
        chosen = [indices[k] for indices, k in zip(self._along, keys, strict=True)]
        if all(isinstance(indices, range) for indices in chosen):
            return type(self)(self._array, chosen)
        return np.asarray(self._array[tuple(map(_key, chosen))])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._array[tuple(map(_key, self._along))], dtype)


def _key(chosen: range | int) -> slice | int:
    if isinstance(chosen, int):
        return chosen
    if chosen.step < 0:
        raise IndexError("a volume can be read forwards alone")
    return slice(chosen.start, max(chosen.start, chosen.stop), chosen.step)
