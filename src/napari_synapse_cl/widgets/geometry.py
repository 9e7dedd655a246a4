"""Where layers that are made from another lie: at the same place, whatever its transforms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.utils.transforms import CompositeAffine
from numpy.typing import ArrayLike

CHANNEL_AXIS = "channel"


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
    rotate, affine = np.eye(4), np.eye(5)
    rotate[1:, 1:], affine[1:, 1:] = geometry["rotate"], geometry["affine"]
    return {
        "scale": [1.0, *geometry["scale"]],
        "translate": [0.0, *geometry["translate"]],
        "rotate": rotate,
        # Pairs of axes in order: those with the channel come first.
        "shear": [0.0, 0.0, 0.0, *geometry["shear"]],
        "affine": affine,
        "units": ("pixel", *geometry["units"]),
        "axis_labels": (CHANNEL_AXIS, *geometry["axis_labels"]),
    }
