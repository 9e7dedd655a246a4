"""Extract the map of each layer over a region of a volume."""

from collections.abc import Iterator

from napari_synapse_cl.config import Config, DataConfig, DeviceConfig, ExtractionConfig
from napari_synapse_cl.control import Control
from napari_synapse_cl.data.dataset import open_image
from napari_synapse_cl.data.volumes import intensity_range
from napari_synapse_cl.devices import choose_device, choose_precision
from napari_synapse_cl.events import Event, Growing, Message, Progress
from napari_synapse_cl.features.dense import extract_maps
from napari_synapse_cl.features.map_grid import Box, MapGrid, check_region
from napari_synapse_cl.features.map_store import MapStore
from napari_synapse_cl.pipeline.extraction_job import open_chosen_network, voxel_size_warnings
from napari_synapse_cl.pipeline.records import make_record
from napari_synapse_cl.pipeline.steps import make_folder, wait_while_paused
from napari_synapse_cl.training.runs import RunFolder, default_folder


def extract_dense(config: Config, control: Control) -> Iterator[Event]:
    """Extract maps into a Zarr group, and paint each in colours."""
    opened = open_chosen_network(config)
    layers = [opened.architecture.check_layer(index) for index in config.layer_num]
    volume, voxel_size = open_image(config)
    region = Box((0, 0, 0), volume.shape)
    if config.region is not None:
        region = check_region(Box(config.region[:3], config.region[3:]), volume.shape)
    grids = {layer.index: MapGrid.of(layer, region, volume.shape) for layer in layers}
    intensities = intensity_range(volume)
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    folder = RunFolder(config.output or default_folder())
    names = "_".join(f"L{layer.index}" for layer in layers)
    target = folder.path / f"maps_{names}.zarr"
    record = {
        **make_record(opened.origin, layers, config, DataConfig, ExtractionConfig, DeviceConfig),
        "volume": volume.name,
        "region": [*region.start, *region.stop],
        "intensities": list(intensities),
        "device": str(device),
        "precision": precision,
    }
    make_folder(folder)
    for text in voxel_size_warnings(opened, voxel_size):
        yield Message(text, "warning")
    with MapStore(
        target,
        layers,
        grids,
        voxel_size=voxel_size,
        provenance=record,
        overwrite=config.overwrite,
    ) as store:
        yield Growing("maps", str(store.folder), [])
        task = f"extracting maps of layer{'s' if len(layers) > 1 else ''} {names}"
        yield Progress(task, 0, 1)
        tiles = extract_maps(
            opened.network,
            volume,
            intensities,
            region,
            layers,
            device=device,
            precision=precision,
        )
        for tile in tiles:
            store.write(tile)
            yield Progress(task, tile.done, tile.total)
            yield from wait_while_paused(control)
            if control.stopping and tile.done < tile.total:
                break
