"""Losses of embeddings of two views.

All are computed in float32 whatever the embeddings are, also under autocast; similarity is the
cosine, but in :func:`vicreg`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(z1: Tensor, z2: Tensor, *, temperature: float, related: Tensor | None = None) -> Tensor:
    """Return the normalised temperature-scaled cross entropy of N pairs of embeddings.

    Of the 2N embeddings, each one's positive is its partner and the 2N − 2 others are its
    negatives. The loss is the mean over all 2N.

    Parameters
    ----------
    z1, z2
        ``(N, K)`` embeddings; row i of both is the same synapse. They need not be normalised.
    temperature
        Positive scale of the similarities.
    related
        ``(2N, 2N)`` bool, which embeddings, all of `z1` before those of `z2`, are no negatives of
        each other; partners stay partners.

    Returns
    -------
    Tensor
        Scalar, float32.

    Raises
    ------
    ValueError
        If the shapes differ or are not ``(N, K)``, or the temperature is not positive.

    References
    ----------
    Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning of Visual
    Representations, 2020, equation 1. https://arxiv.org/abs/2002.05709
    """
    similarity, partner = _similarities(z1, z2, temperature, related)
    return F.cross_entropy(similarity, partner)


def dcl(z1: Tensor, z2: Tensor, *, temperature: float, related: Tensor | None = None) -> Tensor:
    """Return the decoupled contrastive loss of N pairs of embeddings.

    It is :func:`nt_xent` whose denominator lacks the positive: pairs that agree well already go on
    pushing away their negatives, which matters where these are few.

    Parameters
    ----------
    z1, z2, temperature, related
        As in :func:`nt_xent`; N is at least 2, since without negatives there is no loss. An
        embedding that has none, since all others are related, counts 0.

    Returns
    -------
    Tensor
        Scalar, float32. It can be negative.

    Raises
    ------
    ValueError
        As in :func:`nt_xent`, or if N is 1.

    References
    ----------
    Yeh, Hong, Hsu, Liu, Chen, LeCun: Decoupled Contrastive Learning, 2022, equation 6, without its
    optional weights. https://arxiv.org/abs/2110.06848
    """
    similarity, partner = _similarities(z1, z2, temperature, related)
    if len(z1) < 2:
        raise ValueError("one pair alone has no negatives; at least 2 are needed")
    positive = similarity.gather(1, partner[:, None])
    negatives = similarity.scatter(1, partner[:, None], -torch.inf)
    has_negatives = torch.isfinite(negatives).any(dim=1)
    losses = negatives[has_negatives].logsumexp(dim=1) - positive[has_negatives, 0]
    return losses.sum() / len(negatives)


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
    _check_shapes(z1, z2)
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


def _similarities(
    z1: Tensor, z2: Tensor, temperature: float, related: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return ``(2N, 2N)`` cosines over the temperature, and the partner of each.

    Those of each with itself, and with what is related and not its partner, are −∞.
    """
    _check_shapes(z1, z2)
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, not {temperature}")
    n = len(z1)
    with torch.autocast(z1.device.type, enabled=False):
        z = F.normalize(torch.cat([z1, z2]).float(), dim=1)
        similarity = z @ z.T / temperature
        excluded = torch.eye(2 * n, dtype=torch.bool, device=z.device)
        partner = torch.arange(2 * n, device=z.device).roll(n)
        if related is not None:
            excluded = (excluded | related).scatter(1, partner[:, None], False)
        return similarity.masked_fill(excluded, -torch.inf), partner


def _check_shapes(z1: Tensor, z2: Tensor) -> None:
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError(
            f"two (N, K) tensors of one shape are needed, not {tuple(z1.shape)} and "
            f"{tuple(z2.shape)}"
        )
