"""Compare the layers of a network: how well each describes the synapses."""

from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from napari_synapse_cl.augmentations import composition
from napari_synapse_cl.augmentations.resampling import centre_crop
from napari_synapse_cl.config import (
    AugmentationConfig,
    Config,
    DeviceConfig,
    ExtractionConfig,
    is_url,
    read_settings,
)
from napari_synapse_cl.data.grey_spread import spreads_of
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.extraction import in_batches
from napari_synapse_cl.features.layer_report import BASELINE_NAME, Report, to_json, to_table
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.pipeline.extraction_preparation import (
    ExtractionJob,
    open_chosen_network,
    prepare_extraction,
)
from napari_synapse_cl.pipeline.networks import run_of
from napari_synapse_cl.pipeline.provenance import make_record
from napari_synapse_cl.pipeline.steps import check_absent, how_data_were_read
from napari_synapse_cl.runs.events import Control, Event, Message, Progress, Wrote
from napari_synapse_cl.system.files import replacing, write_json

NAME = "layers"
EPOCH = 1
"""Views are those that training with these settings draws in this epoch."""

Features = dict[int | None, np.ndarray]
"""``(N, C)`` of each layer and, under None, the intensity histogram."""
Views = tuple[Features, Features, Features]
"""Of the first view, the second view and the crop as it is."""


@dataclass(frozen=True)
class _Read:
    """What was read of the crops that can be used."""

    views: Views
    synapses: np.ndarray
    """Which they are."""


def compare_layers(config: Config, control: Control) -> Iterator[Event]:
    """Report how well each layer tells synapses apart, in a table, a picture and for programs."""
    job = _prepare(config)
    yield from how_data_were_read(job.dataset)
    for text in job.warnings:
        yield Message(text, "warning")
    read = yield from _read_views(job, control)
    if read is None:
        yield Message("the comparison was ended before it was complete, so nothing is kept")
        return
    report = yield from _score(job, read, control)
    if report is not None:
        yield from _write(job, report)


def _prepare(config: Config) -> ExtractionJob:
    if "layer_num" not in config.model_fields_set:
        layers = _convolutions(open_chosen_network(config).architecture)
        settings = config.model_dump(exclude_unset=True)
        config = Config.from_values({**settings, "layer_num": layers})
    job = prepare_extraction(config, with_context=True)
    if len(job.crops) < 2:
        raise InputError("there is only one synapse inside the volume; comparing needs at least 2")
    endings = (".csv", ".json", ".png") if config.figures else (".csv", ".json")
    check_absent((job.folder.path / f"{NAME}{ending}" for ending in endings), config)
    return job


def _convolutions(architecture: Architecture) -> tuple[int, ...]:
    return tuple(layer.index for layer in architecture.layers if " conv " in layer.name)


def _read_views(job: ExtractionJob, control: Control) -> Generator[Event, None, _Read | None]:
    """Read all layers for two views of each synapse and for its crop as it is."""
    # scikit-learn takes longer to import than a job should wait to begin.
    from napari_synapse_cl.features.analysis import histogram_features

    config, readout = job.config, job.readout
    positions, voxel_size = job.dataset.positions, job.dataset.voxel_size

    def read(synapses: np.ndarray, crops: Tensor) -> Views:
        rows, spreads = positions.rows[synapses], spreads_of(config, positions, synapses)
        drawn = composition.draw_pair(config, config.seed, EPOCH, rows.tolist(), spreads)
        pictures = [composition.apply(crops, one, config.crop_size, voxel_size) for one in drawn]
        pictures.append(centre_crop(crops, config.crop_size))
        first, second, plain = (
            {**readout.read(picture), None: histogram_features(picture.numpy())}
            for picture in pictures
        )
        return first, second, plain

    parts: tuple[defaultdict[int | None, list[np.ndarray]], ...] = tuple(
        defaultdict(list) for _ in range(3)
    )
    task, usable = "comparing layers", []
    yield Progress(task, 0, len(job.crops))
    for batch in in_batches(job.crops, config.crop_size, read):
        if batch.result is not None:
            usable.append(batch.synapses)
            for part, features in zip(parts, batch.result, strict=True):
                for layer, vectors in features.items():
                    part[layer].append(vectors)
        yield Progress(task, batch.n_done, len(job.crops))
        yield from control.pauses()
        if control.stopping:
            return None
    synapses = np.concatenate([np.empty(0, dtype=np.int64), *usable])
    n_lost = len(job.crops) - len(synapses)
    if n_lost:
        yield Message(f"{n_lost:,} crops cannot be used and are left out", "warning")
    if len(synapses) < 2:
        raise JobError(f"{len(synapses)} crops can be used, and comparing needs at least 2")
    first, second, plain = (
        {layer: np.concatenate(vectors) for layer, vectors in part.items()} for part in parts
    )
    return _Read((first, second, plain), synapses)


def _score(
    job: ExtractionJob, read: _Read, control: Control
) -> Generator[Event, None, Report | None]:
    from napari_synapse_cl.features.scores import make_report, score

    names: dict[int | None, str] = {
        layer.index: f"{layer.index} · {layer.name}" for layer in job.layers
    }
    names[None] = BASELINE_NAME
    positions, crop_size = job.dataset.places[read.synapses], job.config.crop_size
    labels = None if job.labels is None else job.labels[read.synapses]
    scores = []
    for n_done, (layer, name) in enumerate(names.items()):
        yield Progress("scoring layers", n_done, len(names), "layer")
        if control.stopping:
            return None
        first, second, plain = (view[layer] for view in read.views)
        scores.append(score(name, layer, first, second, plain, labels, positions, crop_size))
    yield Progress("scoring layers", len(names), len(names), "layer")
    return make_report(
        scores,
        positions,
        crop_size,
        labels=labels,
        label_column=job.label_column,
        trained_on=_was_trained_on(job),
    )


def _was_trained_on(job: ExtractionJob) -> bool | None:
    """Whether the network has seen these synapses in a training; None if that is not known."""
    assert job.origin is not None
    if job.origin.seed is not None:
        return False
    run = None
    if job.config.checkpoint and not is_url(job.config.checkpoint):
        run = run_of(Path(job.config.checkpoint))
    if run is None or job.origin.network == "start":
        return None
    trained = read_settings(run.config_file)
    same = [
        trained.get(name) == job.config.as_json()[name]
        for name in ("image", "synapses", "dataset", "crops")
    ]
    return True if all(same) else None


def _write(job: ExtractionJob, report: Report) -> Iterator[Event]:
    table = job.folder.path / f"{NAME}.csv"
    sections = (ExtractionConfig, AugmentationConfig, DeviceConfig)
    record = make_record(job.origin, job.layers, job.config, *sections)
    with job.folder.being_written():
        with replacing(table) as temporary:
            to_table(report).to_csv(temporary, index=False)
        write_json(table.with_suffix(".json"), {**record, "report": to_json(report)})
    for remark in report.remarks:
        yield Message(remark)
    yield Wrote("report", str(table))
    if job.config.figures:
        # Matplotlib takes longer to import than a job should wait to begin.
        from napari_synapse_cl.pipeline.figures import draw_layer_report

        with job.folder.being_written():
            draw_layer_report(report, table.with_suffix(".png"))
        yield Wrote("figure", str(table.with_suffix(".png")))
