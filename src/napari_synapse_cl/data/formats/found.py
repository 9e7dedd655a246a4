"""What the opener of a format finds, and messages about what it cannot open."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from napari_synapse_cl.data.arrays import Array3D
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.events import Level
from napari_synapse_cl.free_memory import main_memory
from napari_synapse_cl.words import size

Triple = tuple[float, float, float]
Voxel = tuple[int, int, int]
Messages = tuple[tuple[str, Level], ...]

UNIT_FACTOR: Triple = (1.0, 1.0, 1.0)
NO_OFFSET: Voxel = (0, 0, 0)
MOST_VOXELS = 10**18
"""A volume of so many is none that there is: at 4 nm a mouse brain and all around it."""
LARGEST_CHUNK = 0.5
"""Share of the memory that what is read at once may take."""


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
    messages
        What to tell of it.
    """

    array: Array3D
    location: str | None = None
    voxel_size: Triple | None = None
    offset: Voxel = NO_OFFSET
    factor: Triple = UNIT_FACTOR
    messages: Messages = ()


def check_size(shape: Sequence[int], chunk_bytes: int, volume: str) -> None:
    """Check that a volume is of a size that there is, and can be read in its chunks.

    Parameters
    ----------
    shape
        Of the volume, in voxels.
    chunk_bytes
        What is read at once of it takes in memory.
    volume
        How to call it in messages.

    Raises
    ------
    InputError
        If it is not.
    """
    if prod(shape) >= MOST_VOXELS:
        raise InputError(
            f"{volume} says that it has {size(shape)} voxels, which no volume has: its metadata "
            "are damaged"
        )
    total = main_memory().total
    if chunk_bytes > LARGEST_CHUNK * total:
        raise InputError(
            f"{volume} is stored in chunks of {chunk_bytes / 2**30:,.1f} GiB, each of which is "
            f"read as a whole, and there are {total / 2**30:,.1f} GiB of memory; save it in chunks "
            "of 64 or 128 voxels along each axis"
        )


def no_chunks(name: str, fill: Any) -> str:
    """Return what to say of a volume of which nothing is stored."""
    return (
        f"{name} has no chunks at all, so that every voxel of it is {fill}: was it copied or "
        "downloaded in full?"
    )


def listed(names: list[str], limit: int = 10) -> str:
    """Return names in a sentence, at most `limit` of them."""
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
