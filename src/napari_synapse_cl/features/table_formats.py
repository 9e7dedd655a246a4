"""How a table of features and the record of where they come from lie in a file of each format.

No PyTorch in here: the window imports it. Nothing is unpickled.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_synapse_cl.data.formats.hdf5_checks import check_whole
from napari_synapse_cl.data.tables.columns import (
    FEATURE_COLUMN,
    FEATURE_DTYPE,
    as_nullable,
    is_nullable,
)
from napari_synapse_cl.data.tables.text import read_text, text_columns
from napari_synapse_cl.data.tables.typed import settled
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.parquet_tables import (
    KEY,
    Record,
    Table,
    check_column,
    columns_of_parquet,
    read_parquet_table,
    write_parquet_table,
)
from napari_synapse_cl.system.files import check_unpacked


class ForeignFileError(Exception):
    """A file is sound, but holds no table of features."""


@dataclass(frozen=True)
class Format:
    """How to write a table with its record to a file, to read both, and to read its columns alone.

    Readers raise whatever the library at hand does on a damaged file, and `ForeignFileError`.
    What checks a column raises an `InputError` if it does not go into such a file.
    """

    write: Callable[[pd.DataFrame, Record, Path], None]
    read: Callable[..., Table]
    columns: Callable[[Path], list[str]]
    check: Callable[[pd.Series], Any] = lambda column: None


def components_name(column: str) -> str | None:
    """Return what a principal component's column belongs to: ``L20_mean_PC`` of ``L20_mean_PC1``.

    None of another column.
    """
    match = FEATURE_COLUMN.fullmatch(column)
    return column[: match.start("component")] if match and match["component"] else None


def _is_channel(column: str) -> bool:
    match = FEATURE_COLUMN.fullmatch(column)
    return match is not None and match["channel"] is not None


def _write_csv(table: pd.DataFrame, record: Record, path: Path) -> None:
    # The record is in the file beside it alone.
    table.to_csv(path, index=False)


def _read_csv(path: Path) -> Table:
    return read_text(path), {}


def _write_npz(table: pd.DataFrame, record: Record, path: Path) -> None:
    channels = [name for name in table.columns if _is_channel(name)]
    arrays = {
        "columns": np.array(list(table.columns), dtype=str),
        "features": table[channels].to_numpy(FEATURE_DTYPE),
        "feature_names": np.array(channels, dtype=str),
        "record": np.array(json.dumps(record)),
    }
    for name in table.columns.drop(channels):
        arrays[f"column/{name}"] = values = _plain(table[name])
        missing = table[name].isna().to_numpy()
        # An empty text need not be a missing one, and no integer is.
        if values.dtype.kind in "Uiub" and missing.any():
            arrays[f"missing/{name}"] = missing
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _read_npz(path: Path) -> Table:
    # A loaded file is no dict: each access reads the array anew.
    with _open_npz(path) as file:
        arrays = {name: file[name] for name in file.files}
    channels = dict(zip(arrays["feature_names"].tolist(), arrays["features"].T, strict=True))
    columns = {
        name: channels[name] if name in channels else _npz_column(arrays, name)
        for name in arrays["columns"].tolist()
    }
    return pd.DataFrame(columns), json.loads(str(arrays["record"]))


def _npz_column(arrays: Mapping[str, np.ndarray], name: str) -> Any:
    values = arrays[f"column/{name}"]
    missing = arrays.get(f"missing/{name}", np.zeros(len(values), dtype=bool))
    if values.dtype.kind != "U":
        return as_nullable(values, missing) if missing.any() else values
    return [None if m else v for v, m in zip(values.tolist(), missing, strict=True)]


def _npz_columns(path: Path) -> list[str]:
    with _open_npz(path) as file:
        return [str(name) for name in file["columns"]]


@contextmanager
def _open_npz(path: Path) -> Iterator[Any]:
    # NumPy leaves a file open that it opened itself and that is damaged.
    check_unpacked(path)
    with path.open("rb") as opened:
        file = np.load(opened, allow_pickle=False)
        needed = {"columns", "features", "feature_names", "record"}
        if not isinstance(file, np.lib.npyio.NpzFile) or not needed <= set(file.files):
            raise ForeignFileError
        yield file


def _plain(column: pd.Series) -> np.ndarray:
    """Return a column as an array of numbers, booleans or text; what is missing is NaN, 0 or empty.

    Zeros stand for integers and booleans that are missing.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    column = settled(column)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufc":
        return column.to_numpy()
    if is_nullable(column):
        kind: Any = column.dtype
        return column.to_numpy(kind.numpy_dtype, na_value=0)
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(float, na_value=np.nan)
    return np.array(_texts(column, missing=""), dtype=str)


def _texts(column: pd.Series, missing: str | None) -> list[str | None]:
    return [missing if m else str(v) for v, m in zip(column, column.isna(), strict=True)]


def _write_h5ad(table: pd.DataFrame, record: Record, path: Path) -> None:
    import h5py
    from anndata import AnnData
    from anndata.io import write_elem

    channels = [name for name in table.columns if _is_channel(name)]
    sets = _component_sets(table.columns)
    others = table.columns.drop([*channels, *(name for names in sets.values() for name in names)])
    keys = _observation_keys(list(others))
    obs = {key: _observation(table[name]) for name, key in keys.items()}
    text = [
        name
        for name, key in keys.items()
        if isinstance(obs[key], pd.Categorical)
        and not isinstance(table[name].dtype, pd.CategoricalDtype)
    ]
    layout = {"columns": list(table.columns), "obs": keys, "text": text}
    components = {name: table[names].to_numpy(FEATURE_DTYPE) for name, names in sets.items()}
    if components:
        # Where scanpy and its kind look for them.
        components["X_pca"] = next(iter(components.values()))
    # Other programs count x, y, z.
    spatial = {"spatial": table[["x", "y", "z"]].to_numpy(float)} if _placed(table) else {}
    data = AnnData(
        X=table[channels].to_numpy(FEATURE_DTYPE),
        obs=pd.DataFrame(obs, index=_index(map(str, range(len(table))))),
        var=_variables(channels),
        obsm={**spatial, **components},
        uns={KEY: json.dumps(record), f"{KEY}_columns": json.dumps(layout)},
    )
    # HDF5 itself fails on a full disk in many ways, and in some again when all is over.
    content = BytesIO()
    with h5py.File(content, "w") as file:
        write_elem(file, "/", data)
    # No view: where the disk is full, the error would hold it for longer than the file is there.
    path.write_bytes(content.getvalue())


def _read_h5ad(path: Path) -> Table:
    from anndata import read_h5ad

    if not set("zyx") <= set(_h5ad_columns(path)):
        raise ForeignFileError
    check_whole(path)
    data = read_h5ad(path)
    values = data.X.toarray() if hasattr(data.X, "toarray") else np.asarray(data.X)
    columns: dict[str, Any] = dict(zip(map(str, data.var_names), values.T, strict=True))
    if f"{KEY}_columns" not in data.uns:
        # Another program's: its observations first.
        table = data.obs.rename(columns=str).reset_index(drop=True)
        return pd.concat([table, pd.DataFrame(columns)], axis=1), {}
    layout = json.loads(data.uns[f"{KEY}_columns"])
    for name, key in layout["obs"].items():
        columns[name] = data.obs[key].array
        if name in layout["text"]:
            columns[name] = _texts(data.obs[key], missing=None)
    for group, names in _component_sets(layout["columns"]).items():
        columns |= dict(zip(names, np.asarray(data.obsm[group]).T, strict=True))
    return pd.DataFrame({n: columns[n] for n in layout["columns"]}), json.loads(data.uns[KEY])


def _h5ad_columns(path: Path) -> list[str]:
    import h5py

    with h5py.File(path, "r") as file:
        if not isinstance(file.get("obs"), h5py.Group):
            raise ForeignFileError
        return [str(name) for name in file["obs"].attrs.get("column-order", ())]


def _component_sets(columns: Iterable[str]) -> dict[str, list[str]]:
    """Return the columns of each set of principal components, in their order."""
    sets: dict[str, list[str]] = {}
    for column in columns:
        if (name := components_name(column)) is not None:
            sets.setdefault(name, []).append(column)
    return sets


def _placed(table: pd.DataFrame) -> bool:
    return all(a in table and pd.api.types.is_numeric_dtype(table[a].dtype) for a in "zyx")


def _observation_keys(names: list[str]) -> dict[str, str]:
    """Return under which key each column is kept."""
    # A slash is a path within HDF5, and _index is AnnData's own.
    keys = [name.replace("/", "_") + "_" * (name == "_index") for name in names]
    return {
        name: key if keys.count(key) == 1 else f"{key}_{number}"
        for number, (name, key) in enumerate(zip(names, keys, strict=True))
    }


def _observation(column: pd.Series) -> Any:
    """Return a column as AnnData can write it: text as categories, which may be missing."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = settled(column)
        if is_nullable(column):
            return column.array
        values = _plain(column)
        if values.dtype.kind == "c":
            raise InputError(
                f"the column {column.name} holds complex numbers, which do not go into an h5ad "
                "file: save the table as npz, or as CSV"
            )
        if values.dtype.kind != "U":
            return values
        column = pd.Series(_texts(column, missing=None), dtype=object).astype("category")
    categories = column.cat.categories
    if not pd.api.types.is_numeric_dtype(categories.dtype):
        categories = _index(map(str, categories))
    return pd.Categorical.from_codes(
        column.cat.codes.to_numpy(), categories=categories, ordered=column.cat.ordered
    )


def _variables(channels: list[str]) -> pd.DataFrame:
    """Return layer, pooling, version (1 if it isn't named) and channel of the feature columns.

    Descriptors are of no layer, and have a version alone.
    """
    matches = [FEATURE_COLUMN.fullmatch(name) for name in channels]
    found = [match.groupdict() for match in matches if match is not None]
    by_hand = np.array([f["hand"] is not None for f in found], dtype=bool)
    columns = {
        "layer": _numbers_of_layers([f["layer"] for f in found], by_hand),
        "pooling": _observation(pd.Series([f["pooling"] for f in found], dtype=object)),
        "version": np.array([int(f["version"] or 1) for f in found], dtype=int),
        "channel": _numbers_of_layers([f["channel"] for f in found], by_hand),
    }
    return pd.DataFrame(columns, index=_index(channels))


def _numbers_of_layers(texts: list[str], by_hand: np.ndarray) -> Any:
    """Return numbers that columns of layers name and those of descriptors do not."""
    pairs = zip(texts, by_hand, strict=True)
    numbers = np.array([0 if hand else int(text) for text, hand in pairs], dtype=int)
    return as_nullable(numbers, by_hand) if by_hand.any() else numbers


def _index(names: Iterable[str]) -> pd.Index:
    # AnnData takes no other strings in some versions that run with pandas 3.
    return pd.Index(list(names), dtype=object)


HANDLERS = {
    "csv": Format(_write_csv, _read_csv, text_columns),
    "parquet": Format(write_parquet_table, read_parquet_table, columns_of_parquet, check_column),
    "npz": Format(_write_npz, _read_npz, _npz_columns),
    "h5ad": Format(_write_h5ad, _read_h5ad, _h5ad_columns, _observation),
}
