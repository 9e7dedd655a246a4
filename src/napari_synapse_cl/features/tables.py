"""Tables of features: one row a synapse, with the record of where the features come from.

No PyTorch in here: the window imports it.
"""

import json
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from napari_synapse_cl.data.arrays import first_line
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.tables.columns import FEATURE_COLUMN, FEATURE_DTYPE
from napari_synapse_cl.data.tables.folders import is_table
from napari_synapse_cl.data.tables.typed import in_objects, settled
from napari_synapse_cl.errors import InputError, disk_in_words, reason
from napari_synapse_cl.features.parquet_tables import KEY
from napari_synapse_cl.features.table_formats import HANDLERS, ForeignFileError
from napari_synapse_cl.system.files import encodable, read_json, replacing

FORMATS = ("csv", "parquet", "npz", "h5ad")
"""Names of the formats, which are the suffixes of the files."""


def feature_columns(layer: int, pooling: str, channels: int) -> list[str]:
    """Return the names of the feature columns: ``L20_mean_000`` and so on.

    Parameters
    ----------
    layer
        Index into the network's ``features``.
    pooling
        mean, max, std or centre.
    """
    return [f"L{layer}_{pooling}_{channel:03d}" for channel in range(channels)]


def component_columns(source: int | str, pooling: str, components: int) -> list[str]:
    """Return the names of the columns of principal components: ``L20_mean_PC1`` and so on.

    Parameters
    ----------
    source
        Index of a layer, or "hand" for descriptors, whose columns name no pooling.
    """
    prefix = f"L{source}_{pooling}" if isinstance(source, int) else source
    return [f"{prefix}_PC{component}" for component in range(1, components + 1)]


def feature_table(
    table: pd.DataFrame, rows: np.ndarray, features: np.ndarray, columns: list[str]
) -> pd.DataFrame:
    """Join features to the table of synapses; rows without features have none.

    Parameters
    ----------
    table
        M synapses.
    rows
        ``(N,)``, row in the table of each feature vector.
    features
        ``(N, C)`` float32.
    columns
        Names of the C features; columns of these names are replaced.
    """
    values = np.full((len(table), len(columns)), np.nan, dtype=np.float32)
    values[rows] = features
    joined = pd.DataFrame(values, columns=columns, index=table.index)
    return pd.concat([table.drop(columns=columns, errors="ignore"), joined], axis=1)


def check_format(name: str, table: pd.DataFrame | None = None) -> None:
    """Check, before a long job begins, that a format can be written here.

    Parameters
    ----------
    name
        One of `FORMATS`.
    table
        What is to be written beside features.

    Raises
    ------
    InputError
        If what it needs is not installed, or a column does not go into it.
    """
    if name == "h5ad" and find_spec("anndata") is None:
        raise InputError(
            "h5ad files need AnnData, which is not installed: "
            'pip install "napari-synapse-cl[anndata]", or choose another format'
        )
    if table is not None:
        for _, column in table.items():
            HANDLERS[name].check(settled(column))


def check_place(path: Path) -> None:
    """Check that no file of something else lies where the record beside a table goes.

    Raises
    ------
    InputError
        If one does.
    """
    sidecar = path.with_suffix(".json")
    if sidecar.exists() and not _is_record(_read_sidecar(sidecar)):
        raise InputError(
            f"the record of the feature table {path.name} belongs into {sidecar}, which holds "
            "something else; choose another name"
        )


def write_table(table: pd.DataFrame, path: Path, record: Mapping[str, Any]) -> None:
    """Write a table and its record in the format of the file's suffix, whole or not at all.

    The record is kept in the file, unless that is CSV, and as JSON in a file of the same stem
    beside it, which is replaced as the table is; :func:`check_place` says whether it is another's.
    At no moment does an old record lie beside a new table: the old one is removed just
    before the new table takes its place, and the new one follows.

    Columns that an extraction adds become float32; other columns keep their types as far as the
    format can: Parquet all, h5ad all but dates, which become text as in CSV and npz, where
    categories do too. Columns of several types become text, which Parquet refuses. Objects that
    are all integers, or booleans, are written as such.

    Parameters
    ----------
    table
        One row a synapse, its columns of distinct names.
    path
        The file, whose folder must exist.
    record
        Where the features come from, of JSON's types.

    Raises
    ------
    InputError
        If the suffix is that of no format, what it needs is not installed, or a column does not go
        into a table.
    JobError
        If it cannot be written.
    """
    name = _format_name(path)
    check_format(name)
    table = storable(_checked(table.rename(columns=str), path))
    sidecar = path.with_suffix(".json")
    plain = json.loads(json.dumps(dict(record)))
    text = json.dumps({**plain, KEY: name}, indent=2) + "\n"
    with (
        disk_in_words(lambda error: f"cannot write the feature table {path}: {reason(error)}"),
        replacing(sidecar) as beside,
    ):
        beside.write_text(text, encoding="utf-8")
        with replacing(path) as temporary:
            HANDLERS[name].write(table, plain, temporary)
            sidecar.unlink(missing_ok=True)


def storable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as formats can hold it: text that every encoding takes, columns of a type."""
    table = _encodable(table)
    # Without a copy of all columns, which may be most of the memory.
    return pd.DataFrame({name: settled(column) for name, column in table.items()}, copy=False)


def read_table(
    path: Path, columns: Collection[str] | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a table that was written by :func:`write_table`, or another of columns z, y, x.

    Parameters
    ----------
    columns
        Those to read, z, y and x among them; all without it. Of other formats than Parquet the
        others are read too, and left out.

    Returns
    -------
    table
        One row a synapse, columns in the order that they were written in; those that an
        extraction adds are float32. Integers and booleans some of which are missing are objects
        of Python, as napari takes them: no digit is lost.
    record
        Where the features come from; empty where that is not recorded.

    Raises
    ------
    InputError
        If it cannot be read, is damaged, or holds something else.
    """
    some = {} if columns is None or _format_name(path) != "parquet" else {"columns": list(columns)}
    table, record = _opened(path, "read", **some)
    if columns is not None:
        table = table[[name for name in table.columns if str(name) in columns]]
    missing = [axis for axis in AXES if axis not in table.columns]
    if missing:
        raise InputError(
            f"{path} is no feature table: it has no column {', '.join(missing)}, and columns z, y, "
            "x are needed"
        )
    if _format_name(path) == "csv":
        record = _record_beside(path)
    if not isinstance(record, dict):
        raise InputError(f"the feature table {path} is damaged: its record is none")
    return in_objects(_checked(table.rename(columns=str), path)), record


def table_columns(path: Path) -> list[str]:
    """Return the names of a table's columns, without reading the table.

    Of an h5ad file those that are no features; of a sound file of something else none.

    Raises
    ------
    InputError
        If the file cannot be read, or is damaged.
    """
    return [str(name) for name in _opened(path, "columns")]


def is_parquet(path: Path) -> bool:
    """Return whether a path is that of a table in Parquet, of which some columns can be read."""
    return path.suffix.lower() == ".parquet" or is_table(path)


def _opened(path: Path, what: Literal["read", "columns"], **options: Any) -> Any:
    """Call that function of the format, and put in words what goes wrong."""
    name = _format_name(path)
    check_format(name)
    if not path.is_file() and not is_table(path):
        raise InputError(f"there is no feature table {path}")
    if path.stat().st_size == 0:
        raise InputError(f"the feature table {path} is empty")
    try:
        return getattr(HANDLERS[name], what)(path, **options)
    except InputError:
        raise
    except ForeignFileError:
        if what == "columns":
            return []
        raise InputError(f"{path} is no feature table: it has no columns z, y, x") from None
    except PermissionError as error:
        raise InputError(f"cannot read the feature table {path}: {reason(error)}") from None
    # The libraries raise a wide range of types on a damaged file, and the cause is the same.
    except Exception as error:
        raise InputError(
            f"the feature table {path} is damaged, or no {name} file: {first_line(error)}"
        ) from error


def _format_name(path: Path) -> str:
    if is_table(path):
        return "parquet"
    name = path.suffix.lower().removeprefix(".")
    if name not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(f"{path} is no feature table: the names of these end in {endings}")
    return name


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a table with features of one type."""
    double = table.columns[table.columns.duplicated()]
    if len(double):
        raise InputError(f"two columns of {path.name} would be named {double[0]}; rename one")
    features = [name for name in table.columns if FEATURE_COLUMN.fullmatch(name)]
    try:
        return table.astype(dict.fromkeys(features, FEATURE_DTYPE))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}: a column named as features are, such as {features[0]}, holds something that "
            f"is not a number: {first_line(error)}"
        ) from None


def _encodable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts every format takes, names of files that are no UTF-8 included."""
    # What Arrow keeps is UTF-8.
    texts = [
        name
        for name in table.select_dtypes(["object", "string"]).columns
        if getattr(table[name].dtype, "storage", "") != "pyarrow"
    ]
    changed = {
        n: table[n].map(lambda value: encodable(value) if isinstance(value, str) else value)
        for n in texts
        if table[n].map(lambda value: isinstance(value, str) and encodable(value) != value).any()
    }
    return table.assign(**changed) if changed else table


def _record_beside(path: Path) -> dict[str, Any]:
    """Return the record in the file beside a CSV table, empty if it is another's or none."""
    sidecar = path.with_suffix(".json")
    found = _read_sidecar(sidecar) if sidecar.exists() else {}
    if not _is_record(found) or found.pop(KEY, "csv") != "csv":
        return {}
    return found


def _read_sidecar(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}, where the record of the table beside it belongs, cannot be read: "
            f"{first_line(error)}; move it away"
        ) from None


def _is_record(content: Any) -> bool:
    # Tables of the first version had no mark in their records.
    return isinstance(content, dict) and bool({KEY, "pooling"} & content.keys())
