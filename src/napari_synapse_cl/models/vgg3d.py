"""The VGG3D network."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod
from typing import Self

import torch
from torch import Tensor, nn

from napari_synapse_cl.models.architecture import Architecture

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
