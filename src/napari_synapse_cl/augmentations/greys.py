"""Brightness, contrast, gamma and noise: what becomes of each grey value by itself."""

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
