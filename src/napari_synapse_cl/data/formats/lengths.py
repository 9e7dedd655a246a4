"""Lengths in nm, from the units that files tell."""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_synapse_cl.data.formats.found import NO_OFFSET, Triple, Voxel
from napari_synapse_cl.words import size

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


def _as_one(text: str) -> str:
    """Return a text in which there is one letter each for micro and ångström, of Unicode's two."""
    return unicodedata.normalize("NFKC", text)


_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_BY_UNIT = {_as_one(unit): length for length, units in _NANOMETRES.items() for unit in units}


def nanometres(unit: Any) -> float | None:
    """Return the length of a unit in nm, or None where it is unknown or none of length."""
    # As ImageJ escapes letters.
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), str(unit or ""))
    text = _as_one(text.strip().lower())
    return _BY_UNIT.get(text, _BY_UNIT.get(text.removesuffix("s")))


def size_in_nm(lengths: Any, units: Any) -> Triple | None:
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
    z, y, x = (n * (length or 0) for n, length in zip(numbers, in_nm, strict=True))
    return (z, y, x)


@dataclass(frozen=True)
class Scale:
    """A voxel size along z, y, x in nm, and what to tell where a file tells but a part of it."""

    voxel_size: Triple | None
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


def size_without_unit(lengths: Sequence[float]) -> tuple[Triple | None, str]:
    """Return a voxel size that is told without a unit in nm, and what to say of it.

    Parameters
    ----------
    lengths
        Along z, y, x. Most programs that tell no unit mean nm.

    Returns
    -------
    size
        None where it cannot be meant in nm.
    note
        How it goes on after the name of the volume.
    """
    z, y, x = lengths
    told = f"tells a voxel size of {size((z, y, x))} without a unit"
    if min(z, y, x) < LEAST_NM:
        return None, f"{told}, which cannot be nm, and is not used: give it as voxel_size in nm"
    return (z, y, x), f"{told}; it is taken for nm, unless voxel_size says otherwise"


def three_numbers(value: Any) -> Triple | None:
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
    z, y, x = (round(number) for number in numbers)
    return (z, y, x)
