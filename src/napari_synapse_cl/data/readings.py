"""Tell of positions that were written down otherwise than they were read."""

from collections.abc import Sequence

import numpy as np

from napari_synapse_cl.data.tables.fitting import (
    AS_THEY_ARE,
    Space,
    as_size,
    nanometres_fit,
    present,
    share,
    swapped_fit,
)


def likely_reading(
    positions: np.ndarray, shape: Sequence[int], voxel_size: Sequence[float] | None
) -> str | None:
    """Say how positions seem to be written, where that is not voxels along z, y, x.

    Parameters
    ----------
    positions
        ``(N, 3)``, read as z, y, x in voxels; rows of NaN are passed over.
    shape
        Size of the volume along z, y, x.
    voxel_size
        Voxel size along z, y, x in nm, or None if it is not known.

    Returns
    -------
    str or None
        How many lie inside when read otherwise, and what to do; None if nothing is convincing.
    """
    positions = present(positions)
    n = len(positions)
    if n == 0:
        return None
    space = Space(np.array(shape), as_size(voxel_size))
    inside = space.count_inside(positions)
    found = swapped_fit(positions, AS_THEY_ARE, space, inside) or nanometres_fit(
        positions, space, inside
    )
    if found is None:
        return None
    if found.nm is None:
        return (
            f"{share(found.n_inside, n)} would lie inside when read in the order x, y, z; swap "
            "the columns z and x if that is how they were written"
        )
    given = "a voxel size" if voxel_size is None else "the voxel size"
    order = ", in the order x, y, z," if found.is_swapped else ""
    lengths = ", ".join(f"{length:g}" for length in found.nm)
    return (
        f"{share(found.n_inside, n)} would lie inside when read in nm{order} with {given} of "
        f"{lengths} nm along z, y, x; divide them by the voxel size if that is how they were "
        "written"
    )
