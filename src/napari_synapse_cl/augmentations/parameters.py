"""What is drawn for a view: random numbers as named parameters, and these in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl.config import AugmentationConfig

_N_UNIFORMS = 10


@dataclass(frozen=True)
class AugmentationParameters:
    """Parameters of one view for each of B crops; all tensors are on the CPU.

    Attributes
    ----------
    angles
        ``(B, 3)`` float32, rotation about z, y, x in degrees.
    flips
        ``(B, 3)`` bool, flip along z, y, x.
    blur_sigma
        ``(B,)`` float32, standard deviation of the Gaussian blur in voxels.
    contrast
        ``(B,)`` float32, factor on the deviation from the crop's mean.
    brightness
        ``(B,)`` float32, added intensity.
    noise_level
        ``(B,)`` float32, standard deviation of the added noise.
    noise_seed
        ``(B,)`` int64, seed of each crop's noise.
    """

    angles: Tensor
    flips: Tensor
    blur_sigma: Tensor
    contrast: Tensor
    brightness: Tensor
    noise_level: Tensor
    noise_seed: Tensor

    def __len__(self) -> int:
        return len(self.angles)


def draw(config: AugmentationConfig, n: int, generator: torch.Generator) -> AugmentationParameters:
    """Draw the parameters of one view for each of `n` crops.

    Parameters
    ----------
    config
        The ranges to draw from.
    n
        Number of crops.
    generator
        Source of randomness, on the CPU.
    """
    return _within(config, *_random_numbers(n, generator))


def _random_numbers(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return ``(n, 10)`` numbers in [0, 1), and ``(n,)`` seeds."""
    uniform = torch.rand(n, _N_UNIFORMS, generator=generator)
    return uniform, torch.randint(2**62, (n,), generator=generator)


def _within(config: AugmentationConfig, uniform: Tensor, seed: Tensor) -> AugmentationParameters:
    """Return the parameters that random numbers stand for."""
    symmetric = 2 * uniform - 1
    return AugmentationParameters(
        angles=config.rotation_range * symmetric[:, 0:3],
        flips=uniform[:, 3:6] < config.flip_prob,
        blur_sigma=config.gaussian_blur_sigma * uniform[:, 6],
        contrast=1 + config.contrast_range * symmetric[:, 7],
        brightness=config.brightness_range * symmetric[:, 8],
        noise_level=config.noise_level * uniform[:, 9],
        noise_seed=seed,
    )


def draw_pair(
    config: AugmentationConfig, seed: int, epoch: int, synapses: Sequence[int]
) -> tuple[AugmentationParameters, AugmentationParameters]:
    """Draw both views of each synapse as training with `seed` sees them in `epoch`.

    Every synapse has a stream of random numbers of its own, so a pair does not depend on the batch
    it is in, and no state has to be kept to go on with a training or to show a pair again.

    Parameters
    ----------
    config
        The ranges to draw from.
    seed
        Seed of the training.
    epoch
        Epoch, counted from 1; 0 is the fixed pair of the validation.
    synapses
        Row of each synapse in its table.
    """
    drawn: list[tuple[Tensor, Tensor]] = []
    generator = torch.Generator()
    for synapse in synapses:
        entropy = np.random.SeedSequence([seed, epoch, int(synapse)]).generate_state(1, np.uint64)
        generator.manual_seed(int(entropy[0] >> 1))
        drawn += [_random_numbers(1, generator) for _ in range(2)]
    uniform, seeds = (torch.cat(numbers) for numbers in zip(*drawn, strict=True))
    return _within(config, uniform[::2], seeds[::2]), _within(config, uniform[1::2], seeds[1::2])


def describe(parameters: AugmentationParameters, index: int) -> str:
    """Say in words what was drawn for view `index`: "rotated 11.3° about z, …; flipped x; …"."""
    angles = ", ".join(
        f"{_decimal(angle, 1)}° about {axis}"
        for angle, axis in zip(parameters.angles[index].tolist(), "zyx", strict=True)
    )
    flipped = [a for a, flip in zip("zyx", parameters.flips[index].tolist(), strict=True) if flip]
    brightness = _decimal(float(parameters.brightness[index]), 2)
    return "; ".join(
        [
            f"rotated {angles}" if parameters.angles[index].any() else "not rotated",
            f"flipped {', '.join(flipped)}" if flipped else "not flipped",
            f"blur σ {parameters.blur_sigma[index]:.2f} voxels",
            f"contrast ×{parameters.contrast[index]:.2f}",
            f"brightness {brightness if brightness.startswith('−') else '+' + brightness}",
            f"noise σ {parameters.noise_level[index]:.3f}",
        ]
    )


def _decimal(value: float, digits: int) -> str:
    """Write a number with a true minus sign, and none before a zero."""
    return f"{value:z.{digits}f}".replace("-", "−")
