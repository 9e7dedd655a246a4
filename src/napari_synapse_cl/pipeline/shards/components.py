"""Principal components of features that no memory holds at once.

Sums and cross products are taken part after part, always in the same order, so they are the same
whoever has made the parts.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np

from napari_synapse_cl.features.tables import component_columns
from napari_synapse_cl.pipeline.shards.table import TablePlan


class Moments:
    """Mean and covariance of vectors that come in parts.

    Parameters
    ----------
    width
        Channels of a vector.
    """

    def __init__(self, width: int) -> None:
        self.n = 0
        self._shift: np.ndarray | None = None
        self._total = np.zeros(width)
        self._products = np.zeros((width, width))

    def add(self, values: np.ndarray) -> None:
        """Add ``(n, C)`` float32 vectors; those that are not finite are passed over."""
        found = values[np.isfinite(values).all(axis=1)].astype(np.float64)
        if not len(found):
            return
        if self._shift is None:
            # Of values far from 0 the products would lose what tells them apart.
            self._shift = found.mean(axis=0)
        found -= self._shift
        self.n += len(found)
        self._total += found.sum(axis=0)
        self._products += found.T @ found

    @property
    def mean(self) -> np.ndarray:
        """``(C,)`` float64."""
        shift = np.zeros(len(self._total)) if self._shift is None else self._shift
        return shift + self._total / max(1, self.n)

    @property
    def covariance(self) -> np.ndarray:
        """``(C, C)`` float64, of the population."""
        total = self._total / max(1, self.n)
        return self._products / max(1, self.n) - np.outer(total, total)


@dataclass(frozen=True)
class Components:
    """The leading principal components of standardised features of one source."""

    names: list[str]
    mean: np.ndarray
    axes: np.ndarray
    """``(C, n)`` float64, by which vectors without their mean become components; beyond the rank
    of the data 0."""

    @classmethod
    def of(cls, moments: Moments, names: list[str]) -> Self:
        """Return those of vectors, as ``principal_components`` of ``features.analysis`` has them.

        Signs are such that of each axis the largest number is positive.
        """
        covariance = moments.covariance
        variance = np.diag(covariance)
        # As scikit-learn tells a constant channel from one that varies.
        tiny = np.finfo(np.float64).eps
        n = max(1, moments.n)
        least = n * tiny * variance + (n * moments.mean * tiny) ** 2
        varies = variance > least
        factor = np.divide(1, np.sqrt(variance, where=varies, out=np.ones_like(variance)))
        factor[~varies] = 1
        lengths, axes = np.linalg.eigh(covariance * np.outer(factor, factor))
        order = np.argsort(lengths)[::-1][: min(len(names), moments.n)]
        axes = axes[:, order]
        largest = np.abs(axes).argmax(axis=0)
        axes = axes * np.sign(axes[largest, np.arange(axes.shape[1])])
        whole = np.zeros((len(variance), len(names)))
        whole[:, : axes.shape[1]] = axes * factor[:, None]
        return cls(names, moments.mean, whole)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return ``(n, K)`` float32 of ``(n, C)`` vectors; NaN where one is not finite."""
        return ((values.astype(np.float64) - self.mean) @ self.axes).astype(np.float32)


class AllMoments:
    """The moments of all sources of a plan.

    Parameters
    ----------
    n_components
        How many components are wanted of each.
    """

    def __init__(self, plan: TablePlan, n_components: int) -> None:
        self._plan, self._n = plan, n_components
        self._moments = [Moments(len(names)) for _, names in plan.columns]

    def add(self, values: np.ndarray) -> None:
        """Add ``(n, C)`` float32, the features of all sources beside each other."""
        for moments, part in zip(self._moments, split(self._plan, values), strict=True):
            moments.add(part)

    def components(self) -> list[Components]:
        """Return the components of each source."""
        pooling = str(self._plan.config["pooling"])
        return [
            Components.of(moments, component_columns(source, pooling, self._n))
            for (source, _), moments in zip(self._plan.columns, self._moments, strict=True)
        ]


def split(plan: TablePlan, values: np.ndarray) -> list[np.ndarray]:
    """Return the features of each source, of those of all beside each other."""
    widths = [len(names) for _, names in plan.columns]
    return np.split(values, np.cumsum(widths)[:-1], axis=1)


def mark_of(components: list[Components]) -> str:
    """Return what tells components from others."""
    digest = hashlib.sha256()
    for some in components:
        digest.update(" ".join(some.names).encode())
        digest.update(some.mean.tobytes() + some.axes.tobytes())
    return digest.hexdigest()[:16]
