"""The shape of a VGG3D without PyTorch: its stages, its layers, and what forms say of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Self

from pydantic import TypeAdapter

from napari_synapse_cl.config import ModelConfig
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import Triple, VoxelSize, size, triple

_KERNEL = 3


def downsampling_factors(kind: str, n_stages: int) -> tuple[Triple, ...]:
    """Return the pooling after each stage: 2×2×2, or 1×2×2 until the last for "anisotropic"."""
    if kind == "isotropic":
        return ((2, 2, 2),) * n_stages
    return ((1, 2, 2),) * (n_stages - 1) + ((2, 2, 2),)


def total_downsampling(factors: Sequence[Triple]) -> Triple:
    """Return the product of all pooling along z, y, x."""
    return triple(prod(along_axis) for along_axis in zip(*factors, strict=True))


def nearest_crop_size(crop_size: Sequence[int], factors: Triple) -> Triple:
    """Return the size nearest to `crop_size` whose sides are multiples of the downsampling."""
    return triple(max(1, round(n / f)) * f for n, f in zip(crop_size, factors, strict=True))


def crop_size_problem(crop_size: Sequence[int], factors: Triple) -> str | None:
    """Say why a network cannot take crops of this size, with a size that would fit; else None.

    Parameters
    ----------
    crop_size
        Size along z, y, x in voxels.
    factors
        Total downsampling along z, y, x.
    """
    if not any(n % f for n, f in zip(crop_size, factors, strict=True)):
        return None
    return (
        f"crops of {size(crop_size)} voxels cannot be halved as often as this network does: each "
        f"side must be a multiple of {size(factors)}, as in "
        f"{size(nearest_crop_size(crop_size, factors))}"
    )


@dataclass(frozen=True)
class Layer:
    """One module of VGG3D's ``features``."""

    index: int
    """Its index in ``features``."""
    name: str
    """What it is, as in "stage 3 conv 1"."""
    channels: int
    """Channels of its output."""
    stride: Triple
    """Voxels of the input from one element of its output to the next, along z, y, x."""
    receptive_field: Triple
    """Voxels of the input that one element of its output depends on, along z, y, x."""
    offset: tuple[float, float, float]
    """Where the centre of the receptive field of its first element lies in the input, along z, y, x
    in voxels; that of element i lies at ``offset + i * stride``."""

    def __str__(self) -> str:
        return f"{self.index} · {self.name} · {self.channels} channels"


@dataclass(frozen=True)
class Architecture:
    """What determines the tensors of VGG3D's ``features``."""

    fmaps: tuple[int, ...] = (24, 48, 96, 192)
    """Output channels of each stage."""
    n_convolutions: tuple[int, ...] = (4, 2, 2, 2)
    """Convolutions in each stage."""
    downsample_factors: tuple[Triple, ...] = ((2, 2, 2),) * 4
    """Pooling along z, y, x after each stage."""
    input_fmaps: int = 1
    """Channels of the input."""

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
        """The modules of ``features`` in order.

        References
        ----------
        Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural Networks, 2019.
        https://distill.pub/2019/computing-receptive-fields
        """
        layers: list[Layer] = []
        axes = [_Reach()] * 3
        stages = zip(self.fmaps, self.n_convolutions, self.downsample_factors, strict=True)
        for stage, (channels, n, factors) in enumerate(stages, start=1):
            names = [f"{kind} {i + 1}" for i in range(n) for kind in ("conv", "batch norm", "ReLU")]
            for name in [*names, "max pool"]:
                if name.startswith("conv"):
                    axes = [axis.convolved() for axis in axes]
                elif name == "max pool":
                    axes = [axis.pooled(f) for axis, f in zip(axes, factors, strict=True)]
                z, y, x = axes
                layers.append(
                    Layer(
                        len(layers),
                        f"stage {stage} {name}",
                        channels,
                        stride=(z.stride, y.stride, x.stride),
                        receptive_field=(z.size, y.size, x.size),
                        offset=(z.offset, y.offset, x.offset),
                    )
                )
        return tuple(layers)

    def stage_of(self, index: int) -> int:
        """Return the stage, counted from 1, of the module `index` of ``features``."""
        end = 0
        for stage, n in enumerate(self.n_convolutions, start=1):
            end += 3 * n + 1
            if index < end:
                return stage
        raise IndexError(f"there is no layer {index}")

    @property
    def stage_ends(self) -> tuple[int, ...]:
        """Index of what each stage puts out, before it is pooled; the last tells most of tissue."""
        ends = []
        before = 0
        for n in self.n_convolutions:
            ends.append(before + 3 * n - 1)
            before += 3 * n + 1
        return tuple(ends)

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


@dataclass(frozen=True)
class _Reach:
    """Along one axis: stride, receptive field and offset as in :class:`Layer`."""

    stride: int = 1
    size: int = 1
    offset: float = 0.0

    def convolved(self) -> Self:
        """Return that of a convolution behind it, padded so that it keeps the size."""
        return type(self)(self.stride, self.size + (_KERNEL - 1) * self.stride, self.offset)

    def pooled(self, factor: int) -> Self:
        """Return that of a pooling behind it."""
        wider = (factor - 1) * self.stride
        return type(self)(self.stride * factor, self.size + wider, self.offset + wider / 2)


@dataclass(frozen=True)
class NetworkInfo:
    """What a form can say of a network."""

    architecture: Architecture
    """Its layers follow from it."""
    crop_size: Triple | None
    """Size in voxels of the crops it was trained on, along z, y, x, where that is known."""
    voxel_size: VoxelSize | None
    """Size in nm of the voxels it was trained on, along z, y, x, where that is known."""
    crop_settings: dict[str, Any]
    """What crops were in its training, by the names of the settings, where that is known."""
    networks: tuple[str, ...]
    """Which networks there are to choose from."""

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Return what :meth:`as_dict` described."""
        return TypeAdapter(cls).validate_python(content)

    def as_dict(self) -> dict[str, Any]:
        """Return it in plain types."""
        return asdict(self)
