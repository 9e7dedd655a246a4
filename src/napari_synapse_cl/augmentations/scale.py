"""Scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from napari_synapse_cl.augmentations.base import Random, SpatialTransform, balanced_factor
from napari_synapse_cl.config import AugmentationConfig


@dataclass(frozen=True)
class Scale(SpatialTransform):
    """A magnification, the same along all axes in physical space.

    Attributes
    ----------
    scale
        How much larger tissue appears.
    """

    scale: float

    name: ClassVar[str] = "scale"
    settings: ClassVar[tuple[str, ...]] = ("scale_range",)

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the magnification, as often larger as smaller."""
        (one,) = random(1)
        return cls(balanced_factor(config.scale_range, one))

    def describe(self) -> str:
        """Say the magnification."""
        return f"magnified ×{self.scale:.2f}"

    @classmethod
    def matrices(cls, drawn: Sequence[Self]) -> NDArray[np.float64]:
        """Return ``(B, 3, 3)`` float64."""
        scales = np.array([one.scale for one in drawn])
        return np.eye(3) / scales[:, None, None]

    @classmethod
    def reach(cls, config: AugmentationConfig, extent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(3,)``, as far as the smallest magnification sees."""
        return extent * (1 + config.scale_range)
