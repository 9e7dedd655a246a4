"""What embeddings of two views of synapses are trained for.

An objective gets the embeddings of a whole batch at once, whatever parts went through the backbone,
and keeps what it needs beside the network that is trained.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from copy import deepcopy
from math import cos, log, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_synapse_cl.config import ModelConfig, TrainingConfig
from napari_synapse_cl.models import losses
from napari_synapse_cl.models.projection import ContrastiveModel


class Objective(nn.Module, ABC):
    """A loss of the embeddings of N synapses, of two views each.

    Attributes
    ----------
    encoder
        A second network, whose embeddings of the same views :meth:`loss` is given as targets; None
        where it needs none. It takes no gradients.
    """

    encoder: ContrastiveModel | None

    def __init__(self) -> None:
        super().__init__()
        self.encoder = None

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
            ``(N,)`` int64, which synapse each row is.
        """

    def validation_loss(self, z: Tensor, targets: Tensor | None) -> Tensor:
        """Return the scalar float32 loss of a batch that is not trained on, as in :meth:`loss`."""
        return self.loss(z, targets, torch.arange(len(z)))

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

    def __init__(self, model: ContrastiveModel, momentum: float) -> None:
        super().__init__()
        self.encoder = deepcopy(model)
        self.encoder.requires_grad_(False)
        self._momentum = momentum

    def momentum_at(self, progress: float) -> float:
        """Return the share of the encoder's weights that a step keeps."""
        return self._momentum

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


class InBatch(Objective):
    """Tell a pair from all other pairs in the batch: NT-Xent, or DCL."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self._temperature = config.temperature
        self._decoupled = config.objective == "dcl"

    def loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return :func:`~napari_synapse_cl.models.losses.nt_xent` or its decoupled form."""
        of_pairs = losses.dcl if self._decoupled else losses.nt_xent
        return of_pairs(z[:, 0], z[:, 1], temperature=self._temperature)


class Moco(Following):
    """Tell each view's partner, as a slowly following encoder sees it, from a queue of others.

    Both views are queries and both are keys. What the queue holds of the same synapse is no
    negative of it: there are fewer synapses than pictures in the data the method was made for, and
    the queue may hold several epochs.

    References
    ----------
    He, Fan, Wu, Xie, Girshick: Momentum Contrast for Unsupervised Visual Representation Learning,
    2020. https://arxiv.org/abs/1911.05722 The symmetric loss is that of Chen, Xie, He: An Empirical
    Study of Training Self-Supervised Vision Transformers, 2021. https://arxiv.org/abs/2104.02057
    """

    queue: Tensor
    queued: Tensor
    first: Tensor

    def __init__(
        self, model: ContrastiveModel, config: TrainingConfig, generator: torch.Generator
    ) -> None:
        super().__init__(model, config.momentum)
        self._temperature = config.temperature
        # It begins with random directions, as in the published implementation.
        queue = torch.randn(config.queue_size, model.head.out_dim, generator=generator)
        self.register_buffer("queue", F.normalize(queue, dim=1))
        self.register_buffer("queued", torch.full((config.queue_size,), -1))
        self.register_buffer("first", torch.zeros((), dtype=torch.long))

    def loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return the loss against the queue."""
        assert targets is not None
        masked = synapses.to(z.device)[:, None] == self.queued
        return self._both(z, targets, self.queue, masked)

    def validation_loss(self, z: Tensor, targets: Tensor | None) -> Tensor:
        """Return the loss against the others of the batch, whatever has been queued."""
        assert targets is not None
        n = len(z)
        negatives = torch.cat([targets[:, 0], targets[:, 1]])
        masked = torch.eye(n, dtype=torch.bool, device=z.device).repeat(1, 2)
        return self._both(z, targets, negatives, masked)

    @torch.no_grad()
    def after_step(
        self, model: ContrastiveModel, targets: Tensor | None, synapses: Tensor, progress: float
    ) -> None:
        """Let the encoder follow, and put the targets into the queue in place of the oldest."""
        super().after_step(model, targets, synapses, progress)
        assert targets is not None
        keys = F.normalize(torch.cat([targets[:, 0], targets[:, 1]]).float(), dim=1)
        n = min(len(keys), len(self.queue))
        places = (torch.arange(n, device=keys.device) + self.first) % len(self.queue)
        self.queue[places] = keys[:n]
        self.queued[places] = synapses.to(keys.device).repeat(2)[:n]
        self.first.copy_((self.first + n) % len(self.queue))

    def _both(self, z: Tensor, targets: Tensor, negatives: Tensor, masked: Tensor) -> Tensor:
        one, other = (
            losses.info_nce(
                z[:, view],
                targets[:, 1 - view],
                negatives,
                temperature=self._temperature,
                masked=masked,
            )
            for view in (0, 1)
        )
        return (one + other) / 2


class Byol(Following):
    """Predict a view's embedding, by a slowly following encoder, from that of the other view.

    References
    ----------
    Grill et al.: Bootstrap Your Own Latent, 2020. https://arxiv.org/abs/2006.07733
    """

    def __init__(self, model: ContrastiveModel, config: TrainingConfig, hidden_dim: int) -> None:
        super().__init__(model, config.momentum)
        dim = model.head.out_dim
        self.predictor = nn.Sequential(
            nn.Linear(dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, dim),
        )

    def loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return the mean of :func:`~napari_synapse_cl.models.losses.byol` over both views."""
        assert targets is not None
        predicted = of_pairs(self.predictor, z)
        return losses.byol(predicted.flatten(0, 1), targets.flip(1).flatten(0, 1))

    def momentum_at(self, progress: float) -> float:
        """Return the momentum, which rises to 1 along a cosine."""
        return 1 - (1 - self._momentum) * (cos(pi * progress) + 1) / 2


def chance_loss(config: TrainingConfig, batch_size: int) -> float | None:
    """Return the loss of a network to which all synapses look alike.

    Returns
    -------
    float or None
        None for byol: nothing is easier to predict than what is always the same.
    """
    match config.objective:
        case "nt_xent":
            return log(2 * batch_size - 1)
        case "dcl":
            return log(2 * batch_size - 2)
        case "moco":
            return log(1 + config.queue_size)
        case "byol":
            return None


def make_objective(
    model: ContrastiveModel, config: TrainingConfig, model_config: ModelConfig
) -> Objective:
    """Return the objective that the settings name; its randomness comes from their seed.

    Parameters
    ----------
    model
        The network that is trained, as it is at the start.
    config
        The objective, its settings and the seed.
    model_config
        Size of what is added to the network.
    """
    if config.objective in ("nt_xent", "dcl"):
        return InBatch(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.objective == "moco":
            return Moco(model, config, torch.default_generator)
        return Byol(model, config, model_config.proj_hidden_dim)
