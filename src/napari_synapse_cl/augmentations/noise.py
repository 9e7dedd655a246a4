"""Noise: added to grey values, or times them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from napari_synapse_cl.augmentations.base import IntensityTransform, Random, per_view
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Noise(IntensityTransform):
    """Gaussian noise, each voxel's drawn for itself.

    It is that of the device's generator: it differs between a CPU and a GPU.
    """

    noise_level: float
    """Standard deviation."""
    noise_seed: int
    """Seed of the generator."""

    name: ClassVar[str] = "noise"
    settings: ClassVar[tuple[str, ...]] = ("noise_level",)
    off: ClassVar[str] = "noise σ 0.000"

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the standard deviation evenly, and a seed."""
        level, seed = random(2)
        return cls(config.noise_level * level, int(seed * 2**53))

    def describe(self) -> str:
        """Say the standard deviation."""
        return f"noise σ {self.noise_level:.3f}"

    @classmethod
    def apply(cls, views: "Tensor", drawn: Sequence[Self]) -> "Tensor":
        """Return noisier views."""
        noise = noise_like(views, [one.noise_seed for one in drawn])
        return views.addcmul_(noise, per_view(views, [one.noise_level for one in drawn]))


def noise_like(views: "Tensor", seeds: Sequence[int]) -> "Tensor":
    """Return noise like the views, of standard deviation 1, each of its own seed.

    Parameters
    ----------
    views
        ``(B, 1, D, H, W)``.
    """
    from napari_synapse_cl.system.loops import share

    noise = views.new_empty(views.shape)
    if views.device.type == "cpu":
        share(_fill, len(noise), noise, seeds)
    else:
        _fill(0, len(noise), noise, seeds)
    return noise


def _fill(start: int, stop: int, noise: "Tensor", seeds: Sequence[int]) -> None:
    import torch

    generator = torch.Generator(device=noise.device)
    # Threads do not take this mode over, and out of it nothing that was made in it may be filled.
    with torch.inference_mode():
        for one, seed in zip(noise[start:stop], seeds[start:stop], strict=True):
            one.normal_(generator=generator.manual_seed(seed))


@dataclass(frozen=True)
class Speckle(IntensityTransform):
    """Each voxel is multiplied by a factor of its own, Gaussian about 1: bright ones vary more.

    It is that of the device's generator: it differs between a CPU and a GPU.
    """

    speckle_level: float
    """Standard deviation of the factor."""
    speckle_seed: int
    """Seed of the generator."""

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
