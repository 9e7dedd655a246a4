"""The objectives: against other pairs, with a second encoder that follows, or by spread alone.

A loss that no other objective has stands before the class that asks for it; all are computed in
float32, also under autocast.
"""

from collections.abc import Sequence
from math import cos, log, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_synapse_cl.config import Config, TrainingConfig
from napari_synapse_cl.models import losses
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.training.objectives.base import Following, Objective, of_pairs


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


def info_nce(
    queries: Tensor, keys: Tensor, negatives: Tensor, *, temperature: float, masked: Tensor
) -> Tensor:
    """Return the cross entropy of telling each query's key from negatives that all share.

    Parameters
    ----------
    queries, keys
        ``(N, K)`` embeddings; row i of both is the same synapse. They need not be normalised.
    negatives
        ``(M, K)`` embeddings of others.
    temperature
        Positive scale of the similarities.
    masked
        ``(N, M)`` bool, which negatives do not count for a query since they are of its synapse.

    Returns
    -------
    Tensor
        Scalar, float32, the mean over the queries.

    References
    ----------
    He, Fan, Wu, Xie, Girshick: Momentum Contrast for Unsupervised Visual Representation Learning,
    2020, equation 1. https://arxiv.org/abs/1911.05722
    """
    with torch.autocast(queries.device.type, enabled=False):
        q, k, others = (F.normalize(z.float(), dim=1) for z in (queries, keys, negatives))
        positive = (q * k).sum(dim=1, keepdim=True)
        negative = (q @ others.T).masked_fill(masked, -torch.inf)
        similarity = torch.cat([positive, negative], dim=1) / temperature
        return F.cross_entropy(similarity, torch.zeros(len(q), dtype=torch.long, device=q.device))


class Moco(Following, name="moco"):
    """Tell each view's partner, as a slowly following encoder sees it, from a queue of others.

    Both views are queries and both are keys. What the queue holds of the same synapse is no
    negative of it: there are fewer synapses than pictures in the data the method was made for, and
    the queue may hold several epochs.

    References
    ----------
    He, Fan, Wu, Xie, Girshick: Momentum Contrast for Unsupervised Visual Representation Learning,
    2020. https://arxiv.org/abs/1911.05722 The symmetric loss is that of Chen, Xie, He: An Empirical
    Study of Training Self-Supervised Vision Transformers, 2021. https://arxiv.org/abs/2104.02057
    """

    queue: Tensor
    queued: Tensor
    first: Tensor

    def __init__(self, model: ContrastiveModel, config: Config) -> None:
        super().__init__(model, config)
        # It begins with random directions, as in the published implementation.
        queue = torch.randn(config.queue_size, model.head.out_dim)
        self.register_buffer("queue", F.normalize(queue, dim=1))
        self.register_buffer("queued", torch.full((config.queue_size,), -1))
        self.register_buffer("first", torch.zeros((), dtype=torch.long))

    @staticmethod
    def chance_loss(config: TrainingConfig, batch_size: int) -> float:
        """Return that of choosing among the partner and the queue."""
        return log(1 + config.queue_size)

    def loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return the loss against the queue."""
        assert targets is not None
        masked = [self.related(s, self.queued) for s in synapses.to(z.device).T]
        return self._both(z, targets, self.queue, masked)

    def validation_loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return the loss against the others of the batch, whatever has been queued."""
        assert targets is not None
        negatives = torch.cat([targets[:, 0], targets[:, 1]]).detach()
        views = synapses.to(z.device).T
        masked = [self.related(of_view, views.flatten()) for of_view in views]
        return self._both(z, targets, negatives, masked)

    @torch.no_grad()
    def after_step(
        self, model: ContrastiveModel, targets: Tensor | None, synapses: Tensor, progress: float
    ) -> None:
        """Let the encoder follow, and put the targets into the queue in place of the oldest."""
        super().after_step(model, targets, synapses, progress)
        assert targets is not None
        keys = F.normalize(torch.cat([targets[:, 0], targets[:, 1]]).float(), dim=1)
        n = min(len(keys), len(self.queue))
        places = (torch.arange(n, device=keys.device) + self.first) % len(self.queue)
        self.queue[places] = keys[:n]
        self.queued[places] = synapses.to(keys.device).T.flatten()[:n]
        self.first.copy_((self.first + n) % len(self.queue))

    def _both(
        self, z: Tensor, targets: Tensor, negatives: Tensor, masked: Sequence[Tensor]
    ) -> Tensor:
        one, other = (
            info_nce(
                z[:, view],
                targets[:, 1 - view].detach(),
                negatives,
                temperature=self.config.temperature,
                masked=masked[view],
            )
            for view in (0, 1)
        )
        return (one + other) / 2


def byol(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared distance of predictions and targets, both of unit length.

    Parameters
    ----------
    predictions, targets
        ``(N, K)`` embeddings; row i of both is the same synapse. They need not be normalised.

    Returns
    -------
    Tensor
        Scalar, float32, from 0 to 4.

    References
    ----------
    Grill et al.: Bootstrap Your Own Latent, 2020, equation 2. https://arxiv.org/abs/2006.07733
    """
    with torch.autocast(predictions.device.type, enabled=False):
        cosine = F.cosine_similarity(predictions.float(), targets.float(), dim=1)
        return (2 - 2 * cosine).mean()


class Byol(Following, name="byol"):
    """Predict a view's embedding, by a slowly following encoder, from that of the other view.

    It has no loss of chance: nothing is easier to predict than what is always the same.

    References
    ----------
    Grill et al.: Bootstrap Your Own Latent, 2020. https://arxiv.org/abs/2006.07733
    """

    def __init__(self, model: ContrastiveModel, config: Config) -> None:
        super().__init__(model, config)
        dim, hidden_dim = model.head.out_dim, config.proj_hidden_dim
        self.predictor = nn.Sequential(
            nn.Linear(dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, dim),
        )

    def loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return the mean of :func:`byol` over both views."""
        assert targets is not None
        predicted = of_pairs(self.predictor, z)
        return byol(predicted.flatten(0, 1), targets.detach().flip(1).flatten(0, 1))

    def momentum_at(self, progress: float) -> float:
        """Return the momentum, which rises to 1 along a cosine."""
        return 1 - (1 - self.config.momentum) * (cos(pi * progress) + 1) / 2


def vicreg(z1: Tensor, z2: Tensor) -> Tensor:
    """Return variance-invariance-covariance regularisation of N pairs of embeddings.

    The mean squared distance of partners, weighted by 25; how much the standard deviation of a
    dimension over the views falls short of 1, mean over dimensions and both views, by 25; and the
    sum of the squared covariances of different dimensions over their number K, for both views, by
    1. Without negatives it keeps embeddings from becoming all the same, and dimensions from telling
    the same thing twice.

    Parameters
    ----------
    z1, z2
        ``(N, K)`` embeddings, N at least 2; row i of both is the same synapse. Their length counts.

    Returns
    -------
    Tensor
        Scalar, float32, at least 0.

    Raises
    ------
    ValueError
        If the shapes differ or are not ``(N, K)``, or N is 1.

    References
    ----------
    Bardes, Ponce, LeCun: VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
    Learning, 2022, equations 1 to 6 with the weights of its section 4.2, and with the mean over
    dimensions in the invariance, as the published implementation has it.
    https://arxiv.org/abs/2105.04906
    """
    losses.check_shapes(z1, z2)
    if len(z1) < 2:
        raise ValueError("one pair alone has no variance; at least 2 are needed")
    with torch.autocast(z1.device.type, enabled=False):
        views = (z1.float(), z2.float())
        loss = 25 * F.mse_loss(*views)
        for z in views:
            # Below the root, since the slope of the root is infinite at 0.
            spread = (z.var(dim=0) + 1e-4).sqrt()
            covariance = torch.cov(z.T)
            between = covariance - covariance.diag().diag()
            loss = loss + 25 * F.relu(1 - spread).mean() / 2 + between.square().sum() / z.shape[1]
        return loss


class VicReg(Objective, name="vicreg"):
    """Bring the views of a synapse together while embeddings keep their spread.

    It has no loss of chance: its terms are lengths, which a network chooses.
    """

    def loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return :func:`vicreg` of both views."""
        return vicreg(z[:, 0], z[:, 1])
