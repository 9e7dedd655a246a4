"""File ▸ Open Sample: the synthetic EM volume and its synapses as layers."""

from __future__ import annotations

from typing import Any

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.synapses import AXES

CLASS_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7")
"""Told apart by people who are colour-blind too (Okabe and Ito)."""
POINT_SIZE = 14
"""Diameter of a point in voxels: about that of a synapse."""

LayerTuple = tuple[Any, dict[str, Any], str]


def open_sample() -> list[LayerTuple]:
    """Return the sample as an Image layer and a Points layer, both in nanometres."""
    # Drawing it takes SciPy's slower parts, which nobody needs before.
    from napari_synapse_cl.widgets.sample_cache import cached_sample

    sample = cached_sample()
    return sample_layers(sample.image, sample.synapses, sample.voxel_size)


def sample_layers(
    image: Any, synapses: pd.DataFrame, voxel_size: tuple[float, float, float]
) -> list[LayerTuple]:
    """Return a volume and its synapses as layer data for napari.

    Parameters
    ----------
    image
        ``(Z, Y, X)`` grey values.
    synapses
        Columns z, y, x in voxels, and class.
    voxel_size
        Voxel size along z, y, x in nm.
    """
    geometry = {"scale": voxel_size, "units": ("nm",) * 3, "axis_labels": AXES}
    classes = synapses["class"].astype("category")
    points = {
        "name": "Synapses",
        "features": pd.DataFrame({"class": classes}),
        "face_color": "class",
        "face_color_cycle": list(CLASS_COLORS),
        "border_color": "white",
        "size": POINT_SIZE,
        "opacity": 0.6,
        # In a thick slice a synapse is as wide as it is there.
        "projection_mode": "rescale_spherical",
        **geometry,
    }
    return [
        (image, {"name": "EM sample", **geometry}, "image"),
        (synapses[list(AXES)].to_numpy(float), points, "points"),
    ]
