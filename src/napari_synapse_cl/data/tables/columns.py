"""What the cells of a column are: the one rule by which what goes in comes out again.

Cells of text are a number only if writing that number gives back the very same text in each of
them. So 00012, +5, 1e5, 0.50 and NA stay text, and ids keep all their digits beside blanks. A
blank cell is a missing value, and no other is. Formats with types keep their types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_synapse_cl.data import pd

if TYPE_CHECKING:
    import pyarrow as pa

FEATURE_DTYPE = np.float32

_PART = "(?:mean|max|std|centre)"
_TEXTURE = "(?:gradient|laplacian|major|middle|minor|planarity|linearity)"
_DESCRIPTOR = rf"(?:centre_)?(?:hist_\d\d|{_TEXTURE}_\d_(?:mean|std|q\d\d))"
FEATURE_COLUMN = re.compile(
    # Of combined poolings there are components alone: each channel is pooled in one way.
    rf"(?:L(?P<layer>\d+)_(?P<pooling>{_PART}(?:\+{_PART})+(?=(?:_v\d+)?_PC)|{_PART})|(?P<hand>hand))"
    r"(?:_v(?P<version>\d+))?_"
    rf"(?:(?P<channel>(?(hand){_DESCRIPTOR}|\d{{3,}}))|PC(?P<component>[1-9]\d*))"
)
"""Names of the columns that an extraction adds: ``L20_mean_000``, ``L20_mean_v2_000`` for a second
one, and the principal components ``L20_mean_PC1``; ``hand_hist_00`` and so on of descriptors."""

MISSING_WORDS = frozenset(
    {"#N/A", "#N/A N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a"}
    | {"nan", "null", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"}
)
"""Words that stand for no number where a number is looked for; elsewhere they are text."""

_PLAIN_REPR = (1e-4, 1e15)
"""Between these Python writes a number without an exponent, as Arrow does."""
_YES, _NO = ("true", "1", "yes"), ("false", "0", "no", "")
_FIRST = 100
"""Cells that are tried before a whole column is."""
_COMMA_NUMBER = r"^[-+]?(?:\d+,?\d*|,\d+)(?:[eE][-+]?\d+)?$"


def prefix_of(column: str) -> str:
    """Return what the columns of one layer and pooling begin with: ``L20_mean`` or ``L20_mean_v2``.

    Of descriptors that is ``hand``, or ``hand_v2``.

    Raises
    ------
    ValueError
        If it is no column that an extraction adds.
    """
    match = FEATURE_COLUMN.fullmatch(column)
    if match is None:
        raise ValueError(f"{column} is no column of features")
    version = f"_v{match['version']}" if match["version"] else ""
    return f"{match['hand'] or 'L{layer}_{pooling}'.format(**match.groupdict())}{version}"


def from_text(names: Sequence[str], cells: Sequence[pa.ChunkedArray]) -> pd.DataFrame:
    """Return a table of cells of text.

    Parameters
    ----------
    names
        Distinct names of the columns; those that an extraction adds become float32.
    cells
        Their cells as strings, of the same number each.

    Returns
    -------
    pandas.DataFrame
        Columns of int64, uint64 or bool (Int64, UInt64 or boolean where cells are blank), float64
        or text.
    """
    return pd.DataFrame(
        {
            name: _feature(column) if FEATURE_COLUMN.fullmatch(name) else _column(column)
            for name, column in zip(names, cells, strict=True)
        }
    )


def exchange_commas(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the numbers of a column with decimal points; one that holds other text stays."""
    from pyarrow import compute

    is_number = compute.match_substring_regex(cells, _COMMA_NUMBER)
    others = compute.unique(compute.filter(cells, compute.invert(is_number))).to_pylist()
    if set(others) - MISSING_WORDS - {""}:
        return cells
    return compute.replace_substring(cells, ",", ".")


def is_plain_number(column: pd.Series) -> bool:
    """Whether a column is of NumPy's integers or floats, which every library takes."""
    return isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf"


def is_nullable(column: pd.Series) -> bool:
    """Whether a column is of pandas' integers or booleans that may be missing."""
    return not isinstance(column.dtype, np.dtype) and column.dtype.kind in "iub"


def as_nullable(values: np.ndarray, missing: np.ndarray) -> Any:
    """Return integers or booleans some of which are missing."""
    kind = pd.arrays.BooleanArray if values.dtype.kind == "b" else pd.arrays.IntegerArray
    return kind(values, missing)


def as_numbers(column: pd.Series) -> np.ndarray:
    """Return ``(M,)`` float64, NaN where a cell is missing or does not say a number."""
    if column.dtype.kind not in "iuf":
        # Dates would become the nanoseconds that they are kept as, and True would become 1.
        column = column.astype(object).map(as_text, na_action="ignore")
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers.to_numpy(float, na_value=np.nan)


def numbers_said(column: pd.Series) -> np.ndarray | None:
    """Return a column that is used as numbers, be it numbers or text that says numbers.

    Returns
    -------
    numpy.ndarray or None
        ``(M,)`` float64, NaN where a cell is missing or holds a word for that; None if a cell holds
        anything else, or none a number.
    """
    if column.dtype.kind in "iuf":
        return as_numbers(column)
    if column.dtype.kind in "bcmM" or isinstance(column.dtype, pd.CategoricalDtype):
        return None
    numbers = as_numbers(column)
    other = column[np.isnan(numbers) & column.notna().to_numpy(bool)]
    if np.isnan(numbers).all() or not all(is_missing_word(cell) for cell in other.unique()):
        return None
    return numbers


def truths_said(column: pd.Series) -> np.ndarray | None:
    """Return ``(M,)`` bool, where a column says yes, as in True or 1; blank cells say no.

    None if a cell says neither yes nor no.
    """
    if column.dtype == bool:
        return column.to_numpy()
    words = column.astype(object).map(as_text, na_action="ignore").fillna("").map(str.strip)
    words = words.str.lower().str.removesuffix(".0")
    return words.isin(_YES).to_numpy(bool) if words.isin([*_YES, *_NO]).all() else None


def is_missing_word(cell: Any) -> bool:
    """Whether a cell says that there is no number, or holds nothing but blanks."""
    text = str(cell).strip()
    return not text or text in MISSING_WORDS


def _column(cells: pa.ChunkedArray) -> pd.Series:
    """Return cells of text as what they are by the rule of this module."""
    from pyarrow import compute

    blank = compute.equal(cells, "")
    some_blank = bool(compute.any(blank).as_py())
    held = compute.filter(cells, compute.invert(blank)) if some_blank else cells
    if not len(held):
        return pd.Series(np.full(len(cells), np.nan))
    for read in _READERS:
        # A whole column is slow to fail.
        values = None if read(held.slice(0, _FIRST)) is None else read(held)
        if values is None:
            continue
        if not some_blank:
            return pd.Series(values)
        missing = blank.to_numpy()
        is_float = values.dtype.kind == "f"
        filled = np.full(len(cells), np.nan if is_float else 0, values.dtype)
        filled[~missing] = values
        return pd.Series(filled if is_float else as_nullable(filled, missing))
    if some_blank:
        import pyarrow as pa

        cells = compute.if_else(blank, pa.scalar(None, pa.string()), cells)
    return cells.to_pandas()


def _feature(cells: pa.ChunkedArray) -> pd.Series:
    """Return cells as float32; those of a column that holds anything else stay text."""
    import pyarrow as pa
    from pyarrow import compute

    words = pa.array(["", *MISSING_WORDS])
    missing = compute.is_in(cells, value_set=words)
    held = compute.if_else(missing, pa.scalar(None, pa.string()), cells)
    try:
        values = compute.cast(held, pa.float64())
    except pa.ArrowInvalid:
        return _column(cells)
    return pd.Series(values.to_numpy().astype(FEATURE_DTYPE))


def _booleans(cells: pa.ChunkedArray) -> np.ndarray | None:
    from pyarrow import compute

    first = cells[0].as_py()
    if first not in ("True", "False"):
        return None
    true = compute.equal(cells, "True")
    known = compute.or_(true, compute.equal(cells, "False"))
    return true.to_numpy() if compute.all(known).as_py() else None


def _whole(cells: pa.ChunkedArray, kind: str) -> np.ndarray | None:
    import pyarrow as pa
    from pyarrow import compute

    try:
        values = compute.cast(cells, kind)
    except pa.ArrowInvalid:
        return None
    # What else Arrow takes for an integer: 00012, 0x10 and -0.
    zeros = compute.starts_with(cells, "0")
    odd = compute.or_(
        compute.and_(zeros, compute.not_equal(cells, "0")), compute.starts_with(cells, "-0")
    )
    return None if compute.any(odd).as_py() else values.to_numpy()


def _fractions(cells: pa.ChunkedArray) -> np.ndarray | None:
    import pyarrow as pa
    from pyarrow import compute

    try:
        values = compute.cast(cells, pa.float64())
    except pa.ArrowInvalid:
        return None
    written = compute.cast(values, pa.string())
    # Arrow leaves away the .0 of a whole number.
    whole = compute.binary_join_element_wise(written, ".0", "")
    same = compute.or_(compute.equal(written, cells), compute.equal(whole, cells)).to_numpy()
    numbers = values.to_numpy()
    if np.isnan(numbers).any():
        return None
    low, high = _PLAIN_REPR
    size = np.abs(numbers)
    plain = ((size >= low) & (size < high)) | (size == 0)
    is_whole = compute.ends_with(cells, ".0").to_numpy()
    if not (same[plain] & (is_whole == (np.trunc(numbers) == numbers))[plain]).all():
        return None
    rest = np.flatnonzero(~plain)
    texts = cells.take(pa.array(rest)).to_pylist()
    return numbers if texts == list(map(repr, numbers[rest].tolist())) else None


_READERS: tuple[Callable[[Any], np.ndarray | None], ...] = (
    _booleans,
    lambda cells: _whole(cells, "int64"),
    lambda cells: _whole(cells, "uint64"),
    _fractions,
)
"""What cells of text are tried as, one after the other."""


def as_text(cell: Any) -> str:
    """Return a cell in writing."""
    return cell if isinstance(cell, str) else str(cell)
