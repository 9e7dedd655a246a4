"""What looks wrong, or is worth knowing, about the positions of synapses in a volume."""

from __future__ import annotations

import numpy as np

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.synapses import AXES
from napari_synapse_cl.data.tables.advice import check_reading
from napari_synapse_cl.data.tables.fitting import AS_THEY_ARE, Space, present

NO_VOXEL_SIZE = (
    "the voxel size is not known, so voxels are taken as cubes: rotations are wrong where they are "
    "not, and no length can be given in nm; give it with --voxel_size, or in napari as the scale "
    "of the layer, with units"
)


def position_warnings(
    table: pd.DataFrame,
    volume_shape: tuple[int, int, int],
    voxel_size: tuple[float, float, float] | None,
    name: str = "the points layer",
) -> list[str]:
    """Say in sentences what looks wrong about positions: swapped axes, nanometres, no voxel size.

    Parameters
    ----------
    table
        With numeric columns z, y, x in voxels.
    volume_shape
        Size of the volume along z, y, x.
    voxel_size
        Voxel size along z, y, x in nm, or None if it is not known.
    name
        How to call the table in messages.
    """
    warnings = []
    positions = present(table[list(AXES)].to_numpy(float))
    inside = Space(np.array(volume_shape), voxel_size).count_inside(positions)
    reading = check_reading(
        positions, volume_shape, AS_THEY_ARE, voxel_size, inside, name, of_layer=True
    )
    if reading:
        warnings.append(f"many positions lie outside the volume: {reading}")
    if voxel_size is None:
        warnings.append(NO_VOXEL_SIZE)
    return warnings
