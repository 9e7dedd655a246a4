"""Columns of features on a Points layer: which are there, and how others join them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Points
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_synapse_cl import __version__
from napari_synapse_cl.data import pd
from napari_synapse_cl.data.tables.columns import prefix_of
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.system.files import safe_name
from napari_synapse_cl.widgets.layers.features import (
    METADATA_KEY,
    feature_match,
    freeze_colors,
)
from napari_synapse_cl.widgets.look import ask

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
    """Return a new layer of the same points, drawn alike and at the same place, with features."""
    data, state, _ = points.as_layer_data_tuple()
    more = {
        "name": name,
        "features": points.features.copy(),
        "metadata": dict(points.metadata),
        # Colours by a column would be drawn anew, in napari's own way.
        "face_color": points.face_color.copy(),
        "border_color": points.border_color.copy(),
    }
    return Points(np.array(data), **{**state, **more})


def ask_about_columns(parent: QWidget, layer: str, prefixes: Sequence[str], new: str) -> str | None:
    """Ask whether to :data:`REPLACE` columns or :data:`KEEP` them; None is to leave it.

    Parameters
    ----------
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


class PointResults:
    """Where the features of one extraction go.

    Parameters
    ----------
    points
        The layer whose points they belong to.
    version
        That of the names of the columns; those of this version that are there are replaced.
    on_new_layer
        Whether they go to a new layer of the same points.
    volume
        Name of the image layer, for the record.
    """

    def __init__(
        self, viewer: Any, points: Points, version: int, *, on_new_layer: bool, volume: str
    ) -> None:
        self._viewer = viewer
        self._source = points
        self._positions = np.array(points.data)
        self._version = version
        self._on_new_layer = on_new_layer
        self.volume = volume
        self._layer: Points | None = None
        self._columns: list[str] = []
        self._before = pd.DataFrame()
        self._order: list[str] = []

    def show(self, table: pd.DataFrame) -> None:
        """Show features so far, unless the points are no longer what they were.

        Parameters
        ----------
        table
            One row a point.
        """
        if self._problem() is None:
            self._join(self._named(table))

    def finish(
        self, table: pd.DataFrame, record: dict[str, Any], folder: Path
    ) -> tuple[Points, Sequence[str]]:
        """Assign the features and keep where they come from; return the layer and its new columns.

        Parameters
        ----------
        table
            One row a point.
        record
            Where the features come from.
        folder
            Where they are kept if the points are no longer what they were; a temporary folder,
            if they cannot be kept there.

        Raises
        ------
        JobError
            If the points are no longer what they were.
        """
        table = self._named(table)
        record = {**record, "image": self.volume, "napari-synapse-cl": __version__}
        problem = self._problem()
        if problem is not None:
            self.undo()
            positions = pd.DataFrame(self._positions, columns=["z", "y", "x"])
            path = self._save(pd.concat([positions, table], axis=1), record, folder)
            raise JobError(
                f"the layer {self._source.name} {problem} while its features were extracted, so "
                f"they were not added to it; they are in {path}, one row for each point there was"
            )
        layer = self._join(table)
        note_origin(layer, table.columns, record)
        return layer, list(table.columns)

    def _save(self, table: pd.DataFrame, record: dict[str, Any], folder: Path) -> Path:
        """Write features into a folder; into a temporary one, if that takes none."""
        # Formats of tables take longer to import than a dock should to open.
        from napari_synapse_cl.features.tables import write_table

        name = f"features_{safe_name(self._source.name)}.csv"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_table(table, folder / name, record)
        except (OSError, InputError, JobError):
            folder = Path(tempfile.mkdtemp(prefix="synapse_cl_"))
            write_table(table, folder / name, record)
        return folder / name

    def undo(self) -> None:
        """Take back what was shown, and put back what it replaced."""
        layer, self._layer = self._layer, None
        if layer is None or layer not in self._viewer.layers:
            return
        if self._on_new_layer:
            self._viewer.layers.remove(layer)
            return
        drop(layer, self._columns)
        if len(layer.data) == len(self._before):
            join(layer, self._before, self._order)

    def _join(self, table: pd.DataFrame) -> Points:
        layer = self._layer or self._begin(list(table.columns))
        self._columns = list(dict.fromkeys([*self._columns, *table.columns]))
        join(layer, table, self._order)
        return layer

    def _begin(self, columns: list[str]) -> Points:
        """Return the layer to join columns to, and remember what they replace."""
        layer = self._source
        if self._on_new_layer:
            active = self._viewer.layers.selection.active
            name = f"{layer.name} · {prefix_of(columns[0])}"
            layer = self._viewer.add_layer(new_points(layer, name))
            # napari selects what is added, and the next extraction is for what is selected.
            if active in self._viewer.layers:
                self._viewer.layers.selection.active = active
        self._order = list(layer.features.columns)
        new = {prefix_of(name) for name in columns}
        there = [n for n in self._order if feature_match(n) and prefix_of(n) in new]
        self._before = layer.features[there].reset_index(drop=True)
        if there:
            freeze_colors(layer)
        # A layer of another network may have had more channels.
        drop(layer, [name for name in there if name not in columns])
        self._layer = layer
        return layer

    def _named(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.rename(columns={n: versioned(str(n), self._version) for n in table})

    def _problem(self) -> str | None:
        """Say what has happened to the points, if anything has."""
        layer = self._layer or self._source
        if self._source not in self._viewer.layers or layer not in self._viewer.layers:
            return "was removed"
        same = np.array_equal(layer.data, self._positions, equal_nan=True)
        return None if same else "was changed"
