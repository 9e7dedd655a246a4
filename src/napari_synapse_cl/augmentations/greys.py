"""Brightness, contrast and gamma: each maps grey values to others, wherever they lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from napari_synapse_cl.augmentations.base import (
    IntensityTransform,
    Random,
    balanced_factor,
    decimal,
    per_view,
)
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gamma(IntensityTransform):
    """A power of intensities in [0, 1]: black and white stay, and what lies between moves."""

    gamma: float
    """The exponent."""

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


@dataclass(frozen=True)
class Contrast(IntensityTransform):
    """A factor on how far each voxel is from the mean of its view."""

    contrast: float
    """The factor."""

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


@dataclass(frozen=True)
class Brightness(IntensityTransform):
    """A shift of all intensities."""

    brightness: float
    """What is added."""

    name: ClassVar[str] = "brightness"
    settings: ClassVar[tuple[str, ...]] = ("brightness_range",)
    off: ClassVar[str] = "brightness +0.00"

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the shift evenly."""
        (one,) = random(1)
        return cls(config.brightness_range * (2 * one - 1))

    def describe(self) -> str:
        """Say the shift."""
        shift = decimal(self.brightness, 2)
        return f"brightness {shift if shift.startswith('−') else '+' + shift}"

    @classmethod
    def apply(cls, views: "Tensor", drawn: Sequence[Self]) -> "Tensor":
        """Return brighter or darker views."""
        return views.add_(per_view(views, [one.brightness for one in drawn]))
