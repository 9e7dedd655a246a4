"""Jobs that read layers of a network, and what they find for the window.

What reads tables and maps takes longer to import than a dock should to open: it is imported when
there is something to read.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.runs.events import Growing, Message, Progress, Wrote
from napari_synapse_cl.system.files import read_json
from napari_synapse_cl.widgets.extract.maps import MapArray, read_maps
from napari_synapse_cl.widgets.extract.region import RegionInputs
from napari_synapse_cl.widgets.jobs.inputs import Inputs
from napari_synapse_cl.widgets.jobs.job import ChildJob
from napari_synapse_cl.widgets.layers.features import feature_match

if TYPE_CHECKING:
    from napari_synapse_cl.features.layer_report import Report

LOOK_SECONDS = 1.0
"""Least time between two looks at results that grow."""


@dataclass(frozen=True)
class PartOfFeatures:
    """Features so far: one row a point, NaN where there are none yet."""

    table: pd.DataFrame


@dataclass(frozen=True)
class Features:
    """All features, or those until the job was ended; one row a point, one column a feature.

    Attributes
    ----------
    table
        The features.
    record
        Where they come from.
    """

    table: pd.DataFrame
    record: dict[str, Any]


@dataclass(frozen=True)
class MapsOfSynapses:
    """Maps that were not pooled are in a file: they are too many numbers for columns."""

    path: Path


@dataclass(frozen=True)
class Compared:
    """Layers have been compared."""

    report: Report


@dataclass(frozen=True)
class MapsGrow:
    """There is more of the maps in a folder.

    Attributes
    ----------
    maps
        As they are now.
    folder
        Where they are.
    corner
        Voxel of the image, along z, y, x, from which the maps count.
    whole
        Whether they are complete.
    """

    maps: list[MapArray]
    folder: Path
    corner: tuple[int, int, int]
    whole: bool


class SynapsesJob(ChildJob):
    """An extraction for points: its last event is their features.

    Parameters
    ----------
    inputs
        What it works on.
    folder
        Where that is; it is removed at the end.
    compares
        Whether layers are compared: the last event is then a report on them.
    """

    def __init__(self, inputs: Inputs, folder: Path, *, compares: bool = False) -> None:
        super().__init__(inputs)
        self._folder = folder
        self._compares = compares

    def events(self) -> Iterator[Any]:
        """Yield what the run tells, :class:`PartOfFeatures`, then :class:`Features`."""
        growing: Growing | None = None
        looked = time.monotonic()
        try:
            for event in super().events():
                if not (self._compares and isinstance(event, Message) and event.level != "warning"):
                    # The remarks on a comparison are shown with it.
                    yield event
                match event:
                    case Growing("features"):
                        growing = event
                    case Progress() if growing is not None:
                        if time.monotonic() - looked > LOOK_SECONDS:
                            looked = time.monotonic()
                            yield from _look(growing)
                    case Wrote("features", path):
                        yield _read(Path(path))
                    case Wrote("report", path):
                        yield Compared(_read_report(Path(path)))
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


class RegionJob(ChildJob):
    """An extraction of maps of a region.

    Parameters
    ----------
    inputs
        What it works on; its folder is removed at the end.
    """

    def __init__(self, inputs: RegionInputs) -> None:
        super().__init__(inputs)
        self._region = inputs

    def events(self) -> Iterator[Any]:
        """Yield what the run tells, and :class:`MapsGrow` as more of the maps is there."""
        folder: Path | None = None
        looked = time.monotonic()
        try:
            for event in super().events():
                yield event
                match event:
                    case Growing("maps", path):
                        folder = Path(path)
                    case Progress() if folder is not None:
                        if time.monotonic() - looked > LOOK_SECONDS:
                            looked = time.monotonic()
                            # It may be renamed while it is looked at.
                            with suppress(OSError, KeyError, ValueError):
                                yield MapsGrow(
                                    read_maps(folder), folder, self._region.corner, whole=False
                                )
                    case Wrote("maps", path):
                        yield self._read_whole(Path(path))
        finally:
            shutil.rmtree(self._region.folder, ignore_errors=True)

    def _read_whole(self, folder: Path) -> MapsGrow:
        from napari_synapse_cl.features.maps.store import move_maps

        region = self._region
        try:
            if region.intensities is not None:
                move_maps(folder, region.corner, region.volume_name, region.intensities)
            return MapsGrow(read_maps(folder), folder, (0, 0, 0), whole=True)
        except (OSError, KeyError, ValueError) as error:
            raise JobError(f"the maps in {folder} cannot be read: {error}") from error


def _look(growing: Growing) -> Iterator[PartOfFeatures]:
    """Read the features so far; the file is gone once they are all there."""
    try:
        values = np.load(growing.path)
    except (OSError, ValueError):
        return
    yield PartOfFeatures(pd.DataFrame(values, columns=growing.columns))


def _read(path: Path) -> Features | MapsOfSynapses:
    if path.suffix == ".npy":
        return MapsOfSynapses(path)
    from napari_synapse_cl.features.tables import read_table

    table, record = read_table(path)
    columns = [name for name in table.columns if feature_match(name)]
    return Features(table[columns], record)


def _read_report(path: Path) -> Report:
    from napari_synapse_cl.features.layer_report import from_json

    try:
        content = read_json(path.with_suffix(".json"))
        return from_json(content["report"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(f"cannot read the comparison in {path}: {error}") from error
