"""Brightness."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from napari_synapse_cl.augmentations.base import IntensityTransform, Random, decimal, per_view
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Brightness(IntensityTransform):
    """A shift of all intensities.

    Attributes
    ----------
    brightness
        What is added.
    """

    brightness: float

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
