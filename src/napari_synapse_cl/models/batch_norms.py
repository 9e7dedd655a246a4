"""What batch norms keep of what they have seen."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

MOMENTUM = 0.1
"""Weight of a new batch in the running statistics, as PyTorch has it by default."""
BatchNorm = nn.modules.batchnorm._BatchNorm


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
