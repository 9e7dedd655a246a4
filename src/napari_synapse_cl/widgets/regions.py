"""What a job needs to know of a region: a volume and a box in its voxels."""

from dataclasses import dataclass

import numpy as np
from napari.layers import Image, Shapes

from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.map_grid import Box, check_region
from napari_synapse_cl.widgets.layer_voxels import location_of, volume_of, voxel_size_of, voxels_in


@dataclass(frozen=True)
class RegionData:
    """A volume and a box in it as they were in the viewer at one moment.

    Attributes
    ----------
    volume, voxel_size, location
        As those of :class:`LayerData`.
    box
        The part of the region that lies in the volume.
    """

    volume: Volume
    box: Box
    voxel_size: tuple[float, float, float] | None
    location: str | None


def take_region(image: Image | None, shapes: Shapes | None = None, depth: int = 1) -> RegionData:
    """Take an image layer, or the box around shapes that are drawn on it.

    Parameters
    ----------
    image
        The layer.
    shapes
        The box is around the shapes that are selected in this layer, or around all if none are.
        None for the whole volume.
    depth
        How many voxels deep a box is along an axis on which the shapes have no extent.

    Raises
    ------
    InputError
        If the image is missing or not 3D grey values, there are no shapes, or they lie outside of
        it.
    """
    if image is None:
        raise InputError("there is no image layer: an Image layer with a 3D volume is needed")
    volume = volume_of(image)
    box = Box((0, 0, 0), volume.shape)
    if shapes is not None:
        box = check_region(_box_around(image, shapes, depth), volume.shape)
    return RegionData(volume, box, voxel_size_of(image), location_of(image))


def _box_around(image: Image, shapes: Shapes, depth: int) -> Box:
    if shapes.ndim != 3:
        raise InputError(
            f"the layer {shapes.name} holds {shapes.ndim}D shapes; draw a rectangle in a Shapes "
            "layer that was added while the volume was there"
        )
    chosen = sorted(shapes.selected_data) or range(len(shapes.data))
    if not len(chosen):
        raise InputError(f"the layer {shapes.name} holds no shapes: draw a rectangle around a part")
    corners = np.concatenate([np.asarray(shapes.data[i], dtype=float) for i in chosen])
    voxels = voxels_in(image, shapes, corners)
    low, high = nearest_voxel(voxels.min(axis=0)), nearest_voxel(voxels.max(axis=0)) + 1
    flat = high - low <= 1
    low = np.where(flat, low - (depth - 1) // 2, low).astype(int)
    high = np.where(flat, low + depth, high).astype(int)
    start, stop = low.tolist(), high.tolist()
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
