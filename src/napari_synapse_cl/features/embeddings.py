"""What tells a healthy training from a collapsing one, on embeddings of both views of synapses.

Every function but :func:`feature_rank` normalises the embeddings to unit length. All compute in
float32 or better; none holds more than a bounded part of the matrix of all similarities.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ELEMENTS = 2**23
"""Similarities that are held at once: 32 MiB in float32."""


@dataclass(frozen=True)
class Monitors:
    """The four monitors of one epoch."""

    alignment: float
    """From 0, where partners agree, to 4."""
    uniformity: float
    """From 0, where all embeddings are one point, to nearly −4, where they are spread evenly."""
    retrieval: float
    """Share of embeddings, 0 to 1."""
    effective_rank: float
    """Number of dimensions, from 1."""


def measure(z1: Tensor, z2: Tensor) -> Monitors:
    """Return all monitors of the embeddings of two views of the same synapses.

    Uniformity is the mean of that of each view, as its authors take it: partners should not be
    spread.

    Parameters
    ----------
    z1, z2
        ``(N, K)`` embeddings, N ≥ 2; row i of both is the same synapse.
    """
    return Monitors(
        alignment=alignment(z1, z2),
        uniformity=(uniformity(z1) + uniformity(z2)) / 2,
        retrieval=retrieval(z1, z2),
        effective_rank=effective_rank(torch.cat([z1, z2])),
    )


def alignment(z1: Tensor, z2: Tensor) -> float:
    """Return the mean squared distance of partners.

    Parameters
    ----------
    z1, z2
        ``(N, K)`` embeddings; row i of both is the same synapse.

    References
    ----------
    Wang, Isola: Understanding Contrastive Representation Learning through Alignment and Uniformity
    on the Hypersphere, 2020, with α = 2. https://arxiv.org/abs/2005.10242
    """
    return (_normalised(z1) - _normalised(z2)).square().sum(dim=1).mean().item()


def uniformity(z: Tensor) -> float:
    """Return the logarithm of the mean of exp(−2 d²), d being the distance of two embeddings.

    Parameters
    ----------
    z
        ``(N, K)`` embeddings, N ≥ 2.

    References
    ----------
    Wang, Isola 2020, with t = 2. https://arxiv.org/abs/2005.10242
    """
    n = len(z)
    total = 0.0
    for similarity, itself in _similarities(_normalised(z)):
        # Of unit vectors d² = 2 − 2 cos.
        total += (4 * similarity - 4).exp_().masked_fill_(itself, 0).sum().item()
    return log(total / (n * (n - 1)))


def retrieval(z1: Tensor, z2: Tensor) -> float:
    """Return the share of embeddings whose nearest other embedding, by cosine, is their partner.

    Parameters
    ----------
    z1, z2
        ``(N, K)`` embeddings; row i of both is the same synapse.
    """
    n = len(z1)
    z = _normalised(torch.cat([z1, z2]))
    partners = torch.arange(2 * n, device=z.device).roll(n)
    n_found = 0
    for similarity, itself in _similarities(z):
        own, partners = partners[: len(similarity)], partners[len(similarity) :]
        similarity.masked_fill_(itself, -torch.inf)
        found = similarity.gather(1, own[:, None])
        # Alone at the top: among equals, as after a collapse, a partner is found by no one.
        n_found += int(((similarity >= found).sum(dim=1) == 1).sum())
    return n_found / (2 * n)


def effective_rank(z: Tensor) -> float:
    """Return the exponential of the entropy of the singular values, taken as shares of their sum.

    Parameters
    ----------
    z
        ``(N, K)`` embeddings.

    Returns
    -------
    float
        From 1, if all embeddings are multiples of one, to the smaller of N and K.

    References
    ----------
    Roy, Vetterli: The effective rank: A measure of effective dimensionality, 2007, EUSIPCO.
    https://www.eurasip.org/Proceedings/Eusipco/Eusipco2007/Papers/a5p-h05.pdf
    """
    return feature_rank(_normalised(z))


def feature_rank(features: Tensor) -> float:
    """Return the effective rank of features as they are, neither centred nor of unit length.

    It needs neither labels nor views, so it means the same under every recipe of augmentations.

    Parameters
    ----------
    features
        ``(N, C)``, of which not all are 0.

    Returns
    -------
    float
        From 1 to the smaller of N and C.

    References
    ----------
    Garrido, Balestriero, Najman, LeCun: RankMe: Assessing the Downstream Performance of Pretrained
    Self-Supervised Representations by Their Rank, 2023. https://arxiv.org/abs/2210.02885
    """
    # On the CPU, since not every device computes in float64.
    z = features.cpu()
    if len(z) < z.shape[1]:
        gram = z.double() @ z.double().T
    else:
        rows = max(1, CHUNK_ELEMENTS // z.shape[1])
        gram = torch.zeros(z.shape[1], z.shape[1], dtype=torch.float64)
        for part in z.split(rows):
            gram += part.double().T @ part.double()
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    return torch.special.entr(values / values.sum()).sum().exp().item()


def _normalised(z: Tensor) -> Tensor:
    return F.normalize(z if z.dtype == torch.float64 else z.float(), dim=1)


def _similarities(z: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some rows of the cosines of all with all, and a mask of those with themselves."""
    columns = torch.arange(len(z), device=z.device)
    for rows in columns.split(max(1, CHUNK_ELEMENTS // len(z))):
        yield z[rows] @ z.T, rows[:, None] == columns
