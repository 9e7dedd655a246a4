"""Random 3D augmentations: drawn for each view, then applied to a whole batch on its device.

:func:`draw` turns random numbers into named parameters and :func:`apply` turns a batch and its
parameters into views, so a view can be replayed, described and compared with a reference. Rotation
and flips are one affine resampling; noise comes after it, so that the smoothing of the resampling
tells nothing apart.

On a CPU the voxels are computed by compiled loops; where these are not to be had and on other
devices by PyTorch, with the same results but for rounding.
"""

from napari_synapse_cl.augmentations.applying import apply
from napari_synapse_cl.augmentations.blurring import BLUR_TRUNCATE, blur
from napari_synapse_cl.augmentations.intensity import add_noise, adjust_intensity
from napari_synapse_cl.augmentations.parameters import (
    AugmentationParameters,
    describe,
    draw,
    draw_pair,
)
from napari_synapse_cl.augmentations.resampling import affine_matrices, centre_crop, resample

__all__ = [
    "BLUR_TRUNCATE",
    "AugmentationParameters",
    "add_noise",
    "adjust_intensity",
    "affine_matrices",
    "apply",
    "blur",
    "centre_crop",
    "describe",
    "draw",
    "draw_pair",
    "resample",
]
