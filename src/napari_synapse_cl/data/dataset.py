"""What a run works on: a table of synapses, and the volume or the crops they are in."""

from dataclasses import dataclass

import pandas as pd

from napari_synapse_cl.config import DataConfig
from napari_synapse_cl.data.crops import CachedCrops
from napari_synapse_cl.data.synapses import Positions, positions_inside, read_synapses
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError


@dataclass(frozen=True)
class Dataset:
    """Synapses and where their crops come from.

    Attributes
    ----------
    table
        M synapses with columns z, y, x in voxels and any others.
    positions
        Those that lie inside the volume.
    source
        The volume to cut crops from, or crops that were cut already.
    known_voxel_size
        Voxel size along z, y, x in nm, or None where it is not known.
    name
        How to call it in messages.
    """

    table: pd.DataFrame
    positions: Positions
    source: Volume | CachedCrops
    known_voxel_size: tuple[float, float, float] | None
    name: str

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Voxel size along z, y, x in nm; cubes of 1 where it is not known."""
        return self.known_voxel_size or (1.0, 1.0, 1.0)


def open_dataset(config: DataConfig) -> Dataset:
    """Open the volume and the table that the settings name, or else the sample volume.

    Raises
    ------
    InputError
        If one of them cannot be read, or no position lies inside the volume.
    """
    if config.synapses is None:
        return _open_sample()
    table = read_synapses(config.synapses)
    voxel_size = config.voxel_size
    if config.crops is not None:
        crops = CachedCrops(config.crops)
        if len(table) != len(crops) + crops.positions.n_outside:
            raise InputError(
                f"{config.crops} holds crops of a table of "
                f"{len(crops) + crops.positions.n_outside} synapses, and {config.synapses} has "
                f"{len(table)}"
            )
        return Dataset(table, crops.positions, crops, voxel_size, config.crops.name)
    assert config.image is not None
    volume = open_volume(config.image)
    positions = positions_inside(
        table, volume.shape, name=str(config.synapses), voxel_size=config.voxel_size
    )
    return Dataset(table, positions, volume, voxel_size, volume.name)


def open_image(config: DataConfig) -> tuple[Volume, tuple[float, float, float] | None]:
    """Open the volume that the settings name, or else the sample volume, without synapses.

    Returns
    -------
    volume
        The volume.
    voxel_size
        Along z, y, x in nm, or None where it is not known.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if config.image is None:
        sample = _open_sample()
        assert isinstance(sample.source, Volume)
        return sample.source, sample.known_voxel_size
    return open_volume(config.image), config.voxel_size


def _open_sample() -> Dataset:
    # Making shapes takes SciPy's slower parts, which other datasets have no use for.
    from napari_synapse_cl.data.sample import make_sample

    sample = make_sample()
    volume = Volume(sample.image, name="the sample volume")
    positions = positions_inside(sample.synapses, volume.shape)
    return Dataset(sample.synapses, positions, volume, sample.voxel_size, volume.name)
