"""What the opener of a format finds, and messages about what it cannot open."""

from dataclasses import dataclass

from napari_synapse_cl.data.arrays import Array3D

Triple = tuple[float, float, float]
Voxel = tuple[int, int, int]

UNIT_FACTOR: Triple = (1.0, 1.0, 1.0)
NO_OFFSET: Voxel = (0, 0, 0)


@dataclass(frozen=True)
class Found:
    """An array that was opened, and what its file tells about it.

    Attributes
    ----------
    array
        ``(Z, Y, X)``.
    location
        What it is opened from again, or None for what was asked for.
    voxel_size
        Along z, y, x in nm, or None where it is not told.
    offset
        Coordinates of the first voxel along z, y, x, in voxels.
    factor
        How many voxels of the finest level make one along z, y, x.
    notes
        What to tell of how it was read, a sentence each.
    """

    array: Array3D
    location: str | None = None
    voxel_size: Triple | None = None
    offset: Voxel = NO_OFFSET
    factor: Triple = UNIT_FACTOR
    notes: tuple[str, ...] = ()


def listed(names: list[str], limit: int = 10) -> str:
    """Return names in a sentence, at most `limit` of them."""
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
