"""The VGG3D network, and what contrastive training trains: VGG3D and a projection head."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from math import prod
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_synapse_cl.config import ModelConfig
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.norms import channels_last, run_modules, statistics_kept

_HIDDEN_UNITS = 4096


class Vgg3D(nn.Module):
    """VGG for volumes: stages of 3×3×3 convolutions with batch norm and ReLU, and max pooling.

    Its tensors have the names and shapes of the network of the same name in funlib.learn.torch,
    which synister was trained with.

    Parameters
    ----------
    input_size
        Size of the input along z, y, x; the classifier depends on it, ``features`` does not.
    fmaps
        Channels of the first stage.
    downsample_factors
        Pooling along z, y, x after each stage.
    fmap_inc
        Factor from each stage's channels to the next one's.
    n_convolutions
        Convolutions in each stage.
    output_classes
        Classes of the classifier. None leaves it out: most of the weights are in it, and neither
        training nor extraction uses them.
    input_fmaps
        Channels of the input.

    Attributes
    ----------
    features
        ``(B, input_fmaps, D, H, W)`` to ``(B, C, d, h, w)``.
    classifier
        ``(B, C * d * h * w)`` to ``(B, output_classes)``, or the identity.

    Raises
    ------
    ValueError
        If the arguments disagree on the number of stages, or pooling does not divide the input.

    References
    ----------
    Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015.
    https://arxiv.org/abs/1409.1556
    """

    def __init__(
        self,
        input_size: Sequence[int],
        fmaps: int = 24,
        downsample_factors: Sequence[Sequence[int]] = ((2, 2, 2),) * 4,
        fmap_inc: Sequence[int] = (2, 2, 2, 2),
        n_convolutions: Sequence[int] = (4, 2, 2, 2),
        output_classes: int | None = 6,
        input_fmaps: int = 1,
    ) -> None:
        super().__init__()
        if not len(downsample_factors) == len(fmap_inc) == len(n_convolutions):
            raise ValueError(
                "downsample_factors, fmap_inc and n_convolutions need one entry a stage, not "
                f"{len(downsample_factors)}, {len(fmap_inc)} and {len(n_convolutions)}"
            )
        if min(n_convolutions) < 1:
            raise ValueError("each stage needs at least one convolution")
        channels, size = input_fmaps, tuple(input_size)
        modules: list[nn.Module] = []
        for factor, increase, n in zip(downsample_factors, fmap_inc, n_convolutions, strict=True):
            for _ in range(n):
                modules += [
                    nn.Conv3d(channels, fmaps, kernel_size=3, padding=1),
                    nn.BatchNorm3d(fmaps),
                    nn.ReLU(inplace=True),
                ]
                channels = fmaps
            modules.append(nn.MaxPool3d(tuple(factor)))
            if any(s % f for s, f in zip(size, factor, strict=True)):
                raise ValueError(f"a size of {size} cannot be pooled by {tuple(factor)}")
            size = tuple(s // f for s, f in zip(size, factor, strict=True))
            fmaps *= increase
        self.features = nn.Sequential(*modules)
        self.classifier: nn.Module = nn.Identity()
        if output_classes is not None:
            self.classifier = nn.Sequential(
                nn.Linear(prod(size) * channels, _HIDDEN_UNITS),
                nn.ReLU(inplace=True),
                nn.Dropout(),
                nn.Linear(_HIDDEN_UNITS, _HIDDEN_UNITS),
                nn.ReLU(inplace=True),
                nn.Dropout(),
                nn.Linear(_HIDDEN_UNITS, output_classes),
            )

    @classmethod
    def from_architecture(cls, architecture: Architecture) -> Self:
        """Make the network without its classifier, for inputs of any size that fits."""
        fmaps = architecture.fmaps
        increases = [after // before for before, after in pairwise(fmaps)]
        return cls(
            input_size=architecture.total_downsampling,
            fmaps=fmaps[0],
            downsample_factors=architecture.downsample_factors,
            fmap_inc=[*increases, 1],
            n_convolutions=architecture.n_convolutions,
            output_classes=None,
            input_fmaps=architecture.input_fmaps,
        )

    @classmethod
    def untrained(cls, architecture: Architecture, seed: int) -> Self:
        """Make the network, without its classifier, with random weights that `seed` determines."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls.from_architecture(architecture)

    def forward(self, raw: Tensor) -> Tensor:
        """Return the classifier's output for ``(B, input_fmaps, D, H, W)``."""
        return self.classifier(self.features(raw).flatten(1))

    def blocks(self) -> list[nn.Sequential]:
        """Return ``features`` in parts that follow each other: a convolution and what it leads to.

        No module of a part changes what the part before it put out.
        """
        modules = list(self.features)
        starts = [i for i, module in enumerate(modules) if isinstance(module, nn.Conv3d)]
        ends = [*starts[1:], len(modules)]
        return [nn.Sequential(*modules[a:b]) for a, b in zip(starts, ends, strict=True)]

    def iterate_layers(self, raw: Tensor, indices: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield the outputs of some modules of ``features``, and run no further than the last.

        Parameters
        ----------
        raw
            ``(B, input_fmaps, D, H, W)``.
        indices
            Indices into ``features``.

        Yields
        ------
        tuple
            An index and its ``(B, C, d, h, w)``, to be used before the next is asked for: an
            in-place ReLU may overwrite it.
        """
        for index, module in enumerate(list(self.features)[: max(indices) + 1]):
            raw = module(raw)
            if index in indices:
                yield index, raw


def to_network_range(unit: Tensor) -> Tensor:
    """Map intensities from [0, 1] to [−1, 1], the range that VGG3D is trained on."""
    return torch.add(unit * 2, -1)


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
