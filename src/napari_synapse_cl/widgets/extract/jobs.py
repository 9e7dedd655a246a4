"""Jobs that read layers of a network: made of what is filled in, and what they find.

What reads tables and maps takes longer to import than a dock should to open: it is imported when
there is something to read.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Points, Shapes

from napari_synapse_cl.config import AugmentationConfig, Config
from napari_synapse_cl.data import pd
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.runs.events import (
    Command,
    Control,
    Growing,
    Message,
    Progress,
    ShardsDone,
    Wrote,
)
from napari_synapse_cl.runs.shards import Places, follow_shards, shards_in_words
from napari_synapse_cl.system.files import read_json
from napari_synapse_cl.widgets.base import run_folder
from napari_synapse_cl.widgets.extract.maps import MapArray, read_maps
from napari_synapse_cl.widgets.extract.network_panel import NetworkPanel
from napari_synapse_cl.widgets.extract.region import RegionInputs, take_region
from napari_synapse_cl.widgets.forms.form import Form
from napari_synapse_cl.widgets.jobs.inputs import HowToCut, Inputs, RunInputs
from napari_synapse_cl.widgets.jobs.job import ChildJob, Job
from napari_synapse_cl.widgets.layers.features import feature_match
from napari_synapse_cl.widgets.layers.taking import LayerData, take
from napari_synapse_cl.widgets.session import Session

if TYPE_CHECKING:
    from napari_synapse_cl.features.layer_report import Report

LOOK_SECONDS = 1.0
"""Least time between two looks at results that grow."""

OF_POINTS = (
    "descriptors",
    "pooling",
    "averaging",
    "n_components",
    "crop_size",
    "feature_format",
)
"""Settings that mean nothing for the map of a region."""


@dataclass(frozen=True)
class Features:
    """Features of points: one row a point, NaN where there are none yet, one column a feature."""

    table: pd.DataFrame
    """The features."""
    record: dict[str, Any] | None = None
    """Where they come from; None while they are extracted."""


@dataclass(frozen=True)
class InFiles:
    """Results stay in files: as of maps that were not pooled, too many numbers for columns."""

    text: str
    """What is where."""


@dataclass(frozen=True)
class Compared:
    """Layers have been compared."""

    report: Report


@dataclass(frozen=True)
class MapsGrow:
    """There is more of the maps in a folder."""

    maps: list[MapArray]
    """As they are now."""
    folder: Path
    """Where they are."""
    corner: tuple[int, int, int]
    """Voxel of the image, along z, y, x, from which the maps count."""
    whole: bool
    """Whether they are complete."""


class GrowingJob(ChildJob):
    """An extraction whose results are looked at while they grow, and read when they are whole.

    Parameters
    ----------
    folder
        Where the inputs are; it is removed at the end.
    """

    def __init__(self, inputs: Inputs, folder: Path) -> None:
        super().__init__(inputs)
        self._folder = folder

    def events(self) -> Iterator[Any]:
        """Yield what the run tells, what there is of its results so far, and at last all."""
        growing: Growing | None = None
        looked = time.monotonic()
        try:
            for event in super().events():
                if self._is_told(event):
                    yield event
                match event:
                    case Growing():
                        growing = event
                    case Progress() if growing and time.monotonic() - looked > LOOK_SECONDS:
                        looked = time.monotonic()
                        # It may be renamed while it is looked at, or gone.
                        with suppress(OSError, KeyError, ValueError, RuntimeError):
                            yield self._look(growing)
                    case Wrote(what, path) if what in self._reads:
                        yield self._reads[what](Path(path))
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _is_told(self, event: Any) -> bool:
        return True

    def _look(self, growing: Growing) -> Any:
        """Return the results so far."""
        raise NotImplementedError

    @property
    def _reads(self) -> dict[str, Callable[[Path], Any]]:
        """What reads the results, by what they are."""
        raise NotImplementedError


class SynapsesJob(GrowingJob):
    """An extraction for points: its last event is their features, or a report on layers."""

    def __init__(self, inputs: Inputs, folder: Path, *, compares: bool = False) -> None:
        super().__init__(inputs, folder)
        self._compares = compares

    def _is_told(self, event: Any) -> bool:
        # The remarks on a comparison are shown with it.
        return not (self._compares and isinstance(event, Message) and event.level != "warning")

    def _look(self, growing: Growing) -> Features:
        return Features(pd.DataFrame(np.load(growing.path), columns=growing.columns))

    @property
    def _reads(self) -> dict[str, Callable[[Path], Any]]:
        return {"features": _read, "report": _read_report}


class RegionJob(GrowingJob):
    """An extraction of maps of a region."""

    def __init__(self, inputs: RegionInputs) -> None:
        super().__init__(inputs, inputs.folder)
        self._region = inputs

    def _look(self, growing: Growing) -> MapsGrow:
        folder = Path(growing.path)
        return MapsGrow(read_maps(folder), folder, self._region.corner, whole=False)

    @property
    def _reads(self) -> dict[str, Callable[[Path], Any]]:
        return {"maps": self._read_whole}

    def _read_whole(self, folder: Path) -> MapsGrow:
        from napari_synapse_cl.features.maps.store import move_maps

        region = self._region
        try:
            if region.intensities is not None:
                move_maps(folder, region.corner, region.volume_name, region.intensities)
            return MapsGrow(read_maps(folder), folder, (0, 0, 0), whole=True)
        except (OSError, KeyError, ValueError) as error:
            raise JobError(f"the maps in {folder} cannot be read: {error}") from error


class ShardsJob(Job):
    """Follows an extraction in shards; its end in this window leaves that as it is."""

    may_go_on = True

    def __init__(self, folder: Path) -> None:
        self._places, self._control = Places(folder), Control()

    def events(self) -> Iterator[Any]:
        """Yield how far it is, and at last what it has made."""
        for event in follow_shards(self._places, self._control):
            if isinstance(event, ShardsDone):
                task = f"{event.task} ({shards_in_words(event)})"
                yield Progress(task, event.crops, event.total_crops, event.unit)
            elif isinstance(event, Wrote):
                verb = "is" if event.what == "report" else "are"
                yield InFiles(f"the {event.what} {verb} in {event.path}")

    def request(self, command: Command) -> None:
        """Look at it no longer, whatever is asked for."""
        self._control.request("stop")

    def end_soon(self) -> None:
        """Look at it no longer."""
        self._control.request("stop")


def _read(path: Path) -> Features | InFiles:
    if path.suffix == ".npy":
        return InFiles(f"the maps of the synapses are in {path}, a row for each point")
    from napari_synapse_cl.features.tables import read_table

    table, record = read_table(path)
    columns = [name for name in table.columns if feature_match(name)]
    return Features(table[columns], record)


def _read_report(path: Path) -> Compared:
    from napari_synapse_cl.features.layer_report import from_json

    try:
        return Compared(from_json(read_json(path.with_suffix(".json"))["report"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(f"cannot read the comparison in {path}: {error}") from error


class ExtractionRequests:
    """Makes jobs of the settings in a form and of layers.

    Every method raises InputError if something cannot be used.

    Parameters
    ----------
    panel
        The network and its layers.
    session
        That of the viewer, for what the form does not show.
    """

    def __init__(self, form: Form, panel: NetworkPanel, session: Session) -> None:
        self._form = form
        self._panel = panel
        self._settings = session.settings
        self._volumes = session.volumes

    def of_points(self, points: Points, image: Image | None) -> SynapsesJob:
        """Return an extraction of one vector for each point."""
        data = take(image, points, **self._volumes.labels_of(image))
        by_hand = self._form.editor("descriptors").value
        layers = self._panel.table.chosen if by_hand else self._panel.chosen
        config = self._config(layer_num=layers, roles=self._settings["roles"])
        if config.pooling == "none" and config.output is None:
            # What does not go into columns has to stay somewhere.
            config = _with(config, output=run_folder(None))
        return self._synapses_job(data, config, with_context=False)

    def comparison(
        self, points: Points, image: Image | None, label_column: str | None
    ) -> SynapsesJob:
        """Return a comparison of the layers that are ticked; of all convolutions if one is."""
        data = take(image, points, **self._volumes.labels_of(image))
        more: dict[str, Any] = {"compare_layers": True, "seed": self._settings["seed"]}
        more["roles"] = self._settings["roles"]
        more["label_column"] = label_column or ""
        more |= {name: self._settings[name] for name in AugmentationConfig.model_fields}
        if len(self._panel.table.chosen) > 1:
            more["layer_num"] = self._panel.chosen
        return self._synapses_job(data, self._config(**more), with_context=True)

    def of_region(self, image: Image | None, shapes: Shapes | None, depth: int) -> RegionJob:
        """Return an extraction of the map of a volume, or of the box around shapes on it."""
        data = take_region(image, shapes, depth)
        config = self._config(layer_num=self._panel.chosen, dense=True)
        config = _with(config, output=config.output or run_folder(None))
        network = partial(self._panel.read_info, config)
        return RegionJob(RegionInputs(data, config, temporary_folder(), network))

    def _config(self, **more: Any) -> Config:
        if more.get("layer_num") != ():
            self._panel.require_checkpoint()
        left_out = OF_POINTS if more.get("dense") else ()
        if not more.get("compare_layers"):
            left_out = (*left_out, "centre_jitter")
        return self._form.config(left_out=left_out, extract_only=True, **more)

    def _synapses_job(self, data: LayerData, config: Config, *, with_context: bool) -> SynapsesJob:
        folder = temporary_folder()
        if config.output is None:
            # Nobody sees what is in a folder that is removed.
            config = _with(config, figures=False)
        how_to_cut = partial(self._how_to_cut, config, with_context)
        inputs = RunInputs([data], config, folder, how_to_cut)
        return SynapsesJob(inputs, folder, compares=config.compare_layers)

    def _how_to_cut(self, config: Config, with_context: bool) -> HowToCut:
        """Return how to cut crops, as the command line will choose it; for a worker."""
        if config.checkpoint is None:
            return HowToCut(config, None, with_context)
        info = self._panel.read_info(config)
        trained = {**info.crop_settings}
        if info.crop_size is not None:
            trained["crop_size"] = info.crop_size
        seen = Config.from_values({**trained, **config.model_dump(exclude_unset=True)})
        return HowToCut(seen, info.voxel_size, with_context)


def _with(config: Config, **settings: Any) -> Config:
    """Return settings with some changed; those that were not set stay so."""
    return Config.from_values({**config.model_dump(exclude_unset=True), **settings})


def temporary_folder() -> Path:
    """Make a folder for what a job works on, which is removed when it has ended."""
    return Path(tempfile.mkdtemp(prefix="synapse_cl_"))
