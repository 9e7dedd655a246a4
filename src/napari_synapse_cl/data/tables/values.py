"""Columns of a table as numbers, with what is missing and what is wrong told apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.tables.columns import as_numbers, is_missing_word
from napari_synapse_cl.errors import InputError

_NUMBER = r"(?P<{}>-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_GAP = r"(?:\s*[,;]\s*|\s+)"
_TRIPLE = rf"^\s*[\[(]?\s*{_GAP.join(_NUMBER.format(n) for n in 'abc')}\s*[\])]?\s*$"
"""Three numbers as NumPy, Python or a spreadsheet writes them: [1 2 3], (1, 2, 3), 1; 2; 3."""


def numbers(column: pd.Series, name: str) -> np.ndarray:
    """Return a column as numbers.

    Parameters
    ----------
    column
        Numbers, or text that says numbers.
    name
        How to call the table in messages.

    Returns
    -------
    numpy.ndarray
        ``(M,)`` float64, NaN where a cell is empty or holds a word for that, as NA.

    Raises
    ------
    InputError
        If something in it is not a finite number.
    """
    values = as_numbers(column)
    _refuse(column, ~np.isfinite(values), name, "a number")
    return values


def triples(column: pd.Series, name: str) -> np.ndarray:
    """Return a column of arrays, or of text that says arrays, of three numbers each.

    Parameters
    ----------
    column
        Lists, tuples, arrays or text.
    name
        How to call the table in messages.

    Returns
    -------
    numpy.ndarray
        ``(M, 3)`` float64 in the order of the arrays, NaN where the column is empty.

    Raises
    ------
    InputError
        If something in it is not three finite numbers.
    """
    values = np.full((len(column), 3), np.nan)
    held = column.notna().to_numpy()
    if held.any() and isinstance(column[held].iloc[0], str):
        values[held] = _parsed(column[held])
    elif held.any():
        values[held] = [_floats(value) for value in column[held]]
    _refuse(column, ~np.isfinite(values).all(axis=1), name, "three numbers")
    return values


def _parsed(texts: pd.Series) -> np.ndarray:
    """Return the three numbers that each text says, NaN where it does not."""
    # Several times as fast as pandas, which matters for a million synapses of two sides.
    import pyarrow as pa
    from pyarrow import compute

    groups = compute.extract_regex(pa.array(texts.astype(str), pa.string()), _TRIPLE)
    return np.stack(
        [
            compute.struct_field(groups, name).cast(pa.float64()).to_numpy(zero_copy_only=False)
            for name in "abc"
        ],
        axis=1,
    )


def _floats(value: Any) -> tuple[float, float, float]:
    if isinstance(value, str):
        # The three letters of "abc" would do for three values.
        return (np.nan,) * 3
    try:
        a, b, c = value
        return float(a), float(b), float(c)
    except (TypeError, ValueError):
        return (np.nan,) * 3


def _refuse(column: pd.Series, bad: np.ndarray, name: str, wanted: str) -> None:
    """Raise an error if there is anything in what could not be read as a number."""
    rows = np.flatnonzero(bad & column.notna().to_numpy())
    rows = rows[[not is_missing_word(cell) for cell in column.iloc[rows]]]
    if rows.size:
        more = f" (and {rows.size - 1} more)" if rows.size > 1 else ""
        raise InputError(
            f"{name}: {column.name} in data row {rows[0] + 1}{more} is not {wanted}: "
            f"{column.iloc[rows[0]]}"
        )
