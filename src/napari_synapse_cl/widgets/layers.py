"""What a job needs to know of layers: a volume, a table of synapses in its voxels, a voxel size."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pint
from napari.layers import Image, Layer, Points
from numpy.typing import ArrayLike

from napari_synapse_cl.data.synapses import AXES
from napari_synapse_cl.data.volumes import Volume, open_volume, sample_blocks
from napari_synapse_cl.errors import InputError

FEATURE_COLUMN = re.compile(r"L\d+_(mean|max)_\d{3,}")
"""Names of the columns that an extraction adds to a layer."""

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
        table=_table(_voxels(image, points), points.features),
        voxel_size=_voxel_size(image),
        file=Path(image.source.path).absolute() if image.source.path else None,
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
        voxel_size=_voxel_size(image),
        file=Path(image.source.path).absolute() if image.source.path else None,
    )


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


def reopened_file(data: LayerData) -> Path | None:
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


def _table(voxels: np.ndarray, features: pd.DataFrame) -> pd.DataFrame:
    table = pd.DataFrame(voxels, columns=list(AXES))
    others = [
        name
        for name in features.columns
        if name not in AXES and not FEATURE_COLUMN.fullmatch(str(name))
    ]
    return pd.concat([table, features[others].reset_index(drop=True)], axis=1)


def _voxels(image: Image, points: Points) -> np.ndarray:
    """Return the points in voxels of the image, by way of the world."""
    world = _affine(points.data_to_world, np.asarray(points.data, dtype=float))
    return _affine(image.world_to_data, world * _unit_ratios(points.units, image.units))


def _affine(transform: Callable[[Sequence[float]], Any], coordinates: np.ndarray) -> np.ndarray:
    """Apply a layer's affine transform, which takes one position at a time, to all at once."""
    offset = np.asarray(transform([0.0, 0.0, 0.0]), dtype=float)
    columns = [np.asarray(transform(list(unit)), dtype=float) - offset for unit in np.eye(3)]
    return coordinates @ np.array(columns) + offset


def _unit_ratios(ones: Sequence[Any], others: Sequence[Any]) -> np.ndarray:
    """Return how many of the other units make one of the ones, along each axis."""
    lengths = [_in_nanometres(unit) for unit in ones]
    other_lengths = [_in_nanometres(unit) for unit in others]
    # A layer without units counts in those of the other.
    if None in lengths or None in other_lengths:
        return np.ones(3)
    return np.array(lengths, dtype=float) / np.array(other_lengths, dtype=float)


def _in_nanometres(unit: Any) -> float | None:
    """Return the length of a unit in nm, or None if it is not one of length."""
    try:
        return float((1 * pint.get_application_registry().Unit(str(unit))).to("nm").magnitude)
    except pint.DimensionalityError:
        return None


def _voxel_size(image: Image) -> tuple[float, float, float] | None:
    units = [_in_nanometres(unit) for unit in image.units]
    scale = np.abs(np.asarray(image.scale, dtype=float))
    if None in units:
        # Without units the proportions are known, and rotations need no more.
        size = None if np.allclose(scale, scale[0]) else scale
    else:
        size = scale * np.array(units, dtype=float)
    return None if size is None else (float(size[0]), float(size[1]), float(size[2]))
