"""All transforms of views, in the order of their application.

The window reads this list to know how much tissue views need: modules of transforms import PyTorch
where they compute, not at their head.
"""

from collections.abc import Sequence

import numpy as np

from napari_synapse_cl.augmentations.base import (
    IntensityTransform,
    SectionTransform,
    SpatialTransform,
)
from napari_synapse_cl.augmentations.detail import Blur, Cutout
from napari_synapse_cl.augmentations.greys import Brightness, Contrast, Gamma, Noise, Speckle
from napari_synapse_cl.augmentations.sections import (
    LostSections,
    SectionBlur,
    SectionBrightness,
    SlippedSections,
)
from napari_synapse_cl.augmentations.spatial import Flip, Rotation, Scale, Shift, UniformRotation
from napari_synapse_cl.config import AugmentationConfig, unit_of
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import triple

SECTIONS: tuple[type[SectionTransform], ...] = (
    SlippedSections,
    SectionBlur,
    SectionBrightness,
    LostSections,
)
"""Are applied to the sections of the crop, one after the other."""

SPATIAL: tuple[type[SpatialTransform], ...] = (
    # The same ball of places, however the view is turned.
    Shift,
    Rotation,
    UniformRotation,
    Scale,
    Flip,
)
"""Become one resampling of the crop, as if one were applied after the other."""

INTENSITY: tuple[type[IntensityTransform], ...] = (
    Blur,
    # Before those after which greys may lie beyond [0, 1].
    Gamma,
    Contrast,
    Brightness,
    Cutout,
    # After all that smooths, which would leave a mark in it.
    Speckle,
    Noise,
)
"""Are applied to what was resampled, one after the other."""


ROUNDING = 1e-6
"""Voxels by which a place may be wrong."""


def context_shape(
    shape: Sequence[int],
    config: AugmentationConfig,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[int, int, int]:
    """Return the size a crop must be cut at so that every view of it shows tissue, not padding.

    Parameters
    ----------
    shape
        Size of a view in voxels.
    config
        What views are drawn by.
    voxel_size
        Voxel size along z, y, x, in any unit.

    Returns
    -------
    tuple of int
        Size along z, y, x; it exceeds `shape` by an even number, so the centres agree.
    """
    size = np.array(voxel_size, dtype=np.float64)
    half = (np.array(shape, dtype=np.float64) - 1) / 2
    reach = extent = half * size
    # A place in the view goes through what is applied last first.
    for transform in reversed((*SECTIONS, *SPATIAL)):
        if transform.is_on(config):
            reach = transform.reach(config, reach)
    margins = np.zeros(3, dtype=int)
    if (reach != extent).any():
        # One voxel more: linear interpolation reads the neighbour beyond.
        margins = np.ceil(reach / size - half - ROUNDING).clip(min=0).astype(int) + 1
    return triple(int(s + 2 * m) for s, m in zip(shape, margins, strict=True))


def context_settings(config: AugmentationConfig) -> list[str]:
    """Return the names of the settings for which crops are cut larger than views."""
    view = np.ones(3)
    return [
        transform.settings[0]
        for transform in (*SECTIONS, *SPATIAL)
        if transform.is_on(config) and (transform.reach(config, view) > view).any()
    ]


def check_voxel_size(
    config: AugmentationConfig, voxel_size: Sequence[float] | None, name: str
) -> None:
    """Refuse lengths in nm where the voxel size is not known.

    Parameters
    ----------
    config
        What views are drawn by.
    voxel_size
        Voxel size in nm, or None.
    name
        How to call the volume.

    Raises
    ------
    InputError
        If a transform that is on counts in nm, and there is no voxel size.
    """
    if voxel_size is not None:
        return
    for transform in (*SECTIONS, *SPATIAL, *INTENSITY):
        for setting in transform.settings if transform.is_on(config) else ():
            if unit_of(AugmentationConfig.model_fields[setting]) == "nm":
                raise InputError(
                    f"{setting} counts in nm, and the voxel size of {name} is not known; give it "
                    "as voxel_size"
                )


def changes_sections(config: AugmentationConfig) -> bool:
    """Return whether crops are copied and changed before they are resampled."""
    return any(transform.is_on(config) for transform in SECTIONS)


def with_jitter_room(
    shape: tuple[int, int, int],
    crop_size: Sequence[int],
    reach: float,
    voxel_size: Sequence[float],
) -> tuple[int, int, int]:
    """Return the size of crops in which there is room for moving the centre too.

    Parameters
    ----------
    shape
        Size that crops have else, along z, y, x.
    crop_size
        Size of what is read, which is moved.
    reach
        How far its centre is moved, in the unit of the voxel size.
    voxel_size
        Voxel size along z, y, x.
    """
    # Moves are rounded to whole voxels.
    moves = (int(np.rint(reach / length)) for length in voxel_size)
    needed = (n + 2 * move for n, move in zip(crop_size, moves, strict=True))
    return triple(map(max, shape, needed))
