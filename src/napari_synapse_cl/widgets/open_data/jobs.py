"""Open volumes, tables and labels for the viewer, away from its thread."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.config import Config, VolumeConfig, is_url
from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.formats.locations import METADATA
from napari_synapse_cl.data.intensity import Window, volume_window
from napari_synapse_cl.data.opening import entries_of, mapping_of, open_part
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.placing import Placed, place
from napari_synapse_cl.data.tables import open_table
from napari_synapse_cl.data.volumes import AlignedLabels, Volume, open_volume
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.system.words import triple
from napari_synapse_cl.widgets.jobs.job import Job

DATASET_FILES = (".json", ".yaml", ".yml")
LARGEST_IN_SIGHT = 512
"""Voxels along an axis; of a level so small no coarser one is needed to look at it."""
MOST_HALVINGS = 16
IN_SIGHT = 300
"""Voxels along an axis that are shown at first around a synapse, which is seen then."""
GAPS = 3
"""How many halvings in a row may bring no other level, before the last is taken to be found."""
CONTRAST = (0.5, 99.5)
"""Percentiles that become black and white."""
FOLDERS_OF_CHUNKS = (".zarr", ".n5")


@dataclass(frozen=True)
class Opened:
    """A volume with what belongs to it."""

    part: Part
    """The finest level, and labels."""
    levels: Sequence[Volume]
    """All levels, the finest first."""
    label_levels: Mapping[str, Sequence[Volume]]
    """Those of the labels, by "labels" and "segmentation"."""
    placed: Placed | None
    """The synapses, if a table was named."""
    window: Window
    """The grey values that are shown as black and white."""
    is_size_given: bool
    """Whether the voxel size is not that of the file, but was given."""
    sight: tuple[float, float, float]
    """What to show first, z, y, x in voxels: the first synapse inside, else the middle."""
    asked: Mapping[str, str | None]
    """What was asked for, by "image", "labels" and "segmentation"."""
    roles: tuple[str, ...] = ()
    """Which values in the labels of structures are what, as the setting has it."""


class OpenJob(Job):
    """Opens volumes; tells what is opened now, and at the end a list of :class:`Opened`.

    Parameters
    ----------
    what
        Names the volume and what belongs to it; settings of a run to name a dataset.
    """

    def __init__(self, what: VolumeConfig) -> None:
        self._what = what
        self._is_wanted = True

    def events(self) -> Iterator[Any]:
        """Yield sentences, and at last what was opened.

        Raises
        ------
        InputError
            If one of the volumes, tables or labels cannot be opened.
        JobError
            If voxels cannot be read.
        """
        try:
            opened = []
            for told in self._steps():
                if not self._is_wanted:
                    return
                if isinstance(told, Opened):
                    opened.append(told)
                else:
                    yield told
            yield opened
        except RuntimeError as error:
            # The worker would swallow it.
            raise JobError(str(error)) from error

    def end_soon(self) -> None:
        """End as soon as what is being opened has answered."""
        self._is_wanted = False

    def _steps(self) -> Iterator[str | Opened]:
        what = self._what
        entries = entries_of(what) if isinstance(what, Config) else {"": what}
        for name, entry in entries.items():
            yield from _open(entry, name)


def is_dataset(location: str) -> bool:
    """Whether a location is that of several volumes: a file that lists them, or their folder."""
    if is_url(location) or not location:
        return False
    path = Path(location)
    if path.suffix.lower() in DATASET_FILES:
        return True
    try:
        if path.suffix.lower() in FOLDERS_OF_CHUNKS or not path.is_dir():
            return False
        inner = [folder for folder in path.iterdir() if folder.is_dir()]
        holds_raw = any((folder / "raw").is_dir() for folder in (path, *inner))
        return holds_raw and not any((path / name).exists() for name in METADATA)
    except OSError:
        # What is wrong there is said when it is opened.
        return False


def levels_of(volume: Volume, location: str) -> list[Volume]:
    """Return all levels of a multiscale volume, the finest first.

    Parameters
    ----------
    volume
        Its finest level, or one that was named.
    location
        What was asked for. Where it names a level, that one is taken alone; so it is where voxel
        sizes are not known, by which levels are found.
    """
    levels = [volume]
    if volume.location == location or volume.voxel_size is None:
        return levels
    n_same = 0
    for n in range(1, MOST_HALVINGS):
        if max(levels[-1].shape) <= LARGEST_IN_SIGHT or n_same == GAPS:
            break
        try:
            coarser = open_volume(location, voxel_size=np.array(volume.voxel_size) * 2**n)
        except InputError:
            # A level of a single slice, or one that is listed and not there.
            break
        if coarser.location == levels[-1].location or not _is_below(coarser, levels[-1]):
            n_same += 1
            continue
        levels.append(coarser)
        n_same = 0
    return levels


def _is_below(coarse: Volume, fine: Volume) -> bool:
    return coarse.shape != fine.shape and all(
        a <= b for a, b in zip(coarse.shape, fine.shape, strict=True)
    )


def _open(entry: VolumeConfig, name: str) -> Iterator[str | Opened]:
    assert entry.image is not None
    called = name or entry.image
    yield f"Opening {called} …"
    part, finest = open_part(entry, None, name)
    placed = None
    if entry.synapses is not None:
        yield f"Reading {entry.synapses.name} …"
        table = open_table(entry.synapses, mapping_of(entry))
        placed = place(table, entry.synapses.name, part.volume, finest)
    yield f"Looking at {called} …"
    levels = levels_of(part.volume, entry.image)
    opened_labels: dict[str, AlignedLabels | None] = {
        "labels": part.labels,
        "segmentation": part.segmentation,
    }
    label_levels = {
        kind: levels_of(labels.volume, str(getattr(entry, kind)))
        for kind, labels in opened_labels.items()
        if labels is not None
    }
    sight = _sight(part.volume, placed)
    for volume in (levels[-1], *(several[-1] for several in label_levels.values())):
        read_first(volume, sight[0] / part.volume.shape[0])
    if placed is not None:
        _read_around(part.volume, sight)
    yield Opened(
        part,
        levels,
        label_levels,
        placed,
        _contrast(levels[-1]),
        is_size_given=entry.voxel_size is not None,
        sight=sight,
        asked={kind: getattr(entry, kind) for kind in ("image", *opened_labels)},
        roles=entry.roles,
    )


def _sight(volume: Volume, placed: Placed | None) -> tuple[float, float, float]:
    if placed is None:
        return triple([n // 2 for n in volume.shape])
    return triple(placed.voxels[np.argmax(placed.inside(volume))])


def read_first(volume: Volume, share: float) -> None:
    """Read what napari shows first, while the window is free.

    It looks at the first slice and at the middle one before it is told which to show.
    """
    n = volume.shape[0]
    for z in sorted({0, n // 2, int(share * n)}):
        np.asarray(volume.array[z : z + 1])


def _read_around(volume: Volume, sight: tuple[float, float, float]) -> None:
    """Read what napari shows of the finest level when it looks at a synapse."""
    z, *others = nearest_voxel(sight).astype(int).tolist()
    y, x = (slice(max(0, middle - IN_SIGHT), middle + IN_SIGHT) for middle in others)
    np.asarray(volume.array[z : z + 1, y, x])


def _contrast(volume: Volume) -> Window:
    if volume.array.dtype == np.uint8:
        return (0.0, 255.0)
    try:
        window = volume_window(volume, "percentiles", CONTRAST)
    except InputError:
        # One value throughout can be looked at all the same.
        window = None
    return window or (0.0, 1.0)
