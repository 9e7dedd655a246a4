"""Clusters of vectors: found, counted, tried for whether they would be found again, and shown.

No PyTorch in here, and scikit-learn is imported late.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.neighbours import Space, Step
from napari_synapse_cl.system.words import counted

Method = Literal["kmeans", "mixture", "hdbscan"]
NONE = 0
"""The number of what belongs to no cluster."""

FEWEST = 4
"""Rows that clusters are looked for in."""
MOST_FITTED = {"kmeans": 50_000, "mixture": 20_000, "hdbscan": 10_000}
"""Rows that clusters are made from; the others join the ones they are nearest to."""
MOST_JUDGED = 2000
"""Rows that the silhouette is taken of: every pair of them is looked at."""
COMPONENTS, VARIANCE = 20, 0.95
"""Principal components that a mixture and HDBSCAN look at: so many, or as hold this share of the
variance. In more dimensions there is too little to estimate covariances and densities from."""
N_SEEDS, N_HALVINGS = 4, 3
N_SHOWN = 9
"""Rows of each cluster that are named, typical ones and borderline ones."""
RELIABLE, SHAKY = 0.8, 0.5
"""Adjusted Rand index from which clusters come again, and below which they do not."""
CLEAR = 0.15
"""Silhouette below which no number of clusters stands out."""


@dataclass(frozen=True)
class Clusters:
    """Clusters of N vectors, the largest first."""

    labels: np.ndarray
    """``(N,)`` int64, from 1; 0 is none."""
    silhouettes: dict[int, float]
    """Of each number of clusters that was tried."""
    seeds: float | None
    halves: float
    """Adjusted Rand index of clusters from other seeds, and of those from two halves of the rows:
    1 where they are the same, 0 as by chance. None where luck has no part."""
    typical: dict[int, list[int]]
    borderline: dict[int, list[int]]
    """Numbers of the vectors nearest the middle of each cluster, and of those nearest to another's,
    the most so first."""
    n_fitted: int
    """Rows that they were made from."""

    @property
    def counts(self) -> dict[int, int]:
        """How many vectors each has, and `NONE`."""
        return dict(enumerate(np.bincount(self.labels).tolist()))

    @property
    def n(self) -> int:
        """How many there are."""
        return int(self.labels.max(initial=0))

    def in_words(self) -> Iterator[str]:
        """Say how many clusters there are, why, and whether to rely on them."""
        if not self.n:
            yield "there are no clusters: no part is denser than what is around it"
            return
        sizes = ", ".join(f"{count:,}" for number, count in self.counts.items() if number)
        none = self.counts[NONE]
        text = f"{self.n} cluster{'s' * (self.n > 1)} of {sizes} rows"
        yield text + (f", and {none:,} rows in none" if none else "")
        if self.silhouettes:
            best = max(self.silhouettes.values())
            text = f"{self.n} is the number of clusters with the best silhouette ({best:.2f})"
            if best < CLEAR and self.halves < RELIABLE:
                text += ", but none stands out: the vectors may form no clusters at all"
            yield text
        yield stability_in_words(self.seeds, self.halves)


def stability_in_words(seeds: float | None, halves: float) -> str:
    """Say whether clusters can be relied on.

    Parameters
    ----------
    seeds, halves
        As :class:`Clusters` has them.
    """
    measured = f"two halves of the rows agree with an adjusted Rand index of {halves:.2f}"
    least = halves
    if seeds is not None:
        measured += f", other seeds with {seeds:.2f}"
        least = min(seeds, halves)
    if least >= RELIABLE:
        return f"these clusters come again, and can be taken as classes: {measured}"
    if least >= SHAKY:
        return f"these clusters come again in part, and their borders move: {measured}"
    return f"these clusters are not to be relied on: {measured}"


def check_clusters(points: np.ndarray, n: int) -> None:
    """Check that clusters can be looked for.

    Parameters
    ----------
    points
        ``(N, C)``, on one scale.
    n
        How many are wanted; 0 where that is not said.

    Raises
    ------
    InputError
        If there are too few points, or they are all the same.
    """
    wanted = max(FEWEST, 2 * n)
    if len(points) < wanted:
        raise InputError(
            f"{counted(len(points), 'row')} with features cannot make these clusters, which need "
            f"at least {wanted}"
        )
    if not np.ptp(points, axis=0).any():
        raise InputError("all rows have the same features, and make no clusters")


def find_clusters(
    values: np.ndarray,
    method: Method = "kmeans",
    n: int = 0,
    *,
    most: int = 12,
    min_size: int = 15,
    seed: int = 0,
) -> Generator[Step, None, Clusters]:
    """Find clusters, and yield how far that is.

    Parameters
    ----------
    values
        ``(N, C)`` float32, finite, on one scale; N ≥ 4.
    method
        "kmeans", "mixture" of Gaussians, or "hdbscan", which finds their number itself and leaves
        out what lies in no dense part.
    n
        Number of clusters; 0 takes the one from 2 to `most` with the best silhouette.
    most
        The largest number that is tried.
    min_size
        Fewest rows of a cluster, for HDBSCAN.
    seed
        Of all that is drawn.
    """
    generator = np.random.default_rng(seed)
    points = values if method == "kmeans" else _components(values, seed)
    fitted = _sample(len(points), MOST_FITTED[method], generator)
    numbers = [] if n or method == "hdbscan" else range(2, min(most, len(fitted) // 2) + 1)
    n_steps = len(numbers) + N_HALVINGS + (0 if method == "hdbscan" else N_SEEDS - 1) + 1
    steps = iter(range(n_steps + 1))

    def step() -> Step:
        return "finding clusters", next(steps), n_steps, "try"

    def fit(some: np.ndarray, number: int, seed: int) -> "_Fit":
        return _Fit(points[some], method, number, min_size, seed)

    judged = _sample(len(fitted), MOST_JUDGED, generator)
    silhouettes = {}
    for number in numbers:
        yield step()
        labels = fit(fitted, number, seed).labels[judged]
        silhouettes[number] = _silhouette(points[fitted][judged], labels)
    n = n or max(silhouettes, key=lambda number: silhouettes[number], default=0)
    yield step()
    first = fit(fitted, n, seed)
    labels = first.of(points)
    others = []
    for number in range(1, N_SEEDS if method != "hdbscan" else 1):
        yield step()
        others.append(fit(fitted, n, seed + number).labels)
    halves = []
    for _ in range(N_HALVINGS):
        yield step()
        mixed = generator.permutation(fitted)
        pair = [fit(half, n, seed) for half in (mixed[::2], mixed[1::2])]
        halves.append(_agreement([one.of(points[fitted]) for one in pair]))
    yield step()
    labels = _by_size(labels)
    typical, borderline = _shown(points, labels)
    return Clusters(
        labels=labels,
        silhouettes=silhouettes,
        seeds=_agreement([first.labels, *others]) if others else None,
        halves=float(np.mean(halves)),
        typical=typical,
        borderline=borderline,
        n_fitted=len(fitted),
    )


class _Fit:
    """Clusters of some points, which others can join: `labels` from 0, −1 for none."""

    def __init__(
        self, points: np.ndarray, method: Method, n: int, min_size: int, seed: int
    ) -> None:
        from sklearn.cluster import HDBSCAN, KMeans
        from sklearn.mixture import GaussianMixture

        self._points = points
        self._model: Any = None
        if method == "hdbscan":
            # A cluster cannot have more rows than there are.
            size = max(2, min(min_size, len(points)))
            self.labels = HDBSCAN(min_cluster_size=size, copy=True).fit_predict(points)
            return
        n = min(n, len(points))
        if method == "kmeans":
            self._model = KMeans(n, n_init=4, random_state=seed)
        else:
            self._model = GaussianMixture(n, reg_covar=1e-4, random_state=seed)
        # Points that are the same leave some clusters empty, which is seen in their counts.
        self.labels = _quietly(lambda: self._model.fit(points).predict(points))

    def of(self, points: np.ndarray) -> np.ndarray:
        """Return the clusters that other points belong to."""
        if self._model is not None:
            return np.asarray(self._model.predict(points))
        if len(points) == len(self._points) and np.array_equal(points, self._points):
            return self.labels
        space, labels = Space(self._points, "euclidean"), np.empty(len(points), np.int64)
        for i in range(0, len(points), _AT_ONCE):
            part = points[i : i + _AT_ONCE]
            products = part @ space.points.T - space.squares / 2
            labels[i : i + _AT_ONCE] = self.labels[products.argmax(axis=1)]
        return labels


_AT_ONCE = 4096


def _quietly(work: Any) -> Any:
    """Do work of scikit-learn, which warns of what is told here otherwise."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return work()


def _components(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the leading principal components, float64: covariances of few rows are nearly flat."""
    from sklearn.decomposition import PCA

    n = min(COMPONENTS, *values.shape)
    some = values[:: -(-len(values) // MOST_FITTED["kmeans"])]
    found = PCA(min(n, len(some)), random_state=seed).fit(some)
    shares = np.cumsum(found.explained_variance_ratio_)
    n = int(np.searchsorted(shares, VARIANCE)) + 1
    return np.asarray(found.transform(values)[:, :n], np.float64)


def _sample(n: int, most: int, generator: np.random.Generator) -> np.ndarray:
    """Return ascending numbers below n, all or `most` of them."""
    if n <= most:
        return np.arange(n)
    return np.sort(generator.choice(n, most, replace=False))


def _silhouette(points: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean silhouette; −1 where it is not defined."""
    from sklearn.metrics import silhouette_score

    n = len(np.unique(labels))
    return float(silhouette_score(points, labels)) if 1 < n < len(labels) else -1.0


def _agreement(several: Sequence[np.ndarray]) -> float:
    """Return the mean adjusted Rand index of all pairs."""
    from sklearn.metrics import adjusted_rand_score

    return float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(several, 2)]))


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Return labels from 1 for the largest cluster on, `NONE` for −1."""
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    numbers = np.full(int(labels.max(initial=0)) + 2, NONE)
    numbers[found[np.argsort(-counts, kind="stable")]] = np.arange(1, len(found) + 1)
    # The last is that of −1.
    return numbers[labels]


def typical_and_borderline(
    values: np.ndarray, labels: np.ndarray, method: Method = "kmeans", seed: int = 0
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Return what :class:`Clusters` has of these names, of clusters that were changed since.

    Parameters
    ----------
    values, method, seed
        As :func:`find_clusters` took them.
    labels
        ``(N,)`` int64, numbers of clusters above 0, of which some may be missing.
    """
    return _shown(values if method == "kmeans" else _components(values, seed), labels)


def _shown(
    points: np.ndarray, labels: np.ndarray
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Return the typical and the borderline points of each cluster."""
    numbers = np.unique(labels[labels > NONE]).tolist()
    middles = np.array([points[labels == number].mean(axis=0) for number in numbers])
    typical, borderline = {}, {}
    for place, number in enumerate(numbers):
        own = np.flatnonzero(labels == number)
        squared = np.stack([np.square(points[own] - middle).sum(axis=1) for middle in middles], 1)
        distance = np.sqrt(squared)
        to_own = distance[:, place].copy()
        distance[:, place] = np.inf
        # Of a single cluster the border is where it is far from its middle.
        margin = distance.min(axis=1) - to_own if len(numbers) > 1 else -to_own
        typical[number] = own[np.argsort(to_own, kind="stable")[:N_SHOWN]].tolist()
        borderline[number] = own[np.argsort(margin, kind="stable")[:N_SHOWN]].tolist()
    return typical, borderline
