"""Tell positions that were written down otherwise than in voxels along z, y, x.

No reading is suggested for positions that mostly lie inside the volume as they are, nor one that
does not bring nearly all of them inside: a table of a larger volume has many outside and is right.
"""

from collections.abc import Sequence

import numpy as np

FITTING_SHARE = 0.95
"""Share of the positions that must lie inside for a reading to be suggested."""
SWAPPED_SHARE = 0.75
"""Above this share inside as they are, positions are not called swapped."""
SCALED_SHARE = 0.2
"""Above this share inside as they are, positions are not called nanometres."""
FILLED_SHARE = 0.5
"""How far along each axis nanometres must reach into the volume once they are divided: numbers that
are merely large shrink into it by any divisor, and by a large one end up in a corner."""
WHOLE_VOXELS = 1e-3
"""How far from a whole number of voxels nanometres may be. Positions in a volume some times larger
than this one would shrink into it too, but they are no multiples of a voxel size."""

COMMON_VOXEL_SIZES = (
    (4.0, 4.0, 4.0),
    (5.0, 5.0, 5.0),
    (6.0, 6.0, 6.0),
    (8.0, 8.0, 8.0),
    (10.0, 10.0, 10.0),
    (12.0, 12.0, 12.0),
    (16.0, 16.0, 16.0),
    (30.0, 4.0, 4.0),
    (40.0, 4.0, 4.0),
    (50.0, 5.0, 5.0),
)
"""z, y, x in nm, of FIB-SEM and of serial sections; tried where the voxel size is not known."""


def likely_reading(
    positions: np.ndarray, shape: Sequence[int], voxel_size: Sequence[float] | None
) -> str | None:
    """Say how positions seem to be written, where that is not voxels along z, y, x.

    Parameters
    ----------
    positions
        ``(N, 3)``, read as z, y, x in voxels.
    shape
        Size of the volume along z, y, x.
    voxel_size
        Voxel size along z, y, x in nm, or None if it is not known.

    Returns
    -------
    str or None
        How many lie inside when read otherwise, and what to do; None if nothing is convincing.
    """
    n = len(positions)
    inside = _count_inside(positions, shape)
    if inside <= SWAPPED_SHARE * n:
        swapped = _count_inside(positions[:, ::-1], shape)
        # One or two positions beside a volume that is nearly a cube say nothing.
        if swapped >= FITTING_SHARE * n and (inside == 0 or swapped - inside > 2):
            return (
                f"{_share(swapped, n)} would lie inside when read in the order x, y, z; swap the "
                "columns z and x if that is how they were written"
            )
    return _in_nm(positions, shape, voxel_size, inside) if inside <= SCALED_SHARE * n else None


def _in_nm(
    positions: np.ndarray, shape: Sequence[int], voxel_size: Sequence[float] | None, inside: int
) -> str | None:
    """Say of which size voxels would have to be for positions in nm to lie inside."""
    n = len(positions)
    given = "a voxel size" if voxel_size is None else "the voxel size"
    orders = {"": positions, ", in the order x, y, z,": positions[:, ::-1]}
    for size in COMMON_VOXEL_SIZES if voxel_size is None else (voxel_size,):
        readings = {order: values / np.array(size) for order, values in orders.items()}
        counts = {order: _count_inside(voxels, shape) for order, voxels in readings.items()}
        order = max(counts, key=lambda order: counts[order])
        voxels = readings[order]
        filled = bool((voxels.max(axis=0) >= FILLED_SHARE * np.array(shape)).all())
        whole = bool(np.abs(voxels - np.rint(voxels)).max() < WHOLE_VOXELS)
        # Where none lies inside there is no training either way, so less evidence will do.
        convincing = filled and whole if inside else filled or voxel_size is not None
        if counts[order] >= FITTING_SHARE * n and convincing:
            lengths = ", ".join(f"{length:g}" for length in size)
            return (
                f"{_share(counts[order], n)} would lie inside when read in nm{order} with {given} "
                f"of {lengths} nm along z, y, x; divide them by the voxel size if that is how they "
                "were written"
            )
    return None


def _count_inside(positions: np.ndarray, shape: Sequence[int]) -> int:
    voxels = np.rint(positions)
    return int(((voxels >= 0) & (voxels < np.array(shape))).all(axis=1).sum())


def _share(part: int, n: int) -> str:
    return f"all {n}" if part == n else f"{part} of {n}"
