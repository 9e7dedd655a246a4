"""What layers hold, in voxels: volumes, labels over them, and positions by way of the world."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.transforms import Affine, CompositeAffine
from numpy.typing import ArrayLike

from napari_synapse_cl.data.formats.places import nanometres
from napari_synapse_cl.data.intensity import sample_blocks
from napari_synapse_cl.data.volumes import AlignedLabels, Volume, open_volume
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, VOLUME_KEY

THE_LAYER = "the layer "
ROLES = "roles"
"""Where the metadata of labels that we opened say which values are what."""
DECIMALS = 4
"""Of positions in voxels that come by way of the world, where large offsets cost accuracy."""
LOCATION = "location"
"""Where the metadata of a layer that we opened say from what."""
OPENED_AS = "opened_as"
"""Where they say what was asked for, where that has several levels of which this is the finest."""
CHANNEL_AXIS = "channel"


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


def in_world(layer: Layer, position: ArrayLike, units: Sequence[Any] | None) -> np.ndarray:
    """Return a position in a layer's data in the viewer's world, where its last axes lie there.

    Parameters
    ----------
    layer
        A 3D layer.
    position
        z, y, x in its data.
    units
        Those of the viewer's dimensions, None where its layers' do not agree.
    """
    ratios = np.ones(3) if units is None else _unit_ratios(layer.units, units[-3:])
    return np.asarray(layer.data_to_world(np.asarray(position, dtype=float)))[-3:] * ratios


def reopened(location: str | None, volume: Volume, *, are_labels: bool = False) -> Volume | None:
    """Return the volume at a location, if another process finds the very voxels of a layer there.

    It reads a sample of both, so it is for a worker thread.

    Parameters
    ----------
    location
        A path or a URL, if there is one.
    are_labels
        Whether these are labels.
    """
    if location is None:
        return None
    try:
        found = open_volume(location, are_labels=are_labels)
        if found.shape != volume.shape or found.array.dtype != volume.array.dtype:
            return None
        # Someone may have put other voxels into the layer since.
        pairs = zip(sample_blocks(found), sample_blocks(volume), strict=True)
        return found if all(np.array_equal(a, b) for a, b in pairs) else None
    except (InputError, JobError):
        return None


def volume_of(image: Image) -> Volume:
    """Return what an image layer holds; of a multiscale layer its finest level.

    Raises
    ------
    InputError
        If it is not 3D grey values.
    """
    if image.rgb:
        raise InputError(
            f"the layer {image.name} is a colour image; a volume of grey values is needed"
        )
    if image.ndim != 3:
        raise InputError(f"the layer {image.name} is a {image.ndim}D image; a 3D volume is needed")
    array = image.data[0] if image.multiscale else image.data
    return Volume(array, name=f"{THE_LAYER}{image.name}")


def location_of(layer: Layer) -> str | None:
    """Return the path or URL that a layer was opened from."""
    told = layer.metadata.get(METADATA_KEY, {})
    if isinstance(told, dict) and told.get(LOCATION):
        return str(told[LOCATION])
    return str(Path(layer.source.path).absolute()) if layer.source.path else None


def is_opened_with(points: Layer, image: Image) -> bool | None:
    """Return whether points were opened with an image; None where they do not know."""
    known = points.metadata.get(VOLUME_KEY)
    if isinstance(known, dict):
        location = known.get(LOCATION)
        if location is not None:
            return location_of(image) == location
        # An image of another name may be the same one.
        return True if image.name == known.get("name") else None
    records = points.metadata.get(METADATA_KEY)
    found = records.values() if isinstance(records, dict) else ()
    # The command line knows a volume by its file, which is what we call its layer.
    names = [r.get("image", r.get("volume")) for r in found if isinstance(r, dict)]
    return True if image.name in names else None


def roles_of(labels: Labels) -> tuple[str, ...]:
    """Return which values of a layer of labels are what, as the setting has it, if it says so."""
    told = labels.metadata.get(METADATA_KEY, {})
    return tuple(told.get(ROLES, ())) if isinstance(told, dict) else ()


def labels_over(image: Image, labels: Labels) -> AlignedLabels:
    """Return a layer of labels in its place over an image.

    Raises
    ------
    InputError
        If it is not 3D, or turned against the image.
    """
    if labels.ndim != 3:
        raise InputError(f"the layer {labels.name} holds {labels.ndim}D labels; 3D ones are needed")
    array = labels.data[0] if labels.multiscale else labels.data
    volume = Volume(array, name=f"{THE_LAYER}{labels.name}")
    ratios = _unit_ratios(image.units, labels.units)
    corners = np.vstack([np.zeros(3), np.eye(3)])
    world = _affine(image.data_to_world, corners)
    there = _affine(labels.world_to_data, world * ratios)
    matrix = there[1:] - there[0]
    scale = np.diag(matrix)
    if not np.allclose(matrix, np.diag(scale), atol=1e-6 * np.abs(matrix).max()):
        raise InputError(
            f"the layer {labels.name} is turned against {image.name}; labels have to lie along the "
            "axes of the image"
        )
    return AlignedLabels(volume, scale, there[0] + 0.5 - 0.5 * scale)


def voxels_in(image: Image, layer: Layer, positions: ArrayLike) -> np.ndarray:
    """Return positions in a layer in voxels of an image, by way of the world."""
    world = _affine(layer.data_to_world, np.asarray(positions, dtype=float))
    voxels = _affine(image.world_to_data, world * _unit_ratios(layer.units, image.units))
    # Half voxels are rounded as on the command line, which does not come by way of the world.
    return np.round(voxels, DECIMALS)


def _affine(transform: Callable[[Sequence[float]], Any], coordinates: np.ndarray) -> np.ndarray:
    """Apply a layer's affine transform, which takes one position at a time, to all at once."""
    offset = np.asarray(transform([0.0, 0.0, 0.0]), dtype=float)
    columns = [np.asarray(transform(list(unit)), dtype=float) - offset for unit in np.eye(3)]
    return coordinates @ np.array(columns) + offset


def _unit_ratios(ones: Sequence[Any], others: Sequence[Any]) -> np.ndarray:
    """Return how many of the other units make one of the ones, along each axis."""
    lengths = [nanometres(unit) for unit in ones]
    other_lengths = [nanometres(unit) for unit in others]
    # A layer without units counts in those of the other.
    if None in lengths or None in other_lengths:
        return np.ones(3)
    return np.array(lengths, dtype=float) / np.array(other_lengths, dtype=float)


def voxel_size_of(image: Image) -> tuple[float, float, float] | None:
    """Return the voxel size along z, y, x in nm of a 3D layer, or None where it is not known."""
    units = [nanometres(unit) for unit in image.units]
    scale = np.abs(np.asarray(image.scale, dtype=float))
    if None in units:
        # Without units the proportions are known, and rotations need no more.
        size = None if np.allclose(scale, scale[0]) else scale
    else:
        size = scale * np.array(units, dtype=float)
    return None if size is None else (float(size[0]), float(size[1]), float(size[2]))


def geometry_of(layer: Layer) -> dict[str, Any]:
    """Return the transforms, units and axis labels of a layer, as keywords of a new one."""
    return {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine.affine_matrix.copy(),
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def geometry_within(
    layer: Layer, origin: ArrayLike, stride: Sequence[float] = (1.0, 1.0, 1.0)
) -> dict[str, Any]:
    """Return the same for a new layer whose elements lie within the voxels of a 3D one.

    Parameters
    ----------
    layer
        A 3D image.
    origin
        Where the centre of the new layer's first element lies, z, y, x in voxels of the layer.
    stride
        Voxels from one element of the new layer to the next, along z, y, x.
    """
    to_physical = CompositeAffine(
        scale=layer.scale,
        translate=layer.translate,
        rotate=layer.rotate,
        shear=layer.shear,
        ndim=layer.ndim,
    )
    return {
        **geometry_of(layer),
        "scale": np.asarray(layer.scale) * np.asarray(stride),
        "translate": to_physical(np.asarray(origin, dtype=float)),
    }


def with_channels(geometry: dict[str, Any]) -> dict[str, Any]:
    """Return the geometry of a 3D layer for one that has channels before its axes z, y, x."""
    parts = {name: geometry[name] for name in ("scale", "translate", "rotate", "shear")}
    to_physical = CompositeAffine(**parts, ndim=3).expand_dims([0])
    return {
        **{name: getattr(to_physical, name) for name in parts},
        "affine": Affine(affine_matrix=geometry["affine"]).expand_dims([0]).affine_matrix,
        "units": ("pixel", *geometry["units"]),
        "axis_labels": (CHANNEL_AXIS, *geometry["axis_labels"]),
    }
