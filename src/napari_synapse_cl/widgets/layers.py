"""What a job needs to know of layers: a volume, a table of synapses in its voxels, a voxel size."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pint
from napari.layers import Image, Points

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
    return _affine(image.world_to_data, world * _unit_ratios(points, image))


def _affine(transform: Callable[[Sequence[float]], Any], coordinates: np.ndarray) -> np.ndarray:
    """Apply a layer's affine transform, which takes one position at a time, to all at once."""
    offset = np.asarray(transform([0.0, 0.0, 0.0]), dtype=float)
    columns = [np.asarray(transform(list(unit)), dtype=float) - offset for unit in np.eye(3)]
    return coordinates @ np.array(columns) + offset


def _unit_ratios(points: Points, image: Image) -> np.ndarray:
    """Return how many of the image's units make one of the points', along each axis."""
    ratios = [_in_nanometres(unit) for unit in points.units]
    image_units = [_in_nanometres(unit) for unit in image.units]
    # A layer without units counts in those of the other.
    if None in ratios or None in image_units:
        return np.ones(3)
    return np.array(ratios, dtype=float) / np.array(image_units, dtype=float)


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
