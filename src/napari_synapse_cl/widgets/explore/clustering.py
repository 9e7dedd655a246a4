"""Clusters of rows: found in a process of their own, then named and joined by a person."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from napari_synapse_cl.widgets.explore.search import elsewhere

if TYPE_CHECKING:
    from napari_synapse_cl.features.clusters import Clusters, Method
    from napari_synapse_cl.features.neighbours import Metric, Step
    from napari_synapse_cl.features.vectors import VectorTable
    from napari_synapse_cl.widgets.explore.state import Exploration

SEED = 0
NONE = "none"
"""What the column says of rows that are in no cluster."""


@dataclass(frozen=True, eq=False)
class Query:
    """What clusters are looked for."""

    state: Exploration
    vectors: VectorTable
    """What rows are numbers in; others are of no use by then."""
    method: Method
    n: int
    """How many, 0 for as many as there seem to be."""
    min_size: int
    """Fewest rows of a cluster, for HDBSCAN."""
    metric: Metric


@dataclass(frozen=True, eq=False)
class Groups:
    """Clusters as they are named now."""

    query: Query
    found: Clusters
    """What was found at first."""
    codes: np.ndarray
    """``(n,)`` int64, the cluster of each row, 0 for none, −1 without a vector."""
    names: dict[int, str]
    typical: dict[int, np.ndarray] = field(default_factory=dict)
    borderline: dict[int, np.ndarray] = field(default_factory=dict)
    """Rows of each, if they have been looked for since clusters changed."""

    @property
    def counts(self) -> dict[int, int]:
        """How many rows each has."""
        counts = np.bincount(self.codes + 1, minlength=max(self.names) + 2)
        return {number: int(counts[number + 1]) for number in self.names}

    @property
    def cells(self) -> np.ndarray:
        """``(n,)`` objects, the name of the cluster of each row, None without a vector."""
        named = np.full(max(self.names) + 2, None, object)
        for number, name in self.names.items():
            named[number + 1] = name
        return np.asarray(named[self.codes + 1])

    def record(self, found: str) -> dict[str, Any]:
        """Return where they come from, in plain types.

        Parameters
        ----------
        found
            What the record says was found.
        """
        return {
            "found": found,
            "vectors": list(self.query.vectors.names),
            "clustering": self.query.method,
            "n_clusters": self.query.n,
            "min_cluster_size": self.query.min_size,
            "distance": self.query.metric,
            "seed": SEED,
            "made_from": self.found.n_fitted,
            "silhouettes": self.found.silhouettes,
            "rand_index_of_seeds": self.found.seeds,
            "rand_index_of_halves": self.found.halves,
            "told": list(self.found.in_words()),
        }

    def renamed(self, number: int, name: str) -> Self:
        """Return them with another name of one."""
        return replace(self, names={**self.names, number: name})

    def joined(self, numbers: list[int], name: str) -> Self:
        """Return them with one of this name in the place of several; what is none stays so."""
        kept, *others = sorted(numbers)
        codes = np.where(np.isin(self.codes, others), kept, self.codes)
        names = {number: old for number, old in self.names.items() if number not in others}
        names[kept] = name if kept else NONE
        return replace(self, codes=codes, names=names, typical={}, borderline={})

    def of_rows(self, before: np.ndarray, vectors: Any) -> Self:
        """Return them after rows came or went.

        Parameters
        ----------
        before
            ``(m,)`` int64, which row each was, −1 for new ones.
        """
        codes = np.where(before >= 0, self.codes[before], -1)
        query = replace(self.query, vectors=vectors)
        return replace(self, query=query, codes=codes, typical={}, borderline={})


def find(query: Query) -> Generator[Step, None, Groups]:
    """Find clusters, and yield how far that is.

    Raises
    ------
    InputError
        If there is too little to make them from.
    """
    from napari_synapse_cl.features.clusters import check_clusters, find_clusters

    rows = query.vectors.rows
    points = np.empty((0, 1))
    if len(rows):
        points = query.state.space(query.metric, query.vectors).points
    check_clusters(points, query.n)
    find_so = partial(find_clusters, min_size=query.min_size)
    found = yield from elsewhere(find_so, points, query.method, query.n)
    codes = np.full(len(query.vectors.values), -1)
    codes[rows] = found.labels
    names = {**{number: f"cluster {number}" for number in range(1, found.n + 1)}, 0: NONE}
    return Groups(query, found, codes, names, *_of_table(rows, found.typical, found.borderline))


def look_again(groups: Groups) -> Groups:
    """Return clusters that were changed with what is typical of each now; for a worker."""
    from napari_synapse_cl.features.clusters import typical_and_borderline

    query = groups.query
    rows = query.vectors.rows
    if not len(rows):
        return groups
    points = query.state.space(query.metric, query.vectors).points
    shown = typical_and_borderline(points, groups.codes[rows], query.method)
    typical, borderline = _of_table(rows, *shown)
    return replace(groups, typical=typical, borderline=borderline)


def _of_table(rows: np.ndarray, *several: dict[int, list[int]]) -> list[dict[int, np.ndarray]]:
    """Return rows of the table for numbers of vectors."""
    return [{number: rows[some] for number, some in one.items()} for one in several]
