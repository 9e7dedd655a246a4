"""Gaussian blur of views, each with a width of its own."""

import torch
from torch import Tensor

from napari_synapse_cl.system.loops import loop, on_cpu

BLUR_TRUNCATE = 4.0
"""Half-width of the blur kernel in standard deviations, as in ``scipy.ndimage``."""

_blur = loop("blur")


def blur(views: Tensor, sigma: Tensor) -> Tensor:
    """Blur each view by a Gaussian, reflected at the faces.

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
    blurred = _blurred_by_loop(views, sigma)
    return _blurred_by_pytorch(views, sigma) if blurred is None else blurred


def _blurred_by_loop(views: Tensor, sigma: Tensor) -> Tensor | None:
    array = on_cpu(views)
    if array is None:
        return None
    blurred = torch.empty(views.shape)
    kernels, radii = _kernels(sigma)
    done = _blur(
        len(array) * array.shape[1],
        array,
        kernels.float().numpy(),
        radii.numpy(),
        blurred.numpy()[:, 0],
    )
    return blurred if done else None


def _blurred_by_pytorch(views: Tensor, sigma: Tensor) -> Tensor:
    """Blur by banded matrix products."""
    along_z, along_y, along_x = (_blur_matrices(n, sigma).to(views) for n in views.shape[2:])
    batch, _, depth, height, width = views.shape
    views = (along_z @ views.reshape(batch, depth, -1)).view(batch, depth, height, width)
    views = along_y[:, None] @ views @ along_x[:, None].mT
    return views[:, None]


def _kernels(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middle of each kernel and what follows it, and how many elements these are.

    Returns
    -------
    Tensor
        ``(B, R + 1)`` float64; beyond its radius a kernel is 0.
    Tensor
        ``(B,)`` int64, the radii, of which R is the largest.
    """
    sigma = sigma.double()
    radii = torch.floor(BLUR_TRUNCATE * sigma + 0.5).long()
    offsets = torch.arange(int(radii.max()) + 1)
    # A sigma of 0 has radius 0, so its kernel is the central 1 whatever it is divided by.
    weights = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-6)[:, None]) ** 2)
    weights = weights.masked_fill(offsets > radii[:, None], 0)
    return weights / (2 * weights.sum(dim=1, keepdim=True) - weights[:, :1]), radii


def _blur_matrices(n: int, sigma: Tensor) -> Tensor:
    """Return ``(B, n, n)`` float64 matrices that blur a line of `n` voxels."""
    kernels, radii = _kernels(sigma)
    reach = int(radii.max())
    offsets = torch.arange(-reach, reach + 1)
    weights = kernels[:, offsets.abs()]
    source = torch.arange(n)[:, None] + offsets
    source = source.remainder(2 * n)
    source = torch.where(source < n, source, 2 * n - 1 - source)
    matrices = torch.zeros(len(sigma), n, n, dtype=torch.float64)
    return matrices.scatter_add_(
        2, source.expand(len(sigma), -1, -1), weights[:, None, :].expand(-1, n, -1)
    )
