"""Bring crops from the voxel size of a volume to that of a network."""

from functools import lru_cache
from math import ceil, floor, log, sqrt

import numpy as np

from napari_synapse_cl.system.words import Triple, VoxelSize

SAME_SIZE = 1e-3
"""Voxel sizes that differ by no more than this share are taken for the same."""
TRUNCATE = 4.0
"""How many standard deviations the Gaussian reaches."""
ROWS = 16
"""How many elements along an axis are computed at once."""


class Resampling:
    """From voxels of one size to voxels of another, around a centre voxel.

    Linear interpolation, where voxels become larger after a Gaussian that suppresses what the new
    ones cannot hold. Each axis is treated by itself, and one along which the sizes agree is left as
    it is.

    Parameters
    ----------
    shape
        Size of the result along z, y, x.
    have, want
        Voxel sizes of the source and of the result along z, y, x in nm.

    Attributes
    ----------
    shape
        Size of the result along z, y, x.
    source_shape
        Size of the region that is needed of the source. As :func:`~.crops.cut_crop` does it, the
        centre is the voxel at index ``source_shape // 2``; in the result at ``shape // 2``.
    stride
        Voxels of the source from one of the result to the next, along z, y, x; 1 where the sizes
        agree.
    is_identity
        Whether the sizes agree along all axes.
    """

    def __init__(self, shape: Triple, have: VoxelSize, want: VoxelSize) -> None:
        z, y, x = (_factor(h, w) for h, w in zip(have, want, strict=True))
        self.shape = shape
        self.stride = (z, y, x)
        self.is_identity = self.stride == (1, 1, 1)
        axes = zip(shape, self.stride, strict=True)
        depth, height, width = (n if f == 1 else 2 * _reach(n, f) + 1 for n, f in axes)
        self.source_shape: Triple = (depth, height, width)

    def apply(self, region: np.ndarray) -> np.ndarray:
        """Resample a region of the source.

        Parameters
        ----------
        region
            ``(d, h, w)`` of `source_shape`, of any integer, floating or boolean type.

        Returns
        -------
        numpy.ndarray
            ``(D, H, W)`` float32 of `shape`; `region` itself if the sizes agree along all axes.
        """
        if region.shape != self.source_shape:
            raise ValueError(f"a region of {self.source_shape} is needed, not {region.shape}")
        if self.is_identity:
            return region
        result = region
        # The axis that shrinks most comes first, so that the others have less to do.
        for axis in sorted(range(3), key=lambda axis: -self.stride[axis]):
            if self.stride[axis] != 1:
                weights = _weights(self.shape[axis], self.stride[axis])
                result = _along(result, axis, weights)
        return result


def _factor(have: float, want: float) -> float:
    """Return how many voxels of the source one of the result is long, exactly 1 if one."""
    # Rounded for sizes like 0.1 and 0.3, whose ratio would be a little less than three.
    factor = round(want / have, 9)
    return 1.0 if abs(factor - 1) <= SAME_SIZE else factor


def _along(source: np.ndarray, axis: int, weights: np.ndarray) -> np.ndarray:
    """Multiply one axis of a ``(d, h, w)`` array by weights that lie near a diagonal."""
    shape = list(source.shape)
    shape[axis] = len(weights)
    result = np.empty(shape, np.float32)
    for start in range(0, len(weights), ROWS):
        rows = weights[start : start + ROWS]
        used = np.flatnonzero(rows.any(axis=0))
        columns = slice(used[0], used[-1] + 1)
        part, into = rows[:, columns], slice(start, start + ROWS)
        if axis == 0:
            flat = _float32(source[columns]).reshape(part.shape[1], -1)
            np.matmul(part, flat, out=result[into].reshape(len(part), -1))
        elif axis == 1:
            np.matmul(part, _float32(source[:, columns]), out=result[:, into])
        else:
            np.matmul(_float32(source[..., columns]), part.T, out=result[..., into])
    return result


def _float32(block: np.ndarray) -> np.ndarray:
    return block.astype(np.float32, copy=False)


def _reach(n: int, factor: float) -> int:
    """Return how many source voxels are needed on either side of the centre.

    As many on both, for the centre to have half of their number for its index.
    """
    first, last = _position(0, n, factor), _position(n - 1, n, factor)
    return max(-floor(first), ceil(last)) + _radius(_sigma(factor))


def _position(element: int, n: int, factor: float) -> float:
    """Return where an element of `n` lies, in source voxels from the centre."""
    # Rounded, so that an error in the last digit does not make it read another voxel.
    return round((element - n // 2) * factor, 6)


@lru_cache(maxsize=64)
def _weights(n: int, factor: float) -> np.ndarray:
    """Return ``(n, m)`` float32, what m source voxels along an axis add to the result's n.

    Parameters
    ----------
    factor
        Source voxels from one element to the next.
    """
    kernel = _gaussian(_sigma(factor))
    beside = len(kernel) // 2
    centre = _reach(n, factor)
    weights = np.zeros((n, 2 * centre + 1))
    for element, row in enumerate(weights):
        position = _position(element, n, factor)
        first = centre + floor(position) - beside
        share = position - floor(position)
        row[first : first + len(kernel)] += (1 - share) * kernel
        if share:
            row[first + 1 : first + 1 + len(kernel)] += share * kernel
    result = weights.astype(np.float32)
    result.flags.writeable = False
    return result


def _sigma(factor: float) -> float:
    """Return the standard deviation of the Gaussian that goes before voxels get longer by a factor.

    In source voxels. A voxel of either size is taken for a Gaussian whose width at half of its
    height is the voxel's, and this one makes the larger from the smaller (Cardoso et al. 2015,
    doi.org/10.1007/978-3-319-24571-3_81). It vanishes as the factor approaches 1, and of the finest
    wave that the new voxels can hold it leaves half.
    """
    return sqrt(max(0.0, factor**2 - 1)) / (2 * sqrt(2 * log(2)))


def _radius(sigma: float) -> int:
    return int(TRUNCATE * sigma + 0.5)


def _gaussian(sigma: float) -> np.ndarray:
    radius = _radius(sigma)
    if not radius:
        return np.ones(1)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()
