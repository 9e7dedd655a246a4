"""Contrastive losses."""

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(z1: Tensor, z2: Tensor, *, temperature: float) -> Tensor:
    """Return the normalised temperature-scaled cross entropy of N pairs of embeddings.

    Of the 2N embeddings, each one's positive is its partner and the 2N − 2 others are its
    negatives; similarity is the cosine, divided by the temperature. The loss is the mean over all
    2N. It is computed in float32 whatever the embeddings are, also under autocast.

    Parameters
    ----------
    z1, z2
        ``(N, K)`` embeddings; row i of both is the same synapse. They need not be normalised.
    temperature
        Positive scale of the similarities.

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
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError(
            f"two (N, K) tensors of one shape are needed, not {tuple(z1.shape)} and "
            f"{tuple(z2.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, not {temperature}")
    n = len(z1)
    with torch.autocast(z1.device.type, enabled=False):
        z = F.normalize(torch.cat([z1, z2]).float(), dim=1)
        similarity = z @ z.T / temperature
        similarity = similarity.masked_fill(
            torch.eye(2 * n, dtype=torch.bool, device=z.device), -torch.inf
        )
        partner = torch.arange(2 * n, device=z.device).roll(n)
        return F.cross_entropy(similarity, partner)
