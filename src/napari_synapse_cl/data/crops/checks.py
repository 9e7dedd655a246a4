"""What to know of a crop and its views before trusting them to a network."""

from collections.abc import Sequence
from math import prod

import numpy as np

MOST_CLIPPED = 0.01
"""Share of clipped voxels above which a view is told of."""


def share_outside(
    centre: Sequence[int], shape: Sequence[int], volume_shape: Sequence[int]
) -> float:
    """Return the share of a crop's voxels that lie outside the volume.

    Parameters
    ----------
    centre
        z, y, x of the voxel at index ``shape // 2`` of the crop.
    shape
        Size of the crop along z, y, x.
    volume_shape
        Size of the volume along z, y, x.

    Returns
    -------
    float
        From 0 (wholly inside) to 1 (wholly outside).
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


def is_constant(crop: np.ndarray) -> bool:
    """Whether all voxels of ``(D, H, W)`` intensities have one value."""
    return bool(crop.min() == crop.max())


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
    if is_constant(crop):
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
