"""All augmentations of a view in a row."""

from collections.abc import Sequence

from torch import Tensor

from napari_synapse_cl.augmentations.blurring import blur
from napari_synapse_cl.augmentations.intensity import finish
from napari_synapse_cl.augmentations.parameters import AugmentationParameters
from napari_synapse_cl.augmentations.resampling import affine_matrices, resample


def apply(
    crops: Tensor,
    parameters: AugmentationParameters,
    shape: Sequence[int],
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Make one view of each crop: resample, blur, contrast, brightness, noise, clip to [0, 1].

    Parameters
    ----------
    crops
        ``(B, 1, D, H, W)`` float32 in [0, 1], with context around the view.
    parameters
        Parameters of B views.
    shape
        Size of the views along z, y, x; at most that of the crops, and as even or odd.
    voxel_size
        Voxel size along z, y, x, in any unit.

    Returns
    -------
    Tensor
        ``(B, 1, *shape)`` float32 in [0, 1], on the device of the crops.
    """
    views = resample(crops, affine_matrices(parameters, voxel_size), shape)
    views = blur(views, parameters.blur_sigma)
    return finish(views, parameters)
