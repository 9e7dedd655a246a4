"""Gamma."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from napari_synapse_cl.augmentations.base import (
    IntensityTransform,
    Random,
    balanced_factor,
    per_view,
)
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gamma(IntensityTransform):
    """A power of intensities in [0, 1]: black and white stay, and what lies between moves.

    Attributes
    ----------
    gamma
        The exponent.
    """

    gamma: float

    name: ClassVar[str] = "gamma"
    settings: ClassVar[tuple[str, ...]] = ("gamma_range",)

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the exponent, as often brighter as darker."""
        (one,) = random(1)
        return cls(balanced_factor(config.gamma_range, one))

    def describe(self) -> str:
        """Say the exponent."""
        return f"gamma {self.gamma:.2f}"

    @classmethod
    def apply(cls, views: "Tensor", drawn: Sequence[Self]) -> "Tensor":
        """Return views with other greys between black and white."""
        exponents = per_view(views, [one.gamma for one in drawn])
        # Of what lies below black there is no power.
        return views.clamp_(0, 1).pow_(exponents)
