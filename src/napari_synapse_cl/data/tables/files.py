"""Read a table from a file of any format that laboratories keep positions in."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_synapse_cl.data import pd
from napari_synapse_cl.data.tables.conventions import by_name, column_named, find_positions
from napari_synapse_cl.data.tables.folders import is_table, read_files
from napari_synapse_cl.data.tables.neuroglancer import read_annotations
from napari_synapse_cl.data.tables.text import read_text
from napari_synapse_cl.data.tables.typed import from_arrow, settled
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.files import check_unpacked

_HEADER_ROWS = 10
"""In an Excel sheet there may be a title above the header."""
_ERROR = "e"
"""How openpyxl marks cells that hold an error in place of a value."""
_LARGEST_SHEETS = 2**31
"""Bytes that a book may unpack to: nobody makes a table so large."""
_PART = re.compile(r"(?P<file>.+\.(?:json|xlsx|xlsm))#(?P<part>.+)", re.IGNORECASE | re.DOTALL)
"""A layer or a sheet is named behind its file: ``state.json#synapses``."""


@dataclass(frozen=True)
class _Wanted:
    """Which part of a file is wanted: a sheet or layer by name, or one with certain columns."""

    part: str | None
    columns: tuple[str, ...]


@dataclass(frozen=True)
class _Format:
    """What a format is called, and how to read it.

    Readers raise whatever the library at hand does on a damaged file.
    """

    title: str
    read: Callable[[Path, _Wanted], pd.DataFrame]


def read_table(path: Path, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table as it is: all rows and columns, in their order.

    Parameters
    ----------
    path
        A file in the format of its suffix, one of `SUFFIXES`, or the folder of the parts of a table
        that an extraction in shards has left. A sheet of an Excel book or a layer
        of a neuroglancer state may be named behind it: ``book.xlsx#sheet``. Else it is the first
        sheet with columns of positions, or the only layer with annotations.
    columns
        Names of the columns of positions, where they are known.

    Raises
    ------
    InputError
        If there is no such file or part of it, or it cannot be read.
    """
    part = None
    if not path.exists() and (match := _PART.fullmatch(str(path))):
        path, part = Path(match["file"]), match["part"]
    suffix = ".parquet" if is_table(path) else path.suffix.lower()
    if suffix == ".gz":
        suffix = Path(path.stem).suffix.lower() + suffix
    if not path.exists():
        raise InputError(f"there is no synapse table {path}")
    if suffix not in _FORMATS:
        old = " (an old Excel book can be saved as .xlsx)" if suffix in (".xls", ".xlsb") else ""
        raise InputError(f"{path} is no table that can be read: {', '.join(SUFFIXES)} can{old}")
    chosen = _FORMATS[suffix]
    try:
        return chosen.read(path, _Wanted(part, tuple(columns or ())))
    except InputError:
        raise
    except pd.errors.EmptyDataError:
        raise InputError(f"the synapse table {path} is empty") from None
    # The libraries raise a wide range of types on a damaged file, and the cause is the same.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read as {chosen.title}: {reason}") from error


def _read_excel(path: Path, wanted: _Wanted) -> pd.DataFrame:
    check_unpacked(path, _LARGEST_SHEETS)
    with pd.ExcelFile(path, engine="openpyxl") as book:
        names = [str(name) for name in book.sheet_names]
        if wanted.part is not None and wanted.part not in names:
            raise InputError(f"{path} has no sheet {wanted.part}; it has {', '.join(names)}")
        filled = None
        for name in names if wanted.part is None else [wanted.part]:
            head = pd.read_excel(
                book, sheet_name=name, header=None, nrows=_HEADER_ROWS, na_filter=False
            )
            for number, row in enumerate(head.to_numpy(object).tolist()):
                if _has_positions(row, wanted):
                    return _sheet(book, name, number)
            if filled is None and len(head):
                filled = name
        if filled is None:
            raise pd.errors.EmptyDataError
        return _sheet(book, filled, 0)


def _sheet(book: pd.ExcelFile, name: str, header: int) -> pd.DataFrame:
    cells = pd.read_excel(book, sheet_name=name, header=header, dtype=object, na_filter=False)
    # What is no number by an error of Excel comes as NaN, not as what the cell shows.
    wrong = cells.isna().to_numpy()
    if wrong.any():
        rows = book.book[name].iter_rows()
        shown = [cell.value for row in rows for cell in row if cell.data_type == _ERROR]
        values = cells.to_numpy(object)
        values[wrong] = shown[-int(wrong.sum()) :]
        cells = pd.DataFrame(values, columns=cells.columns)
    # A blank cell comes as an empty text.
    return cells.apply(lambda column: settled(column.where(column != "", None)))


def _has_positions(header: Sequence[Hashable], wanted: _Wanted) -> bool:
    if wanted.columns:
        return all(column_named(header, name) is not None for name in wanted.columns)
    return bool(find_positions(by_name(header)))


def _read_parquet(path: Path, wanted: _Wanted) -> pd.DataFrame:
    return _rows_numbered(from_arrow(read_files(path)))


def _read_feather(path: Path, wanted: _Wanted) -> pd.DataFrame:
    from pyarrow.feather import read_table as read_feather

    with path.open("rb") as file:
        return _rows_numbered(from_arrow(read_feather(file)))


def _rows_numbered(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose index, if that has a name, is a column."""
    names = [name for name in table.index.names if name is not None]
    return table.reset_index(drop=not names or bool(set(names) & set(table.columns)))


def _read_text(path: Path, wanted: _Wanted) -> pd.DataFrame:
    return read_text(path)


def _read_json(path: Path, wanted: _Wanted) -> pd.DataFrame:
    return read_annotations(path, wanted.part)


_CSV, _TSV = _Format("a CSV table", _read_text), _Format("a TSV table", _read_text)
_EXCEL = _Format("an Excel table", _read_excel)
_FEATHER = _Format("a Feather table", _read_feather)
_FORMATS = {
    ".csv": _CSV,
    ".tsv": _TSV,
    ".txt": _Format("a table of text", _read_text),
    ".csv.gz": _CSV,
    ".tsv.gz": _TSV,
    ".xlsx": _EXCEL,
    ".xlsm": _EXCEL,
    ".parquet": _Format("a Parquet table", _read_parquet),
    ".feather": _FEATHER,
    ".arrow": _FEATHER,
    ".json": _Format("neuroglancer annotations", _read_json),
}
SUFFIXES = tuple(_FORMATS)
"""Suffixes of the files that can be read."""
