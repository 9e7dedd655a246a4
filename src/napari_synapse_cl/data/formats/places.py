"""What the opener of a format finds, and messages about what it cannot open."""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from napari_synapse_cl.data.arrays import Array3D
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.system.memory import main_memory
from napari_synapse_cl.system.words import VoxelSize, size, storage, triple

Voxel = tuple[int, int, int]
Messages = tuple[tuple[str, Level], ...]

UNIT_FACTOR: VoxelSize = (1.0, 1.0, 1.0)
NO_OFFSET: Voxel = (0, 0, 0)
MOST_VOXELS = 10**18
"""A volume of so many is none that there is: at 4 nm a mouse brain and all around it."""
LARGEST_CHUNK = 0.5
"""Share of the memory that what is read at once may take."""

LEAST_NM = 0.5
"""No volume has smaller voxels; where its numbers are, they are in another unit."""
NO_UNIT = "tells a voxel size without a unit that is known, and it is not used"
"""Goes on after the name of a volume."""
_NANOMETRES = {
    1e-3: ("pm", "picometer", "picometre"),
    0.1: ("å", "angstrom", "ångström", "ångstrom"),
    1.0: ("nm", "nanometer", "nanometre"),
    1e3: ("um", "µm", "micron", "micrometer", "micrometre"),
    1e6: ("mm", "millimeter", "millimetre"),
    1e7: ("cm", "centimeter", "centimetre"),
    1e9: ("m", "meter", "metre"),
    25.4e6: ("inch", "inche", "in"),
}
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


@dataclass(frozen=True)
class Found:
    """An array that was opened, and what its file tells about it."""

    array: Array3D
    """``(Z, Y, X)``."""
    location: str | None = None
    """What it is opened from again, or None for what was asked for."""
    voxel_size: VoxelSize | None = None
    """Along z, y, x in nm, or None where it is not told."""
    offset: Voxel = NO_OFFSET
    """Coordinates of the first voxel along z, y, x, in voxels."""
    factor: VoxelSize = UNIT_FACTOR
    """How many voxels of the finest level make one along z, y, x."""
    messages: Messages = ()
    """What to tell of it."""


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
            f"{volume} is stored in chunks of {storage(chunk_bytes)}, each of which is "
            f"read as a whole, and there are {storage(total)} of memory; save it in chunks "
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


def _as_one(text: str) -> str:
    """Return a text in which there is one letter each for micro and ångström, of Unicode's two."""
    return unicodedata.normalize("NFKC", text)


_BY_UNIT = {_as_one(unit): length for length, units in _NANOMETRES.items() for unit in units}


def nanometres(unit: Any) -> float | None:
    """Return the length of a unit in nm, or None where it is unknown or none of length."""
    # As ImageJ escapes letters.
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), str(unit or ""))
    text = _as_one(text.strip().lower())
    return _BY_UNIT.get(text, _BY_UNIT.get(text.removesuffix("s")))


def size_in_nm(lengths: Any, units: Any) -> VoxelSize | None:
    """Return a voxel size in nm, or None where a length or a unit is not known.

    Parameters
    ----------
    lengths
        Along z, y, x; anything that a file may hold in place of three numbers.
    units
        One for all axes, or one for each.
    """
    numbers = three_numbers(lengths)
    names = list(units) if isinstance(units, list | tuple | np.ndarray) else [units] * 3
    in_nm = [nanometres(unit) for unit in names]
    if numbers is None or len(in_nm) != 3 or min(numbers) <= 0:
        return None
    if any(length is None for length in in_nm):
        return None
    return triple(n * (length or 0) for n, length in zip(numbers, in_nm, strict=True))


@dataclass(frozen=True)
class Scale:
    """A voxel size along z, y, x in nm, and what to tell where a file tells but a part of it."""

    voxel_size: VoxelSize | None
    note: str = ""


NO_SCALE = Scale(None)


def scale_of(lengths: Sequence[Any], units: Sequence[Any]) -> Scale:
    """Return a voxel size, with a note where one axis is known and another is not.

    Parameters
    ----------
    lengths, units
        Along z, y, x, whatever the file holds in place of numbers and units.
    """
    found = size_in_nm(lengths, units)
    known = {
        axis: _length_in_nm(length, unit)
        for axis, length, unit in zip("zyx", lengths, units, strict=True)
    }
    told = [f"{axis} {length:g} nm" for axis, length in known.items() if length is not None]
    if found is not None or not told:
        return Scale(found)
    unknown = ", ".join(axis for axis, length in known.items() if length is None)
    return Scale(
        None,
        f"tells the voxel size along {', '.join(told)}, and along {unknown} no length that is "
        "known, so that none of it is used",
    )


def _length_in_nm(length: Any, unit: Any) -> float | None:
    found = size_in_nm([length] * 3, unit)
    return None if found is None else found[0]


def told_size(lengths: Sequence[float], units: Any) -> tuple[VoxelSize | None, str]:
    """Return a voxel size in nm or None, and what to say of it after the name of the volume.

    Parameters
    ----------
    lengths
        Along z, y, x.
    units
        As :func:`size_in_nm` takes them, or None where none is told: most programs mean nm then.
    """
    if units is not None:
        found = size_in_nm(lengths, units)
        return found, "" if found else NO_UNIT
    z, y, x = lengths
    told = f"tells a voxel size of {size((z, y, x))} without a unit"
    if min(z, y, x) < LEAST_NM:
        return None, f"{told}, which cannot be nm, and is not used: give it as voxel_size in nm"
    return (z, y, x), f"{told}; it is taken for nm, unless voxel_size says otherwise"


def three_numbers(value: Any) -> VoxelSize | None:
    """Return three finite numbers, or None if it is anything else."""
    try:
        z, y, x = (float(number) for number in value)
    except (TypeError, ValueError):
        return None
    return (z, y, x) if all(map(math.isfinite, (z, y, x))) else None


def offset_in_voxels(offset: Any, lengths: Any) -> Voxel:
    """Return an offset in the unit of a voxel size in voxels; zeros where one is not known."""
    places, sizes = three_numbers(offset), three_numbers(lengths)
    if places is None or sizes is None or min(sizes) <= 0:
        return NO_OFFSET
    return rounded([place / size for place, size in zip(places, sizes, strict=True)])


def rounded(numbers: Sequence[float]) -> Voxel:
    """Return the integers nearest to three numbers."""
    return triple(round(number) for number in numbers)


def spatial_axes(
    shape: Sequence[int], names: Sequence[str | None] | None, volume: str
) -> tuple[int, int, int]:
    """Return the axes of an array that are z, y, x.

    Those that are named so; else the three that are longer than 1, or the last three.

    Parameters
    ----------
    names
        Of its axes, where they are known.
    volume
        How to call the array in messages.

    Raises
    ------
    InputError
        If it has fewer axes, or others that are longer than 1.
    """
    known = [str(name or "").lower() for name in names or ()]
    known = known if len(known) == len(shape) else [""] * len(shape)
    if all(known.count(name) == 1 for name in "zyx"):
        z, y, x = (known.index(name) for name in "zyx")
    else:
        long = [axis for axis, n in enumerate(shape) if n != 1]
        axes = long if len(long) == 3 else list(range(len(shape)))[-3:]
        if len(axes) < 3:
            raise InputError(
                f"{volume} has the shape {_size(shape, known)}; "
                "a 3D volume of grey values along z, y, x is needed"
            )
        z, y, x = axes
    if any(n != 1 for axis, n in enumerate(shape) if axis not in (z, y, x)):
        raise InputError(
            f"{volume} has the shape {_size(shape, known)}; a 3D volume along z, y, x, of one "
            "channel and one time, is needed: save the one to use on its own"
        )
    return (z, y, x)


def _size(shape: Sequence[int], names: Sequence[str]) -> str:
    size = " × ".join(str(n) for n in shape)
    return f"{size} ({', '.join(names)})" if all(names) and names else size
