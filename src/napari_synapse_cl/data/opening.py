"""Open what the settings name: volumes with their labels, and the tables of their synapses."""

import numpy as np

from napari_synapse_cl.config import Config, VolumeConfig, values_by_role
from napari_synapse_cl.data.crops.cache import CachedCrops
from napari_synapse_cl.data.crops.identity import crop_settings
from napari_synapse_cl.data.dataset import Dataset, assemble
from napari_synapse_cl.data.dataset_files import read_entries
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.placing import place
from napari_synapse_cl.data.tables import Mapping, open_table
from napari_synapse_cl.data.volumes import AlignedLabels, Volume, aligned, open_volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import VoxelSize, size


def open_dataset(config: Config, network_size: VoxelSize | None = None) -> Dataset:
    """Open the volumes and tables that the settings name, or else the sample volume.

    Parameters
    ----------
    network_size
        Voxel size along z, y, x in nm that crops are resampled to where the settings name none and
        that of the images is known.

    Raises
    ------
    InputError
        If one of them cannot be read, positions seem to be written otherwise, or none lies inside.
    """
    if config.crops is not None:
        return _open_crops(config)
    if config.dataset is None and config.synapses is None:
        return _sample_dataset(config, network_size)
    wanted = config.network_voxel_size or network_size
    parts, placed = [], []
    for name, entry in entries_of(config).items():
        part, finest = open_part(entry, wanted, name)
        # A run that is gone on with knows this size from the beginning, and takes the same levels.
        wanted = wanted or part.voxel_size
        assert entry.synapses is not None
        table = open_table(entry.synapses, mapping_of(entry))
        parts.append(part)
        placed.append(place(table, str(entry.synapses), part.volume, finest))
    return assemble(parts, placed, config, network_size)


def open_image(config: Config, network_size: VoxelSize | None = None) -> Part:
    """Open the volume that the settings name, or else the sample volume, without synapses.

    Parameters
    ----------
    network_size
        Voxel size along z, y, x in nm by which the level of a multiscale volume is chosen, where
        the settings name none.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if config.image is None:
        return _sample_dataset(config, None).parts[0]
    return open_part(config, config.network_voxel_size or network_size, "")[0]


def open_part(
    entry: VolumeConfig, wanted: VoxelSize | None, name: str
) -> tuple[Part, VoxelSize | None]:
    """Open one volume with its labels.

    Parameters
    ----------
    entry
        Names them.
    wanted
        Voxel size along z, y, x in nm by which the level of multiscale volumes is chosen.
    name
        How the volume is called in its dataset.

    Returns
    -------
    part
        The volume.
    finest
        Voxel size of its finest level along z, y, x in nm, or None where it is not known.
    """
    assert entry.image is not None
    volume = open_volume(entry.image, voxel_size=wanted)
    if entry.voxel_size is not None and wanted is not None and volume.voxel_size is not None:
        # Levels are told apart by the sizes in the file, which are wrong by this share.
        told = np.array(volume.voxel_size) / np.array(volume.factor)
        share = told / np.array(entry.voxel_size)
        if not np.allclose(share, 1):
            volume = open_volume(entry.image, voxel_size=_triple(np.array(wanted) * share))
    factor = np.array(volume.factor)
    finest: VoxelSize | None = None
    voxel_size: VoxelSize | None = None
    if entry.voxel_size is not None:
        finest, voxel_size = entry.voxel_size, _triple(np.array(entry.voxel_size) * factor)
    elif volume.voxel_size is not None:
        voxel_size = volume.voxel_size
        finest = _triple(np.array(voxel_size) / factor)

    def labels(location: str | None) -> AlignedLabels | None:
        if location is None:
            return None
        opened = open_volume(location, voxel_size=voxel_size, are_labels=True)
        return aligned(opened, volume, opened.voxel_size, voxel_size)

    part = Part(
        volume=volume,
        voxel_size=voxel_size,
        labels=labels(entry.labels),
        segmentation=labels(entry.segmentation),
        roles=values_by_role(entry.roles),
        name=name or volume.name,
    )
    return part, finest


def mapping_of(entry: VolumeConfig) -> Mapping:
    """Return how the settings say that positions are written."""
    return Mapping(entry.position_columns, entry.position_unit, entry.position_voxel_size)


def entries_of(config: Config) -> dict[str, VolumeConfig]:
    """Return the volumes by name; what one does not say of itself the settings say for all."""
    if config.dataset is None:
        return {"": config}
    shared = {
        name: getattr(config, name)
        for name, field in VolumeConfig.model_fields.items()
        # A run's settings name all of them.
        if name in config.model_fields_set and getattr(config, name) != field.default
    }
    entries = {
        name: entry.model_dump(exclude_unset=True)
        for name, entry in read_entries(config.dataset).items()
    }
    # What was told of one volume in a file is meant; what folders are taken to be is a guess.
    guessed = config.dataset.is_dir()
    return {
        name: VolumeConfig.model_validate({**entry, **shared} if guessed else {**shared, **entry})
        for name, entry in entries.items()
    }


def _open_crops(config: Config) -> Dataset:
    assert config.crops is not None
    assert config.synapses is not None
    table = open_table(config.synapses, mapping_of(config))
    crops = CachedCrops(config.crops)
    if len(table.table) != crops.n_rows:
        raise InputError(
            f"{config.crops} holds crops of a table of {crops.n_rows} synapses, and "
            f"{config.synapses} has {len(table.table)}"
        )
    asked = crop_settings(config)
    for name, value in crops.settings.items():
        if name in config.model_fields_set and asked.get(name) != value:
            raise InputError(
                f"the crops in {config.crops} were cut with {name} {value}, which cannot become "
                f"{asked.get(name)}; cut them anew from the image"
            )
    voxel_size = crops.voxel_size or config.voxel_size
    wanted = config.network_voxel_size
    if wanted is not None and voxel_size is not None and not np.allclose(wanted, voxel_size, 1e-3):
        raise InputError(
            f"the crops in {config.crops} have voxels of {size(voxel_size)} nm, and "
            f"network_voxel_size is {size(wanted)} nm; cut them anew from the image"
        )
    name = config.crops.name
    return Dataset(table.table, crops.positions, (), crops, voxel_size, name)


def _sample_dataset(config: Config, network_size: VoxelSize | None) -> Dataset:
    # Making shapes takes SciPy's slower parts, which other datasets have no use for.
    from napari_synapse_cl.data.sample.volume import make_sample
    from napari_synapse_cl.data.tables import interpret

    sample = make_sample()
    part = Part(Volume(sample.image, name="the sample volume"), sample.voxel_size, name="sample")
    name = "the sample's table"
    table = interpret(sample.synapses, name)
    placed = place(table, name, part.volume, sample.voxel_size)
    return assemble([part], [placed], config, network_size)


def _triple(lengths: np.ndarray) -> VoxelSize:
    z, y, x = lengths.tolist()
    return (z, y, x)
