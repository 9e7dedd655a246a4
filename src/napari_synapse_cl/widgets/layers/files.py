"""Tables as files that napari opens and saves: a points layer with its features.

napari loads this module when a file of these suffixes is opened; napari itself is imported late.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_synapse_cl import __version__
from napari_synapse_cl.data.formats.places import nanometres
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.tables import PositionTable, interpret
from napari_synapse_cl.data.tables import read_table as read_positions
from napari_synapse_cl.data.tables.columns import FEATURE_COLUMN, prefix_of
from napari_synapse_cl.data.tables.conventions import by_name, find_positions
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.tables import (
    FORMATS,
    check_place,
    is_parquet,
    read_table,
    table_columns,
    write_table,
)
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.widgets.layers.features import (
    METADATA_KEY,
    ROWS_KEY,
    VOLUME_KEY,
    free_name,
    is_channel,
    plain,
)
from napari_synapse_cl.widgets.layers.parts import whole_of

PLAIN = (".csv", ".tsv", ".xlsx", ".parquet")
"""Suffixes of tables that may hold positions under other names than z, y, x."""
IDENTITY = {
    "translate": np.zeros(3),
    "rotate": np.eye(3),
    "shear": np.zeros(3),
    "affine": np.eye(4),
}
"""Transforms that need not be kept."""

OPENED_WITH = "opened_with"
"""Where the record says which volume the points belong to: its location and name."""

LayerTuple = tuple[np.ndarray, dict[str, Any], str]


def get_reader(path: str | Sequence[str]) -> Callable[[str | list[str]], list[LayerTuple]] | None:
    """Return what reads tables of positions, with features or without, if each path is one.

    Files of features that cannot be looked into are taken too: what reads them says why, where
    napari would say no more than that they were refused.

    Parameters
    ----------
    path
        One path or several.
    """
    paths = [path] if isinstance(path, str) else path
    return read_points if paths and all(_is_ours(Path(p)) for p in paths) else None


def read_points(path: str | list[str]) -> list[LayerTuple]:
    """Read tables of positions as points layers; rows without a position are left out.

    A layer lies where it lay when it was saved; the points of another table are in nm if its
    columns say so, else voxels of the voxel size in its record, or of size 1.
    ``metadata["napari_synapse_cl"]`` of the layer is what it was when the layer was saved, else
    the record of an extraction under the name of each of its sets of columns, as in ``L20_mean``.

    Parameters
    ----------
    path
        One path or several.

    Raises
    ------
    InputError
        If a file cannot be read, no row has a position, or one is not a number.
    """
    return [_read(Path(p)) for p in ([path] if isinstance(path, str) else path)]


def write_layers(path: str, layers: list[LayerTuple]) -> list[str]:
    """Write the one points layer that is selected with :func:`write_points`, as napari asks it.

    Raises
    ------
    JobError
        If there is another layer beside it, or it cannot be written.
    """
    if [kind for _, _, kind in layers] != ["points"]:
        raise JobError("A feature table holds one Points layer: select that alone.")
    [(data, meta, _)] = layers
    return write_points(path, data, meta)


def write_points(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a 3D points layer as a table in the format of the suffix, else CSV; name the files.

    The record of the file holds the layer's provenance under "records", its voxel size in nm if
    its units are lengths, its transforms, and the volume that it was opened with. Features named
    z, y or x give way to the positions.

    Parameters
    ----------
    data
        ``(N, 3)`` z, y, x.

    Raises
    ------
    JobError
        If the layer does not go into a table, a file of something else lies where the record
        beside the table goes, or the table cannot be written.
    """
    target = Path(path) if Path(path).suffix else Path(path + f".{FORMATS[0]}")
    try:
        check_place(target)
        write_table(_table(np.asarray(data, dtype=float), meta), target, _record(meta))
    except InputError as error:
        # napari takes any ValueError for “there is no writer”, and keeps what it says to itself.
        raise JobError(_sentence(error)) from None
    except JobError as error:
        raise JobError(_sentence(error)) from error
    return [str(target), str(target.with_suffix(".json"))]


def _is_ours(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix.removeprefix(".") in FORMATS:
        try:
            columns = table_columns(path)
        except InputError:
            return True
    elif suffix in PLAIN:
        try:
            columns = list(map(str, read_positions(path).columns))
        except InputError:
            return False
    else:
        return False
    if set(AXES) <= set(columns):
        # In napari's own tables of points axis-0 comes first, and a feature may be named z.
        return "axis-0" not in columns or columns.index("z") < columns.index("axis-0")
    return "axis-0" not in columns and suffix in PLAIN and bool(find_positions(by_name(columns)))


def _read_any(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a table, and its record if it was written with one."""
    suffix = path.suffix.lower()
    has_record = suffix.removeprefix(".") in FORMATS
    if suffix in PLAIN and not (has_record and set(AXES) <= set(table_columns(path))):
        return read_positions(path), {}
    return read_table(path)


def _read(path: Path) -> LayerTuple:
    if whole_of(path)[0] != path:
        # Of several parts that are opened together each would open the whole.
        _tell(f"{path.name} alone is opened: Table … of Explore features opens all parts.")
    try:
        return _layer_of(path, *_read_any(path))
    except InputError as error:
        raise InputError(_sentence(error)) from error


def read_rows(path: Path) -> LayerTuple:
    """Read the rows of a feature table as a points layer, its vectors left in the file.

    ``metadata["napari_synapse_cl_rows"]`` says where they are: the path, how many numbers each
    vector has, and the column that has the number of the row in the table, counted from 0.

    Parameters
    ----------
    path
        The table; of a part of a table in a folder all of it is read, and that is said.

    Raises
    ------
    InputError
        If the file cannot be read, holds no vectors, or no row has a position.
    """
    path, text = whole_of(path)
    _tell(text)
    # Of other formats than Parquet everything is read at once, or not known beforehand.
    names = table_columns(path) if is_parquet(path) else None
    some = None if names is None else [name for name in names if not is_channel(name)]
    table, record = read_table(path, some)
    sizes = Counter(prefix_of(n) for n in names or map(str, table.columns) if is_channel(n))
    if not sizes:
        raise InputError(
            f"{path} holds no feature vectors: their columns are named as L20_mean_000 or "
            "hand_hist_00"
        )
    table = table[[name for name in table.columns if not is_channel(name)]]
    column = free_name("row", table.columns)
    data, keywords, kind = _layer_of(path, table.assign(**{column: np.arange(len(table))}), record)
    keywords["metadata"][ROWS_KEY] = {
        "path": str(path.absolute()),
        "vectors": dict(sizes),
        "column": column,
    }
    # What was read of the file stands for the vectors, which are none of its columns.
    records = record.get("records", dict.fromkeys(sizes, record))
    keywords["metadata"][METADATA_KEY] = records
    return data, keywords, kind


def _tell(text: str) -> None:
    from napari.utils.notifications import show_info

    if text:
        show_info(text)


def _layer_of(path: Path, table: pd.DataFrame, record: dict[str, Any]) -> LayerTuple:
    found = interpret(table, str(path))
    geometry = _geometry_of(found) or _geometry(record, path)
    if found.n_missing:
        verb = "has" if found.n_missing == 1 else "have"
        rows = counted(found.n_missing, "row")
        _tell(f"{rows} of {path.name} {verb} no position and {verb} been left out.")
    has_position = np.isfinite(found.positions).all(axis=1)
    features = plain(table[has_position].drop(columns=list(AXES), errors="ignore"))
    keywords = {
        "name": path.stem,
        "features": features.reset_index(drop=True),
        "metadata": {METADATA_KEY: _provenance(record, features), **_volume(record)},
        **geometry,
    }
    return found.positions[has_position], keywords, "points"


def _geometry_of(found: PositionTable) -> dict[str, Any]:
    """Return where points lie whose table says the unit or the voxels they count in."""
    in_nm, size = found.reading.unit == "nm", found.reading.voxel_size
    if not in_nm and size is None:
        return {}
    scale = np.ones(3) if in_nm else np.array(size)
    return {"scale": scale, "units": ("nm",) * 3, "axis_labels": AXES}


def _table(data: np.ndarray, meta: dict[str, Any]) -> pd.DataFrame:
    if data.ndim != 2 or data.shape[1] != 3:
        raise InputError(
            f"the layer {meta.get('name', '')} holds {data.shape[-1]}D points; a feature table "
            "takes 3D ones, z, y, x"
        )
    if len(data) == 0:
        raise InputError(f"the layer {meta.get('name', '')} holds no points")
    features = pd.DataFrame(meta.get("features", {})).rename(columns=str).reset_index(drop=True)
    positions = pd.DataFrame(data, columns=list(AXES))
    return pd.concat([positions, features.drop(columns=list(AXES), errors="ignore")], axis=1)


def _record(meta: dict[str, Any]) -> dict[str, Any]:
    scale = np.asarray(meta.get("scale", np.ones(3)), dtype=float)
    units = [str(unit) for unit in meta.get("units") or ("pixel",) * 3]
    geometry: dict[str, Any] = {"scale": scale.tolist(), "units": units}
    if "axis_labels" in meta:
        geometry["axis_labels"] = list(meta["axis_labels"])
    for name, identity in IDENTITY.items():
        transform = np.asarray(meta.get(name, identity), dtype=float)
        if not np.array_equal(transform, identity):
            geometry[name] = transform.tolist()
    record = {
        "napari-synapse-cl": __version__,
        "records": _plain(meta.get("metadata", {}).get(METADATA_KEY, {})),
        "geometry": geometry,
    }
    if VOLUME_KEY in meta.get("metadata", {}):
        record[OPENED_WITH] = _plain(meta["metadata"][VOLUME_KEY])
    lengths = [nanometres(unit) for unit in units]
    if None not in lengths:
        record["voxel_size"] = (np.abs(scale) * np.array(lengths, dtype=float)).tolist()
    return record


def _plain(content: Any) -> Any:
    """Return what someone may have put into a layer's metadata as JSON can keep it."""
    return json.loads(json.dumps(content, default=str))


def _provenance(record: dict[str, Any], features: pd.DataFrame) -> dict[str, Any]:
    """Return what the metadata of a layer say: by the name of the columns, where they come from."""
    if "records" in record:
        return record["records"]
    names = [str(name) for name in features.columns if FEATURE_COLUMN.fullmatch(str(name))]
    return {prefix_of(name): record for name in names} if record else {}


def _volume(record: dict[str, Any]) -> dict[str, Any]:
    """Return what the metadata of a layer say of the volume that it was opened with, if known."""
    known = record.get(OPENED_WITH)
    return {VOLUME_KEY: known} if isinstance(known, dict) and "name" in known else {}


def _geometry(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return where a record says that the points lie, as keywords of a layer."""
    geometry, voxel_size = record.get("geometry"), record.get("voxel_size")
    if geometry is None and voxel_size is not None:
        geometry = {"scale": voxel_size, "units": ["nm"] * 3, "axis_labels": AXES}
    try:
        found = {
            name: np.array(value, dtype=float)
            for name, value in (geometry or {}).items()
            if name in {"scale", *IDENTITY}
        }
        if not all(np.isfinite(value).all() for value in found.values()):
            raise ValueError
        if "scale" in found and (found["scale"].shape != (3,) or not found["scale"].all()):
            raise ValueError
        names = {
            name: tuple(map(str, geometry[name]))
            for name in ("units", "axis_labels")
            if geometry and name in geometry
        }
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            f"the record of the feature table {path} is damaged: it says that the points lie in "
            f"voxels of {voxel_size} nm, and {geometry}"
        ) from None
    return {**found, **names}


def _sentence(error: Exception) -> str:
    from napari_synapse_cl.widgets.look import sentence

    return sentence(str(error))
