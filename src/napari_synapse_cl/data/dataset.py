"""What a run works on: the synapses of one or several volumes, and the crops around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_synapse_cl.augmentations.transforms import (
    check_voxel_size,
    context_settings,
    context_shape,
    with_jitter_room,
)
from napari_synapse_cl.config import Config, CropConfig
from napari_synapse_cl.data import pd
from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.crops.cache import CachedCrops
from napari_synapse_cl.data.crops.sources import StreamedCrops
from napari_synapse_cl.data.intensity import contrast_warning
from napari_synapse_cl.data.parts import Part, Positions
from napari_synapse_cl.data.placing import Placed, centred
from napari_synapse_cl.data.tables.typed import joined
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.system.words import VoxelSize, counted, size, triple

VOLUME_COLUMN = "volume"
SEGMENTATION = "segmentation"
"""In place of the name of a column, it is the segmentation that tells the cell of a synapse."""

LARGEST_VOXEL = 10_000
"""In nm, as the settings have it; what a file tells may be anything."""


def _join(
    parts: Sequence[Part],
    placed: Sequence[Placed],
    config: Config,
    voxel_size: VoxelSize | None,
) -> tuple[Positions, list[tuple[str, Level]]]:
    """Return the synapses of all volumes that lie inside, and what to tell of them.

    They are centred as the settings say, for crops of this voxel size in nm.
    """
    messages = [message for one in placed for message in one.messages]
    voxels, rows, volumes, n_outside, n_beyond = [], [], [], 0, 0
    partners: dict[str, list[np.ndarray]] = {name: [] for one in placed for name in one.partners}
    first_row = 0
    for number, (part, one) in enumerate(zip(parts, placed, strict=True)):
        inside = one.inside(part.volume)
        n_outside += int((np.isfinite(one.voxels).all(axis=1) & ~inside).sum())
        places = centred(part, one, config, voxel_size)
        if config.borders == "exclude":
            reaching = ~part.holds_crops(places, config.crop_size, voxel_size)
            n_beyond += int((reaching & inside).sum())
            inside &= ~reaching
        chosen = np.flatnonzero(inside)
        voxels.append(nearest_voxel(places[chosen]).astype(np.int64))
        rows.append(chosen + first_row)
        volumes.append(np.full(len(chosen), number))
        for name, arrays in partners.items():
            arrays.append(one.partners.get(name, np.full_like(one.voxels, np.nan))[chosen])
        first_row += len(one.table)
    if n_beyond:
        messages.append(
            (f"{counted(n_beyond, 'synapse')} left out, whose crops reach outside", "warning")
        )
    positions = Positions(
        np.concatenate(voxels),
        np.concatenate(rows),
        n_outside,
        np.concatenate(volumes) if len(parts) > 1 else None,
        {name: np.concatenate(arrays) for name, arrays in partners.items()},
    )
    if not len(positions.voxels):
        raise InputError(
            "every crop reaches outside its volume, so none is left: choose other borders than "
            "exclude, or a smaller crop_size"
        )
    n_double = int((~positions.is_first).sum())
    if n_double:
        verb = "lies" if n_double == 1 else "lie"
        messages.append(
            (
                f"{counted(n_double, 'synapse')} {verb} in the same voxel as another: each voxel "
                "is trained on once, and all get features",
                "warning",
            )
        )
    return positions, messages


def _joined_table(parts: Sequence[Part], placed: Sequence[Placed]) -> pd.DataFrame:
    if len(parts) == 1:
        return placed[0].table
    tables = []
    for part, one in zip(parts, placed, strict=True):
        table = one.table
        name = VOLUME_COLUMN if VOLUME_COLUMN not in table.columns else f"{VOLUME_COLUMN}_name"
        tables.append(table.assign(**{name: part.name}))
    return joined(tables)


@dataclass(frozen=True)
class Dataset:
    """Synapses and where their crops come from."""

    table: pd.DataFrame
    """M synapses with columns z, y, x in voxels and any others; of several volumes those of one
    after the other, with a column that names the volume."""
    positions: Positions
    """Those that lie inside."""
    parts: tuple[Part, ...]
    """The volumes to cut crops from; none where the crops were cut already."""
    crops: CachedCrops | None
    """Crops that were cut already."""
    known_voxel_size: VoxelSize | None
    """Voxel size of the crops along z, y, x in nm, or None where it is not known."""
    name: str
    """How to call it in messages."""
    messages: tuple[tuple[str, Level], ...] = ()
    """What to tell of how the data were read."""

    @property
    def image_sizes(self) -> list[VoxelSize]:
        """Voxel size of each volume along z, y, x in nm, in which positions count."""
        if self.parts:
            return [part.voxel_size or (1.0, 1.0, 1.0) for part in self.parts]
        if self.crops is not None and self.crops.image_sizes:
            return list(self.crops.image_sizes)
        volumes = self.positions.volumes
        return [self.voxel_size] * (1 if volumes is None else int(volumes.max()) + 1)

    @property
    def voxel_size(self) -> VoxelSize:
        """Voxel size of the crops along z, y, x in nm; cubes of 1 where it is not known."""
        return self.known_voxel_size or (1.0, 1.0, 1.0)

    @property
    def places(self) -> np.ndarray:
        """``(N, 3)`` int64, positions in voxels of the crops; those of other volumes are far apart.

        By these it is told which crops overlap.
        """
        volumes = self.positions.volumes
        sizes = np.array(self.image_sizes)[0 if volumes is None else volumes]
        voxels = nearest_voxel(self.positions.voxels * (sizes / np.array(self.voxel_size)))
        return self.positions._replace(voxels=voxels.astype(np.int64)).apart

    def reach(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the size of a crop along z, y, x in voxels that positions count in.

        Of volumes of several voxel sizes it is the largest.

        Parameters
        ----------
        shape
            Its size in its own voxels.
        """
        ratios = np.array(self.voxel_size) / np.array(self.image_sizes)
        return triple(np.ceil(ratios.max(axis=0) * shape - 1e-3).astype(int).tolist())

    def context(self, config: Config) -> tuple[int, int, int]:
        """Return the size along z, y, x of crops that augmented views are made from.

        Where layers are compared there is room for moving the centre too.

        Raises
        ------
        InputError
            If augmentations count in nm, and the voxel size is not known.
        """
        check_voxel_size(config, self.known_voxel_size, self.name)
        shape = context_shape(config.crop_size, config, self.voxel_size)
        reach = self.centre_jitter(config)
        return with_jitter_room(shape, config.crop_size, reach, self.voxel_size)

    def centre_jitter(self, config: Config) -> float:
        """Return how far centres are moved where layers are compared, in nm; else 0.

        It is 0 too where the voxel size is not known.
        """
        is_wanted = config.compare_layers and self.known_voxel_size is not None
        return config.centre_jitter if is_wanted else 0.0

    def cells(self) -> list[int]:
        """Return the value of the segmentation at each of N positions, 0 for no cell.

        Raises
        ------
        InputError
            If a volume has no segmentation, or crops were cut already.
        """
        volumes = self.positions.volumes
        found = []
        for synapse, voxel in enumerate(self.positions.voxels):
            number = 0 if volumes is None else int(volumes[synapse])
            labels = self.parts[number].segmentation if self.parts else None
            if labels is None:
                raise InputError(
                    "cell_column is segmentation, and there is none to read: name it as "
                    "segmentation, beside a volume that is cut here, or name a column of the table"
                )
            found.append(labels.at(voxel))
        return found

    def streamed(self, config: CropConfig, shape: tuple[int, int, int]) -> StreamedCrops:
        """Return what cuts crops of this size from the volumes.

        Raises
        ------
        InputError
            If they cannot be cut as the settings say.
        """
        return StreamedCrops(self.parts, self.positions, config, shape, self.known_voxel_size)

    def n_reaching_outside(self, crop_size: tuple[int, int, int]) -> int:
        """Return how many synapses have a crop of this size that reaches outside its volume.

        Of crops that were cut already that is not known any more, and none are counted.
        """
        positions, n = self.positions, 0
        for number, part in enumerate(self.parts):
            voxels = positions.voxels
            if positions.volumes is not None:
                voxels = voxels[positions.volumes == number]
            n += int((~part.holds_crops(voxels, crop_size, self.known_voxel_size)).sum())
        return n

    def crop_source(
        self, config: Config, shape: tuple[int, int, int]
    ) -> CachedCrops | StreamedCrops:
        """Return where crops of this size come from; those that were cut already may be larger.

        Raises
        ------
        InputError
            If crops were cut smaller or otherwise, or cannot be cut as the settings say.
        """
        if self.crops is None:
            return self.streamed(config, shape)
        have, want = np.array(self.crops.shape), np.array(shape)
        if (have < want).any() or ((have - want) % 2).any():
            more = context_settings(config) if shape != config.crop_size else []
            more += ["centre_jitter"] if self.centre_jitter(config) else []
            names = " or ".join(["crop_size", *more])
            raise InputError(
                f"the crops in {self.name} are {size(self.crops.shape)} voxels large, and these "
                f"settings need {size(shape)}; cut them anew from the image, or choose a smaller "
                f"{names}"
            )
        return self.crops


def assemble(
    parts: Sequence[Part],
    placed: Sequence[Placed],
    config: Config,
    network_size: VoxelSize | None = None,
) -> Dataset:
    """Make a dataset of volumes and the synapses that were placed in each.

    Parameters
    ----------
    parts, placed
        The volumes and their synapses.
    network_size
        As :func:`open_dataset` takes it.

    Raises
    ------
    InputError
        If crops are to be resampled and a voxel size is not known, or no synapse is left.
    """
    voxel_size, messages = _crop_voxel_size(parts, config, network_size)
    messages += [message for part in parts for message in part.messages]
    if config.intensity == "range":
        found = (contrast_warning(part.volume) for part in parts)
        messages += [(text, "warning") for text in found if text]
    positions, told = _join(parts, placed, config, voxel_size)
    names = [part.volume.name for part in parts]
    return Dataset(
        table=_joined_table(parts, placed),
        positions=positions,
        parts=tuple(parts),
        crops=None,
        known_voxel_size=voxel_size,
        name=names[0] if len(names) == 1 else f"the dataset of {len(names)} volumes",
        messages=(*told, *messages),
    )


def _crop_voxel_size(
    parts: Sequence[Part], config: Config, network_size: VoxelSize | None
) -> tuple[VoxelSize | None, list[tuple[str, Level]]]:
    """Return the voxel size that all crops get, None where that of the images is not known."""
    unknown = [part.volume.name for part in parts if part.voxel_size is None]
    sizes = [part.voxel_size for part in parts if part.voxel_size is not None]
    if unknown:
        if config.network_voxel_size is not None or sizes:
            raise InputError(
                f"the voxel size of {unknown[0]} is not known, so its crops cannot be brought to "
                "the size of the others; give it as voxel_size"
                if sizes
                else f"the voxel size of {unknown[0]} is not known, so crops of it cannot be "
                "resampled to network_voxel_size; give it with --voxel_size"
            )
        return None, []
    for part in parts:
        if part.voxel_size is not None and max(part.voxel_size) > LARGEST_VOXEL:
            raise InputError(
                f"{part.volume.name} has voxels of {size(part.voxel_size)} nm, and up to "
                f"{LARGEST_VOXEL:,} nm can be used; give the right size as voxel_size"
            )
    wanted = config.network_voxel_size or network_size or sizes[0]
    resampled = [s for s in sizes if not np.allclose(s, wanted, rtol=1e-3)]
    if not resampled:
        return wanted, []
    found = ", ".join(dict.fromkeys(size(s) for s in resampled))
    return wanted, [(f"crops are resampled from voxels of {found} nm to {size(wanted)} nm", "info")]
