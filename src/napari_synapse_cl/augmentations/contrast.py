"""Contrast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from napari_synapse_cl.augmentations.base import IntensityTransform, Random, per_view
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Contrast(IntensityTransform):
    """A factor on how far each voxel is from the mean of its view.

    Attributes
    ----------
    contrast
        The factor.
    """

    contrast: float

    name: ClassVar[str] = "contrast"
    settings: ClassVar[tuple[str, ...]] = ("contrast_range",)
    off: ClassVar[str] = "contrast ×1.00"

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the factor evenly."""
        (one,) = random(1)
        return cls(1 + config.contrast_range * (2 * one - 1))

    def describe(self) -> str:
        """Say the factor."""
        return f"contrast ×{self.contrast:.2f}"

    @classmethod
    def apply(cls, views: "Tensor", drawn: Sequence[Self]) -> "Tensor":
        """Return views with other contrasts, and the same means."""
        factors = per_view(views, [one.contrast for one in drawn])
        means = views.mean(dim=(1, 2, 3, 4), keepdim=True)
        return (means * (1 - factors)).addcmul(views, factors)
