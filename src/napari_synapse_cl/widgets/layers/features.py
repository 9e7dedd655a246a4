"""Columns of tables as features of layers, and what metadata and units say, without napari.

The reader of tables needs these before a viewer does.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.tables.columns import FEATURE_COLUMN, as_numbers
from napari_synapse_cl.data.tables.conventions import Source, by_name, find_partners
from napari_synapse_cl.data.tables.typed import in_objects

SIDES = {"side_1": "side_1_coord_{}", "side_2": "side_2_coord_{}"}
"""How columns of a side are named that have numbers for x, y, z; others end with the axis."""
AS_READ = "_as_read"


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose cells are single values: napari cannot select points with others.

    Positions in one column become three columns, as ``pre_pt_position_x``; anything else is text.
    """
    columns: dict[str, Any] = {}
    for name, column in table.items():
        if column.dtype != object or not column.map(_is_several).any():
            columns[str(name)] = column
            continue
        if all(len(cell) == 3 for cell in column if _is_several(cell)):
            for i, axis in enumerate("xyz"):
                columns[f"{name}_{axis}"] = column.map(
                    lambda cell, i=i: cell[i] if _is_several(cell) else np.nan
                )
        else:
            columns[str(name)] = column.map(str)
    return in_objects(pd.DataFrame(columns, index=table.index))


def with_partners(table: pd.DataFrame, partners: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return a table whose positions of partners are in the voxels that the points are in.

    Columns that hold them otherwise, as in nm, get another name.

    Parameters
    ----------
    table
        As :func:`plain` returns it.
    partners
        ``(M, 3)`` z, y, x in voxels of each, by the names of the partners.
    """
    sources = find_partners(by_name(table.columns))
    for name, voxels in partners.items():
        source = sources.get(name)
        if source is None or np.array_equal(_values(table, source), voxels, equal_nan=True):
            continue
        table = table.rename(columns={column: f"{column}{AS_READ}" for column in source.columns})
        template = SIDES.get(name, f"{name}_{{}}")
        ends = "321" if name in SIDES else AXES
        table = table.assign(**{template.format(end): voxels[:, i] for i, end in enumerate(ends)})
    return table


def _values(table: pd.DataFrame, source: Source) -> np.ndarray:
    columns: list[Hashable] = list(source.columns)
    if source.order == "x, y, z":
        columns.reverse()
    return np.stack([as_numbers(table[column]) for column in columns], axis=1)


def _is_several(cell: Any) -> bool:
    return isinstance(cell, list | tuple | np.ndarray)


def feature_match(name: object) -> re.Match[str] | None:
    """Return the parts of a column's name, if it is one that an extraction adds."""
    return FEATURE_COLUMN.fullmatch(str(name))


def is_component(name: object) -> bool:
    """Whether a column holds a principal component of features that an extraction adds."""
    match = feature_match(name)
    return match is not None and bool(match["component"])


def prefix_of(column: str) -> str:
    """Return what the columns of one layer and pooling begin with: ``L20_mean`` or ``L20_mean_v2``.

    Of descriptors that is ``hand``, or ``hand_v2``.

    Raises
    ------
    ValueError
        If it is no column that an extraction adds.
    """
    match = feature_match(column)
    if match is None:
        raise ValueError(f"{column} is no column of features")
    version = f"_v{match['version']}" if match["version"] else ""
    return f"{match['hand'] or 'L{layer}_{pooling}'.format(**match.groupdict())}{version}"


METADATA_KEY = "napari_synapse_cl"
"""The same key that files keep their record under."""
RECIPE = "recipe"
"""In the metadata of an image under that key: the preset that suits it, until it was chosen."""
