"""Objectives that tell a pair from all other pairs in the batch."""

from math import log

import torch
from torch import Tensor

from napari_synapse_cl.config import TrainingConfig
from napari_synapse_cl.models import losses
from napari_synapse_cl.training.objectives.base import Objective


class NtXent(Objective, name="nt_xent"):
    """NT-Xent, of SimCLR."""

    def loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return :func:`~napari_synapse_cl.models.losses.nt_xent` of both views."""
        related = in_batch(self, synapses, z.device)
        return losses.nt_xent(
            z[:, 0], z[:, 1], temperature=self.config.temperature, related=related
        )

    @staticmethod
    def chance_loss(config: TrainingConfig, batch_size: int) -> float:
        """Return that of choosing among all others of the batch."""
        return log(2 * batch_size - 1)


class Dcl(Objective, name="dcl"):
    """NT-Xent without the pair itself in the denominator, for small batches."""

    def loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return :func:`~napari_synapse_cl.models.losses.dcl` of both views."""
        related = in_batch(self, synapses, z.device)
        return losses.dcl(z[:, 0], z[:, 1], temperature=self.config.temperature, related=related)

    @staticmethod
    def chance_loss(config: TrainingConfig, batch_size: int) -> float:
        """Return that of negatives which are all as near as the partner."""
        return log(2 * batch_size - 2)


def in_batch(objective: Objective, synapses: Tensor, device: torch.device) -> Tensor | None:
    """Return ``(2N, 2N)`` bool, which views are no negatives; None where each's own alone are none.

    Parameters
    ----------
    objective
        Knows of cells.
    synapses
        ``(N, 2)``, which synapse each view is of.
    """
    if objective.cells is None and torch.equal(synapses[:, 0], synapses[:, 1]):
        return None
    views = synapses.T.flatten()
    return objective.related(views, views).to(device)
