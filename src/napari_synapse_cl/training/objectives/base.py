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

from abc import ABC, abstractmethod
from collections.abc import Collection
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_synapse_cl.config import Config, TrainingConfig
from napari_synapse_cl.models.vgg3d import ContrastiveModel

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
    """Return ``(B, K)`` float32 statistics of grey values and texture.

    Over the whole view and over its central half along each axis: the shares of voxels below 24
    levels of grey; and at three scales mean and standard deviation of the length of the gradient
    and of the Laplacian, and the logarithms of the eigenvalues of the mean structure tensor. Voxels
    count as cubes.

    Parameters
    ----------
    views
        ``(B, 1, D, H, W)`` in [0, 1].
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


KINDS: dict[str, type["Objective"]] = {}
"""The classes of objectives, by the name that settings give them."""


class Objective(nn.Module, ABC):
    """A loss of the embeddings of N synapses, of two views each.

    A class that can be chosen says its name: ``class Moco(Following, name="moco")``.

    Parameters
    ----------
    model
        The network that is trained, on any device and as it is at the start.
    config
        The settings. What is random here comes from PyTorch's own generator, which is seeded.

    Attributes
    ----------
    config
        The settings.
    """

    encoder: ContrastiveModel | None
    """A second network, whose embeddings of the same views :meth:`loss` is given as targets; None
    where it needs none. It takes no gradients."""
    cells: Tensor | None
    """``(M,)`` int64, which cell each of all synapses is of, below 0 where that is not known; those
    of one cell are no negatives of each other. None where no cell is known."""
    texture: TextureTask | None
    """A second task; None without one."""

    def __init_subclass__(cls, *, name: str = "", **more: Any) -> None:
        super().__init_subclass__(**more)
        if name:
            KINDS[name] = cls

    def __init__(self, model: ContrastiveModel, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = None
        self.cells = None
        self.texture = None
        if config.texture_weight:
            self.texture = TextureTask(model.architecture.fmaps[-1], config.crop_size)

    @staticmethod
    def chance_loss(config: TrainingConfig, batch_size: int) -> float | None:
        """Return the loss of a network to which all synapses look alike.

        None, as it is unless a class says otherwise, where that tells nothing.
        """
        return None

    @abstractmethod
    def loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return the scalar float32 loss of a batch that is trained on.

        Parameters
        ----------
        z
            ``(N, 2, K)``, embeddings of both views.
        targets
            ``(N, 2, K)``, those of the encoder.
        synapses
            ``(N, 2)`` int64, which synapse each view is of: mostly the same one twice.
        """

    def validation_loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return the scalar float32 loss of a batch that is not trained on, as in :meth:`loss`."""
        return self.loss(z, targets, synapses)

    def with_texture(self, loss: Tensor, pooled: Tensor, described: Tensor | None) -> Tensor:
        """Return a loss with that of the second task, as it weighs, if there is one.

        Parameters
        ----------
        loss
            Scalar.
        pooled
            ``(N, 2, C)`` pooled features.
        described
            ``(N, 2, L)`` statistics of the views.
        """
        if self.texture is None:
            return loss
        assert described is not None
        return loss + self.config.texture_weight * self.texture(pooled, described)

    def related(self, synapses: Tensor, others: Tensor) -> Tensor:
        """Return ``(n, m)`` bool, whether views are of one synapse or of one cell.

        Parameters
        ----------
        synapses, others
            ``(n,)`` and ``(m,)`` int64, which synapse each view is of; below 0 for none.
        """
        related = synapses[:, None] == others
        if self.cells is not None:
            cells = self.cells.to(synapses.device)
            one, other = (cells[of.clamp_min(0)].where(of >= 0, -1) for of in (synapses, others))
            related = related | ((one[:, None] == other) & (other >= 0))
        return related

    def after_step(
        self, model: ContrastiveModel, targets: Tensor | None, synapses: Tensor, progress: float
    ) -> None:
        """Take note of a step.

        Parameters
        ----------
        model
            The network that is trained, after the step.
        targets, synapses
            What :meth:`loss` was given.
        progress
            Share of the steps that are done, 0 to 1.
        """

    def freeze_stages(self, stages: Collection[int]) -> None:
        """Freeze these stages of the encoder, as those of the network that is trained."""
        if self.encoder is not None:
            self.encoder.freeze_stages(stages)
            self.encoder.requires_grad_(False)


class Following(Objective):
    """An objective whose encoder is a moving average of the network that is trained."""

    def __init__(self, model: ContrastiveModel, config: Config) -> None:
        super().__init__(model, config)
        self.encoder = deepcopy(model)
        self.encoder.requires_grad_(False)

    def momentum_at(self, progress: float) -> float:
        """Return the share of the encoder's weights that a step keeps."""
        return self.config.momentum

    @torch.no_grad()
    def after_step(
        self, model: ContrastiveModel, targets: Tensor | None, synapses: Tensor, progress: float
    ) -> None:
        """Let the encoder follow."""
        assert self.encoder is not None
        momentum = self.momentum_at(progress)
        for own, trained in zip(self.encoder.parameters(), model.parameters(), strict=True):
            own.lerp_(trained, 1 - momentum)


def of_pairs(module: nn.Module, pairs: Tensor) -> Tensor:
    """Return what a module makes of ``(N, 2, C)``, all of the first views before the second."""
    first, second = module(torch.cat([pairs[:, 0], pairs[:, 1]])).chunk(2)
    return torch.stack([first, second], dim=1)
