"""The network that contrastive training trains: a VGG3D backbone and a projection head."""

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_synapse_cl.config import ModelConfig
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.norms import channels_last, run_modules, statistics_kept
from napari_synapse_cl.models.vgg3d import Vgg3D, to_network_range


class ProjectionHead(nn.Module):
    """Two linear layers on pooled features, each with batch norm, and a ReLU between.

    The batch norm at the end keeps embeddings apart from the first step: pooled features of similar
    crops are nearly the same vector, and without it a training from random weights begins by making
    them quite the same.

    References
    ----------
    Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning of Visual
    Representations, 2020, section 2.1. https://arxiv.org/abs/2002.05709 The batch norms are those
    of its published implementation, https://github.com/google-research/simclr
    """

    def __init__(self, channels: int, hidden_dim: int = 2048, out_dim: int = 128) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, out_dim, bias=False),
            nn.BatchNorm1d(out_dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, out_dim)`` embeddings of ``(B, C)`` features."""
        return self.layers(features)


class ContrastiveModel(nn.Module):
    """VGG3D, global average pooling and a projection head.

    The settings may freeze parts. A frozen part keeps its weights and its batch-norm statistics: it
    normalises as in evaluation.

    Parameters
    ----------
    backbone
        The network that is fine-tuned.
    config
        Size of the head, and what is frozen.

    Attributes
    ----------
    checkpointing
        Whether only the input of each convolution block is kept for the backward pass, which
        computes the rest again.

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
        self.checkpointing = False
        self._never_trained = {
            stage
            for stage, _ in enumerate(architecture.n_convolutions, start=1)
            if config.freeze_backbone or config.stage_to_finetune not in (-1, stage)
        }
        backbone.classifier.requires_grad_(False)
        self.freeze_stages(())

    @classmethod
    def from_seed(cls, architecture: Architecture, config: ModelConfig, seed: int) -> Self:
        """Make a model whose random weights `seed` alone determines."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(Vgg3D.from_architecture(architecture), architecture, config)

    @property
    def trained_stages(self) -> list[int]:
        """The stages, counted from 1 at the input, that the settings do not freeze."""
        n = len(self.architecture.n_convolutions)
        return [stage for stage in range(1, n + 1) if stage not in self._never_trained]

    def freeze_stages(self, stages: Collection[int]) -> None:
        """Freeze these stages, counted from 1 at the input, beside what the settings freeze.

        Others train again from the next :meth:`train` on.
        """
        frozen = self._never_trained.union(stages)
        self._frozen = []
        for index, module in enumerate(self.backbone.features):
            is_frozen = self.architecture.stage_of(index) in frozen
            module.requires_grad_(not is_frozen)
            if is_frozen:
                self._frozen.append(module)

    def synchronise_batch_norms(self) -> None:
        """Let the backbone's batch norms see the batches of all processes; on GPUs alone."""
        features = nn.SyncBatchNorm.convert_sync_batchnorm(self.backbone.features)
        self.backbone.features = features
        self.freeze_stages(())

    def train(self, mode: bool = True) -> Self:
        """Switch batch norms between batch and running statistics; frozen ones stay with theirs."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def pooled(self, crops: Tensor) -> Tensor:
        """Return ``(B, C)`` float32, the backbone's last map of ``(B, 1, D, H, W)`` crops, pooled.

        Pooling makes what follows independent of the crop size.
        """
        maps = channels_last(to_network_range(crops))
        if self.checkpointing and torch.is_grad_enabled():
            for block in self.backbone.blocks():
                maps = checkpoint(
                    partial(run_modules, block),
                    maps,
                    use_reentrant=False,
                    preserve_rng_state=False,
                    context_fn=partial(_contexts, block),
                )
        else:
            maps = run_modules(self.backbone.features, maps)
        return maps.float().mean(dim=(2, 3, 4))

    def forward(self, crops: Tensor) -> Tensor:
        """Return ``(B, proj_dim)`` embeddings of ``(B, 1, D, H, W)`` crops in [0, 1]."""
        return self.head(self.pooled(crops))


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return contexts for the first pass through a block and for the one that computes it again."""
    return nullcontext(), statistics_kept(block)
