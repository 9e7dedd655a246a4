"""Points of a curve in bounded memory, however many there are."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

CAPACITY = 1024
"""Points kept; a plot in a dock is a few hundred pixels wide."""


class Series:
    """Points whose x ascend, of which neighbours are averaged as they become many.

    At first each point is kept. When there are :data:`CAPACITY`, neighbours are averaged in pairs,
    and so are those that come later; and so on.

    Attributes
    ----------
    n
        How many points were added.
    """

    def __init__(self) -> None:
        self._kept = np.empty((CAPACITY, 2))
        self.clear()

    def __len__(self) -> int:
        return self._n_kept + (self._n_pending > 0)

    def clear(self) -> None:
        """Forget all points."""
        self.n = 0
        self._n_kept = 0
        self._per_point = 1
        self._pending = np.zeros(2)
        self._n_pending = 0

    def add(self, x: float, y: float) -> None:
        """Add a point."""
        self.n += 1
        self._pending += (x, y)
        self._n_pending += 1
        if self._n_pending == self._per_point:
            self._keep(self._pending[None] / self._n_pending)
            self._pending[:] = 0
            self._n_pending = 0

    def extend(self, x: ArrayLike, y: ArrayLike) -> None:
        """Add many points."""
        points = np.stack([np.asarray(x, float), np.asarray(y, float)], axis=1)
        while len(points):
            if self._n_pending or len(points) < self._per_point:
                self.add(*points[0])
                points = points[1:]
                continue
            n = min(len(points) // self._per_point, CAPACITY - self._n_kept)
            part, points = np.split(points, [n * self._per_point])
            self.n += len(part)
            self._keep(part.reshape(n, self._per_point, 2).mean(axis=1))

    @property
    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """X and y of the points that are kept, the last one of what is not yet averaged."""
        kept = self._kept[: self._n_kept]
        if self._n_pending:
            kept = np.vstack([kept, self._pending / self._n_pending])
        return kept[:, 0].copy(), kept[:, 1].copy()

    def near(self, x: float) -> tuple[float, float] | None:
        """Return the point nearest to `x`, None if there is none."""
        xs, ys = self.points
        if not len(xs):
            return None
        i = int(np.abs(xs - x).argmin())
        return float(xs[i]), float(ys[i])

    def _keep(self, points: NDArray[np.float64]) -> None:
        self._kept[self._n_kept : self._n_kept + len(points)] = points
        self._n_kept += len(points)
        if self._n_kept == CAPACITY:
            self._n_kept //= 2
            self._kept[: self._n_kept] = self._kept.reshape(-1, 2, 2).mean(axis=1)
            self._per_point *= 2


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running mean over a twentieth of the values, but at least 5.

    Near the ends it is over those that there are.

    Parameters
    ----------
    values
        ``(N,)``.
    """
    half = max(2, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
