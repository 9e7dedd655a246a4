"""Batch norm and the ReLU after it in one, on a CPU.

Each of them goes over maps that no cache holds, and both have to be gone over again for the
gradients. In one, maps are read half as often; in a training step that is the most that is left
beside the convolutions.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_synapse_cl.system.loops import Loop

SMALLEST = 2**18
"""Elements of a map, of all views together, from which on it is worth it."""
_smallest = ContextVar("smallest", default=SMALLEST)
_ROW = 384
_CHUNK = 2**16
_KERNELS = "napari_synapse_cl.models.norm_kernels"
_sum_squares, _normalise, _sum_gradients, _map_gradients = (
    Loop(_KERNELS, name) for name in ("sum_squares", "normalise", "sum_gradients", "map_gradients")
)

MOMENTUM = 0.1
"""Weight of a new batch in the running statistics, as PyTorch has it by default."""
BatchNorm = nn.modules.batchnorm._BatchNorm


def run_modules(modules: Iterable[nn.Module], maps: Tensor) -> Tensor:
    """Return what modules make of maps one after the other, batch norms and ReLUs in one."""
    following = list(modules)
    while following:
        module = following.pop(0)
        if isinstance(module, nn.BatchNorm3d) and following and isinstance(following[0], nn.ReLU):
            relu = following.pop(0)
            together = norm_relu(module, maps) if _is_worth_it(module, maps) else None
            maps = relu(module(maps)) if together is None else together
        else:
            maps = module(maps)
    return maps


@contextmanager
def in_one_at_any_size() -> Iterator[None]:
    """Run small maps in the block as large ones, so that they stand for these."""
    token = _smallest.set(0)
    try:
        yield
    finally:
        _smallest.reset(token)


def norm_relu(norm: nn.BatchNorm3d, maps: Tensor) -> Tensor | None:
    """Return the ReLU of a batch norm, and update its statistics as it does itself.

    Parameters
    ----------
    norm
        With weights and running statistics.
    maps
        ``(B, C, D, H, W)`` float32 or bfloat16 on the CPU, in channels-last order.

    Returns
    -------
    Tensor or None
        Likewise; None, and nothing was done, where loops cannot be compiled.
    """
    flat = _flat(maps.detach())
    if norm.training:
        statistics = _statistics(flat, maps.shape[1])
        if statistics is None:
            return None
        _keep_statistics(norm, *statistics, flat.size // maps.shape[1])
    else:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        statistics = norm.running_mean.double().numpy(), norm.running_var.double().numpy()
        # Nothing to do: it is seen whether it can be compiled.
        if not _normalise(0, flat, 1, *_repeated(maps.shape[1], *statistics), flat):
            return None
    result: Tensor = _NormRelu.apply(
        maps, norm.weight, norm.bias, *statistics, norm.eps, norm.training
    )
    return result


def _is_worth_it(norm: nn.BatchNorm3d, maps: Tensor) -> bool:
    return (
        norm.affine
        and norm.track_running_stats
        and maps.device.type == "cpu"
        and maps.dtype in (torch.float32, torch.bfloat16)
        and maps.numel() >= _smallest.get()
        and maps.is_contiguous(memory_format=torch.channels_last_3d)
    )


class _NormRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: np.ndarray,
        variance: np.ndarray,
        eps: float,
        of_batch: bool,
    ) -> Tensor:
        flat = _flat(maps)
        inverse = 1 / np.sqrt(variance + eps)
        scale = weight.detach().double().numpy() * inverse
        shift = bias.detach().double().numpy() - mean * scale
        result = torch.empty_like(maps)
        row = _rows(flat.size, len(mean))
        _normalise(
            _n_chunks(flat, row), flat, _chunk(row), *_repeated(row, scale, shift), _flat(result)
        )
        ctx.save_for_backward(maps)
        ctx.mean, ctx.inverse, ctx.scale, ctx.shift = mean, inverse, scale, shift
        ctx.of_batch = of_batch
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (maps,) = ctx.saved_tensors
        flat = _flat(maps)
        given = gradients[0].to(maps.dtype).contiguous(memory_format=torch.channels_last_3d)
        mean, inverse, scale = ctx.mean, ctx.inverse, ctx.scale
        channels, row = len(mean), _rows(flat.size, len(mean))
        n, chunk = _n_chunks(flat, row), _chunk(row)
        scales, shifts, means = _repeated(row, scale, ctx.shift, mean)
        sums, products = (np.zeros((n, row), np.float32) for _ in range(2))
        _sum_gradients(n, flat, _flat(given), chunk, scales, shifts, means, sums, products)
        to_bias = _of_channels(sums, channels)
        to_weight = _of_channels(products, channels) * inverse
        # Running statistics do not depend on the maps, those of the batch do.
        n_voxels = flat.size // channels if ctx.of_batch else np.inf
        slope = -scale * inverse * to_weight / n_voxels
        offset = -scale * to_bias / n_voxels - mean * slope
        result = torch.empty_like(maps)
        slopes, offsets = _repeated(row, slope, offset)
        _map_gradients(n, flat, _flat(given), chunk, scales, shifts, slopes, offsets, _flat(result))
        of_weights = (torch.from_numpy(g.astype(np.float32)) for g in (to_weight, to_bias))
        return (result, *of_weights, None, None, None, None)


def _statistics(flat: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return mean and variance of each channel, ``(C,)`` float64."""
    row = _rows(flat.size, channels)
    first = torch.from_numpy(flat[:channels])
    pivot = (first.view(torch.bfloat16) if flat.dtype == np.uint16 else first).double().numpy()
    n = _n_chunks(flat, row)
    sums, squares = (np.zeros((n, row), np.float32) for _ in range(2))
    if not _sum_squares(n, flat, _chunk(row), *_repeated(row, pivot), sums, squares):
        return None
    n_voxels = flat.size // channels
    deviation = _of_channels(sums, channels) / n_voxels
    variance = _of_channels(squares, channels) / n_voxels - deviation**2
    return pivot + deviation, np.maximum(variance, 0)


def _keep_statistics(
    norm: nn.BatchNorm3d, mean: np.ndarray, variance: np.ndarray, n_voxels: int
) -> None:
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    unbiased = variance * n_voxels / max(1, n_voxels - 1)
    assert norm.momentum is not None
    for running, seen in ((norm.running_mean, mean), (norm.running_var, unbiased)):
        assert running is not None
        running.lerp_(torch.from_numpy(seen).to(running.dtype), norm.momentum)


def _flat(maps: Tensor) -> np.ndarray:
    """Return the elements in the order of memory, as a view; those of bfloat16 as their bits."""
    flat = maps.permute(0, 2, 3, 4, 1).reshape(-1)
    return (flat.view(torch.uint16) if maps.dtype == torch.bfloat16 else flat).numpy()


def _rows(size: int, channels: int) -> int:
    """Return how many elements make a row."""
    return min(size, channels * max(1, _ROW // channels))


def _chunk(row: int) -> int:
    return row * max(1, _CHUNK // row)


def _n_chunks(flat: np.ndarray, row: int) -> int:
    return -(-flat.size // _chunk(row))


def _repeated(row: int, *of_channels: np.ndarray) -> list[np.ndarray]:
    """Repeat what belongs to the channels for each voxel of a row."""
    return [np.tile(values.astype(np.float32), row // len(values)) for values in of_channels]


def _of_channels(sums: np.ndarray, channels: int) -> np.ndarray:
    """Return the sums of each channel, ``(C,)`` float64."""
    return sums.sum(axis=0, dtype=np.float64).reshape(-1, channels).sum(axis=0)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Leave running statistics as they are in the block, whatever goes through.

    What goes through is normalised as it would be otherwise, and backward passes save the same
    tensors.
    """
    norms = [(n, n.momentum, n.num_batches_tracked) for n in _norms(module)]
    for norm, _, _ in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, momentum, n_seen in norms:
            norm.momentum = momentum
            norm.num_batches_tracked = n_seen


def weigh_first_batches(module: nn.Module) -> bool:
    """Let running statistics be the plain mean of the first batches; return whether all are past.

    An average that begins with the arbitrary mean 0 and variance 1 of a new layer is off for tens
    of batches: a validation then sees another network than the training.

    Parameters
    ----------
    module
        Called before each batch that goes through it. Batch norms in evaluation are left alone.
    """
    training = [norm for norm in _norms(module) if norm.training]
    for norm in training:
        assert norm.num_batches_tracked is not None
        norm.momentum = max(MOMENTUM, 1 / (int(norm.num_batches_tracked) + 1))
    return all(norm.momentum == MOMENTUM for norm in training)


def _norms(module: nn.Module) -> list[BatchNorm]:
    return [part for part in module.modules() if isinstance(part, BatchNorm)]


def channels_last(maps: Tensor) -> Tensor:
    """Return ``(B, C, D, H, W)`` maps with the channels of a voxel side by side.

    Maps of a single channel lie in memory in either order. PyTorch goes by their strides, and takes
    them for the other one; all that a network makes of them is then in that order too.
    """
    if maps.shape[1] != 1:
        return maps.contiguous(memory_format=torch.channels_last_3d)
    *_, depth, height, width = maps.shape
    strides = (depth * height * width, 1, height * width, width, 1)
    return maps.contiguous().as_strided(maps.shape, strides)
