"""Which grey values become black and white."""

from collections.abc import Iterator

import numpy as np

from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError


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
