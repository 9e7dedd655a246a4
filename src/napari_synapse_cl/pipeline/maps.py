"""Extract the map of each layer over a region of a volume."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any

import torch

from napari_synapse_cl.config import Config, DeviceConfig, ExtractionConfig
from napari_synapse_cl.data.crops.recipes import EVERYTHING
from napari_synapse_cl.data.intensity import inverted, volume_window
from napari_synapse_cl.data.opening import open_image
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.maps.extraction import extract_maps
from napari_synapse_cl.features.maps.grid import Box, MapGrid, check_region
from napari_synapse_cl.features.maps.store import MapStore
from napari_synapse_cl.models.architecture import Architecture, Layer
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.pipeline.extraction_preparation import (
    open_chosen_network,
    reading_precision,
    voxel_size_warnings,
)
from napari_synapse_cl.pipeline.networks import OpenedNetwork
from napari_synapse_cl.pipeline.provenance import make_record
from napari_synapse_cl.runs.events import Control, Event, Growing, Message, Progress, Wrote
from napari_synapse_cl.runs.folder import RunFolder, default_folder
from napari_synapse_cl.system.devices import choose_device
from napari_synapse_cl.system.words import size


@dataclass(frozen=True)
class DenseJob:
    """An extraction of maps that can begin."""

    config: Config
    folder: RunFolder
    target: Path
    network: Vgg3D
    architecture: Architecture
    layers: list[Layer]
    volume: Volume
    voxel_size: tuple[float, float, float] | None
    intensities: tuple[float, float]
    region: Box
    grids: dict[int, MapGrid]
    device: torch.device
    precision: str
    record: dict[str, Any]
    """Where the maps come from."""
    warnings: list[str]
    """What to tell before it begins."""


def extract_dense(config: Config, control: Control) -> Iterator[Event]:
    """Extract maps into a Zarr group, and paint each in colours."""
    job = prepare_maps(config)
    for text in job.warnings:
        yield Message(text, "warning")
    with MapStore(
        job.target,
        job.layers,
        job.grids,
        voxel_size=job.voxel_size,
        provenance=job.record,
        overwrite=config.overwrite,
    ) as store:
        yield Growing("maps", str(store.folder), [])
        yield from _extract(job, store, control)
        if not store.is_whole and not config.keep_partial:
            yield Message("the extraction was ended before it was complete, so nothing is kept")
            return
        yield from paint_maps(store.folder, job.layers)
        store.finish()
    yield Wrote("maps", str(job.target))


def prepare_maps(config: Config) -> DenseJob:
    """Check everything that can be checked before anything is written."""
    opened = open_chosen_network(config)
    layers = [opened.architecture.check_layer(index) for index in config.layer_num]
    config = _seen_as_in_training(config, opened)
    part = open_image(config, opened.voxel_size)
    volume, voxel_size = part.volume, part.voxel_size
    region, warnings = Box((0, 0, 0), volume.shape), _level_warnings(volume, voxel_size)
    if config.region is not None:
        asked = _in_level(Box(config.region[:3], config.region[3:]), volume)
        region = check_region(asked, volume.shape)
        if region != asked:
            warnings.append(f"of the region z, y, x = {asked}, {region} lies in the volume")
    grids = {layer.index: MapGrid.of(layer, region, volume.shape) for layer in layers}
    intensities = volume_window(volume, config.intensity, config.percentiles)
    assert intensities is not None
    if config.invert:
        intensities = inverted(intensities)
    device = choose_device(config.device)
    precision = reading_precision(config, device, opened.origin)
    folder = RunFolder(config.output or default_folder())
    names = "_".join(f"L{layer.index}" for layer in layers)
    return DenseJob(
        config=config,
        folder=folder,
        target=folder.path / f"maps_{names}.zarr",
        network=opened.network,
        architecture=opened.architecture,
        layers=layers,
        volume=volume,
        voxel_size=voxel_size,
        intensities=intensities,
        region=region,
        grids=grids,
        device=device,
        precision=precision,
        record={
            **make_record(opened.origin, layers, config, ExtractionConfig, DeviceConfig),
            "volume": volume.name,
            "region": [*region.start, *region.stop],
            "factor": list(volume.factor),
            "intensities": list(intensities),
            "device": str(device),
            "precision": precision,
        },
        warnings=[
            *warnings,
            *(text for text, _ in part.messages),
            *_mask_warnings(opened),
            *voxel_size_warnings(opened, voxel_size),
        ],
    )


def _in_level(region: Box, volume: Volume) -> Box:
    """Return a region of the finest level in voxels of the volume, those that it touches."""
    along = zip(region.start, region.stop, volume.factor, strict=True)
    low_high = [(floor(low / factor), ceil(high / factor)) for low, high, factor in along]
    (z, to_z), (y, to_y), (x, to_x) = low_high
    return Box((z, y, x), (to_z, to_y, to_x))


def _level_warnings(volume: Volume, voxel_size: tuple[float, float, float] | None) -> list[str]:
    """Warn of a level that is not the finest, since maps count in its voxels."""
    if volume.factor == (1, 1, 1) or voxel_size is None:
        return []
    return [
        f"the level of {volume.name} with voxels of {size(voxel_size)} nm is read, each of which "
        f"is {size(volume.factor)} of the finest: maps count in these"
    ]


def _mask_warnings(opened: OpenedNetwork) -> list[str]:
    """Warn of a network that has seen parts of crops alone."""
    kept = opened.crop_settings.get("keep", EVERYTHING)
    if kept == EVERYTHING:
        return []
    return [
        f"the network was trained on crops of which {kept} was kept, and sees all of the region: "
        "its features need not mean the same"
    ]


def _seen_as_in_training(config: Config, opened: OpenedNetwork) -> Config:
    """Return settings with the intensities of the network's training, where none are set.

    Raises
    ------
    InputError
        If its training saw crops that are no part of a volume as it is.
    """
    trained = opened.crop_settings
    is_own = "intensity" in config.model_fields_set
    if not is_own and trained.get("intensity") in ("crop", "z-score"):
        raise InputError(
            f"the network was trained with intensity {trained['intensity']}, which a map of a "
            "region has not: choose range or percentiles, and mind that features may differ"
        )
    for name in ("keep", "presynaptic_shift", "borders"):
        default = type(config).model_fields[name].default
        if name in config.model_fields_set and getattr(config, name) != default:
            raise InputError(
                f"{name} is for synapses, and a map of a region has none: leave it out with dense"
            )
    names = ("intensity", "percentiles", "invert")
    return Config.from_values(
        {
            **{name: trained[name] for name in names if name in trained},
            **config.model_dump(exclude_unset=True),
        }
    )


def _extract(job: DenseJob, store: MapStore, control: Control) -> Iterator[Event]:
    """Write the maps tile by tile, until the job is ended."""
    names = ", ".join(str(layer.index) for layer in job.layers)
    task = f"extracting maps of layer{'s' if len(job.layers) > 1 else ''} {names}"
    for tile in extract_maps(
        job.network,
        job.volume,
        job.intensities,
        job.region,
        job.layers,
        device=job.device,
        precision=job.precision,
    ):
        store.write(tile)
        yield Progress(task, tile.done, tile.total, "tile")
        yield from control.pauses()
        if control.stopping:
            return


def paint_maps(folder: Path, layers: Iterable[Layer]) -> Iterator[Event]:
    """Paint the map of each layer in a folder in colours."""
    # scikit-learn takes longer to import than a job should wait to begin.
    from napari_synapse_cl.features.maps.colors import principal_rgb

    for layer in layers:
        for done, total in principal_rgb(folder, layer.index):
            yield Progress(f"painting the map of layer {layer.index}", done, total, "block")
