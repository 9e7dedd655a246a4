"""All transforms of views, in the order of their application.

The window reads this list to know how much tissue views need: modules of transforms import PyTorch
where they compute, not at their head.
"""

from napari_synapse_cl.augmentations.base import (
    IntensityTransform,
    SectionTransform,
    SpatialTransform,
)
from napari_synapse_cl.augmentations.blur import Blur
from napari_synapse_cl.augmentations.brightness import Brightness
from napari_synapse_cl.augmentations.contrast import Contrast
from napari_synapse_cl.augmentations.cutout import Cutout
from napari_synapse_cl.augmentations.flip import Flip
from napari_synapse_cl.augmentations.gamma import Gamma
from napari_synapse_cl.augmentations.noise import Noise
from napari_synapse_cl.augmentations.rotation import Rotation
from napari_synapse_cl.augmentations.scale import Scale
from napari_synapse_cl.augmentations.section_blur import SectionBlur
from napari_synapse_cl.augmentations.section_brightness import SectionBrightness
from napari_synapse_cl.augmentations.section_faults import LostSections, SlippedSections
from napari_synapse_cl.augmentations.shift import Shift
from napari_synapse_cl.augmentations.speckle import Speckle
from napari_synapse_cl.augmentations.uniform_rotation import UniformRotation

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
