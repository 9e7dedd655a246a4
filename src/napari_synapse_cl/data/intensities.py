"""Which grey values become black and white."""

from collections.abc import Iterator

import numpy as np

from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError

LEAST_SHARE = 0.1
"""Of the range of its type that an image should use to have any contrast."""


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


def contrast_warning(volume: Volume) -> str | None:
    """Say that an integer image uses little of the range of its type, if a sample of it does."""
    if volume.array.dtype.kind not in "ui" or volume.array.dtype.itemsize == 1:
        return None
    blocks = [(float(block.min()), float(block.max())) for block in sample_blocks(volume)]
    low, high = min(a for a, _ in blocks), max(b for _, b in blocks)
    lowest, highest = intensity_range(volume)
    share = (high - low) / (highest - lowest)
    if share >= LEAST_SHARE:
        return None
    return (
        f"{volume.name} uses {low:g} to {high:g} of the range of {volume.array.dtype}, so its "
        "crops have little contrast: choose percentiles as intensity"
    )


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
