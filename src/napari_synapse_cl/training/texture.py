"""A second task beside the objective: to tell grey values and texture from the features of a view.

A contrastive objective keeps what tells one synapse from all others, and nothing else: once that is
solved, grey values and texture may be lost, though they tell classes of tissue apart. So a small
network beside the projection head predicts, from the same pooled features, statistics of the view
itself that are computed by hand. Those are cheap, and in the main what
:mod:`napari_synapse_cl.features.descriptors` measures with care.

References
----------
Wei, Fan, Xie, Wu, Yuille, Feichtenhofer: Masked Feature Prediction for Self-Supervised Visual
Pre-Training, 2022 (descriptors made by hand as targets). https://arxiv.org/abs/2112.09133
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_LEVELS = 24
"""Grey values from black to white, of each the share of voxels below it."""
SCALES = (1, 2, 4)
"""Voxels that are averaged along each axis before slopes are taken."""
SMALLEST = 6
"""Voxels along an axis below which a scale is left out."""
HIDDEN = 256
_EPSILON = 1e-10


class TextureTask(nn.Module):
    """Predicts the statistics of views from their pooled features.

    Parameters
    ----------
    channels
        Channels of the features.
    shape
        Size of the views along z, y, x.

    Attributes
    ----------
    n_statistics
        How many there are of a view.
    """

    def __init__(self, channels: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.n_statistics = n = describe(torch.zeros(1, 1, *shape)).shape[1]
        self.predictor = nn.Sequential(
            nn.Linear(channels, HIDDEN), nn.ReLU(inplace=True), nn.Linear(HIDDEN, n)
        )
        # Each statistic counts as its own spread; one that never changes counts nothing.
        self.scale = nn.BatchNorm1d(n, eps=1e-8, affine=False)

    def forward(self, pooled: Tensor, described: Tensor) -> Tensor:
        """Return the scalar mean squared error, 1 for features that tell nothing.

        Parameters
        ----------
        pooled
            ``(N, 2, C)`` features of both views.
        described
            ``(N, 2, K)``, what :func:`describe` returns of them.
        """
        wanted = self.scale(described.float().flatten(0, 1)).detach().clamp(-4, 4)
        return F.mse_loss(self.predictor(pooled.float().flatten(0, 1)), wanted)


@torch.no_grad()
def describe(views: Tensor) -> Tensor:
    """Return statistics of grey values and texture.

    Over the whole view and over its central half along each axis: the shares of voxels below 24
    levels of grey; and at three scales mean and standard deviation of the length of the gradient
    and of the Laplacian, and the logarithms of the eigenvalues of the mean structure tensor. Voxels
    count as cubes.

    Parameters
    ----------
    views
        ``(B, 1, D, H, W)`` in [0, 1].

    Returns
    -------
    Tensor
        ``(B, K)`` float32, on the device of the views.
    """
    views = views.float()
    levels = torch.arange(1, N_LEVELS + 1, device=views.device) / (N_LEVELS + 1)
    found = []
    for region in (views, _centre(views)):
        grey = region.flatten(1)
        found += [(grey < level).float().mean(dim=1, keepdim=True) for level in levels]
    for scale in SCALES:
        maps = F.avg_pool3d(views, scale) if scale > 1 else views
        if min(maps.shape[2:]) < SMALLEST:
            continue
        middle = maps[:, :, 1:-1, 1:-1, 1:-1]
        slopes, curvature = [], -6 * middle
        for axis in (2, 3, 4):
            before, after = _beside(maps, axis)
            slopes.append((after - before) / 2)
            curvature = curvature + before + after
        gradient = torch.cat(slopes, dim=1)
        for steep, bent in ((gradient, curvature), (_centre(gradient), _centre(curvature))):
            length = steep.square().sum(dim=1).sqrt().flatten(1)
            bent = bent.flatten(1)
            found += [f(x, dim=1, keepdim=True) for x in (length, bent) for f in (_mean, _std)]
            flat = steep.flatten(2)
            tensor = flat @ flat.transpose(1, 2) / flat.shape[2]
            found.append(torch.linalg.eigvalsh(tensor).clamp_min(_EPSILON).log())
    return torch.cat(found, dim=1)


_mean, _std = torch.mean, torch.std


def _centre(maps: Tensor) -> Tensor:
    """Return the central half of ``(B, C, D, H, W)`` along each axis, as much from either side."""
    slices = [slice(n // 4, n - n // 4) for n in maps.shape[2:]]
    return maps[:, :, *slices]


def _beside(maps: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the neighbours before and after all voxels but those at the faces, along an axis."""
    inner = [slice(None)] * 2 + [slice(1, -1)] * 3
    before, after = list(inner), list(inner)
    before[axis], after[axis] = slice(None, -2), slice(2, None)
    return maps[tuple(before)], maps[tuple(after)]
