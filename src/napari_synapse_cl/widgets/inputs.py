"""Put what a job works on into its folder, where the command line finds it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from napari_synapse_cl.config import Config
from napari_synapse_cl.control import Control
from napari_synapse_cl.data.crops import StreamedCrops, cache_folder, cache_size, fill_cache
from napari_synapse_cl.data.synapses import positions_inside
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.events import Event, Progress
from napari_synapse_cl.files import write_json
from napari_synapse_cl.widgets.layers import LayerData, reopened_file

Shape = tuple[int, int, int]


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


class RunInputs:
    """Table, settings and, where no file holds the volume, crops of one job.

    Parameters
    ----------
    data
        The layers.
    config
        The settings, but for image, synapses and crops.
    folder
        Where the inputs go, and the results too unless `config` names another output. It is made
        when the inputs are written.
    crop_shape
        Returns the size to cut crops at; asked in the worker, and only if crops are cut.

    Raises
    ------
    InputError
        If the folder holds a run already.
    """

    def __init__(
        self, data: LayerData, config: Config, folder: Path, crop_shape: Callable[[], Shape]
    ) -> None:
        self._data = data
        self._config = config
        self._crop_shape = crop_shape
        self.folder = folder.absolute()
        self.config_file = self.folder / "config.json"
        self._synapses_file = self.folder / "synapses.csv"
        self._run_file = self.folder / "run.json"
        self._cache: Path | None = None
        if any(f.exists() for f in (self._run_file, self._synapses_file, self.config_file)):
            raise InputError(f"{folder} holds a run already; choose another output folder")

    def write(self, control: Control) -> Iterator[Event]:
        """Write the inputs; broken off when the control says so.

        Raises
        ------
        InputError
            If they cannot be written, or the layers cannot be used.
        """
        values = self._config.model_dump(exclude_unset=True)
        values.setdefault("output", self.folder)
        values["synapses"] = self._synapses_file
        if self._data.voxel_size is not None:
            values.setdefault("voxel_size", self._data.voxel_size)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._data.table.to_csv(self._synapses_file, index=False)
        except OSError as error:
            raise InputError(f"cannot write to {self.folder}: {error.strerror}") from None
        image = reopened_file(self._data)
        if image is not None:
            values["image"] = image
        else:
            crops = self._streamed_crops()
            cache = cache_folder(crops, self._config.cache_dir or self.folder)
            values["crops"] = cache
            if self._config.cache_dir is None:
                self._cache = cache
            for n_done in fill_cache(crops, cache):
                yield Progress("cutting crops", n_done, len(crops))
                control.wait()
                if control.stopping:
                    return
        # Only what was set: the crop size of an extraction is else that of the training.
        settings = Config.from_values(values).model_dump(mode="json", exclude_unset=True)
        write_json(self.config_file, settings)

    def clean_up(self) -> None:
        """Remove what was written for a run that was never started."""
        if not self._run_file.exists():
            self.remove()

    def remove(self) -> None:
        """Remove what was written, and the folder if nothing else is in it."""
        self.config_file.unlink(missing_ok=True)
        self._synapses_file.unlink(missing_ok=True)
        if self._cache is not None:
            shutil.rmtree(self._cache, ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _streamed_crops(self) -> StreamedCrops:
        data = self._data
        positions = positions_inside(
            data.table,
            data.volume.shape,
            name="the points layer",
            voxel_size=data.voxel_size,
        )
        crops = StreamedCrops(data.volume, positions, self._crop_shape())
        size = cache_size(crops)
        if size > self._config.cache_limit:
            raise InputError(
                f"the crops take {size:.1f} GiB on the disk, and cache_limit is "
                f"{self._config.cache_limit:g} GiB; raise it, choose a smaller crop_size, or open "
                "the volume from a TIFF or Zarr file"
            )
        return crops


class ContinuedRun:
    """The inputs of a run that goes on: its own, with settings that may have changed.

    Parameters
    ----------
    folder
        The run folder.
    config
        All settings of the run.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder.absolute()
        self._config = config
        self._temporary = Path(tempfile.mkdtemp(prefix="synapse_cl_"))
        self.config_file = self._temporary / "config.json"

    def write(self, control: Control) -> Iterator[Event]:
        """Write the settings where they do not replace those of the run before it goes on."""
        write_json(self.config_file, self._config.as_json())
        yield from ()

    def clean_up(self) -> None:
        """Remove the settings; the run has its own."""
        shutil.rmtree(self._temporary, ignore_errors=True)

    def remove(self) -> None:
        """Remove the table that the window had written for the run."""
        table = self._config.synapses
        if table is not None and table.parent == self.folder:
            table.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
