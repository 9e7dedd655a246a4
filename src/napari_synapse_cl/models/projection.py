"""The network that contrastive training trains: a VGG3D backbone and a projection head."""

from typing import Self

import torch
from torch import Tensor, nn

from napari_synapse_cl.config import ModelConfig
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import Vgg3D, to_network_range


class ProjectionHead(nn.Module):
    """Global average pooling and two linear layers, each with batch norm, and a ReLU between.

    Pooling makes it independent of the crop size. The batch norm at the end keeps embeddings apart
    from the first step: pooled features of similar crops are nearly the same vector, and without it
    a training from random weights begins by making them quite the same.

    Parameters
    ----------
    channels
        Channels of the feature map.
    hidden_dim
        Hidden units.
    out_dim
        Dimension of the embeddings.

    References
    ----------
    Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning of Visual
    Representations, 2020, section 2.1. https://arxiv.org/abs/2002.05709 The batch norms are those
    of its published implementation, https://github.com/google-research/simclr
    """

    def __init__(self, channels: int, hidden_dim: int = 2048, out_dim: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, out_dim, bias=False),
            nn.BatchNorm1d(out_dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, out_dim)`` embeddings of ``(B, C, d, h, w)`` features."""
        return self.layers(features.mean(dim=(2, 3, 4)))


class ContrastiveModel(nn.Module):
    """VGG3D with a projection head, of which the settings may freeze parts.

    A frozen part keeps its weights and its batch-norm statistics: it normalises as in evaluation.

    Parameters
    ----------
    backbone
        The network that is fine-tuned.
    architecture
        That of the backbone.
    config
        Size of the head, and what is frozen.

    Raises
    ------
    InputError
        If the stage to fine-tune does not exist.
    """

    def __init__(self, backbone: Vgg3D, architecture: Architecture, config: ModelConfig) -> None:
        super().__init__()
        if config.stage_to_finetune > len(architecture.n_convolutions):
            raise InputError(
                f"there is no stage {config.stage_to_finetune} to fine-tune: this network has the "
                f"stages 1 to {len(architecture.n_convolutions)}"
            )
        self.backbone = backbone
        self.architecture = architecture
        self.head = ProjectionHead(architecture.fmaps[-1], config.proj_hidden_dim, config.proj_dim)
        self._frozen = [
            module
            for index, module in enumerate(backbone.features)
            if config.freeze_backbone
            or config.stage_to_finetune not in (-1, architecture.stage_of(index))
        ]
        for module in [*self._frozen, backbone.classifier]:
            module.requires_grad_(False)

    @classmethod
    def from_seed(cls, architecture: Architecture, config: ModelConfig, seed: int) -> Self:
        """Make a model whose random weights `seed` alone determines."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(Vgg3D.from_architecture(architecture), architecture, config)

    def train(self, mode: bool = True) -> Self:
        """Switch batch norms between batch and running statistics; frozen ones stay with theirs."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, crops: Tensor) -> Tensor:
        """Return ``(B, proj_dim)`` embeddings of ``(B, 1, D, H, W)`` crops in [0, 1]."""
        return self.head(self.backbone.features(to_network_range(crops)))
