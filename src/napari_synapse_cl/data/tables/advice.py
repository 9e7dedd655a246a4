"""Try other readings of positions on their volume, and say where one fits far better.

None is taken for positions that mostly lie inside the volume as they are, nor one that does not
bring nearly all of them inside: a table of a larger volume has many outside and is right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.tables.conventions import Reading, in_voxels
from napari_synapse_cl.system.words import VoxelSize, command_line, triple

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
FINER_FILLED_SHARE = 0.9
"""How far along each axis positions in finer voxels must reach, which are no multiples of anything:
a larger volume would have to be larger by a power of two along y and x, and along these alone."""
FEWEST_FINER = 20
"""Of fewer positions some of which lie inside, none are called those of finer voxels."""

COMMON_VOXEL_SIZES: tuple[VoxelSize, ...] = (
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
FINER = (2, 4, 8)
"""How many voxels may make one of the volume along an axis."""

AS_THEY_ARE = Reading(("z", "y", "x"), "named", "voxels", None, is_explicit=False)


@dataclass(frozen=True)
class Space:
    """A volume that positions may lie in: its size, and where its voxels lie."""

    shape: np.ndarray
    voxel_size: VoxelSize | None
    """Of the finest level."""
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    factor: np.ndarray = field(default_factory=lambda: np.ones(3))

    def here(self, voxels: np.ndarray) -> np.ndarray:
        """Return voxels of the finest level in those of the volume, from its first one on."""
        return (voxels + 0.5) / self.factor - 0.5 - self.offset

    def finest(self, here: np.ndarray) -> np.ndarray:
        """Undo `here`."""
        return (here + self.offset + 0.5) * self.factor - 0.5

    def count_inside(self, here: np.ndarray) -> int:
        """Return how many positions lie inside."""
        voxels = nearest_voxel(here)
        return int(((voxels >= 0) & (voxels < self.shape)).all(axis=1).sum())

    def is_filled(self, here: np.ndarray, share: float) -> bool:
        """Whether positions reach so far into the volume along each axis."""
        return bool((here.max(axis=0) >= share * self.shape).all())


@dataclass(frozen=True)
class Otherwise:
    """Another way to read positions, and how many would lie inside."""

    n_inside: int
    is_swapped: bool = False
    nm: VoxelSize | None = None
    """They are in nm, in a volume of this voxel size."""
    voxels_of: VoxelSize | None = None
    """They are in voxels of this size."""


def swapped_fit(
    written: np.ndarray, reading: Reading, space: Space, inside: int
) -> Otherwise | None:
    """See whether positions lie inside when their axes are taken in the other order."""
    n = len(written)
    if inside > SWAPPED_SHARE * n:
        return None
    voxels = in_voxels(written[:, ::-1], reading, space.voxel_size, "")
    swapped = space.count_inside(space.here(voxels))
    # One or two positions beside a volume that is nearly a cube say nothing.
    if swapped >= FITTING_SHARE * n and (inside == 0 or swapped - inside > 2):
        return Otherwise(swapped, is_swapped=True)
    return None


def nanometres_fit(written: np.ndarray, space: Space, inside: int) -> Otherwise | None:
    """Find of which size voxels would have to be for positions in nm to lie inside."""
    n = len(written)
    if inside > SCALED_SHARE * n:
        return None
    for voxel_size in COMMON_VOXEL_SIZES if space.voxel_size is None else (space.voxel_size,):
        orders = [written / np.array(voxel_size), written[:, ::-1] / np.array(voxel_size)]
        counts = [space.count_inside(space.here(voxels)) for voxels in orders]
        is_swapped = counts[1] > counts[0]
        voxels = orders[is_swapped]
        filled = space.is_filled(space.here(voxels), FILLED_SHARE)
        whole = bool(np.abs(voxels - np.rint(voxels)).max() < WHOLE_VOXELS)
        # Where none lies inside there is no training either way, so less evidence will do.
        convincing = filled and whole if inside else filled or space.voxel_size is not None
        if max(counts) >= FITTING_SHARE * n and convincing:
            return Otherwise(max(counts), is_swapped, nm=voxel_size)
    return None


def finer_fit(written: np.ndarray, space: Space, inside: int) -> Otherwise | None:
    """Find how much finer voxels would have to be for positions in them to lie inside."""
    n = len(written)
    if space.voxel_size is None or (inside and n < FEWEST_FINER):
        return None
    for voxel_size, by_chance in _finer_sizes(space.voxel_size, in_plane=inside > 0):
        if inside > 2 * by_chance * n:
            continue
        reading = replace(AS_THEY_ARE, voxel_size=voxel_size)
        here = space.here(in_voxels(written, reading, space.voxel_size, ""))
        fitting = space.count_inside(here)
        filled = FINER_FILLED_SHARE if inside else FILLED_SHARE
        if fitting >= FITTING_SHARE * n and space.is_filled(here, filled):
            return Otherwise(fitting, voxels_of=voxel_size)
    return None


def _finer_sizes(voxel_size: VoxelSize, in_plane: bool) -> Iterator[tuple[VoxelSize, float]]:
    """Yield sizes, and the share of positions in them that lie inside as they are by chance."""
    z, y, x = voxel_size
    for n in FINER:
        yield (z, y / n, x / n), 1 / n**2
        # The octant of a volume at its origin is common, and its table no other for that.
        if not in_plane:
            yield (z / n, y / n, x / n), 1 / n**3


def as_written(voxels: np.ndarray, reading: Reading, voxel_size: VoxelSize | None) -> np.ndarray:
    """Undo `in_voxels`."""
    if voxel_size is None or (reading.unit == "voxels" and reading.voxel_size is None):
        return voxels
    if reading.voxel_size is None:
        return voxels * np.array(voxel_size)
    return (voxels + 0.5) * (np.array(voxel_size) / np.array(reading.voxel_size)) - 0.5


def present(positions: np.ndarray) -> np.ndarray:
    """Return the rows that hold a position."""
    return positions[np.isfinite(positions).all(axis=1)]


def share(part: int, n: int) -> str:
    """Return a part of a number in words: "all 20", "19 of 20"."""
    return f"all {n}" if part == n else f"{part} of {n}"


def check_reading(
    positions: np.ndarray,
    shape: Sequence[int],
    reading: Reading,
    voxel_size: Sequence[float] | None,
    n_inside: int,
    name: str,
    *,
    offset: Sequence[float] = (0, 0, 0),
    factor: Sequence[float] = (1, 1, 1),
    of_layer: bool = False,
) -> str | None:
    """Say in a sentence which other reading fits far better, and what to do for it; None for none.

    Parameters
    ----------
    positions
        ``(M, 3)`` z, y, x in voxels of the volume, from its first one on; rows of NaN are passed
        over.
    shape
        Size of the volume along z, y, x.
    reading
        How the positions were read.
    voxel_size
        That of the volume's finest level along z, y, x in nm, or None if it is not known.
    n_inside
        How many of the positions lie inside the volume.
    name
        How to call the table in messages.
    offset, factor
        Those of the volume, which have been applied to the positions.
    of_layer
        Whether they are in a layer: flags do not reach these, and what to do is said without.
    """
    size = None if voxel_size is None else triple(voxel_size)
    space = Space(np.array(shape), size, np.array(offset), np.array(factor))
    voxels = space.finest(present(positions))
    n = len(voxels)
    if n == 0:
        return None
    written = as_written(voxels, reading, space.voxel_size)
    found = swapped_fit(written, reading, space, n_inside)
    if found is None and reading.unit == "voxels":
        found = nanometres_fit(written, space, n_inside)
        if found is None and reading.voxel_size is None:
            found = finer_fit(written, space, n_inside)
    if found is None:
        return None
    if of_layer:
        what_to_do = _in_a_layer(found)
    else:
        what_to_do = _what_to_do(found, reading, voxel_size is not None)
    how = _how(found, reading)
    return f"{share(found.n_inside, n)} in {name} would lie inside when read {how}: {what_to_do}"


def _in_a_layer(found: Otherwise) -> str:
    steps = ["swap the columns z and x"] if found.is_swapped else []
    if found.nm is not None:
        steps.append("divide them by the voxel size")
    if found.voxels_of is not None:
        steps.append("give the layer the scale of these voxels")
    return f"{' and '.join(steps)} if that is how they were written"


def _how(found: Otherwise, reading: Reading) -> str:
    order = f"in the order {_other_order(reading)}"
    if found.nm is not None:
        sized = f"in nm, with voxels of {_exact(found.nm, ' × ')} nm"
        return f"{order} and {sized}" if found.is_swapped else sized
    if found.voxels_of is not None:
        return f"in voxels of {_exact(found.voxels_of, ' × ')} nm"
    return order


def _other_order(reading: Reading) -> str:
    return "z, y, x" if reading.convention.endswith("x, y, z") else "x, y, z"


def _what_to_do(found: Otherwise, reading: Reading, is_size_known: bool) -> str:
    """Return the flags for another reading, and those for the present one if it is right."""
    flags, remark = [], ""
    if found.nm is not None:
        flags.append("--position_unit nm")
        if not is_size_known:
            flags.append(f"--voxel_size {_exact(found.nm)}")
    if found.voxels_of is not None:
        flags.append(f"--position_voxel_size {_exact(found.voxels_of)}")
    if found.is_swapped and len(reading.columns) == 3:
        given = reading.columns if _other_order(reading) == "z, y, x" else reading.columns[::-1]
        flags.append(f"--position_columns {command_line(given)}")
        remark = " (the columns that hold z, y and x, in that order)"
    elif found.is_swapped:
        flags.insert(
            0, f"exchange x and z in {', '.join(reading.columns)}" + " and give" * bool(flags)
        )
    advice = " ".join(flags) + remark
    if reading.is_explicit:
        return advice
    right = f"--position_unit {reading.unit}"
    if reading.voxel_size is not None:
        right = f"--position_voxel_size {_exact(reading.voxel_size)}"
    return f"{advice}; if they are right as they are, say so with {right}"


def _exact(lengths: Sequence[float], separator: str = " ") -> str:
    return separator.join(f"{length:g}" for length in lengths)
