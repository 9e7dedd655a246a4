"""Multiplicative noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from napari_synapse_cl.augmentations.base import IntensityTransform, Random, per_view
from napari_synapse_cl.augmentations.noise import noise_like
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Speckle(IntensityTransform):
    """Each voxel is multiplied by a factor of its own, Gaussian about 1: bright ones vary more.

    It is that of the device's generator: it differs between a CPU and a GPU.

    Attributes
    ----------
    speckle_level
        Standard deviation of the factor.
    speckle_seed
        Seed of the generator.
    """

    speckle_level: float
    speckle_seed: int

    name: ClassVar[str] = "speckle"
    settings: ClassVar[tuple[str, ...]] = ("speckle_level",)

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the standard deviation evenly, and a seed."""
        level, seed = random(2)
        return cls(config.speckle_level * level, int(seed * 2**53))

    def describe(self) -> str:
        """Say the standard deviation."""
        return f"speckle σ {self.speckle_level:.3f}"

    @classmethod
    def apply(cls, views: "Tensor", drawn: Sequence[Self]) -> "Tensor":
        """Return noisier views."""
        factors = noise_like(views, [one.speckle_seed for one in drawn])
        factors.mul_(per_view(views, [one.speckle_level for one in drawn])).add_(1)
        return views.mul_(factors)
