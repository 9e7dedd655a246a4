"""Read layers of a network: what they put out for crops and their mirror images, as vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl.models.architecture import Architecture, Layer
from napari_synapse_cl.models.folding import Folded
from napari_synapse_cl.models.vgg3d import Vgg3D, to_network_range
from napari_synapse_cl.system.words import triple

Averaging = Literal["none", "flips", "flips+rotations"]

Pooling = Literal["mean", "max", "mean+max", "std", "centre", "none"]


@dataclass(frozen=True)
class Symmetry:
    """An exchange of axes, then flips along some: together the symmetries of a cuboid."""

    axes: tuple[int, int, int]
    """Which of the axes z, y, x comes first, second and third."""
    flips: tuple[bool, bool, bool]
    """Along which of them, as they are then, is flipped."""

    def apply(self, crops: Tensor) -> Tensor:
        """Return the image of ``(B, C, D, H, W)`` crops under the symmetry, as a view or a copy."""
        turned = crops.permute(0, 1, *(2 + axis for axis in self.axes))
        return turned.flip(self._flipped) if self._flipped else turned

    def undo(self, maps: Tensor) -> Tensor:
        """Return what :meth:`apply` maps to `maps`."""
        straight = maps.flip(self._flipped) if self._flipped else maps
        return straight.permute(0, 1, *(2 + int(axis) for axis in np.argsort(self.axes)))

    @property
    def _flipped(self) -> list[int]:
        return [2 + axis for axis, flip in enumerate(self.flips) if flip]


def symmetries(
    averaging: Averaging,
    shape: Sequence[int],
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    downsampling: Sequence[int] = (1, 1, 1),
) -> list[Symmetry]:
    """Return the symmetries to average over, the identity first.

    Parameters
    ----------
    averaging
        "none" for the identity alone, "flips" for the 8 mirror images, "flips+rotations" for these
        with every exchange of axes that agree in all that follows: 48 in all for a cube.
    shape
        Size of the crops along z, y, x.
    voxel_size
        Along z, y, x, in any unit.
    downsampling
        Of the network along z, y, x: one that shrinks an axis less was made for another axis.
    """
    if averaging == "none":
        return [Symmetry((0, 1, 2), (False, False, False))]
    alike = [
        (size, round(float(length), 6), factor)
        for size, length, factor in zip(shape, voxel_size, downsampling, strict=True)
    ]
    orders = permutations(range(3)) if averaging == "flips+rotations" else [(0, 1, 2)]
    sides = (False, True)
    return [
        Symmetry((order[0], order[1], order[2]), flips)
        for order in orders
        if [alike[axis] for axis in order] == alike
        for flips in product(sides, sides, sides)
    ]


class Readout:
    """A network in evaluation mode, of which some layers are read in one pass.

    It runs no further than the deepest of them.

    Parameters
    ----------
    network
        The network as it is now; it stays so.
    layers
        Indices into the network's ``features``.
    crop_size
        Size of the crops along z, y, x.
    pooling
        How the map of each channel becomes a number: its mean, maximum, standard deviation, or the
        element whose receptive field lies nearest the crop's central voxel; "mean+max" makes two
        of it, and "none" keeps the map.
    averaging
        Over which mirror images and turns of a crop the result is averaged.
    voxel_size
        Along z, y, x, in any unit; it tells which turns there are.
    device, precision
        Where and how precisely to compute; pooling and averaging are float32.
    """

    def __init__(
        self,
        network: Vgg3D,
        architecture: Architecture,
        layers: Sequence[int],
        crop_size: tuple[int, int, int],
        *,
        pooling: Pooling = "mean",
        averaging: Averaging = "none",
        voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
        device: torch.device,
        precision: str,
    ) -> None:
        self.layers: tuple[Layer, ...] = tuple(architecture.check_layer(i) for i in layers)
        self.crop_size = crop_size
        self.pooling = pooling
        self.symmetries = symmetries(
            averaging, crop_size, voxel_size, architecture.total_downsampling
        )
        self._device = device
        self._network = Folded(
            network,
            layers,
            device=device,
            precision=precision,
            mean_of_last=pooling == "mean",
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """The elementary poolings, in the order of the columns."""
        return tuple(self.pooling.split("+"))

    def shape_of(self, layer: Layer) -> tuple[int, ...]:
        """Return the shape of what is read for one crop: ``(K,)`` or ``(C, d, h, w)``."""
        if self.pooling != "none":
            return (layer.channels * len(self.parts),)
        sizes = [n // s for n, s in zip(self.crop_size, layer.stride, strict=True)]
        return (layer.channels, *sizes)

    def read(self, crops: Tensor) -> dict[int, np.ndarray]:
        """Return what each layer puts out.

        Parameters
        ----------
        crops
            ``(B, 1, D, H, W)`` float32 in [0, 1].

        Returns
        -------
        dict
            By the layer's index, ``(B, K)`` float32 vectors, or ``(B, C, d, h, w)`` maps where
            they are not pooled.
        """
        layers = {layer.index: layer for layer in self.layers}
        sums: dict[int, Tensor] = {}
        with torch.inference_mode():
            batch = to_network_range(crops.to(self._device))
            for symmetry in self.symmetries:
                for index, output in self._network.iterate_layers(symmetry.apply(batch)):
                    pooled = self._pool(symmetry.undo(output).float(), layers[index])
                    if index in sums:
                        sums[index] += pooled
                    else:
                        sums[index] = pooled
            n = len(self.symmetries)
            return {index: (total / n).cpu().numpy() for index, total in sums.items()}

    def _pool(self, maps: Tensor, layer: Layer) -> Tensor:
        if self.pooling == "none":
            return maps
        return torch.cat([pool(maps, part, layer, self.crop_size) for part in self.parts], dim=1)


def pool(maps: Tensor, part: str, layer: Layer, crop_size: Sequence[int]) -> Tensor:
    """Pool ``(B, C, d, h, w)`` float32 maps to ``(B, C)`` vectors.

    Parameters
    ----------
    maps
        Outputs of a layer.
    part
        "mean", "max", "std" (of the population) or "centre".
    crop_size
        Size of the crops along z, y, x.
    """
    if part == "centre":
        z, y, x = central_element(layer, crop_size)
        return maps[:, :, z, y, x]
    flat = maps.flatten(2)
    match part:
        case "mean":
            return flat.mean(dim=2)
        case "max":
            return flat.amax(dim=2)
        case "std":
            return flat.std(dim=2, correction=0)
    raise ValueError(f"there is no pooling {part!r}")


def central_element(layer: Layer, crop_size: Sequence[int]) -> tuple[int, int, int]:
    """Return which element of a layer's map sees the synapse nearest its middle.

    The synapse is at index ``crop_size // 2``, where crops are cut around it.
    """
    return triple(
        min(max(round((n // 2 - offset) / stride), 0), n // stride - 1)
        for n, offset, stride in zip(crop_size, layer.offset, layer.stride, strict=True)
    )
