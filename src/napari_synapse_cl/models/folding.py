"""VGG3D as it is only read: batch norms are part of the convolutions before them."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from napari_synapse_cl.models.norms import channels_last
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.system.devices import to_device
from napari_synapse_cl.system.memory import make_room

MAPS_AT_ONCE = 4
"""Maps of the largest size in memory at once: what a layer reads and writes, and working space."""


def bytes_per_voxel(modules: Sequence[nn.Module]) -> float:
    """Return the memory that reading some layers takes for each voxel of what they read, in bytes.

    Parameters
    ----------
    modules
        A network's ``features``, up to the deepest that is read.
    """
    values, stride = 0.0, 1
    for module in modules:
        if isinstance(module, nn.Conv3d):
            values = max(values, module.out_channels / stride)
        elif isinstance(module, nn.MaxPool3d):
            size = module.kernel_size
            stride *= size**3 if isinstance(size, int) else prod(size)
    return MAPS_AT_ONCE * torch.float32.itemsize * values


class Folded:
    """A copy of a network in evaluation mode, of which some layers are read in one pass.

    A batch norm is a factor and a shift for each channel then, which the weights of the convolution
    before it take on: maps are written once less. What is deeper than these layers is left out.

    Parameters
    ----------
    network
        The network; it stays as it is, and what becomes of it later does not change the copy.
    layers
        Indices into the network's ``features`` of the layers to read.
    device, precision
        Where and how precisely to compute: in "bfloat16" all maps and the weights that meet them
        are of that type.
    mean_of_last
        Whether of the deepest layer only the mean over its map is needed. If it is a convolution,
        or the batch norm of one that is not read too, that follows from sums over what it reads.
    """

    def __init__(
        self,
        network: Vgg3D,
        layers: Sequence[int],
        *,
        device: torch.device,
        precision: str,
        mean_of_last: bool = False,
    ) -> None:
        self._layers = frozenset(layers)
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        modules = list(network.features)[: max(layers) + 1]
        self._bytes_per_voxel = bytes_per_voxel(modules)
        self._steps = list(self._folded(modules))
        index, last = self._steps[-1]
        if mean_of_last and isinstance(last, nn.Conv3d):
            self._steps[-1] = (index, _MeanOfConvolution(last))
        for _, module in self._steps:
            to_device(module, device)
            # All else that has weights is float32, whatever the type of the maps that it reads.
            if isinstance(module, nn.Conv3d):
                module.to(self._dtype)

    def iterate_layers(
        self, raw: Tensor, indices: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the outputs of layers in their order, and run no further than the last.

        Parameters
        ----------
        raw
            ``(B, input_fmaps, D, H, W)`` on the device.
        indices
            Which of the layers; None for all of them.

        Yields
        ------
        tuple
            An index and its ``(B, C, d, h, w)``, which nothing changes later. A mean that follows
            from sums is ``(B, C, 1, 1, 1)`` float32.
        """
        wanted = self._layers if indices is None else frozenset(indices)
        if raw.device.type != "cuda":
            make_room(round(self._bytes_per_voxel * len(raw) * raw[0, 0].numel()))
        maps = channels_last(raw.to(self._dtype))
        for index, module in self._steps:
            maps = module(maps)
            if index in wanted:
                yield index, maps
            if index == max(wanted):
                return

    def _folded(self, modules: Sequence[nn.Module]) -> Iterator[tuple[int, nn.Module]]:
        """Yield what is to be run, each with the index of the layer that it puts out."""
        waiting: nn.Conv3d | None = None
        for index, original in enumerate(modules):
            module = deepcopy(original).eval()
            if waiting is not None and isinstance(module, nn.BatchNorm3d):
                module, waiting = fuse_conv_bn_eval(waiting, module), None
            elif isinstance(module, nn.Conv3d) and self._is_folded(index, modules):
                waiting = module
                continue
            elif isinstance(module, nn.ReLU):
                # What was read before it must not be overwritten.
                module.inplace = index - 1 not in self._layers
            yield index, module

    def _is_folded(self, index: int, modules: Sequence[nn.Module]) -> bool:
        """Whether a convolution is read with its batch norm alone."""
        behind = modules[index + 1 : index + 2]
        return index not in self._layers and any(isinstance(m, nn.BatchNorm3d) for m in behind)


class _MeanOfConvolution(nn.Module):
    """The mean over the map that a 3×3×3 convolution with zeros around its input puts out.

    Each weight meets the input in a window of its own, which is all of it but for a border plane on
    some sides. So the mean follows from the windows' sums: the input is read once, and nothing is
    rounded to its type.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, maps: Tensor) -> Tensor:
        """Return ``(B, C, 1, 1, 1)`` float32 for ``(B, K, D, H, W)``."""
        n_elements = maps[0, 0].numel()
        # Channels last, as they lie in memory: so it is eight times as fast.
        sums = maps.movedim(1, -1)
        for axis in (1, 2, 3):
            whole = sums.sum(axis, keepdim=True, dtype=torch.float32)
            first, last = sums.narrow(axis, 0, 1), sums.narrow(axis, -1, 1)
            sums = torch.cat([whole - last, whole, whole - first], axis)
        sums = sums.movedim(-1, 1)
        weight, bias = self.convolution.weight, self.convolution.bias
        assert bias is not None
        mean = sums.flatten(1) @ weight.flatten(1).T / n_elements + bias
        return mean[..., None, None, None]
