"""What a job needs to know of layers: a volume, synapses or a box in its voxels, a voxel size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Layer, Points, Shapes
from numpy.typing import ArrayLike

from napari_synapse_cl.data.intensities import sample_blocks
from napari_synapse_cl.data.synapses import AXES
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.map_grid import Box, check_region
from napari_synapse_cl.features.table_formats import FEATURE_COLUMN
from napari_synapse_cl.widgets.units import in_nanometres

NEEDED = "an Image layer with a 3D volume and a Points layer with the synapses are needed"


@dataclass(frozen=True)
class LayerData:
    """A volume and its synapses as they were in the viewer at one moment.

    Attributes
    ----------
    volume
        The image layer's data; of a multiscale layer its finest level.
    table
        One row a point: z, y, x in voxels of the volume, and the layer's features.
    voxel_size
        Voxel size along z, y, x in nm, or None where voxels are cubes of unknown size.
    file
        The file that the image layer was opened from, if any.
    """

    volume: Volume
    table: pd.DataFrame
    voxel_size: tuple[float, float, float] | None
    file: Path | None


def take(image: Image | None, points: Points | None) -> LayerData:
    """Take what a job needs from an image and a points layer.

    Raises
    ------
    InputError
        If a layer is missing, or is not 3D grey values or 3D points.
    """
    if image is None or points is None:
        missing = "image" if image is None else "points"
        raise InputError(f"there is no {missing} layer: {NEEDED}")
    volume = _volume(image)
    if points.ndim != 3:
        raise InputError(f"the layer {points.name} holds {points.ndim}D points; 3D ones are needed")
    if len(points.data) == 0:
        raise InputError(f"the layer {points.name} holds no points")
    return LayerData(
        volume=volume,
        table=_table(_voxels(image, points, points.data), points.features),
        voxel_size=voxel_size_of(image),
        file=_file(image),
    )


def take_position(image: Image | None, position: ArrayLike | None) -> LayerData:
    """Take a position in an image layer for the only synapse of a table.

    Parameters
    ----------
    image
        The layer.
    position
        z, y, x in its voxels.

    Raises
    ------
    InputError
        If the layer or the position is missing, the layer is not 3D grey values, or the position
        lies outside of it.
    """
    if image is None:
        raise InputError("there is no image layer: an Image layer with a 3D volume is needed")
    volume = _volume(image)
    if position is None:
        raise InputError("click in the viewer to choose a position")
    voxel = np.rint(np.asarray(position, dtype=float))
    if ((voxel < 0) | (voxel >= volume.shape)).any():
        raise InputError(
            f"z, y, x = {', '.join(f'{v:.0f}' for v in voxel)} lies outside the layer "
            f"{image.name} of {' × '.join(map(str, volume.shape))} voxels; click inside of it"
        )
    return LayerData(
        volume=volume,
        table=pd.DataFrame([voxel], columns=list(AXES)),
        voxel_size=voxel_size_of(image),
        file=_file(image),
    )


@dataclass(frozen=True)
class RegionData:
    """A volume and a box in it as they were in the viewer at one moment.

    Attributes
    ----------
    volume, voxel_size, file
        As those of :class:`LayerData`.
    box
        The part of the region that lies in the volume.
    """

    volume: Volume
    box: Box
    voxel_size: tuple[float, float, float] | None
    file: Path | None


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
    volume = _volume(image)
    box = Box((0, 0, 0), volume.shape)
    if shapes is not None:
        box = check_region(_box_around(image, shapes, depth), volume.shape)
    return RegionData(volume, box, voxel_size_of(image), _file(image))


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
    voxels = _voxels(image, shapes, corners)
    low, high = np.floor(voxels.min(axis=0) + 0.5), np.floor(voxels.max(axis=0) + 0.5) + 1
    flat = high - low <= 1
    low = np.where(flat, low - (depth - 1) // 2, low).astype(int)
    high = np.where(flat, low + depth, high).astype(int)
    start, stop = low.tolist(), high.tolist()
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def in_units_of(layer: Layer, position: ArrayLike, units: Sequence[Any] | None) -> np.ndarray:
    """Return a position in the viewer's world in the units that a layer counts in.

    Parameters
    ----------
    layer
        A 3D layer.
    position
        In the world; of more than three coordinates the last three are taken.
    units
        Those of the viewer's dimensions, None where its layers' do not agree.
    """
    ratios = np.ones(3) if units is None else _unit_ratios(units[-3:], layer.units)
    return np.asarray(position, dtype=float)[-3:] * ratios


def reopened_file(data: LayerData | RegionData) -> Path | None:
    """Return the file in which another process finds the very voxels of the layer, if there is one.

    It reads a sample of both, so it is for a worker thread.
    """
    if data.file is None:
        return None
    try:
        found = open_volume(data.file)
    except InputError:
        return None
    have, want = found.array, data.volume.array
    if tuple(have.shape) != tuple(want.shape) or have.dtype != want.dtype:
        return None
    # Someone may have put other voxels into the layer since.
    pairs = zip(sample_blocks(found), sample_blocks(data.volume), strict=True)
    return data.file if all(np.array_equal(a, b) for a, b in pairs) else None


def _volume(image: Image) -> Volume:
    if image.rgb:
        raise InputError(
            f"the layer {image.name} is a colour image; a volume of grey values is needed"
        )
    if image.ndim != 3:
        raise InputError(f"the layer {image.name} is a {image.ndim}D image; a 3D volume is needed")
    array = image.data[0] if image.multiscale else image.data
    return Volume(array, name=f"the layer {image.name}")


def _file(image: Image) -> Path | None:
    return Path(image.source.path).absolute() if image.source.path else None


def _table(voxels: np.ndarray, features: pd.DataFrame) -> pd.DataFrame:
    table = pd.DataFrame(voxels, columns=list(AXES))
    others = [
        name
        for name in features.columns
        if name not in AXES and not FEATURE_COLUMN.fullmatch(str(name))
    ]
    return pd.concat([table, features[others].reset_index(drop=True)], axis=1)


def _voxels(image: Image, layer: Layer, positions: ArrayLike) -> np.ndarray:
    """Return positions in a layer in voxels of an image, by way of the world."""
    world = _affine(layer.data_to_world, np.asarray(positions, dtype=float))
    return _affine(image.world_to_data, world * _unit_ratios(layer.units, image.units))


def _affine(transform: Callable[[Sequence[float]], Any], coordinates: np.ndarray) -> np.ndarray:
    """Apply a layer's affine transform, which takes one position at a time, to all at once."""
    offset = np.asarray(transform([0.0, 0.0, 0.0]), dtype=float)
    columns = [np.asarray(transform(list(unit)), dtype=float) - offset for unit in np.eye(3)]
    return coordinates @ np.array(columns) + offset


def _unit_ratios(ones: Sequence[Any], others: Sequence[Any]) -> np.ndarray:
    """Return how many of the other units make one of the ones, along each axis."""
    lengths = [in_nanometres(unit) for unit in ones]
    other_lengths = [in_nanometres(unit) for unit in others]
    # A layer without units counts in those of the other.
    if None in lengths or None in other_lengths:
        return np.ones(3)
    return np.array(lengths, dtype=float) / np.array(other_lengths, dtype=float)


def voxel_size_of(image: Image) -> tuple[float, float, float] | None:
    """Return the voxel size along z, y, x in nm of a 3D layer, or None where it is not known."""
    units = [in_nanometres(unit) for unit in image.units]
    scale = np.abs(np.asarray(image.scale, dtype=float))
    if None in units:
        # Without units the proportions are known, and rotations need no more.
        size = None if np.allclose(scale, scale[0]) else scale
    else:
        size = scale * np.array(units, dtype=float)
    return None if size is None else (float(size[0]), float(size[1]), float(size[2]))
