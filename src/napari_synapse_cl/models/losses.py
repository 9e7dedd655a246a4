"""Losses of embeddings of two views against the others of their batch.

Both are computed in float32 whatever the embeddings are, also under autocast; similarity is the
cosine. A loss that one objective alone has stands beside it, in ``training/objectives/methods.py``.
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


def _similarities(
    z1: Tensor, z2: Tensor, temperature: float, related: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return ``(2N, 2N)`` cosines over the temperature, and the partner of each.

    Those of each with itself, and with what is related and not its partner, are −∞.
    """
    check_shapes(z1, z2)
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


def check_shapes(z1: Tensor, z2: Tensor) -> None:
    """Raise ValueError unless both are ``(N, K)`` of one shape."""
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError(
            f"two (N, K) tensors of one shape are needed, not {tuple(z1.shape)} and "
            f"{tuple(z2.shape)}"
        )
