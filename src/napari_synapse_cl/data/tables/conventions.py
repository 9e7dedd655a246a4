"""How positions are written in tables: the names of columns, and what follows for voxels."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import VoxelSize, size

Columns = dict[str, Hashable]
"""The columns of a table by their name in small letters."""

_WORDS = {
    "nm": ("nm",),
    "um": ("um", "µm", "μm"),  # the sign and the letter
    "voxels": ("voxel", "voxels", "vox", "px", "pixel", "pixels"),
}
_UNITS: dict[str, str | None] = {"": None} | {
    template.format(word): unit
    for unit, words in _WORDS.items()
    for word in words
    for template in ("_{}", " [{}]", " ({})", "[{}]", "({})")
}
"""What may follow the name of an axis, and the unit it says."""

_ROLES = {
    "presynapse": ("pre", "presyn", "presynapse", "presynaptic"),
    "postsynapse": ("post", "postsyn", "postsynapse", "postsynaptic"),
}
_ENDS = {"presynapse": "pointa", "postsynapse": "pointb"}
"""The ends of a line in neuroglancer."""
_SIDES = ("side_1", "side_2")

Order = Literal["named", "z, y, x", "x, y, z"]
"""Which axes columns hold one after the other; named where their names say it."""


@dataclass(frozen=True)
class Mapping:
    """What the user says about how positions are written; what is left out is found out."""

    columns: tuple[str, ...] | None = None
    """Names of the three columns that hold z, y and x, in that order, or of one column of arrays x,
    y, z."""
    unit: Literal["auto", "voxels", "nm", "um"] = "auto"
    """Unit of the numbers; auto takes what the table says, else voxels."""
    voxel_size: VoxelSize | None = None
    """What positions in voxels count in, along z, y, x in nm, where that is not the volume's."""

    @property
    def is_explicit(self) -> bool:
        """Whether the user said anything."""
        return self != AS_FOUND


AS_FOUND = Mapping()


@dataclass(frozen=True)
class Reading:
    """How positions were read."""

    columns: tuple[str, ...]
    """Where they are in the table."""
    convention: str
    """The order of the axes in these columns: "z, y, x", "x, y, z", or "named" where the names of
    the columns say it. "midpoints, " comes before it where a position lies halfway between those of
    two sides."""
    unit: Literal["voxels", "nm"]
    """Of the positions; micrometres have become nm."""
    voxel_size: VoxelSize | None
    """What voxels they count in, along z, y, x in nm; None for those of the volume."""
    is_explicit: bool
    """Whether the user said how to read them."""

    def __str__(self) -> str:
        order = self.convention.removeprefix("midpoints, ")
        middle = "midpoints of " if order != self.convention else ""
        word = "column" if len(self.columns) == 1 else "columns"
        columns = ", ".join(self.columns)
        axes = "" if order in ("named", columns) else f" as {order}"
        sized = f" of {size(self.voxel_size)} nm" if self.voxel_size else ""
        return f"{middle}{word} {columns}{axes} in {self.unit}{sized}"


def in_voxels(
    positions: np.ndarray, reading: Reading, voxel_size: VoxelSize | None, name: str
) -> np.ndarray:
    """Return positions in voxels of a volume, where voxel 0 has its centre at 0.

    Parameters
    ----------
    positions
        ``(M, 3)`` z, y, x in the unit of the reading; NaN stays NaN.
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
        unit = f"voxels of {size(reading.voxel_size)} nm" if reading.voxel_size else "nm"
        raise InputError(
            f"the positions in {name} are in {unit}, and the voxel size of the volume is not "
            "known: give it with --voxel_size"
        )
    if reading.voxel_size is None:
        return positions / np.array(voxel_size)
    # The faces of voxels coincide, not their centres.
    return (positions + 0.5) * (np.array(reading.voxel_size) / np.array(voxel_size)) - 0.5


@dataclass(frozen=True)
class Source:
    """Where positions are in a table."""

    columns: tuple[Hashable, ...]
    """Three columns, or one of arrays."""
    order: Order
    """The axes they hold one after the other; columns that are named are listed as z, y, x."""
    unit: str | None = None
    """"voxels", "nm" or "um" where the names say it."""


def by_name(columns: Iterable[Hashable]) -> Columns:
    """Return columns by their name in small letters, without blanks around it.

    Of names alike the exact one is found, else one that needs trimming alone, else the first.
    """
    forms = _forms(columns)
    return {name: _found(forms, name) for name in forms[-1]}


def column_named(columns: Iterable[Hashable], name: str) -> Hashable | None:
    """Return the column of a name, as `by_name` chooses among names alike, or None."""
    return _found(_forms(columns), name)


def _forms(columns: Iterable[Hashable]) -> tuple[Columns, ...]:
    """Return the first column of each name: as it is, trimmed, and trimmed in small letters."""
    exact: Columns = {}
    trimmed: Columns = {}
    folded: Columns = {}
    for column in columns:
        name = str(column)
        exact.setdefault(name, column)
        trimmed.setdefault(name.strip(), column)
        folded.setdefault(name.strip().lower(), column)
    return exact, trimmed, folded


def _found(forms: tuple[Columns, ...], name: str) -> Hashable | None:
    exact, trimmed, folded = forms
    name = name if name in exact else name.strip()
    return exact.get(name, trimmed.get(name, folded.get(name.lower())))


def unit_of(names: Iterable[str]) -> str | None:
    """Return the unit that all of some names of columns end with, or None."""
    units = {
        next((unit for end, unit in _UNITS.items() if end and name.lower().endswith(end)), None)
        for name in names
    }
    return units.pop() if len(units) == 1 else None


def find_positions(columns: Columns) -> tuple[Source, ...]:
    """Return where the positions are: one source, two to take the midpoint of, or none."""
    # A feature of a points layer that napari saved may well be called z, and one of a layer that
    # was saved as a table of z, y, x axis-0.
    both = [source for source in (_napari(columns), _named(columns, "{}")) if source]
    names = list(columns.values())
    own = (
        min(both, key=lambda source: min(map(names.index, source.columns)), default=None)
        or _named(columns, "pos_{}", "{}_pos")
        or _numbered(columns, "central_coord_{}", 1)
        or _stem(columns, "ctr_pt_position")
    )
    if own:
        return (own,)
    partners = find_partners(columns)
    if "presynapse" in partners:
        roles: tuple[str, ...] = tuple(_ROLES)
    else:
        roles = _SIDES if partners.keys() >= set(_SIDES) else ()
    found = tuple(partners[role] for role in roles if role in partners)
    return found if len({source.unit for source in found}) < 2 else found[:1]


def find_partners(columns: Columns) -> dict[str, Source]:
    """Return where the two sides of synapses are, by name, as far as there are any."""
    found = {
        role: _stem(columns, f"{words[0]}_pt_position")
        or _named(columns, *(f"{word}_{{}}" for word in words), *(f"{{}}_{w}" for w in words))
        or _named(columns, f"{_ENDS[role]}_{{}}")
        for role, words in _ROLES.items()
    } | {side: _numbered(columns, f"{side}_coord_{{}}", 1) for side in _SIDES}
    return {role: source for role, source in found.items() if source}


def split_columns(columns: Columns, name: str) -> Source | None:
    """Return the three columns that a column of arrays of a name was split into, or None."""
    return _stem(columns, name.strip().lower())


def _napari(columns: Columns) -> Source | None:
    if "axis-3" in columns:
        return None
    return _numbered(columns, "axis-{}", 0, "z, y, x")


def _stem(columns: Columns, stem: str) -> Source | None:
    if stem in columns:
        return Source((columns[stem],), "x, y, z")
    return _named(columns, stem + "_{}") or _numbered(columns, stem + "_{}", 0)


def _named(columns: Columns, *templates: str) -> Source | None:
    for template in templates:
        for end, unit in _UNITS.items():
            if found := _all(columns, (template.format(axis) + end for axis in "zyx")):
                return Source(found, "named", unit)
    return None


def _numbered(
    columns: Columns, template: str, first: int, order: Order = "x, y, z"
) -> Source | None:
    found = _all(columns, (template.format(number) for number in range(first, first + 3)))
    return Source(found, order) if found else None


def _all(columns: Columns, names: Iterable[str]) -> tuple[Hashable, ...] | None:
    found = tuple(columns.get(name) for name in names)
    return None if None in found else found
