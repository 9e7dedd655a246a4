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
    if inside > SCALED_SHARE * n:
        return None
    for order, axes in ((slice(None), ""), (slice(None, None, -1), ", in the order x, y, z,")):
        for size in COMMON_VOXEL_SIZES if voxel_size is None else (voxel_size,):
            voxels = positions[:, order] / np.array(size)
            scaled = _count_inside(voxels, shape)
            filled = (voxels.max(axis=0) >= FILLED_SHARE * np.array(shape)).all()
            # A voxel size that is known needs no further evidence where nothing lies inside.
            certain = voxel_size is not None and inside == 0
            if scaled >= FITTING_SHARE * n and (filled or certain):
                lengths = ", ".join(f"{length:g}" for length in size)
                given = "the voxel size" if voxel_size is not None else "a voxel size"
                return (
                    f"{_share(scaled, n)} would lie inside when read in nm{axes} with {given} of "
                    f"{lengths} nm along z, y, x; divide them by the voxel size if that is how "
                    "they were written"
                )
    return None


def _count_inside(positions: np.ndarray, shape: Sequence[int]) -> int:
    voxels = np.rint(positions)
    return int(((voxels >= 0) & (voxels < np.array(shape))).all(axis=1).sum())


def _share(part: int, n: int) -> str:
    return f"all {n}" if part == n else f"{part} of {n}"
