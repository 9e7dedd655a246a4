"""Open what the settings name: volumes with their labels, and the tables of their synapses.

A dataset of several volumes is a file that lists them, or the folders of published boxes.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from napari_synapse_cl.config import Config, VolumeConfig, is_url, values_by_role
from napari_synapse_cl.data.crops.cache import CachedCrops
from napari_synapse_cl.data.crops.sources import crop_settings
from napari_synapse_cl.data.dataset import Dataset, assemble
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.placing import place
from napari_synapse_cl.data.tables import Mapping, open_table
from napari_synapse_cl.data.volumes import AlignedLabels, Volume, aligned, open_volume
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.system.files import read_json, read_yaml
from napari_synapse_cl.system.words import VoxelSize, natural, shown, size, triple

FILES = ("image", "synapses", "labels", "segmentation")
TABLES = (".xlsx", ".xlsm", ".csv", ".tsv", ".parquet")
NAME = "name"
_MOST_BOXES = ("cleft=7", "vesicles=6", "mitochondria=5")
PUBLISHED_ROLES: dict[str, tuple[str, ...]] = {
    "bbox1": _MOST_BOXES,
    "bbox2": ("cleft=2,4", "vesicles=3", "mitochondria=1"),
    "bbox3": ("cleft=8,9", "vesicles=7", "mitochondria=6"),
    "bbox4": ("cleft=1,4", "vesicles=2", "mitochondria=3"),
    "bbox5": ("cleft=2,4", "vesicles=3", "mitochondria=1"),
    "bbox6": _MOST_BOXES,
    "bbox7": ("cleft=3,4", "vesicles=2", "mitochondria=1"),
}
"""Label values in the masks that are published with SynapseClusterEM
(https://github.com/alim98/SynapseClusterEM, dataloader of its package ``newdl``)."""


def read_entries(path: Path) -> dict[str, VolumeConfig]:
    """Return the volumes of a dataset by their names.

    Parameters
    ----------
    path
        A JSON or YAML file with a list ``volumes``, whose paths are relative to it, or a folder
        that holds ``raw/NAME``, a table ``NAME.xlsx`` and, where there are any, ``seg/NAME`` and
        one more folder with ``NAME`` or ``NAME`` with an underscore before its number.

    Raises
    ------
    InputError
        If there is no such dataset, or it cannot be understood.
    """
    if path.is_dir():
        return _of_folders(path)
    if not path.exists():
        raise InputError(f"there is no dataset {path}")
    try:
        content = read_json(path) if path.suffix.lower() == ".json" else read_yaml(path)
    except OSError as error:
        raise InputError(f"cannot read the dataset {path}: {reason(error)}") from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON or YAML file of a dataset: {error}") from None
    listed = content.get("volumes") if isinstance(content, dict) else content
    if not isinstance(listed, list) or not listed:
        raise InputError(
            f"{path} is no dataset: a list “volumes” is needed, each with image and synapses"
        )
    entries: dict[str, VolumeConfig] = {}
    for number, values in enumerate(listed, start=1):
        where = f"volume {number} in {path}"
        if not isinstance(values, dict):
            raise InputError(f"{where} is no group of settings")
        name = values.get(NAME, f"volume {number}")
        if not isinstance(name, str | int | float):
            raise InputError(f"{where} has a name that is no text")
        name = str(name)
        if name in entries:
            raise InputError(f"{path} has two volumes called {name}")
        entries[name] = _entry(values, path.parent, where)
    return entries


def _entry(values: dict[str, Any], folder: Path, where: str) -> VolumeConfig:
    settings = {key: value for key, value in values.items() if key != NAME}
    for key in FILES:
        location = settings.get(key)
        if isinstance(location, str) and not is_url(location):
            settings[key] = str(folder / location)
    try:
        entry = VolumeConfig.model_validate(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"][:1])
        if problem["type"] == "extra_forbidden":
            raise InputError(f"{where}: there is no setting called {name}") from None
        why = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {name} cannot be {shown(problem['input'])}: {why}") from None
    for key in ("image", "synapses"):
        if getattr(entry, key) is None:
            raise InputError(f"{where} names no {key}")
    return entry


def _of_folders(folder: Path) -> dict[str, VolumeConfig]:
    """Return the volumes of a folder with ``raw``, ``seg``, tables and a folder of masks."""
    inner = [f for f in sorted(folder.iterdir()) if (f / "raw").is_dir()]
    base = inner[0] if not (folder / "raw").is_dir() and len(inner) == 1 else folder
    raw = base / "raw"
    names = [f.name for f in raw.iterdir() if f.is_dir()] if raw.is_dir() else []
    # Without volumes this may be any folder, and large.
    files = sorted(base.rglob("*")) if names else []
    tables = {f.stem: f for f in files if f.suffix.lower() in TABLES}
    found = sorted((name for name in names if name in tables), key=natural)
    if not found:
        raise InputError(
            f"{folder} is no dataset: folders raw/NAME with the slices of a volume and tables "
            "NAME.xlsx with its synapses were expected"
            + (f", and there is no table for {', '.join(sorted(names))}" if names else "")
        )
    entries = {}
    for name in found:
        segmentation, labels = base / "seg" / name, _masks(base, name)
        entries[name] = VolumeConfig(
            image=str(raw / name),
            synapses=tables[name],
            segmentation=str(segmentation) if segmentation.is_dir() else None,
            labels=None if labels is None else str(labels),
        )
        if labels is not None and name in PUBLISHED_ROLES:
            entries[name] = entries[name].model_copy(update={"roles": PUBLISHED_ROLES[name]})
    return entries


def _masks(base: Path, name: str) -> Path | None:
    """Return the folder of masks for a volume: in a folder beside ``raw``, or beside the base."""
    spellings = (name, re.sub(r"(\d+)$", r"_\1", name))
    found = [
        place / spelling
        for around in (base, base.parent)
        for place in sorted(around.iterdir())
        if place.is_dir() and place != base and place.name not in ("raw", "seg")
        for spelling in dict.fromkeys(spellings)
        if (place / spelling).is_dir()
    ]
    if len(found) > 1:
        raise InputError(
            f"{base} has several folders of masks for {name}: {', '.join(map(str, found))}; "
            "list the volumes in a dataset file, with the labels of each"
        )
    return found[0] if found else None


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
    parts, placed = [], []
    for entry, part, finest in _opened_parts(config, network_size):
        assert entry.synapses is not None
        parts.append(part)
        table = open_table(entry.synapses, mapping_of(entry))
        placed.append(place(table, str(entry.synapses), part.volume, finest))
        # Of very many rows it is not held beside what comes of it.
        del table
    return assemble(parts, placed, config, network_size)


def open_parts(config: Config, network_size: VoxelSize | None = None) -> list[Part]:
    """Open the volumes of :func:`open_dataset` as it does, and read no table.

    Raises
    ------
    InputError
        If one of them cannot be read.
    """
    if config.dataset is None and config.synapses is None:
        return list(_sample_dataset(config, network_size).parts)
    return [part for _, part, _ in _opened_parts(config, network_size)]


def _opened_parts(
    config: Config, network_size: VoxelSize | None
) -> Iterator[tuple[VolumeConfig, Part, VoxelSize | None]]:
    wanted = config.network_voxel_size or network_size
    for name, entry in entries_of(config).items():
        part, finest = open_part(entry, wanted, name)
        # A run that is gone on with knows this size from the beginning, and takes the same levels.
        wanted = wanted or part.voxel_size
        yield entry, part, finest


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
            volume = open_volume(entry.image, voxel_size=triple(np.array(wanted) * share))
    factor = np.array(volume.factor)
    finest: VoxelSize | None = None
    voxel_size: VoxelSize | None = None
    if entry.voxel_size is not None:
        finest, voxel_size = entry.voxel_size, triple(np.array(entry.voxel_size) * factor)
    elif volume.voxel_size is not None:
        voxel_size = volume.voxel_size
        finest = triple(np.array(voxel_size) / factor)

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
