"""Several processes that train one network together, as torchrun or a cluster starts them.

Every process reads its share of each batch; what they exchange makes the result that of one process
with the whole batch. One of them writes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.environment import Launch, variable

PATIENCE = timedelta(days=30)
"""How long processes wait for each other: as long as a person may pause a training."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """Which of the processes that work together one is; by default it is alone."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """How many processes there are."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def share_of(self, items: np.ndarray) -> np.ndarray:
        """Return the items that this process works on: a run of them, in order."""
        return np.array_split(items, self.size)[self.rank]

    def gather(self, local: Tensor) -> Tensor:
        """Return the rows of all processes, in the order of :meth:`share_of`.

        Parameters
        ----------
        local
            ``(n, …)``, what this process made of its share; n may differ by process.
        """
        if self.size == 1:
            return local
        lengths = torch.zeros(self.size, dtype=torch.long, device=local.device)
        lengths[self.rank] = len(local)
        dist.all_reduce(lengths)
        longest = int(lengths.max())
        padded = local.new_zeros(longest, *local.shape[1:])
        padded[: len(local)] = local
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, lengths.tolist(), strict=True)])

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by the sum of those of all processes."""
        self._reduce([p.grad for p in parameters if p.grad is not None])

    def average_statistics(self, module: nn.Module) -> None:
        """Replace the running statistics of batch norms by the means over all processes."""
        statistics = [b for b in module.buffers() if b.is_floating_point()]
        self._reduce(statistics)
        if self.size > 1:
            for statistic in statistics:
                statistic /= self.size

    def agree(self, value: Value) -> Value:
        """Return the value that the main process has."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def everyones(self, value: Value) -> list[Value]:
        """Return the values of all processes, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.size > 1:
            dist.barrier()

    def _reduce(self, tensors: list[Tensor]) -> None:
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that torchrun has started; without it this process is alone.

    Raises
    ------
    InputError
        If the environment says that there are several, and not how to reach them.
    """
    size = Launch.of_this_process().size
    if size == 1:
        yield ALONE
        return
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if variable(name) is None:
            raise InputError(
                f"WORLD_SIZE says that {size} processes work together, and {name} does not say how "
                "they reach each other: start them with torchrun, or unset WORLD_SIZE"
            )
    # Functions in there have the group as a default argument, if there is one when PyTorch's first
    # optimizer imports it. The group would outlive its end, and its threads the interpreter, which
    # aborts the process now and then.
    import_module("torch.distributed.nn")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if local_cuda_device() is not None:
        torch.cuda.set_device(local_cuda_device())
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (ValueError, RuntimeError, OverflowError) as error:
        cause = str(error).strip().partition("\n")[0]
        raise InputError(
            f"WORLD_SIZE says that {size} processes work together, but they cannot be joined "
            f"({cause}): start them with torchrun"
        ) from None
    try:
        yield Ranks(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def local_cuda_device() -> torch.device | None:
    """Return the GPU of this process among those that torchrun started on this computer."""
    launch = Launch.of_this_process()
    local = launch.local_rank
    if local is None and launch.size > 1:
        # Computers of one cluster have as many GPUs each, and take their processes in order.
        local = launch.rank
    if local is None or not torch.cuda.is_available():
        return None
    return torch.device("cuda", local % torch.cuda.device_count())
