"""Contrast, brightness and noise of views."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl.augmentations.parameters import AugmentationParameters
from napari_synapse_cl.system.loops import loop, on_cpu, share

_add_up, _finish = loop("add_up"), loop("finish")


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
    return views + _noise_like(views, seed) * level.to(views).view(-1, 1, 1, 1, 1)


def _noise_like(views: Tensor, seed: Tensor) -> Tensor:
    """Return noise of standard deviation 1 for each view."""
    noise = torch.empty(views.shape, device=views.device)
    seeds = seed.tolist()
    if views.device.type == "cpu":
        share(_fill, len(noise), noise, seeds)
    else:
        _fill(0, len(noise), noise, seeds)
    return noise


# Threads do not take this mode over, and out of it nothing that was made in it may be filled.
@torch.inference_mode()
def _fill(start: int, stop: int, noise: Tensor, seeds: Sequence[int]) -> None:
    generator = torch.Generator(device=noise.device)
    for one, seed in zip(noise[start:stop], seeds[start:stop], strict=True):
        one.normal_(generator=generator.manual_seed(seed))


def finish(views: Tensor, parameters: AugmentationParameters) -> Tensor:
    """Change contrast and brightness, add noise, and clip to [0, 1].

    Parameters
    ----------
    views
        ``(B, 1, D, H, W)`` float32; may be overwritten.
    parameters
        Parameters of B views.

    Returns
    -------
    Tensor
        ``(B, 1, D, H, W)`` float32.
    """
    finished = _finished_by_loop(views, parameters)
    if finished is not None:
        return finished
    views = adjust_intensity(views, parameters.contrast, parameters.brightness)
    views = add_noise(views, parameters.noise_level, parameters.noise_seed)
    return views.clamp_(0, 1)


def _finished_by_loop(views: Tensor, parameters: AugmentationParameters) -> Tensor | None:
    """Do all of it in one pass over the voxels, after one for their mean."""
    array = on_cpu(views)
    if array is None:
        return None
    batch, depth, height, width = array.shape
    slices, sums = array.reshape(batch * depth, -1), np.empty(batch * depth)
    if not _add_up(len(slices), slices, sums):
        return None
    mean = sums.reshape(batch, depth).sum(axis=1) / (depth * height * width)
    contrast, level = parameters.contrast.double().numpy(), parameters.noise_level.numpy()
    shift = mean * (1 - contrast) + parameters.brightness.numpy()
    noise = slices
    if level.any():
        noise = _noise_like(views, parameters.noise_seed).numpy().reshape(slices.shape)
    factors = np.stack([contrast, shift, level], axis=1).astype(np.float32)
    if not _finish(len(slices), slices, noise, np.repeat(factors, depth, axis=0)):
        return None
    return torch.from_numpy(array[:, None])
