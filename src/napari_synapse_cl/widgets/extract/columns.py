"""Columns of features on a Points layer: which are there, and how others join them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from napari.layers import Points
from napari.utils.colormaps import ensure_colormap
from napari.utils.colormaps.standardize_color import transform_color
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.tables.columns import is_plain_number, numbers_said
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, feature_match, prefix_of
from napari_synapse_cl.widgets.layers.voxels import geometry_of
from napari_synapse_cl.widgets.look import ask

CATEGORY_COLORS = transform_color(
    ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"]
)
"""Okabe and Ito's, told apart by colour-blind people too."""

REPLACE, KEEP = "Replace", "Keep both"


def prefixes(points: Points) -> list[str]:
    """Return the prefixes of all features that a layer has, in their order."""
    names = [str(name) for name in points.features.columns]
    return list(dict.fromkeys(prefix_of(n) for n in names if feature_match(n)))


def next_version(points: Points, wanted: Iterable[str]) -> int:
    """Return the lowest version under which columns of these prefixes do not exist yet.

    The first has no version in its name, and counts as 1.
    """
    there = set(prefixes(points))
    version = 1
    while any(versioned_prefix(prefix, version) in there for prefix in wanted):
        version += 1
    return version


def versioned_prefix(prefix: str, version: int) -> str:
    """Return what columns of another version begin with: ``L20_mean_v2`` of ``L20_mean``."""
    return prefix if version == 1 else f"{prefix}_v{version}"


def versioned(column: str, version: int) -> str:
    """Return the name of a column in another version: ``L20_mean_v2_000`` of ``L20_mean_000``."""
    prefix = prefix_of(column)
    return versioned_prefix(prefix, version) + column.removeprefix(prefix)


def join(points: Points, table: pd.DataFrame, order: Sequence[str]) -> None:
    """Assign the columns of a table to a layer's features.

    All others, and the order of the rows, stay as they were.

    Parameters
    ----------
    points
        The layer.
    table
        One row a point; columns of these names are replaced.
    order
        Columns that come first. Behind them come others that are there, then those of the table.
    """
    others = points.features.drop(columns=list(table.columns), errors="ignore")
    joined = pd.concat([others.reset_index(drop=True), table.reset_index(drop=True)], axis=1)
    first = [name for name in order if name in joined.columns]
    # napari tells of a change only when the table is assigned.
    points.features = joined[[*first, *(name for name in joined.columns if name not in first)]]


def drop(points: Points, columns: Sequence[str]) -> None:
    """Take columns away from a layer's features."""
    points.features = points.features.drop(columns=list(columns), errors="ignore")


def note_origin(points: Points, columns: Iterable[str], record: dict[str, Any]) -> None:
    """Keep in a layer's metadata where its columns come from, by the prefix of their names."""
    origins = dict(points.metadata.get(METADATA_KEY, {}))
    for prefix in dict.fromkeys(map(prefix_of, columns)):
        origins[prefix] = record
    points.metadata = {**points.metadata, METADATA_KEY: origins}


def new_points(points: Points, name: str) -> Points:
    """Return a new layer of the same points at the same place, with their features."""
    return Points(
        np.array(points.data),
        name=name,
        features=points.features.copy(),
        size=points.size.copy(),
        symbol=points.symbol.copy(),
        face_color=points.face_color.copy(),
        border_color=points.border_color.copy(),
        metadata=dict(points.metadata),
        **geometry_of(points),
    )


def color_by(points: Points, column: str) -> None:
    """Colour points by a column: numbers along a colormap, others in turn.

    Points that have no value are transparent.
    """
    values = points.features[column]
    missing = values.isna().to_numpy()
    numbers = numbers_said(values)
    is_number = numbers is not None
    if numbers is not None:
        missing = ~np.isfinite(numbers)
    # napari takes text for categories, and finds no colour for a missing value.
    if not missing.any() and (not is_number or is_plain_number(values)):
        points.face_color = column
        if is_number:
            # napari takes numbers of few different values for categories.
            points.face_color_mode = "colormap"
        return
    if numbers is not None:
        known = numbers[~missing]
        low, high = known.min(), known.max()
        shares = (known - low) / ((high - low) or 1)
        colors = ensure_colormap("viridis").map(shares)
    else:
        codes, _ = pd.factorize(values[~missing])
        colors = np.array(CATEGORY_COLORS)[codes % len(CATEGORY_COLORS)]
    rgba = np.zeros((len(values), 4))
    rgba[~missing] = colors
    points.face_color = rgba


def freeze_colors(points: Points) -> None:
    """Let points keep their colours whatever becomes of the column that these come from."""
    if points.face_color_mode != "direct":
        points.face_color = points.face_color.copy()
    if points.border_color_mode != "direct":
        points.border_color = points.border_color.copy()


def ask_about_columns(parent: QWidget, layer: str, prefixes: Sequence[str], new: str) -> str | None:
    """Ask whether to :data:`REPLACE` columns or :data:`KEEP` them; None is to leave it.

    Parameters
    ----------
    parent
        The window that asks.
    layer
        Name of the layer.
    prefixes
        What the names of the columns begin with that are there.
    new
        What the names of new ones would begin with.
    """
    names = ", ".join(f"{prefix}_…" for prefix in prefixes)
    roles = QMessageBox.ButtonRole
    return ask(
        parent,
        "Features are there",
        f"The layer {layer} has the columns {names} already.",
        f"“{REPLACE}” writes the new features in their place; “{KEEP}” adds new columns {new}_… "
        "beside them.",
        {REPLACE: roles.DestructiveRole, KEEP: roles.AcceptRole},
        KEEP,
    )
