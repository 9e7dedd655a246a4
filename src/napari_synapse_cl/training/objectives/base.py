"""What all objectives have in common, and what those with a second network have."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from napari_synapse_cl.config import Config, TrainingConfig
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.training.texture import TextureTask

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
    encoder
        A second network, whose embeddings of the same views :meth:`loss` is given as targets; None
        where it needs none. It takes no gradients.
    cells
        ``(M,)`` int64, which cell each of all synapses is of, below 0 where that is not known;
        those of one cell are no negatives of each other. None where no cell is known.
    texture
        A second task; None without one.
    """

    encoder: ContrastiveModel | None
    cells: Tensor | None
    texture: TextureTask | None

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
