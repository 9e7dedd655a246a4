"""Which vectors are worth a label: uncertain ones, typical ones, and those far from all labelled.

No PyTorch in here, and scikit-learn is imported late.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from napari_synapse_cl.features.neighbours import Space
from napari_synapse_cl.system.words import listing

MOST_LOOKED_AT = 20_000
"""Vectors among which those to ask for are looked for."""
MOST_CLUSTERED = 5000


@dataclass
class Asked:
    """Numbers of the vectors that are worth a label, and why."""

    numbers: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    """Of each: "uncertain", "typical" or "far"."""

    def in_words(self) -> str:
        """Say how many are asked for, and why."""
        words = {
            "uncertain": "whose class is uncertain",
            "typical": "typical of many without a label",
            "far": "far from all that have one",
        }
        counts = {reason: self.reasons.count(reason) for reason in words}
        return listing([f"{n} {words[reason]}" for reason, n in counts.items() if n])

    def add(self, number: int, reason: str) -> None:
        """Ask for a vector, unless that is done already."""
        if number not in self.numbers:
            self.numbers.append(number)
            self.reasons.append(reason)


def ask_next(
    space: Space,
    labelled: np.ndarray,
    uncertainty: np.ndarray | None = None,
    n: int = 9,
    seed: int = 0,
) -> Asked:
    """Return the vectors that one should label next, of each kind as many, turn by turn.

    Parameters
    ----------
    labelled
        ``(k,)`` numbers of those that have a label, each once.
    uncertainty
        ``(N,)``, how uncertain the class of each is, NaN where that is not known; None where
        nothing was predicted.
    n
        How many are asked for, as far as there are so many.
    seed
        Of the sample that is looked at, where there are many.
    """
    others = np.setdiff1d(np.arange(len(space)), labelled, assume_unique=True)
    generator = np.random.default_rng(seed)
    if len(others) > MOST_LOOKED_AT:
        others = np.sort(generator.choice(others, MOST_LOOKED_AT, replace=False))
    kinds = {"typical": _typical(space, others, n, generator)}
    if len(labelled):
        kinds["far"] = _far(space, others, labelled, n)
    if uncertainty is not None and np.isfinite(uncertainty[others]).any():
        known = np.nan_to_num(uncertainty[others], nan=-1.0)
        kinds["uncertain"] = iter(others[np.argsort(-known, kind="stable")].tolist())
    asked, n = Asked(), min(n, len(others))
    while len(asked.numbers) < n and kinds:
        for reason in list(kinds):
            number = next(kinds[reason], None)
            if number is None:
                del kinds[reason]
            elif len(asked.numbers) < n:
                asked.add(int(number), reason)
    for number in others.tolist():
        # Where there are fewer kinds of vectors than are asked for.
        if len(asked.numbers) >= n:
            break
        asked.add(int(number), "typical")
    return asked


def _far(space: Space, others: np.ndarray, labelled: np.ndarray, n: int) -> Iterator[int]:
    """Yield the one farthest from all labelled, then from these and that one, and so on."""
    points = space.points[others]
    nearest = np.full(len(others), np.inf, np.float32)
    for one in space.points[labelled]:
        np.minimum(nearest, np.square(points - one).sum(axis=1), out=nearest)
    for _ in range(min(n, len(others))):
        place = int(nearest.argmax())
        yield int(others[place])
        np.minimum(nearest, np.square(points - points[place]).sum(axis=1), out=nearest)


def _typical(
    space: Space, others: np.ndarray, n: int, generator: np.random.Generator
) -> Iterator[int]:
    """Yield the middles of clusters of what has no label, the largest cluster first."""
    from sklearn.cluster import KMeans

    some = others
    if len(some) > MOST_CLUSTERED:
        some = np.sort(generator.choice(some, MOST_CLUSTERED, replace=False))
    points = space.points[some]
    n_different = len(np.unique(points[: 10 * n], axis=0))
    if not n_different:
        return
    model = KMeans(min(n, n_different), n_init=1, random_state=int(generator.integers(2**31)))
    distances = model.fit_transform(points)
    for cluster in np.argsort(-np.bincount(model.labels_), kind="stable").tolist():
        yield int(some[distances[:, cluster].argmin()])
