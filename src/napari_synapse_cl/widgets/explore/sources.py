"""Vectors of the points of a layer: from its columns, or from the table that it was opened from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_synapse_cl.widgets.layers.features import feature_match

if TYPE_CHECKING:
    from napari_synapse_cl.features.vectors import VectorTable


def is_channel(name: object) -> bool:
    """Whether a column is one of the numbers of a vector."""
    match = feature_match(name)
    return match is not None and match["channel"] is not None


def of_rows(vectors: VectorTable, rows: np.ndarray) -> VectorTable:
    """Return the vectors of some rows; those beyond the last are new, and have none.

    Parameters
    ----------
    rows
        ``(M,)`` row numbers.
    """
    n = len(vectors.values)

    def some(values: np.ndarray) -> np.ndarray:
        found = np.full((len(rows), values.shape[1]), np.nan, values.dtype)
        found[rows < n] = values[rows[rows < n]]
        return found

    return replace(
        vectors,
        table=vectors.table.reindex(rows).reset_index(drop=True),
        values=some(vectors.values),
        by_hand=some(vectors.by_hand),
        histogram=some(vectors.histogram),
    )
