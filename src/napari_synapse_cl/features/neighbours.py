"""Near vectors: the ones most like some, the neighbours of all, and those far from any.

All is exact: every pair is looked at, in float32 and blockwise, and what may be among the nearest
is computed anew from its differences. No PyTorch in here.
"""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial
from threading import Lock, local
from typing import Any, Literal, TypeVar

import numpy as np

Metric = Literal["cosine", "euclidean"]
Step = tuple[str, int, int, str]
"""What is done, how much of it, of how much, and what is counted."""
Result = TypeVar("Result")

BLOCK = 1024
"""Vectors of which all pairs are computed at once: 4 MiB of products."""
QUERY_ROWS = 2**14
"""Vectors that are compared with those of a query at once, while they are in the cache."""
TINIEST = np.float32(1e-30)
"""A squared distance that is divided by."""
WAITING = 16
"""Pairs that wait for each vector of a block until they are sorted in."""
SPARE = 5
"""Neighbours that are kept beyond those asked for, until float32 no longer decides their order."""


class Space:
    """N vectors among which near ones are looked for.

    Parameters
    ----------
    values
        ``(N, C)`` float32, finite, on one scale as :class:`Scaling` brings them to.
    metric
        "cosine" compares directions, and takes vectors to unit length; "euclidean" compares places.
    """

    def __init__(self, values: np.ndarray, metric: Metric = "cosine") -> None:
        self.metric = metric
        self.points = np.ascontiguousarray(self.placed(values))

    def __len__(self) -> int:
        return len(self.points)

    def placed(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors ``(P, C)`` as points of this space: under "cosine" of unit length."""
        vectors = np.asarray(vectors, np.float32)
        if self.metric == "euclidean":
            return vectors
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
        # A vector of zeros has no direction, and is alike to none.
        return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)

    @cached_property
    def squares(self) -> np.ndarray:
        """``(N,)`` float32, squared lengths."""
        return np.asarray(np.einsum("ij,ij->i", self.points, self.points))

    def similar(
        self,
        like: np.ndarray,
        unlike: np.ndarray | None = None,
        n: int = 100,
        without: Sequence[int] = (),
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the points most similar to some vectors and least to others, the best first.

        Parameters
        ----------
        like, unlike
            ``(P, C)`` and ``(Q, C)`` vectors, at least one of the first.
        n
            How many are returned, as far as there are so many.
        without
            Numbers of points that are left out.

        Returns
        -------
        numbers, scores
            ``(n,)`` int64 and float64. Under "cosine" the score is the mean cosine with those of
            the first minus that with the others; under "euclidean" the mean distance from the
            others minus that from the first. Of equal scores the lower number comes first.
        """
        weights = np.full(len(like), 1 / len(like))
        wanted = self.placed(like)
        if unlike is not None and len(unlike):
            weights = np.concatenate([weights, np.full(len(unlike), -1 / len(unlike))])
            wanted = np.concatenate([wanted, self.placed(unlike)])
        about, uncertain = self._about(wanted, weights.astype(np.float32))
        about[list(without)] = -np.inf
        n = min(n, len(about) - len(set(without)))
        if n == 0:
            return np.empty(0, np.int64), np.empty(0)
        # Whatever rounding did: no other can be among the best.
        least = np.partition(about - uncertain, -n)[-n]
        found = np.flatnonzero(about + uncertain >= least)
        parts = [found[i : i + QUERY_ROWS] for i in range(0, len(found), QUERY_ROWS)]
        scores = np.concatenate([self._exact(part, wanted, weights) for part in parts])
        order = np.argsort(-scores, kind="stable")[:n]
        return found[order], scores[order]

    def _about(self, wanted: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(N,)`` scores in float32, and how far they may be from exact ones."""
        rounding = 2 * np.finfo(np.float32).eps * self.points.shape[1]
        scores, lost = np.zeros((2, len(self)), np.float32)
        absolute, mixed = np.abs(weights), weights @ wanted
        squares = np.einsum("ij,ij->i", wanted, wanted)

        def by_direction(start: int) -> None:
            part = slice(start, start + QUERY_ROWS)
            np.matmul(self.points[part], mixed, out=scores[part])
            lost[part] = absolute.sum()

        def by_place(start: int) -> None:
            part = slice(start, start + QUERY_ROWS)
            sums = self.squares[part] + squares[:, None]
            distances = np.ascontiguousarray((self.points[part] @ wanted.T).T)
            distances *= -2
            distances += sums
            np.sqrt(np.maximum(distances, TINIEST, out=distances), out=distances)
            scores[part] = -weights @ distances
            # Rounding takes a share of the squared lengths from a squared distance.
            sums /= distances
            lost[part] = absolute @ sums

        work = by_direction if self.metric == "cosine" else by_place
        on_all_cores(work, range(0, len(self), QUERY_ROWS))
        return scores, rounding * lost

    def _exact(self, numbers: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the scores of some points in float64."""
        points, wanted = self.points[numbers].astype(np.float64), wanted.astype(np.float64)
        if self.metric == "cosine":
            return np.asarray(points @ (weights @ wanted))
        distances = [np.sqrt(np.square(points - one).sum(axis=1)) for one in wanted]
        return np.asarray(-weights @ np.array(distances))


def on_all_cores(work: Callable[[int], Any], starts: Sequence[int]) -> list[Any]:
    """Do the work of parts on all processors, each of which multiplies by itself."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(n) as pool:
        return list(pool.map(work, starts))


@cache
def _libraries() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@dataclass(frozen=True)
class Neighbours:
    """The k nearest others of N points."""

    numbers: np.ndarray
    """``(N, k)`` int64, the nearest first."""
    distances: np.ndarray
    """``(N, k)`` float32. Under "cosine" 1 minus the cosine, else Euclidean."""


def find_neighbours(space: Space, k: int) -> Generator[Step, None, Neighbours]:
    """Find the nearest others of all points, and yield how far that is.

    Each pair of blocks is multiplied once, for both. Others at the same distance, but for the
    rounding of float32, may stand for one another.

    Parameters
    ----------
    k
        How many; fewer are found where there are fewer others.
    """
    search = _Search(space, k)
    starts = range(0, len(space), BLOCK)
    on_all_cores(search.begin, starts)
    for number, start in enumerate(starts):
        share = 1 - (1 - number / len(starts)) ** 2
        yield "finding neighbours", int(share * len(space)), len(space), "row"
        on_all_cores(partial(search.compare, start), starts[number + 1 :])
    # Their order is decided by their differences, which rounding leaves alone.
    found = on_all_cores(search.settle, starts)
    yield "finding neighbours", len(space), len(space), "row"
    numbers, distances = (np.concatenate(part) for part in zip(*found, strict=True))
    return Neighbours(numbers, distances)


class _Search:
    """What is known so far of the neighbours of all points.

    Pairs are ranked by a product that falls with their distance: their cosine, or minus half their
    squared distance, for which points have two more coordinates on either side.
    """

    def __init__(self, space: Space, k: int) -> None:
        n = len(space)
        self.space, self.k = space, min(k, n - 1)
        kept = min(k + SPARE, n - 1)
        self.left = self.right = space.points
        if space.metric == "euclidean":
            halves, ones = -space.squares[:, None] / 2, np.ones((n, 1), np.float32)
            self.left = np.hstack([space.points, ones, halves])
            self.right = np.hstack([space.points, halves, ones])
        self.products = np.full((n, kept), -np.inf, np.float32)
        self.numbers = np.zeros((n, kept), np.int64)
        self.worst = np.full(n, -np.inf, np.float32)
        self._waiting: list[list[np.ndarray]] = [[] for _ in range(0, n, BLOCK)]
        self._lock = Lock()
        self._own = local()

    def begin(self, start: int) -> None:
        """Take the pairs within a block into account, so that few of the others come near."""
        products = self._products(start, start)
        np.fill_diagonal(products, -np.inf)
        kept = min(self.numbers.shape[1], len(products) - 1)
        if kept:
            rows = slice(start, start + len(products))
            best = np.argpartition(products, -kept, axis=1)[:, -kept:]
            self.numbers[rows, :kept] = start + best
            self.products[rows, :kept] = np.take_along_axis(products, best, axis=1)
            self.worst[rows] = self.products[rows].min(axis=1)

    def compare(self, first: int, second: int) -> None:
        """Take the pairs of two blocks into account, of which the first is everybody's."""
        products = self._products(first, second)
        is_near = self._own.is_near[: products.size].reshape(products.shape)
        np.greater(products, self.worst[second : second + BLOCK], out=is_near)
        found = np.flatnonzero(is_near)
        others, points = np.divmod(found, products.shape[1])
        self._note(second, points, first + others, products.ravel()[found])
        np.greater(products, self.worst[first : first + BLOCK, None], out=is_near)
        found = np.flatnonzero(is_near)
        points, others = np.divmod(found, products.shape[1])
        with self._lock:
            self._note(first, points, second + others, products.ravel()[found])

    def _products(self, first: int, second: int) -> np.ndarray:
        """Return the products of two blocks, in memory that the thread uses again and again.

        New memory would take about as long to be had as the products.
        """
        if not hasattr(self._own, "products"):
            self._own.products = np.empty(BLOCK**2, np.float32)
            self._own.is_near = np.empty(BLOCK**2, bool)
        left, right = self.left[first : first + BLOCK], self.right[second : second + BLOCK]
        out = self._own.products[: len(left) * len(right)].reshape(len(left), len(right))
        return np.matmul(left, right.T, out=out)

    def _note(
        self, start: int, points: np.ndarray, others: np.ndarray, products: np.ndarray
    ) -> None:
        """Note pairs of a block, and keep the nearest when there are enough to be worth it."""
        if not len(points):
            return
        waiting = self._waiting[start // BLOCK]
        waiting += [points, others, products]
        if sum(map(len, waiting[::3])) > WAITING * BLOCK:
            self._keep(start)

    def _keep(self, start: int) -> None:
        """Keep the nearest of what was noted for a block."""
        waiting = self._waiting[start // BLOCK]
        points, others, products = (np.concatenate(waiting[i::3]) for i in range(3))
        waiting.clear()
        order = np.argsort(points.astype(np.int16), kind="stable")
        points, others, products = points[order], others[order], products[order]
        changed = np.flatnonzero(np.diff(points, prepend=-1))
        counts = np.diff(changed, append=len(points))
        kept = self.numbers.shape[1]
        row = np.repeat(np.arange(len(changed)), counts)
        place = np.arange(len(points)) + kept - np.repeat(changed, counts)
        rows, width = start + points[changed], kept + int(counts.max())
        near = np.full((len(rows), width), -np.inf, np.float32)
        names = np.zeros((len(rows), width), np.int64)
        near[:, :kept], names[:, :kept] = self.products[rows], self.numbers[rows]
        near[row, place], names[row, place] = products, others
        best = np.argpartition(near, width - kept, axis=1)[:, width - kept :]
        near = np.take_along_axis(near, best, axis=1)
        self.products[rows] = near
        self.numbers[rows] = np.take_along_axis(names, best, axis=1)
        self.worst[rows] = near.min(axis=1)

    def settle(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the neighbours of a block in their order, and their distances."""
        if self._waiting[start // BLOCK]:
            self._keep(start)
        numbers = self.numbers[start : start + BLOCK]
        points = self.space.points[start : start + BLOCK]
        squared = np.empty(numbers.shape, np.float32)
        for place, others in enumerate(numbers.T):
            difference = points - self.space.points[others]
            squared[:, place] = np.einsum("ij,ij->i", difference, difference)
        order = np.lexsort((numbers, squared), axis=1)[:, : self.k]
        squared = np.take_along_axis(squared, order, axis=1)
        is_cosine = self.space.metric == "cosine"
        distances = squared / 2 if is_cosine else np.sqrt(squared)
        return np.take_along_axis(numbers, order, axis=1), distances


def oddness(neighbours: Neighbours) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each point lies from its neighbours, and its rank by that.

    Returns
    -------
    distances, ranks
        ``(N,)`` float64, the mean distance of the k nearest; int64, 1 for the farthest.
    """
    distances = neighbours.distances.mean(axis=1, dtype=np.float64)
    ranks = np.empty(len(distances), np.int64)
    ranks[np.argsort(-distances, kind="stable")] = np.arange(1, len(distances) + 1)
    return distances, ranks


def disagreement(neighbours: Neighbours, labels: np.ndarray) -> np.ndarray:
    """Return ``(N,)``, the share of the neighbours that have a label which have another one.

    NaN where a point has no label, or none of its neighbours has.

    Parameters
    ----------
    labels
        ``(N,)`` strings, empty where there is none.
    """
    others = labels[neighbours.numbers]
    known = others != ""
    differs = (known & (others != labels[:, None])).sum(axis=1)
    counts = known.sum(axis=1)
    is_told = (labels != "") & (counts > 0)
    return np.divide(differs, counts, out=np.full(len(labels), np.nan), where=is_told)


def finished(steps: Generator[Step, None, Result]) -> Result:
    """Return what comes of steps that nobody looks at."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
