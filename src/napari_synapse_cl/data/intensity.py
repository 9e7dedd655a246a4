"""Which grey values become black and white, 0 and 1, for a whole volume or for each crop."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError

LEAST_SHARE = 0.1
"""Of the range of its type that an image should use to have any contrast."""

Intensity = Literal["range", "percentiles", "crop", "z-score"]
Window = tuple[float, float]
"""The grey values that become 0 and 1; where the first is the higher one, bright becomes dark."""
Problem = Literal["constant", "not finite"]
DEVIATIONS = 3.0
"""With z-scores, how many standard deviations below and above the mean become 0 and 1."""


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


def volume_window(
    volume: Volume, intensity: Intensity, percentiles: tuple[float, float]
) -> Window | None:
    """Return the window that all crops of a volume share, None where each has one of its own.

    Parameters
    ----------
    intensity
        "range" for :func:`intensity_range`, "percentiles" for those of a sample of
        the volume.
    percentiles
        The lower and the higher one, from 0 to 100.

    Raises
    ------
    InputError
        If the sample holds no finite value, or a single one.
    """
    if intensity == "range":
        return intensity_range(volume)
    if intensity != "percentiles":
        return None
    values = np.concatenate([block[np.isfinite(block)] for block in sample_blocks(volume)])
    # Where most voxels are of one value, the percentiles can agree in a volume that has contrast.
    for bounds in (percentiles, (0.0, 100.0)):
        low, high = np.percentile(values, bounds).tolist() if values.size else (0.0, 0.0)
        if low < high:
            return low, high
    raise InputError(f"{volume.name} has no contrast: a sample of it holds one value or none")


def crop_window(crop: np.ndarray, intensity: Intensity) -> Window:
    """Return the window of one crop; if that holds a single value, this becomes 0.5.

    Parameters
    ----------
    crop
        Of any integer or floating type and any shape, with finite values.
    intensity
        "crop" for its lowest and highest value, "z-score" for its mean and three standard
        deviations below and above.
    """
    low, high = float(crop.min()), float(crop.max())
    if low == high:
        # Wide enough for a value of many digits, too.
        half = max(0.5, 1e-6 * abs(low))
        return low - half, high + half
    if intensity == "crop":
        return low, high
    mean = float(crop.mean(dtype=np.float64))
    reach = DEVIATIONS * float(crop.std(dtype=np.float64))
    return mean - reach, mean + reach


def inverted(window: Window) -> Window:
    """Return the window that makes bright of dark."""
    low, high = window
    return high, low


def to_unit_range(crops: np.ndarray, windows: ArrayLike) -> np.ndarray:
    """Map grey values to float32 in [0, 1]; those beyond their window are clipped.

    Parameters
    ----------
    crops
        ``(B, D, H, W)``, or of any shape with a single window; of any integer or floating type.
    windows
        ``(B, 2)``, the grey values of each crop that become 0 and 1, or one such pair for all. They
        differ, and either may be the higher.
    """
    bounds = np.asarray(windows, dtype=np.float64)
    low, width = bounds[..., 0], bounds[..., 1] - bounds[..., 0]
    if bounds.ndim == 2:
        low, width = (values.reshape(-1, 1, 1, 1) for values in (low, width))
    unit = crops.astype(np.float32)
    unit -= low.astype(np.float32)
    unit /= width.astype(np.float32)
    return np.clip(unit, 0, 1, out=unit)


def crop_problem(crop: np.ndarray) -> Problem | None:
    """Say what makes a crop useless: a single value, or values that are NaN or infinite."""
    # Both are NaN if any value is.
    low, high = crop.min(), crop.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        return "not finite"
    return "constant" if low == high else None


MOST_CLIPPED = 0.01
"""Share of clipped voxels above which a view is told of."""


def share_outside(
    centre: Sequence[int], shape: Sequence[int], volume_shape: Sequence[int]
) -> float:
    """Return the share of a crop's voxels that lie outside the volume, from 0 to 1.

    Parameters
    ----------
    centre
        z, y, x of the voxel at index ``shape // 2`` of the crop.
    shape
        Size of the crop along z, y, x.
    volume_shape
        Size of the volume along z, y, x.
    """
    starts = [c - want // 2 for c, want in zip(centre, shape, strict=True)]
    inside = [
        max(0, min(start + want, n) - max(start, 0))
        for start, want, n in zip(starts, shape, volume_shape, strict=True)
    ]
    return 1 - prod(inside) / prod(shape)


def share_clipped(view: np.ndarray) -> float:
    """Return the share of voxels at exactly 0 or 1.

    Parameters
    ----------
    view
        ``(D, H, W)`` intensities in [0, 1].
    """
    return (np.count_nonzero(view == 0) + np.count_nonzero(view == 1)) / view.size


def crop_warnings(
    centre: Sequence[int],
    volume_shape: Sequence[int],
    crop: np.ndarray,
    views: Sequence[np.ndarray],
    *,
    reach: Sequence[int],
    context: Sequence[int],
    borders: str = "reflect",
) -> tuple[str, ...]:
    """Say what may be wrong with a crop and its views, one sentence each.

    Parameters
    ----------
    centre
        z, y, x of the synapse in voxels of the volume.
    volume_shape
        Size of the volume along z, y, x.
    crop, views
        ``(D, H, W)`` intensities in [0, 1].
    reach, context
        How far the crop reaches, and what was cut for it, which rotated views reach into: along
        z, y, x in voxels of the volume.
    borders
        What crops hold outside, as the setting of this name.
    """
    warnings = []
    there = "is grey" if borders == "constant" else "is reflected"
    outside = share_outside(centre, reach, volume_shape)
    beyond = share_outside(centre, context, volume_shape)
    if outside > 0:
        warnings.append(f"{percent(outside)} of the crop lies outside the volume and {there}.")
    elif beyond > 0:
        warnings.append(
            f"{percent(beyond)} of what rotated views can reach lies outside the volume and "
            f"{there}."
        )
    if crop_problem(crop) == "constant":
        warnings.append(
            f"The crop is constant: every voxel has the intensity {crop.flat[0]:.2f}, so there is "
            "nothing to learn from it."
        )
    before = share_clipped(crop)
    for number, view in enumerate(views, start=1):
        clipped = share_clipped(view)
        if clipped > MOST_CLIPPED:
            already = f" ({percent(before)} in the original)" if before > 0 else ""
            warnings.append(
                f"{percent(clipped)} of view {number} is clipped to black or white{already}."
            )
    return tuple(warnings)


def percent(share: float) -> str:
    """Write a share as people read it: "12 %", "0.4 %", "< 0.1 %"."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.0095 else f"{100 * share:.0f} %"
