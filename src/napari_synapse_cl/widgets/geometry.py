"""Where layers that are made from another lie: at the same place, whatever its transforms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.utils.transforms import Affine, CompositeAffine
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
    parts = {name: geometry[name] for name in ("scale", "translate", "rotate", "shear")}
    to_physical = CompositeAffine(**parts, ndim=3).expand_dims([0])
    return {
        **{name: getattr(to_physical, name) for name in parts},
        "affine": Affine(affine_matrix=geometry["affine"]).expand_dims([0]).affine_matrix,
        "units": ("pixel", *geometry["units"]),
        "axis_labels": (CHANNEL_AXIS, *geometry["axis_labels"]),
    }
