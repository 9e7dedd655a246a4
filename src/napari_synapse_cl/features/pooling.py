"""Vectors pooled over what they belong to, such as all synapses of a neuron."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.vectors import Scaling, VectorTable
from napari_synapse_cl.system.words import counted

ROWS_AT_ONCE = 2**14
COUNT = "n_synapses"
"""The column that says of how many rows a group is the mean."""


@dataclass(frozen=True)
class Pooled:
    """G groups of the rows of a table."""

    table: pd.DataFrame
    """G rows: the column by which they are pooled, of how many rows each is, what all rows of each
    have in common, and the mean vectors in the columns that the vectors had."""
    typical: np.ndarray
    """``(G,)`` int64, the row of each that is nearest to its mean, all channels on one scale."""
    n_without: int
    """Rows with a vector that belong to none."""


def pool(vectors: VectorTable, columns: pd.DataFrame, by: str) -> Pooled:
    """Return the mean vector of each group of rows, and the row that is most typical of it.

    Groups come in the order in which their first rows do.

    Parameters
    ----------
    vectors
        M rows, of which those without a vector are left out.
    columns
        M rows of what else is known of them.
    by
        The column whose cells say which group a row belongs to; a blank one is none.

    Raises
    ------
    InputError
        If there are fewer than two groups, or none of several rows.
    """
    rows = vectors.rows
    codes, names = pd.factorize(columns[by].iloc[rows])
    members = np.flatnonzero(codes >= 0)
    if len(names) < 2 or len(names) == len(members):
        raise InputError(
            f"the column {by} puts {counted(len(members), 'row')} with a vector into "
            f"{counted(len(names), 'group')}: pooling needs at least two groups, of several rows"
        )
    members = members[np.argsort(codes[members], kind="stable")]
    own, members = codes[members], rows[members]
    starts = np.flatnonzero(np.diff(own, prepend=-1))
    counts = np.diff(starts, append=len(own))
    parts = [slice(i, i + ROWS_AT_ONCE) for i in range(0, len(own), ROWS_AT_ONCE)]
    means = np.zeros((len(names), vectors.values.shape[1]))
    for part in parts:
        of = own[part]
        firsts = np.flatnonzero(np.diff(of, prepend=-1))
        values = vectors.values[members[part]].astype(np.float64)
        means[of[firsts]] += np.add.reduceat(values, firsts, axis=0)
    means /= counts[:, None]
    factor = Scaling.of(vectors.values[members], vectors.sizes).factor
    distances = np.empty(len(own))
    for part in parts:
        apart = (vectors.values[members[part]] - means[own[part]]) * factor
        distances[part] = np.square(apart).sum(axis=1)
    typical = members[np.lexsort((distances, own))[starts]]
    common = _in_common(columns.drop(columns=[by, *AXES], errors="ignore").iloc[members], starts)
    table = columns[[by, *common]].iloc[typical].reset_index(drop=True)
    table.insert(1, COUNT, counts)
    channels = pd.DataFrame(means.astype(np.float32), columns=list(vectors.columns))
    return Pooled(pd.concat([table, channels], axis=1), typical, len(rows) - len(members))


def _in_common(columns: pd.DataFrame, starts: np.ndarray) -> list[str]:
    """Return the columns that are the same throughout each group.

    Parameters
    ----------
    columns
        Rows of one group after the other.
    starts
        Where each group begins.
    """
    is_first = np.zeros(len(columns), bool)
    is_first[starts] = True
    found = []
    for name, cells in columns.items():
        codes = pd.factorize(cells.astype(object).map(str, na_action="ignore"))[0]
        is_other = np.diff(codes, prepend=codes[:1]) != 0
        if not (is_other & ~is_first).any():
            found.append(str(name))
    return found
