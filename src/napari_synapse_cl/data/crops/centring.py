"""Where crops are centred: on the synapse, or nearer to its presynaptic side."""

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.crops.cutting import CUBES
from napari_synapse_cl.data.crops.masks import presynaptic_side
from napari_synapse_cl.data.crops.recipes import SIDES, Recipe
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.placing import Placed, are_inside
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import VoxelSize


def centred(part: Part, placed: Placed, config: Config, voxel_size: VoxelSize | None) -> np.ndarray:
    """Return where crops are centred, ``(M, 3)`` in voxels of the volume.

    Parameters
    ----------
    part
        The volume.
    placed
        Its synapses.
    config
        How far to move, and what crops are.
    voxel_size
        Voxel size of the crops along z, y, x in nm, or None where it is not known.

    Raises
    ------
    InputError
        If the presynaptic sides are not known.
    """
    weight, voxels, partners = config.presynaptic_shift, placed.voxels, placed.partners
    if weight == 0:
        return voxels
    if "presynapse" in partners:
        sides = partners["presynapse"]
    elif all(name in partners for name in SIDES):
        sides = _of_sides(part, placed, config, voxel_size)
    else:
        raise InputError(
            "presynaptic_shift needs the position of each presynaptic side, in columns such as "
            "pre_z, pre_y, pre_x, or of both sides with labels that tell vesicles"
        )
    moved = voxels + weight * (sides - voxels)
    # Where a side is not known the crop stays on the synapse.
    return np.where(are_inside(moved, part.volume)[:, None], moved, voxels)


def _of_sides(
    part: Part, placed: Placed, config: Config, voxel_size: VoxelSize | None
) -> np.ndarray:
    """Return of two sides the one whose cell holds more of the vesicles."""
    recipe = Recipe.parse("presynapse", part.roles, config.keep_nearest, 0.0)
    if part.labels is None or part.segmentation is None:
        raise InputError(
            "to tell which side of a synapse is presynaptic, labels with vesicles and a "
            "segmentation are needed"
        )
    z, y, x = part.reach(config.crop_size, voxel_size)
    found, partners = np.full_like(placed.voxels, np.nan), placed.partners
    for row in np.flatnonzero(placed.inside(part.volume)):
        centre = nearest_voxel(placed.voxels[row]).astype(int).tolist()
        side = presynaptic_side(
            part.labels.cut(centre, (z, y, x)),
            part.segmentation.cut(centre, (z, y, x)),
            recipe,
            (z // 2, y // 2, x // 2),
            {name: part.segmentation.at(partners[name][row]) for name in SIDES},
            part.voxel_size or CUBES,
        )
        found[row] = partners[side][row]
    return found
