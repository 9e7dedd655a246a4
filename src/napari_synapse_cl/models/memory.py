"""How much memory a training step takes, from a measurement that takes little."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from napari_synapse_cl.devices import autocast
from napari_synapse_cl.models.projection import ContrastiveModel


def saved_bytes_per_view(
    model: ContrastiveModel, crop_size: Sequence[int], device: torch.device, precision: str
) -> int:
    """Return the size of what one view leaves in memory for the gradients.

    It grows linearly with the voxels, so it is measured on two pairs of the smallest crops that the
    network takes. The model stays as it is, its batch-norm statistics too.

    Parameters
    ----------
    model
        A model on the device, in training mode.
    crop_size
        Size of a view along z, y, x in voxels.
    device, precision
        Where and how precisely it is trained.
    """
    smallest = model.architecture.total_downsampling
    larger = [2 * size for size in smallest]
    at_smallest, at_larger = (
        _saved_bytes(model, size, device, precision) for size in (smallest, larger)
    )
    per_voxel = (at_larger - at_smallest) / (prod(larger) - prod(smallest))
    return round((at_smallest + per_voxel * (prod(crop_size) - prod(smallest))) / 2)


def _saved_bytes(
    model: ContrastiveModel, size: Sequence[int], device: torch.device, precision: str
) -> int:
    """Return the size of what a pair of views leaves, each storage counted once."""
    views = torch.zeros(2, 1, *size, device=device).contiguous(memory_format=torch.channels_last_3d)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    # In place of the statistics of batch norm, which a forward pass changes.
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with saved_tensors_hooks(note, lambda tensor: tensor), autocast(device, precision):
        # Kept until all is counted: a storage that is freed could give another its address.
        embeddings = functional_call(model, buffers, (views,))
        return sum(sizes.values()) if embeddings.requires_grad else 0
