"""The region that a map is wanted of: a volume and a box in it, where the command line finds it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Shapes

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.intensity import Intensity, to_unit_range, volume_window
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.features.maps.grid import Box, check_region, with_halo
from napari_synapse_cl.models.architecture import NetworkInfo
from napari_synapse_cl.runs.events import Control, Event, Progress
from napari_synapse_cl.system.files import create_array, write_json
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.widgets.layers.voxels import (
    location_of,
    reopened,
    volume_of,
    voxel_size_of,
    voxels_in,
)

SLAB = 32
"""Slices that are copied at once."""
COPIED_FLOAT = np.dtype(np.uint32)
"""Finer than float32 over most of the range, and as large."""


@dataclass(frozen=True)
class RegionData:
    """A volume and a box in it as they were in the viewer at one moment."""

    volume: Volume
    box: Box
    """The part of the region that lies in the volume."""
    voxel_size: tuple[float, float, float] | None
    location: str | None
    """As those of :class:`LayerData`."""


def take_region(image: Image | None, shapes: Shapes | None = None, depth: int = 1) -> RegionData:
    """Take an image layer, or the box around shapes that are drawn on it.

    Parameters
    ----------
    shapes
        The box is around the shapes that are selected in this layer, or around all if none are.
        None for the whole volume.
    depth
        How many voxels deep a box is along an axis on which the shapes have no extent.

    Raises
    ------
    InputError
        If the image is missing or not 3D grey values, there are no shapes, or they lie outside of
        it.
    """
    if image is None:
        raise InputError("there is no image layer: an Image layer with a 3D volume is needed")
    volume = volume_of(image)
    box = Box((0, 0, 0), volume.shape)
    if shapes is not None:
        box = check_region(_box_around(image, shapes, depth), volume.shape)
    return RegionData(volume, box, voxel_size_of(image), location_of(image))


def _box_around(image: Image, shapes: Shapes, depth: int) -> Box:
    if shapes.ndim != 3:
        raise InputError(
            f"the layer {shapes.name} holds {shapes.ndim}D shapes; draw a rectangle in a Shapes "
            "layer that was added while the volume was there"
        )
    chosen = sorted(shapes.selected_data) or range(len(shapes.data))
    if not len(chosen):
        raise InputError(f"the layer {shapes.name} holds no shapes: draw a rectangle around a part")
    corners = np.concatenate([np.asarray(shapes.data[i], dtype=float) for i in chosen])
    voxels = voxels_in(image, shapes, corners)
    low, high = nearest_voxel(voxels.min(axis=0)), nearest_voxel(voxels.max(axis=0)) + 1
    flat = high - low <= 1
    low = np.where(flat, low - (depth - 1) // 2, low).astype(int)
    high = np.where(flat, low + depth, high).astype(int)
    start, stop = low.tolist(), high.tolist()
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


class RegionInputs:
    """Settings of one job and, where no file holds the volume, a copy of the region.

    The copy holds as much around the region as the map depends on.

    Parameters
    ----------
    data
        The volume and the region.
    config
        The settings, but for image and region.
    folder
        A folder of this job alone; it is made when the inputs are written.
    network
        Returns what is known of the network; asked in the worker, and only if the region is copied.

    Attributes
    ----------
    config_file
        Settings for the command line, once they are written.
    corner
        First voxel of what the command line takes for the volume; known once they are written.
    intensities
        Values of the volume that become 0 and 1, if it was copied; known then too.
    """

    def __init__(
        self,
        data: RegionData,
        config: Config,
        folder: Path,
        network: Callable[[], NetworkInfo],
    ) -> None:
        self._data = data
        self._config = config
        self._network = network
        self.folder = folder.absolute()
        self.config_file = self.folder / "config.json"
        self._copy = self.folder / "region.npy"
        self.corner = (0, 0, 0)
        self.intensities: tuple[float, float] | None = None

    @property
    def volume_name(self) -> str:
        """Name of the volume."""
        return self._data.volume.name

    def write(self, control: Control) -> Iterator[Event]:
        """Write the inputs; broken off when the control says so.

        Raises
        ------
        InputError
            If they cannot be written, or the layer cannot be used.
        """
        values = self._config.model_dump(exclude_unset=True)
        size, box = self._data.voxel_size, self._data.box
        found = reopened(self._data.location, self._data.volume)
        factor = (1, 1, 1) if found is None else tuple(round(f) for f in found.factor)
        if found is not None and not np.allclose(factor, found.factor):
            # A box of such a level has no whole corners in the finest.
            found, factor = None, (1, 1, 1)
        if size is not None:
            values.setdefault("voxel_size", tuple(np.array(size) / factor))
            # The level that the layer shows, whatever the network was trained on.
            values["network_voxel_size"] = size
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if found is None:
                network = self._network()
                layers = [network.architecture.check_layer(i) for i in self._config.layer_num]
                around = with_halo(box, layers, self._data.volume.shape)
                values |= yield from self._copy_voxels(around, network, control)
                if control.stopping:
                    return
                self.corner = around.start
                box = box.seen_from(around.start)
            else:
                values["image"] = self._data.location
            along = zip((*box.start, *box.stop), (*factor, *factor), strict=True)
            values["region"] = tuple(n * f for n, f in along)
            # What is copied was held to it here.
            values.pop("cache_limit", None)
            settings = Config.from_values(values).model_dump(mode="json", exclude_unset=True)
            write_json(self.config_file, settings)
        except OSError as error:
            raise InputError(
                f"cannot write to {self.folder}: {reason(error)}; choose another output folder"
            ) from None

    def clean_up(self) -> None:
        """Remove the copy; the settings go with the folder."""
        self._copy.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove what was written."""
        self.clean_up()
        self.config_file.unlink(missing_ok=True)

    def _copy_voxels(
        self, box: Box, network: NetworkInfo, control: Control
    ) -> Generator[Event, None, dict[str, Any]]:
        """Copy a box of the volume; return the settings with which the copy is read.

        Values of floating types become integers, over the range of their type as the values of the
        whole volume are mapped, and so do others that are mapped by percentiles: of the copy alone
        the command line would not know what is black and white.
        """
        volume = self._data.volume
        seen = {**network.crop_settings, **self._config.model_dump(exclude_unset=True)}
        intensity = seen.get("intensity", self._config.intensity)
        is_mapped = volume.array.dtype.kind == "f" or intensity == "percentiles"
        dtype = COPIED_FLOAT if is_mapped else volume.array.dtype
        size = float(np.prod(box.shape)) * dtype.itemsize / GIB
        if size > self._config.cache_limit:
            raise InputError(
                f"a copy of the region takes {size:.1f} GiB on the disk, and cache_limit is "
                f"{self._config.cache_limit:g} GiB; raise it, choose a smaller region, or open "
                "the volume from a TIFF or Zarr file"
            )
        percentiles = seen.get("percentiles", self._config.percentiles)
        # A network that saw crops by themselves is refused by what reads the copy.
        mapping: Intensity = "percentiles" if intensity == "percentiles" else "range"
        self.intensities = volume_window(volume, mapping, percentiles)
        intensities = self.intensities if is_mapped else None
        copy = create_array(self._copy, box.shape, dtype)
        z, y, x = box.slices
        try:
            for first in range(z.start, z.stop, SLAB):
                last = min(first + SLAB, z.stop)
                slab = np.asarray(volume.array[first:last, y, x])
                if intensities is not None:
                    _check_finite(slab, (first, y.start, x.start), volume.name)
                    slab = to_unit_range(slab, intensities)
                for i, values in enumerate(slab, start=first - z.start):
                    copy[i] = values if intensities is None else _as_integers(values)
                yield Progress("copying the region", last - z.start, box.shape[0])
                control.wait()
                if control.stopping:
                    return {}
            copy.flush()
        finally:
            # Windows removes no file that is mapped, and an error keeps what its functions hold.
            del copy
        read: dict[str, Any] = {"image": self._copy}
        return {**read, "intensity": "range"} if intensity == "percentiles" else read


def _check_finite(voxels: np.ndarray, start: Sequence[int], name: str) -> None:
    """Refuse what integers cannot hold, where the place is known that the person sees."""
    finite = np.isfinite(voxels)
    if not finite.all():
        found = np.argwhere(~finite)[0] + start
        raise InputError(
            f"{name} holds values that are not finite (NaN or infinite), one at z, y, x = "
            f"{', '.join(map(str, found))}, on which features of the region may depend; replace "
            "them, or choose a region farther from them"
        )


def _as_integers(unit: np.ndarray) -> np.ndarray:
    """Return values from 0 to 1 as integers over the whole range of their type."""
    scaled = np.multiply(unit, np.iinfo(COPIED_FLOAT).max, dtype=np.float64)
    return np.rint(scaled).astype(COPIED_FLOAT)
