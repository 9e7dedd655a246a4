"""What can be measured of features without any label, alike for every recipe.

Each is a candidate for what a training should watch where nobody has labels: which of them goes
with what features are worth, over many networks, ``python benchmarks/worth monitors`` tells.

References
----------
Agrawal, Mondal, Ghosh, Richards: α-ReQ: Assessing Representation Quality in Self-Supervised
Learning by Measuring Eigenspectrum Decay, 2022. https://openreview.net/forum?id=ii9X4vtZGTZ
Thilak et al.: LiDAR: Sensing Linear Probing Performance in Joint Embedding SSL Architectures, 2024.
https://arxiv.org/abs/2312.04000
"""

import numpy as np
import pandas as pd
import torch
from positions import AXES
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from napari_synapse_cl.features.embeddings import feature_rank

NEAR = 16
"""Voxels between two centres that count as neighbours in space, at most; crops overlap by half."""
RIDGE = 1e-4
"""Added to the variance within sites, as a share of its mean, before it is inverted."""


def unlabelled(
    features: np.ndarray, positions: pd.DataFrame, histogram: np.ndarray
) -> dict[str, float]:
    """Return every candidate by name.

    Parameters
    ----------
    features
        ``(N, C)``.
    positions
        Of the N places; draws of one site share the columns ``site_z`` and so on.
    histogram
        ``(N, 32)``, of the grey values of each crop.
    """
    z = StandardScaler().fit_transform(features.astype(np.float64))
    shares = StandardScaler().fit_transform(histogram.astype(np.float64))
    beyond = z - Ridge(alpha=1.0).fit(shares, z).predict(shares)
    keys = ["volume", *(f"site_{axis}" for axis in AXES)]
    sites = positions.groupby(keys, sort=False).ngroup().to_numpy()
    return {
        "rank": feature_rank(torch.from_numpy(features.astype(np.float64))),
        "decay": decay(z),
        "discriminant rank": discriminant_rank(z, sites),
        "retrieval of sites": retrieval(z, sites),
        "retrieval beyond histogram": retrieval(beyond, sites),
        "neighbours in space": neighbours(z, positions),
    }


def decay(z: np.ndarray) -> float:
    """Return the exponent with which eigenvalues of the covariance fall with their number (α-ReQ).

    Fitted over the second to the last that is a thousandth of the first.
    """
    values = np.linalg.eigvalsh(np.cov(z.T))[::-1]
    values = values[values > 1e-3 * values[0]][1:]
    slope, _ = np.polyfit(np.log(np.arange(len(values)) + 2), np.log(values), 1)
    return float(-slope)


def discriminant_rank(z: np.ndarray, sites: np.ndarray) -> float:
    """Return the effective rank of what tells sites apart, in units of what varies within (LiDAR).

    Draws of a site stand for the views of it.
    """
    chosen = np.bincount(sites)[sites] > 1
    z, (_, sites) = z[chosen], np.unique(sites[chosen], return_inverse=True)
    means = np.stack([z[sites == site].mean(axis=0) for site in range(sites.max() + 1)])
    within = np.cov((z - means[sites]).T)
    within += RIDGE * np.trace(within) / len(within) * np.eye(len(within))
    values, vectors = np.linalg.eigh(within)
    whitened = means @ vectors / np.sqrt(values)
    shares = np.clip(np.linalg.eigvalsh(np.cov(whitened.T)), 1e-12, None)
    shares /= shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def retrieval(z: np.ndarray, sites: np.ndarray) -> float:
    """Return the share of draws whose nearest other draw, by cosine, is of the same site."""
    chosen = np.bincount(sites)[sites] > 1
    z, sites = z[chosen], sites[chosen]
    z = z / np.linalg.norm(z, axis=1, keepdims=True).clip(1e-12)
    similarity = z @ z.T
    np.fill_diagonal(similarity, -np.inf)
    return float((sites[similarity.argmax(axis=1)] == sites).mean())


def neighbours(z: np.ndarray, positions: pd.DataFrame) -> float:
    """Return by how much features of places near each other are more alike than of others.

    The mean cosine of those within half a crop of each other that are of two sites, less that of
    all others, both within their volume.
    """
    z = z / np.linalg.norm(z, axis=1, keepdims=True).clip(1e-12)
    found = []
    for _, part in positions.reset_index(drop=True).groupby("volume", sort=False):
        rows = part.index.to_numpy()
        places, sites = part[AXES].to_numpy(), part[[f"site_{a}" for a in AXES]].to_numpy()
        apart = np.abs(places[:, None] - places).max(axis=2)
        other = (sites[:, None] != sites).any(axis=2)
        cosines = z[rows] @ z[rows].T
        near = other & (apart <= NEAR)
        if near.any():
            found.append(cosines[near].mean() - cosines[other & ~near].mean())
    return float(np.mean(found))


def correlations(table: pd.DataFrame, measures: list[str]) -> pd.DataFrame:
    """Return Spearman's rank correlation of each candidate with each measure over networks.

    Parameters
    ----------
    table
        One row a network and layer: candidates and measures.
    measures
        Which columns are these; the others are candidates.
    """
    candidates = [name for name in table.columns if name not in measures]
    return pd.DataFrame(
        {m: {c: spearmanr(table[c], table[m]).statistic for c in candidates} for m in measures}
    )
