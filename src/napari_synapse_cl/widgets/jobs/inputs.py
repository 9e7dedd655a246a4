"""Put what a job works on into its folder, where the command line finds it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.data import pd
from napari_synapse_cl.data.crops.cache import cache_size, cut_crops
from napari_synapse_cl.data.crops.sources import cache_folder
from napari_synapse_cl.data.dataset import SEGMENTATION, Dataset
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.placing import IN_VOXELS
from napari_synapse_cl.data.tables import interpret
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.runs.events import Control, Event
from napari_synapse_cl.runs.ownership import Ownership, remove_crops
from napari_synapse_cl.system.files import write_json
from napari_synapse_cl.system.folder_lock import Hold
from napari_synapse_cl.widgets.layers.features import with_partners
from napari_synapse_cl.widgets.layers.taking import LayerData, dataset_of
from napari_synapse_cl.widgets.layers.voxels import reopened


class Inputs(Protocol):
    """What a job is given."""

    config_file: Path
    """Settings for the command line, once they are written."""

    def write(self, control: Control) -> Iterator[Event]:
        """Write the inputs; broken off when the control says so."""

    def clean_up(self) -> None:
        """Remove what nobody needs when the job has ended."""

    def remove(self) -> None:
        """Remove all that was written, since the run was discarded."""


@dataclass(frozen=True)
class HowToCut:
    """How crops are to be cut, as the command line would cut them."""

    config: Config
    """What crops are, with what the network's training says of them."""
    network_size: tuple[float, float, float] | None = None
    """Voxel size along z, y, x in nm of the network's training, where that is known."""
    with_context: bool = True
    """Whether crops hold the context that augmented views need."""


class RunInputs:
    """Tables, settings and, where no file holds a volume, crops of one job.

    Parameters
    ----------
    several
        Volumes and their synapses.
    config
        The settings, but for what names these.
    folder
        Where the inputs go, and the results too unless `config` names another output. It is made
        when the inputs are written.
    how_to_cut
        Returns how to cut crops; asked in the worker, and only if crops are cut.

    Raises
    ------
    InputError
        If the folder holds a run already.
    """

    def __init__(
        self,
        several: Sequence[LayerData],
        config: Config,
        folder: Path,
        how_to_cut: Callable[[], HowToCut],
    ) -> None:
        self._several = several
        self._config = config
        self._how_to_cut = how_to_cut
        self.folder = folder.absolute()
        self.config_file = self.folder / "config.json"
        self._run_file = self.folder / "run.json"
        self._written: list[Path] = []
        self._cache: Path | None = None
        self._owned = Ownership(self.folder)
        if any(map(os.path.exists, (self._run_file, self._table_file(0), self.config_file))):
            raise InputError(f"{folder} holds a run already; choose another output folder")
        self._owned.check_free(config.cache_dir)

    def write(self, control: Control) -> Iterator[Event]:
        """Write the inputs; broken off when the control says so.

        Raises
        ------
        InputError
            If they cannot be written, or the layers cannot be used.
        """
        try:
            with Hold(self.folder):
                yield from self._write(control)
        except OSError as error:
            raise InputError(
                f"cannot write to {self.folder}: {reason(error)}; choose another output folder"
            ) from None

    def _write(self, control: Control) -> Iterator[Event]:
        values = self._config.model_dump(exclude_unset=True)
        values.setdefault("output", self.folder)
        if not values.get("roles"):
            # The volumes may bring their own.
            values.pop("roles", None)
        entries = self._entries()
        if entries is None:
            yield from self._cut_crops(values, control)
            if control.stopping:
                return
        elif len(entries) == 1:
            values = {**entries[0], **values}
        else:
            file = self._own(self.folder / "dataset.json")
            write_json(file, {"volumes": entries})
            values["dataset"] = file
        if self._config.extract_only:
            # The crops that are cut for an extraction were held to it here.
            values.pop("cache_limit", None)
        # Only what was set: the crop size of an extraction is else that of the training.
        settings = Config.from_values(values).model_dump(mode="json", exclude_unset=True)
        write_json(self._own(self.config_file), settings)

    def _own(self, file: Path) -> Path:
        """Note that a file is this run's, which is about to be written."""
        self._owned.claim(file)
        self._written.append(file)
        return file

    def clean_up(self) -> None:
        """Remove what was written for a run that was never started."""
        if not os.path.exists(self._run_file):
            self.remove()

    def remove(self) -> None:
        """Remove what was written, and the folder if nothing else is in it."""
        for file in self._written:
            file.unlink(missing_ok=True)
        if self._cache is not None:
            remove_crops(self._cache)
        self._owned.remove_list_alone()

    def _table_file(self, number: int) -> Path:
        return self.folder / (f"synapses_{number + 1}.csv" if number else "synapses.csv")

    def _write_table(self, table: pd.DataFrame, number: int = 0) -> Path:
        file = self._own(self._table_file(number))
        table.to_csv(file, index=False)
        return file

    def _entries(self) -> list[dict[str, Any]] | None:
        """Write the tables and return the volumes as settings; None if one is in no file."""
        found = [_reopened(data) for data in self._several]
        names: dict[str, int] = {}
        entries = []
        for number, (data, volume) in enumerate(zip(self._several, found, strict=True)):
            if volume is None:
                return None
            entry = {
                "image": data.location,
                "synapses": str(self._write_table(_in_finest(data.table, volume), number)),
                "position_columns": list(AXES),
                "position_unit": "voxels",
                **data.label_locations,
            }
            if data.roles and not self._config.roles:
                entry["roles"] = list(data.roles)
            if data.voxel_size is not None:
                entry["voxel_size"] = (np.array(data.voxel_size) / volume.factor).tolist()
            if len(self._several) > 1:
                name = data.part(self._config).name
                names[name] = names.get(name, 0) + 1
                entry["name"] = name if names[name] == 1 else f"{name} [{names[name]}]"
            entries.append(entry)
        return entries

    def _cut_crops(self, values: dict[str, Any], control: Control) -> Iterator[Event]:
        how = self._how_to_cut()
        config, shape = how.config, how.config.crop_size
        dataset = dataset_of(self._several, config, how.network_size)
        if how.with_context:
            shape = dataset.context(config)
        crops = dataset.streamed(config, shape)
        size = cache_size(crops)
        if size > config.cache_limit:
            raise InputError(
                f"the crops take {size:.1f} GiB on the disk, and cache_limit is "
                f"{config.cache_limit:g} GiB; raise it, choose a smaller crop_size, or open "
                "the volume from a file"
            )
        cache = cache_folder(crops, config.cache_dir or self.folder)
        values["crops"] = cache
        values["synapses"] = self._write_table(_with_cells(dataset, config))
        values["position_columns"], values["position_unit"] = AXES, "voxels"
        if config.cache_dir is None:
            self._owned.claim(cache)
            self._cache = cache
        yield from cut_crops(crops, cache, len(dataset.table), control)


def _reopened(data: LayerData) -> Volume | None:
    """Return the volume as another process finds it, if it and its labels are in files."""
    volume = reopened(data.location, data.volume)
    for name, labels in (("labels", data.labels), ("segmentation", data.segmentation)):
        if labels is None:
            continue
        location = data.label_locations.get(name)
        if not labels.is_aligned or reopened(location, labels.volume, are_labels=True) is None:
            return None
    return volume


def _with_cells(dataset: Dataset, config: Config) -> pd.DataFrame:
    """Return the table of a dataset, with the cells that a child could not read in its layers."""
    table = dataset.table
    if config.cell_column != SEGMENTATION or SEGMENTATION in table.columns:
        return table
    column = pd.array([pd.NA] * len(table), dtype="UInt64")
    column[dataset.positions.rows] = [cell or pd.NA for cell in dataset.cells()]
    return table.assign(**{SEGMENTATION: column})


def in_finest(voxels: np.ndarray, volume: Volume) -> np.ndarray:
    """Return positions ``(n, 3)`` in voxels of a volume as those of its file count."""
    offset, factor = np.array(volume.offset), np.array(volume.factor)
    return np.asarray((voxels + offset + 0.5) * factor - 0.5)


def _in_finest(table: pd.DataFrame, volume: Volume) -> pd.DataFrame:
    """Return a table whose positions count as those of the volume's file do."""
    found = interpret(table, "the points layer", IN_VOXELS)
    moved = {name: in_finest(voxels, volume) for name, voxels in found.partners.items()}
    positions = dict(zip(AXES, in_finest(found.positions, volume).T, strict=True))
    return with_partners(table.assign(**positions), moved)


class ContinuedRun:
    """The inputs of a run that goes on: its own, with settings that may have changed.

    Parameters
    ----------
    config
        All settings of the run.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder.absolute()
        self._config = config
        self._temporary = Path(tempfile.mkdtemp(prefix="synapse_cl_"))
        self.config_file = self._temporary / "config.json"
        table = config.synapses
        is_own = (
            table is not None and table.parent == self.folder and Ownership(self.folder).owns(table)
        )
        self._table = table if is_own else None

    def write(self, control: Control) -> Iterator[Event]:
        """Write the settings where they do not replace those of the run before it goes on."""
        write_json(self.config_file, self._config.as_json())
        yield from ()

    def clean_up(self) -> None:
        """Remove the settings; the run has its own."""
        shutil.rmtree(self._temporary, ignore_errors=True)

    def remove(self) -> None:
        """Remove the table that the window had written for the run."""
        if self._table is not None:
            self._table.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
