"""Say how positions would be read otherwise, where another reading fits far better."""

import shlex
from collections.abc import Sequence

import numpy as np

from napari_synapse_cl.data.tables.fitting import (
    Otherwise,
    Space,
    as_size,
    as_written,
    finer_fit,
    nanometres_fit,
    present,
    share,
    swapped_fit,
)
from napari_synapse_cl.data.tables.reading import Reading


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
    """Say which other reading fits positions far better, and what to do for them to be read so.

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

    Returns
    -------
    str or None
        A sentence; None if no other reading is convincing.
    """
    space = Space(np.array(shape), as_size(voxel_size), np.array(offset), np.array(factor))
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
        flags.append(f"--position_columns {shlex.join(given)}")
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
