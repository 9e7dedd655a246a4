"""The VGG3D network."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import prod
from typing import Any, Self

import torch
from torch import Tensor, nn

from napari_synapse_cl.config import ModelConfig
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.downsampling import (
    Triple,
    crop_size_problem,
    downsampling_factors,
    total_downsampling,
)

_HIDDEN_UNITS = 4096


@dataclass(frozen=True)
class Layer:
    """One module of VGG3D's ``features``.

    Attributes
    ----------
    index
        Its index in ``features``.
    name
        What it is, as in "stage 3 conv 1".
    channels
        Channels of its output.
    """

    index: int
    name: str
    channels: int

    def __str__(self) -> str:
        return f"{self.index} · {self.name} · {self.channels} channels"


@dataclass(frozen=True)
class Architecture:
    """What determines the tensors of VGG3D's ``features``.

    Attributes
    ----------
    fmaps
        Output channels of each stage.
    n_convolutions
        Convolutions in each stage.
    downsample_factors
        Pooling along z, y, x after each stage.
    input_fmaps
        Channels of the input.
    """

    fmaps: tuple[int, ...] = (24, 48, 96, 192)
    n_convolutions: tuple[int, ...] = (4, 2, 2, 2)
    downsample_factors: tuple[Triple, ...] = ((2, 2, 2),) * 4
    input_fmaps: int = 1

    @classmethod
    def from_config(cls, config: ModelConfig) -> Self:
        """Return the architecture that the settings describe."""
        n_stages = len(config.n_convolutions)
        return cls(
            fmaps=tuple(config.fmaps * 2**stage for stage in range(n_stages)),
            n_convolutions=config.n_convolutions,
            downsample_factors=downsampling_factors(config.downsampling, n_stages),
        )

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Return the architecture that :meth:`as_dict` described."""
        return cls(
            fmaps=tuple(content["fmaps"]),
            n_convolutions=tuple(content["n_convolutions"]),
            downsample_factors=tuple(
                (int(z), int(y), int(x)) for z, y, x in content["downsample_factors"]
            ),
            input_fmaps=int(content["input_fmaps"]),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it in plain types."""
        return asdict(self)

    @property
    def total_downsampling(self) -> Triple:
        """Product of all pooling along z, y, x."""
        return total_downsampling(self.downsample_factors)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The modules of ``features`` in order."""
        layers: list[Layer] = []
        for stage, (channels, n) in enumerate(
            zip(self.fmaps, self.n_convolutions, strict=True), start=1
        ):
            names = [f"{kind} {i + 1}" for i in range(n) for kind in ("conv", "batch norm", "ReLU")]
            for name in [*names, "max pool"]:
                layers.append(Layer(len(layers), f"stage {stage} {name}", channels))
        return tuple(layers)

    def stage_of(self, index: int) -> int:
        """Return the stage, counted from 1, of the module `index` of ``features``."""
        end = 0
        for stage, n in enumerate(self.n_convolutions, start=1):
            end += 3 * n + 1
            if index < end:
                return stage
        raise IndexError(f"there is no layer {index}")

    def map_sizes(self, crop_size: Sequence[int]) -> list[Triple]:
        """Return the size along z, y, x of the maps that each stage convolves."""
        z, y, x = crop_size
        sizes = []
        for factors in self.downsample_factors:
            sizes.append((z, y, x))
            z, y, x = (size // factor for size, factor in zip((z, y, x), factors, strict=True))
        return sizes

    def check_layer(self, index: int) -> Layer:
        """Return the layer `index`.

        Raises
        ------
        InputError
            If the network has no such layer.
        """
        layers = self.layers
        if not 0 <= index < len(layers):
            raise InputError(
                f"there is no layer {index}: this network's features have the layers 0 to "
                f"{len(layers) - 1}"
            )
        return layers[index]

    def check_crop_size(self, crop_size: Sequence[int]) -> None:
        """Check that every pooling divides the crop.

        Raises
        ------
        InputError
            If it does not, with sizes that would fit.
        """
        problem = crop_size_problem(crop_size, self.total_downsampling)
        if problem:
            raise InputError(problem)


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

    def forward(self, raw: Tensor) -> Tensor:
        """Return the classifier's output for ``(B, input_fmaps, D, H, W)``."""
        return self.classifier(self.features(raw).flatten(1))

    def read_layers(self, raw: Tensor, indices: Sequence[int]) -> dict[int, Tensor]:
        """Return the outputs of some modules of ``features``, and run no further than the last.

        Parameters
        ----------
        raw
            ``(B, input_fmaps, D, H, W)``.
        indices
            Indices into ``features``.

        Returns
        -------
        dict
            ``(B, C, d, h, w)`` for each index: what that module put out, before the in-place ReLU
            behind it.
        """
        outputs: dict[int, Tensor] = {}
        last = max(indices)
        modules = list(self.features)
        for index, module in enumerate(modules[: last + 1]):
            raw = module(raw)
            if index in indices:
                overwritten = index < last and isinstance(modules[index + 1], nn.ReLU)
                outputs[index] = raw.clone() if overwritten else raw
        return outputs


def count_parameters(model: nn.Module) -> int:
    """Return the number of weights that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def to_network_range(unit: Tensor) -> Tensor:
    """Map intensities from [0, 1] to [−1, 1], the range that VGG3D is trained on."""
    return torch.add(unit * 2, -1)
