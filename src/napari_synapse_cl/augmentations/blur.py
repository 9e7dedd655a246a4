"""Gaussian blur."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from napari_synapse_cl.augmentations.base import IntensityTransform, Random, reflected
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor

TRUNCATE = 4.0
"""Half-width of the kernel in standard deviations, as in ``scipy.ndimage``."""


@dataclass(frozen=True)
class Blur(IntensityTransform):
    """A Gaussian blur, reflected at the faces.

    The kernel is sampled and cut off as in ``scipy.ndimage.gaussian_filter``.
    """

    blur_sigma: float
    """Standard deviation in voxels."""

    name: ClassVar[str] = "blur"
    settings: ClassVar[tuple[str, ...]] = ("gaussian_blur_sigma",)
    off: ClassVar[str] = "blur σ 0.00 voxels"

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the standard deviation evenly."""
        (one,) = random(1)
        return cls(config.gaussian_blur_sigma * one)

    def describe(self) -> str:
        """Say the standard deviation."""
        return f"blur σ {self.blur_sigma:.2f} voxels"

    @classmethod
    def apply(cls, views: "Tensor", drawn: Sequence[Self]) -> "Tensor":
        """Return blurred views, by banded matrix products."""
        sigma = np.array([one.blur_sigma for one in drawn])
        along = {n: views.new_tensor(blur_matrices(n, sigma)) for n in set(views.shape[2:])}
        batch, _, depth, height, width = shape = views.shape
        views = along[depth] @ views.reshape(batch, depth, -1)
        views = views.view(batch, -1, width) @ along[width].mT
        views = along[height][:, None] @ views.view(batch, depth, height, width)
        return views.view(shape)


def blur_matrices(n: int, sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(B, n, n)`` float64 that blur a line of voxels, reflected at its ends.

    Parameters
    ----------
    n
        Voxels of the line.
    sigma
        ``(B,)``, standard deviations in voxels.
    """
    radii = np.floor(TRUNCATE * sigma + 0.5).astype(int)
    offsets = np.arange(-radii.max(), radii.max() + 1)
    # A sigma of 0 has radius 0, so its kernel is the central 1 whatever it is divided by.
    weights = np.exp(-0.5 * (offsets / sigma.clip(min=1e-6)[:, None]) ** 2)
    weights[np.abs(offsets) > radii[:, None]] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    target = np.arange(n)[:, None]
    source = reflected(target + offsets, n)
    matrices = np.zeros((len(sigma), n, n))
    # Reflected at the faces, a voxel may be seen by several elements of a kernel.
    np.add.at(matrices, (np.arange(len(sigma))[:, None, None], target, source), weights[:, None])
    return matrices
