"""Rotation drawn evenly from all that there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import acos, copysign, cos, degrees, pi, sin, sqrt
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from napari_synapse_cl.augmentations.base import Random, SpatialTransform, decimal
from napari_synapse_cl.augmentations.rotation import Rotation
from napari_synapse_cl.config import AugmentationConfig


@dataclass(frozen=True)
class UniformRotation(SpatialTransform):
    """Rotation drawn evenly from SO(3), in physical space.

    Three angles, each drawn evenly from all there are, do not do so: they turn the axes of the
    view too often near those of the volume.

    Attributes
    ----------
    quaternion
        Of length 1: the cosine of half the angle, and the axis along z, y, x times its sine.
    """

    quaternion: tuple[float, ...]

    name: ClassVar[str] = "uniform_rotation"
    settings: ClassVar[tuple[str, ...]] = ("uniform_rotation",)
    instead_of: ClassVar[str] = Rotation.name

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw an even unit quaternion, as Shoemake (1992), Graphics Gems III.6."""
        share, one, two = random(3)
        one, two = 2 * pi * one, 2 * pi * two
        low, high = sqrt(1 - share), sqrt(share)
        return cls((low * sin(one), low * cos(one), high * sin(two), high * cos(two)))

    def describe(self) -> str:
        """Say the angle, of at most 180°, and the axis."""
        w, *along = (copysign(1, self.quaternion[0]) * one for one in self.quaternion)
        length = sqrt(sum(one**2 for one in along)) or 1.0
        axis = ", ".join(decimal(one / length, 2) for one in along)
        return f"rotated {degrees(2 * acos(min(w, 1))):.1f}° about the axis z, y, x = {axis}"

    @classmethod
    def matrices(cls, drawn: Sequence[Self]) -> NDArray[np.float64]:
        """Return ``(B, 3, 3)`` float64."""
        w, a, b, c = np.array([one.quaternion for one in drawn]).T
        rows = (
            (1 - 2 * (b * b + c * c), 2 * (a * b - w * c), 2 * (a * c + w * b)),
            (2 * (a * b + w * c), 1 - 2 * (a * a + c * c), 2 * (b * c - w * a)),
            (2 * (a * c - w * b), 2 * (b * c + w * a), 1 - 2 * (a * a + b * b)),
        )
        return np.moveaxis(np.array(rows), 2, 0)

    @classmethod
    def reach(cls, config: AugmentationConfig, extent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(3,)``, half the diagonal of the view along each axis."""
        return np.full(3, np.linalg.norm(extent))
