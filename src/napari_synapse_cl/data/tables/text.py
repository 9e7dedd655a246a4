"""Read a table of text: comma, semicolon or tab between cells, UTF-8 or Latin-1, also compressed.

Window and command line read it here.
"""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_synapse_cl.data import pd
from napari_synapse_cl.data.tables.columns import exchange_commas, from_text

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_LOOKED_AT = 100
_DELIMITERS = ",;\t"
_HEAD = 2**16
_BLOCK = 2**25
"""A row must fit into it."""
_MOST_COLUMNS = 100_000
_LARGEST_SMALL, _SWELLING = 2**28, 100
"""Text that unpacks to more bytes, and to so many times its size, is none that someone wrote."""


def read_text(path: Path) -> pd.DataFrame:
    """Return all rows and columns, each column as `columns.from_text` understands it.

    Raises
    ------
    pandas.errors.EmptyDataError
        If there is no header.
    ValueError
        If it is no text, or no table.
    """
    data = _content(path)
    if b"\0" in data:
        raise ValueError("it is no text in UTF-8 or Latin-1: it holds zero bytes")
    header = _first_line(data)
    delimiter = _delimiter(header)
    width = len(_fields(header, delimiter))
    if width > _MOST_COLUMNS:
        raise ValueError(f"it has {width:,} columns, and up to {_MOST_COLUMNS:,} can be read")
    _check_last_row(data, delimiter, width)
    names, cells = _parsed(data, delimiter, width)
    # Where commas are decimal, semicolons stand between the fields.
    if delimiter == ";" and _has_decimal_commas(cells):
        cells = [exchange_commas(column) for column in cells]
    return from_text(names, cells)


def text_columns(path: Path) -> list[str]:
    """Return the names of a table's columns.

    Raises
    ------
    pandas.errors.EmptyDataError
        If there is no header.
    """
    with _opened(path) as file:
        header = _first_line(file.read(_HEAD) + file.readline())
    return _distinct(_fields(header, _delimiter(header)))


def _opened(path: Path) -> Any:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _content(path: Path) -> bytes:
    if path.suffix.lower() != ".gz":
        return path.read_bytes()
    most = max(_LARGEST_SMALL, _SWELLING * path.stat().st_size)
    with gzip.open(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it unpacks to more than {_SWELLING} times its size")
    return data


def _first_line(data: bytes) -> str:
    file = io.BytesIO(data)
    for line in file:
        text = _decoded(line).removeprefix("\ufeff")
        # Old Macs end lines with this alone.
        for part in text.splitlines():
            if part.strip():
                return part
    raise pd.errors.EmptyDataError


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=lambda mark: len(_fields(header, mark)))


def _fields(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _check_last_row(data: bytes, delimiter: str, width: int) -> None:
    """Raise an error if a file ends in the middle of a row, which pandas fills up."""
    end = data.rfind(b"\n")
    last = data[end + 1 :].decode("latin-1")
    if end > 0 and last.strip() and len(_fields(last, delimiter)) < width:
        raise ValueError("it ends in the middle of a row")


def _parsed(data: bytes, delimiter: str, width: int) -> tuple[list[str], list[pa.ChunkedArray]]:
    """Return names and cells as text."""
    found = _parsed_fast(data, delimiter, width)
    if found is None:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            data = data.decode("latin-1").encode()
            found = _parsed_fast(data, delimiter, width)
    return found or _parsed_slowly(data, delimiter)


def _parsed_fast(
    data: bytes, delimiter: str, width: int
) -> tuple[list[str], list[pa.ChunkedArray]] | None:
    """Parse with Arrow; None where it would not tell rows that are short, or open quotes."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    n_quotes = data.count(b'"')
    if n_quotes % 2:
        return None
    names = [f"f{number}" for number in range(width)]
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            # The header is a row at first: names may come twice.
            arrow_csv.ReadOptions(autogenerate_column_names=True, block_size=_BLOCK),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=n_quotes > 0),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.column_names != names:
        return None
    header = [column[0].as_py() for column in table.columns]
    return _distinct(header), [_from_the_start(column) for column in table.slice(1).columns]


def _from_the_start(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column none of whose chunks is a slice of another array.

    Arrow before 24 puts out other strings than a slice holds where some are replaced (`if_else`).
    """
    import pyarrow as pa

    chunks = [pa.concat_arrays([chunk]) if chunk.offset else chunk for chunk in column.chunks]
    return pa.chunked_array(chunks, column.type)


def _parsed_slowly(data: bytes, delimiter: str) -> tuple[list[str], list[pa.ChunkedArray]]:
    """Parse with pandas, which fills up rows that are short and says where quotes stay open."""
    import pyarrow as pa

    table = pd.read_csv(
        io.BytesIO(data), sep=delimiter, dtype=str, na_filter=False, encoding="utf-8-sig"
    )
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("its rows have more values than its header has names")
    cells = [
        pa.chunked_array([pa.array(column.tolist(), pa.string())]) for _, column in table.items()
    ]
    return [str(name) for name in table.columns], cells


def _distinct(header: list[str]) -> list[str]:
    """Return names as pandas makes them distinct: z, z.1."""
    names: dict[str, None] = {}
    for number, given in enumerate(header):
        name = given or f"Unnamed: {number}"
        first, n = name, 0
        while name in names:
            n += 1
            name = f"{first}.{n}"
        names[name] = None
    return list(names)


def _has_decimal_commas(cells: list[pa.ChunkedArray]) -> bool:
    """Whether the fields of the first rows are numbers with commas, and none with points."""
    first = pd.Series([v for column in cells for v in column.slice(0, _ROWS_LOOKED_AT).to_pylist()])
    return bool(first.str.fullmatch(r"-?\d+,\d+").any()) and not bool(
        first.str.fullmatch(r"-?\d+\.\d+").any()
    )
