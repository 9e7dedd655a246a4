"""How positions are written: the user's word on it, what was found, and what follows for voxels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import VoxelSize, size

Order = Literal["named", "z, y, x", "x, y, z"]
"""Which axes columns hold one after the other; named where their names say it."""


@dataclass(frozen=True)
class Mapping:
    """What the user says about how positions are written; what is left out is found out.

    Attributes
    ----------
    columns
        Names of the three columns that hold z, y and x, in that order, or of one column of arrays
        x, y, z.
    unit
        Unit of the numbers; auto takes what the table says, else voxels.
    voxel_size
        What positions in voxels count in, along z, y, x in nm, where that is not the volume's.
    """

    columns: tuple[str, ...] | None = None
    unit: Literal["auto", "voxels", "nm", "um"] = "auto"
    voxel_size: VoxelSize | None = None

    @property
    def is_explicit(self) -> bool:
        """Whether the user said anything."""
        return self != AS_FOUND


AS_FOUND = Mapping()


@dataclass(frozen=True)
class Reading:
    """How positions were read.

    Attributes
    ----------
    columns
        Where they are in the table.
    convention
        The order of the axes in these columns: "z, y, x", "x, y, z", or "named" where the names
        of the columns say it. "midpoints, " comes before it where a position lies halfway between
        those of two sides.
    unit
        Of the positions; micrometres have become nm.
    voxel_size
        What voxels they count in, along z, y, x in nm; None for those of the volume.
    is_explicit
        Whether the user said how to read them.
    """

    columns: tuple[str, ...]
    convention: str
    unit: Literal["voxels", "nm"]
    voxel_size: VoxelSize | None
    is_explicit: bool

    def __str__(self) -> str:
        order = self.convention.removeprefix("midpoints, ")
        middle = "midpoints of " if order != self.convention else ""
        word = "column" if len(self.columns) == 1 else "columns"
        columns = ", ".join(self.columns)
        axes = "" if order in ("named", columns) else f" as {order}"
        sized = f" of {nanometres(self.voxel_size)}" if self.voxel_size else ""
        return f"{middle}{word} {columns}{axes} in {self.unit}{sized}"


def nanometres(voxel_size: VoxelSize) -> str:
    """Return a voxel size in words: "40 × 4 × 4 nm"."""
    return f"{size(voxel_size)} nm"


def in_voxels(
    positions: np.ndarray, reading: Reading, voxel_size: VoxelSize | None, name: str
) -> np.ndarray:
    """Return positions in voxels of a volume, where voxel 0 has its centre at 0.

    Parameters
    ----------
    positions
        ``(M, 3)`` z, y, x in the unit of the reading; NaN stays NaN.
    reading
        How they were read.
    voxel_size
        That of the volume's finest level along z, y, x in nm, or None if it is not known.
    name
        How to call the table in messages.

    Returns
    -------
    numpy.ndarray
        ``(M, 3)`` float64, before an offset of the volume is subtracted.

    Raises
    ------
    InputError
        If the voxel size is needed and not known.
    """
    if reading.unit == "voxels" and reading.voxel_size is None:
        return positions
    if voxel_size is None:
        unit = f"voxels of {nanometres(reading.voxel_size)}" if reading.voxel_size else "nm"
        raise InputError(
            f"the positions in {name} are in {unit}, and the voxel size of the volume is not "
            "known: give it with --voxel_size"
        )
    if reading.voxel_size is None:
        return positions / np.array(voxel_size)
    # The faces of voxels coincide, not their centres.
    return (positions + 0.5) * (np.array(reading.voxel_size) / np.array(voxel_size)) - 0.5
