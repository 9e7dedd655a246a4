"""Random 3D augmentations: drawn for each view, then applied to a whole batch on its device.

:func:`draw` turns random numbers into named parameters and :func:`apply` turns a batch and its
parameters into views, so a view can be replayed, described and compared with a reference. Rotation
and flips are one affine resampling; noise comes after it, so that the smoothing of the resampling
tells nothing apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_synapse_cl.config import AugmentationConfig
from napari_synapse_cl.context import rotations

_N_UNIFORMS = 10
BLUR_TRUNCATE = 4.0
"""Half-width of the blur kernel in standard deviations, as in ``scipy.ndimage``."""


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

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Join the parameters of several batches into those of one."""
        return cls(
            *(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls))
        )


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
    uniform = torch.rand(n, _N_UNIFORMS, generator=generator)
    seed = torch.randint(2**62, (n,), generator=generator)
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
    views: tuple[list[AugmentationParameters], list[AugmentationParameters]] = ([], [])
    for synapse in synapses:
        entropy = np.random.SeedSequence([seed, epoch, int(synapse)]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(entropy[0] >> 1))
        for view in views:
            view.append(draw(config, 1, generator))
    return AugmentationParameters.cat(views[0]), AugmentationParameters.cat(views[1])


def rotation_matrices(angles: Tensor) -> Tensor:
    """Return the rotations Rz @ Ry @ Rx as matrices on (z, y, x) vectors.

    Parameters
    ----------
    angles
        ``(B, 3)``, about z, y, x in degrees.

    Returns
    -------
    Tensor
        ``(B, 3, 3)`` float64.
    """
    return torch.from_numpy(rotations(angles.numpy()))


def affine_matrices(
    parameters: AugmentationParameters, voxel_size: Sequence[float] = (1.0, 1.0, 1.0)
) -> Tensor:
    """Return what maps a view's voxel offsets from its centre to those in the crop.

    Rotation happens in physical space: offsets are scaled to lengths, flipped, rotated, and scaled
    back.

    Parameters
    ----------
    parameters
        Parameters of B views.
    voxel_size
        Voxel size along z, y, x, in any unit.

    Returns
    -------
    Tensor
        ``(B, 3, 3)`` float64, on (z, y, x) vectors.
    """
    size = torch.tensor(voxel_size, dtype=torch.float64)
    signs = 1 - 2 * parameters.flips.double()
    return rotation_matrices(parameters.angles) * signs[:, None, :] * size / size[:, None]


def apply(
    crops: Tensor,
    parameters: AugmentationParameters,
    shape: Sequence[int],
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Make one view of each crop: resample, blur, contrast, brightness, noise, clip to [0, 1].

    Parameters
    ----------
    crops
        ``(B, 1, D, H, W)`` float32 in [0, 1], with context around the view.
    parameters
        Parameters of B views.
    shape
        Size of the views along z, y, x; at most that of the crops, and as even or odd.
    voxel_size
        Voxel size along z, y, x, in any unit.

    Returns
    -------
    Tensor
        ``(B, 1, *shape)`` float32 in [0, 1], on the device of the crops.
    """
    views = resample(crops, affine_matrices(parameters, voxel_size), shape)
    views = blur(views, parameters.blur_sigma)
    views = adjust_intensity(views, parameters.contrast, parameters.brightness)
    views = add_noise(views, parameters.noise_level, parameters.noise_seed)
    return views.clamp_(0, 1)


def centre_crop(crops: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the central ``(B, 1, *shape)`` of ``(B, 1, D, H, W)`` crops, as a view.

    Raises
    ------
    ValueError
        If the margin is negative or not the same on both sides.
    """
    margins = [have - want for have, want in zip(crops.shape[2:], shape, strict=True)]
    if any(margin < 0 or margin % 2 for margin in margins):
        raise ValueError(f"no centred {tuple(shape)} in crops of {tuple(crops.shape[2:])}")
    z, y, x = (slice(m // 2, m // 2 + want) for m, want in zip(margins, shape, strict=True))
    return crops[:, :, z, y, x]


def resample(crops: Tensor, matrices: Tensor, shape: Sequence[int]) -> Tensor:
    """Resample crops through `matrices` by trilinear interpolation, about their centres.

    Voxels beyond a crop are reflected at its faces. Where all matrices are the identity, the
    central voxels are returned as they are.

    Parameters
    ----------
    crops
        ``(B, 1, D, H, W)`` float32.
    matrices
        ``(B, 3, 3)``, from offsets in the view to offsets in the crop, on (z, y, x) voxels.
    shape
        Size of the views along z, y, x.

    Returns
    -------
    Tensor
        ``(B, 1, *shape)`` float32, a new tensor.
    """
    if torch.equal(matrices, torch.eye(3, dtype=matrices.dtype).expand_as(matrices)):
        return centre_crop(crops, shape).clone()
    half_in = torch.tensor(crops.shape[2:], dtype=torch.float64) / 2
    half_out = torch.tensor(shape, dtype=torch.float64) / 2
    # grid_sample counts in x, y, z, in units of half the size.
    normalised = (matrices.double() * half_out / half_in[:, None]).flip(1, 2)
    theta = F.pad(normalised, (0, 1)).float().to(crops.device)
    grid = F.affine_grid(theta, [len(crops), 1, *shape], align_corners=False)
    return F.grid_sample(
        crops, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def blur(views: Tensor, sigma: Tensor) -> Tensor:
    """Blur each view by a Gaussian, reflected at the faces, as banded matrix products.

    The kernel is sampled and cut off as in ``scipy.ndimage.gaussian_filter``.

    Parameters
    ----------
    views
        ``(B, 1, D, H, W)`` float32.
    sigma
        ``(B,)`` standard deviations in voxels; 0 leaves a view as it is.
    """
    if not bool((sigma > 0).any()):
        return views
    along_z, along_y, along_x = (_blur_matrices(n, sigma).to(views) for n in views.shape[2:])
    batch, _, depth, height, width = views.shape
    views = (along_z @ views.reshape(batch, depth, -1)).view(batch, depth, height, width)
    views = along_y[:, None] @ views @ along_x[:, None].mT
    return views[:, None]


def _blur_matrices(n: int, sigma: Tensor) -> Tensor:
    """Return ``(B, n, n)`` float64 matrices that blur a line of `n` voxels."""
    sigma = sigma.double()
    radius = torch.floor(BLUR_TRUNCATE * sigma + 0.5)
    reach = int(radius.max())
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    # A sigma of 0 has radius 0, so its kernel is the central 1 whatever it is divided by.
    weights = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-6)[:, None]) ** 2)
    weights = weights.masked_fill(offsets.abs() > radius[:, None], 0)
    weights = weights / weights.sum(dim=1, keepdim=True)
    source = torch.arange(n)[:, None] + offsets.long()
    source = source.remainder(2 * n)
    source = torch.where(source < n, source, 2 * n - 1 - source)
    matrices = torch.zeros(len(sigma), n, n, dtype=torch.float64)
    return matrices.scatter_add_(
        2, source.expand(len(sigma), -1, -1), weights[:, None, :].expand(-1, n, -1)
    )


def adjust_intensity(views: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Scale each view's deviation from its mean by `contrast`, then add `brightness`.

    Parameters
    ----------
    views
        ``(B, 1, D, H, W)`` float32.
    contrast, brightness
        ``(B,)``, one factor and one shift a view.
    """
    mean = views.mean(dim=(1, 2, 3, 4))
    contrast, brightness = contrast.to(views), brightness.to(views)
    shift = mean * (1 - contrast) + brightness
    return torch.addcmul(shift.view(-1, 1, 1, 1, 1), views, contrast.view(-1, 1, 1, 1, 1))


def add_noise(views: Tensor, level: Tensor, seed: Tensor) -> Tensor:
    """Add Gaussian noise of standard deviation `level`, each view's from its own seed.

    The noise is that of the device's generator: it differs between a CPU and a GPU.

    Parameters
    ----------
    views
        ``(B, 1, D, H, W)`` float32.
    level
        ``(B,)`` standard deviations.
    seed
        ``(B,)`` seeds.
    """
    if not bool((level > 0).any()):
        return views
    noise = torch.empty_like(views)
    generator = torch.Generator(device=views.device)
    for one, one_seed in zip(noise, seed.tolist(), strict=True):
        one.normal_(generator=generator.manual_seed(one_seed))
    return views + noise * level.to(views).view(-1, 1, 1, 1, 1)


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
