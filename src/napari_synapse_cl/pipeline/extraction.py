"""Extract features of synapses and keep them in files."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features.descriptors import SCALES_NM, descriptor_columns
from napari_synapse_cl.features.extraction import HAND, GrowingArray, Source, extract_features
from napari_synapse_cl.features.tables import (
    component_columns,
    feature_columns,
    feature_table,
    write_table,
)
from napari_synapse_cl.models.architecture import Layer
from napari_synapse_cl.pipeline.extraction_preparation import ExtractionJob, prepare_extraction
from napari_synapse_cl.pipeline.steps import (
    check_absent,
    how_data_were_read,
    stopped,
)
from napari_synapse_cl.runs.events import Control, Event, Growing, Message, Progress, Wrote
from napari_synapse_cl.runs.folder import BY_HAND, RunFolder
from napari_synapse_cl.system.distributed import ALONE, Ranks
from napari_synapse_cl.system.files import write_json

Features = Mapping[Source, np.ndarray]
ENDED = "the extraction was ended before it was complete, so nothing is kept"


def extract_alone(config: Config, control: Control, ranks: Ranks = ALONE) -> Iterator[Event]:
    """Extract features with the network of a checkpoint."""
    job = prepare_extraction(config, ranks=ranks)
    check_absent(results_of(job.folder, job.config), config)
    # The folder is looked at by all before anything is written.
    ranks.wait()
    yield from how_data_were_read(job.dataset)
    yield from extract(job, control)


def extract(job: ExtractionJob, control: Control) -> Iterator[Event]:
    """Extract features, into a folder that is there; of several processes the main one writes."""
    if not job.ranks.is_main:
        for _ in extract_features(job.reader, job.crops, job.ranks):
            if stopped(control, job.ranks):
                return
        return
    for text in job.warnings:
        yield Message(text, "warning")
    if job.ranks.size > 1 and job.config.extract_only:
        yield Message(
            "processes of torchrun wait for each other at every batch; with --shard array each "
            "extracts shards of its own, and goes on where it was ended"
        )
    if job.config.descriptors and job.dataset.known_voxel_size is None:
        yield Message(
            f"the voxel size is not known, so descriptors take a voxel for {SCALES_NM[0]:g} nm: "
            "their scales are not those of other volumes",
            "warning",
        )
    if _keeps_maps(job.config):
        yield from _extract_maps(job, control)
    else:
        yield from _extract_vectors(job, control)


def results_of(folder: RunFolder, config: Config) -> list[Path]:
    """Return the files that an extraction with these settings writes to a folder."""
    if _keeps_maps(config):
        targets = list(_map_files(folder, config).values())
    else:
        targets = [folder.features_file(config)]
    results = [path for target in targets for path in (target, target.with_suffix(".json"))]
    if config.figures and not _keeps_maps(config):
        results += [_figure_file(folder, config, source) for source in _sources(config)]
    return results


def _keeps_maps(config: Config) -> bool:
    return config.pooling == "none" and bool(config.layer_num)


def _sources(config: Config) -> list[Source]:
    """Return what the columns are of, in their order."""
    return [*config.layer_num, *([HAND] if config.descriptors else [])]


def _map_files(folder: RunFolder, config: Config) -> dict[int, Path]:
    """Return where the maps of each layer go that are not pooled."""
    return {index: folder.path / f"features_L{index}_none.npy" for index in config.layer_num}


def _figure_file(folder: RunFolder, config: Config, source: Source) -> Path:
    name = BY_HAND if source == HAND else f"L{source}_{config.pooling}"
    return folder.path / f"features_{name}.png"


def _extract_vectors(job: ExtractionJob, control: Control) -> Iterator[Event]:
    """Extract one vector a synapse and layer into one table."""
    target = job.folder.features_file(job.config)
    rows = job.dataset.positions.rows
    columns = columns_of(job.config, job.layers)
    names = [name for of_layer in columns.values() for name in of_layer]
    path = target.with_name(f".{target.stem}.partial.npy")
    shape = (len(job.dataset.table), len(names))
    with GrowingArray(path, shape, blank=True) as growing:
        yield Growing("features", str(path), names)

        def keep(synapses: np.ndarray, batch: Features) -> None:
            vectors = np.concatenate([batch[source] for source in columns], axis=1)
            growing.values[rows[synapses]] = vectors

        read = yield from _read(job, control, keep)
        if not _is_wanted(job, read):
            yield Message(ENDED)
            return
        features = growing.values[rows[read.synapses]]
    with job.folder.being_written():
        write_table(_table(job, columns, features, read), target, _record(job, read))
    yield Wrote("features", str(target))
    start = 0
    for source in columns if job.config.figures else ():
        part = features[:, start : start + len(columns[source])]
        start += part.shape[1]
        yield _draw_map(job, source, part, read)


def _extract_maps(job: ExtractionJob, control: Control) -> Iterator[Event]:
    """Extract the map of each layer for each synapse, one array a layer."""
    rows, n_rows = job.dataset.positions.rows, len(job.dataset.table)
    readout = job.readout
    targets = _map_files(job.folder, job.config)
    with ExitStack() as stack:
        arrays = {
            layer.index: stack.enter_context(
                GrowingArray(
                    targets[layer.index].with_name(f".{targets[layer.index].stem}.partial.npy"),
                    (n_rows, *readout.shape_of(layer)),
                    blank=False,
                )
            )
            for layer in job.layers
        }

        def keep(synapses: np.ndarray, batch: Features) -> None:
            for index, array in arrays.items():
                array.values[rows[synapses]] = batch[index]

        read = yield from _read(job, control, keep)
        if not _is_wanted(job, read):
            yield Message(ENDED)
            return
        missing = np.setdiff1d(np.arange(n_rows), rows[read.synapses])
        for index, array in arrays.items():
            for row in missing:
                array.values[row] = np.nan
            with job.folder.being_written():
                array.keep_as(targets[index])
                write_json(targets[index].with_suffix(".json"), _record(job, read))
            yield Wrote("features", str(targets[index]))


@dataclass(frozen=True)
class _Read:
    """What was read."""

    n_done: int
    """How many crops were looked at."""
    synapses: np.ndarray
    """Those of them that could be used, in their order."""


def _read(
    job: ExtractionJob, control: Control, keep: Callable[[np.ndarray, Features], None]
) -> Generator[Event, None, _Read]:
    """Read all crops, until the job is ended."""
    layers = ", ".join(str(layer.index) for layer in job.layers)
    parts = [f"layer{'s' if len(job.layers) > 1 else ''} {layers}"] if layers else []
    parts += ["descriptors"] if job.config.descriptors else []
    task = f"extracting {' and '.join(parts)}"
    n_done, usable = 0, [np.empty(0, dtype=np.int64)]
    yield Progress(task, 0, len(job.crops))
    for batch in extract_features(job.reader, job.crops, job.ranks):
        if batch.result is not None:
            keep(batch.synapses, batch.result)
            usable.append(batch.synapses)
        n_done = batch.n_done
        yield Progress(task, n_done, len(job.crops))
        yield from control.pauses()
        if stopped(control, job.ranks):
            break
    read = _Read(n_done, np.concatenate(usable))
    n_lost = n_done - len(read.synapses)
    if n_lost:
        yield Message(
            f"{n_lost:,} of {n_done:,} crops cannot be used and get no features: they are "
            "constant, hold values that are not finite, or nothing of what is to be kept",
            "warning",
        )
    if n_done == len(job.crops) and not len(read.synapses):
        raise JobError("none of the crops can be used, so there are no features")
    return read


def _is_wanted(job: ExtractionJob, read: _Read) -> bool:
    if read.n_done == len(job.crops):
        return True
    return job.config.keep_partial and len(read.synapses) > 0


def _record(job: ExtractionJob, read: _Read) -> dict[str, Any]:
    complete = read.n_done == len(job.crops)
    return {**job.record, "complete": complete, "synapses": len(read.synapses)}


def columns_of(config: Config, layers: Sequence[Layer]) -> dict[Source, list[str]]:
    """Return the names of the columns of each layer, and of the descriptors behind them."""
    parts = config.pooling.split("+")
    columns: dict[Source, list[str]] = {
        layer.index: [n for p in parts for n in feature_columns(layer.index, p, layer.channels)]
        for layer in layers
    }
    return {**columns, HAND: descriptor_columns()} if config.descriptors else columns


def _table(
    job: ExtractionJob, columns: Mapping[Source, list[str]], features: np.ndarray, read: _Read
) -> Any:
    """Join the features of each source, and their principal components, to the synapses."""
    # scikit-learn takes longer to import than a job should wait to begin.
    from napari_synapse_cl.features.analysis import principal_components

    table, start = job.dataset.table, 0
    rows = job.dataset.positions.rows[read.synapses]
    for source, names in columns.items():
        part = features[:, start : start + len(names)]
        start += len(names)
        table = feature_table(table, rows, part, names)
        n = job.config.n_components
        if n:
            components = principal_components(part, n)
            names = component_columns(source, job.config.pooling, n)
            table = feature_table(table, rows, components, names)
    return table


def _draw_map(job: ExtractionJob, source: Source, features: np.ndarray, read: _Read) -> Wrote:
    from napari_synapse_cl.features.analysis import balanced_accuracy, principal_components
    from napari_synapse_cl.pipeline.figures import draw_feature_map

    path = _figure_file(job.folder, job.config, source)
    layer = next((layer for layer in job.layers if layer.index == source), None)
    title = "Hand-made descriptors" if layer is None else f"Features of layer {layer}"
    labels = None if job.labels is None else job.labels[read.synapses]
    if labels is not None and len(np.unique(labels)) > 1:
        # With too few synapses there is no spatial split.
        with suppress(ValueError):
            voxels = job.dataset.places[read.synapses]
            accuracy = balanced_accuracy(features, labels, voxels, crop_size=job.config.crop_size)
            title += f"\nbalanced accuracy of nearest neighbours, spatial split: {accuracy:.2f}"
    with job.folder.being_written():
        draw_feature_map(principal_components(features), labels, title, path)
    return Wrote("figure", str(path))
