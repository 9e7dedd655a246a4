"""Compare the layers of a network: how well each describes the synapses."""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from napari_synapse_cl.augmentations import composition
from napari_synapse_cl.augmentations.resampling import moved_crops
from napari_synapse_cl.augmentations.spatial import draw_jitters
from napari_synapse_cl.augmentations.transforms import with_jitter_room
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
from napari_synapse_cl.features.extraction import HAND, Descriptors, Reader, Several, in_batches
from napari_synapse_cl.features.layer_report import Report, to_json, to_table
from napari_synapse_cl.features.readout import Readout
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import Vgg3D
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

if TYPE_CHECKING:
    from napari_synapse_cl.features.probes import Probes

NAME = "layers"
EPOCH = 1
"""Views are those that training with these settings draws in this epoch."""
N_JITTERS = 2
"""Crops of each synapse that probes learn from and are asked of, where centres are moved."""
N_UNTRAINED = 2
"""Networks with random weights that the network is compared with."""
FIRST_UNTRAINED = 10**9
"""Added to the seed: a training that began at such a network would be compared with its start."""

Features = dict[Any, np.ndarray]
"""By the layer, by `HISTOGRAM` or by `HAND`, one row a synapse."""
ReadCrops = Callable[[np.ndarray, Tensor], list[Features]]
"""Takes the indices of some synapses and their crops with context."""


@dataclass(frozen=True)
class _Read:
    """What was read of the crops that can be used.

    First of two views of each; with probes then of its moved crops, by the network and by hand,
    and by each untrained network.
    """

    features: tuple[Features, ...]
    synapses: np.ndarray
    """Which they are."""


def compare_layers(config: Config, control: Control) -> Iterator[Event]:
    """Report how well each layer tells synapses apart, in a table, a picture and for programs."""
    job = _prepare(config)
    yield from how_data_were_read(job.dataset)
    for text in job.warnings:
        yield Message(text, "warning")
    if job.config.centre_jitter and not job.dataset.centre_jitter(job.config):
        yield Message(
            "the voxel size is not known, so centres are not moved by centre_jitter, which counts "
            "in nm: what looks at the very centre alone may seem to tell more than it does",
            "warning",
        )
    read = yield from _read(job, control)
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


def _extent(job: ExtractionJob) -> tuple[int, int, int]:
    """Return how far all crops of a synapse reach together, along z, y, x in voxels."""
    config, dataset = job.config, job.dataset
    reach = dataset.centre_jitter(config)
    return with_jitter_room(config.crop_size, config.crop_size, reach, dataset.voxel_size)


def _probes(job: ExtractionJob, synapses: np.ndarray) -> "Probes":
    # scikit-learn takes longer to import than a job should wait to begin.
    from napari_synapse_cl.features.probes import Probes

    labels = None if job.labels is None else job.labels[synapses]
    return Probes.of(labels, job.dataset.places[synapses], _extent(job), job.config.seed)


def _read(job: ExtractionJob, control: Control) -> Generator[Event, None, _Read | None]:
    """Read all layers for two views of each synapse, and what the probes are asked of."""
    has_probes = bool(_probes(job, np.arange(len(job.crops))).folds)
    readout = job.readout
    read_crops = [_reads_views(job, readout)]
    if has_probes:
        read_crops.append(_reads_moved_crops(job, readout))

    def read(synapses: np.ndarray, crops: Tensor) -> list[Features]:
        return [features for one in read_crops for features in one(synapses, crops)]

    parts: defaultdict[int, defaultdict[Any, list[np.ndarray]]]
    parts = defaultdict(lambda: defaultdict(list))
    task, usable = "comparing layers", []
    yield Progress(task, 0, len(job.crops))
    for batch in in_batches(job.crops, job.config.crop_size, read):
        if batch.result is not None:
            usable.append(batch.synapses)
            for number, features in enumerate(batch.result):
                for source, vectors in features.items():
                    parts[number][source].append(vectors)
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
    joined = tuple(
        {source: np.concatenate(vectors) for source, vectors in part.items()}
        for part in parts.values()
    )
    return _Read(joined, synapses)


def _reads_views(job: ExtractionJob, readout: Readout) -> ReadCrops:
    """Return what reads two augmented views of each synapse."""
    # scikit-learn takes longer to import than a job should wait to begin.
    from napari_synapse_cl.features.analysis import histogram_features
    from napari_synapse_cl.features.scores import HISTOGRAM

    config = job.config
    positions, voxel_size = job.dataset.positions, job.dataset.voxel_size

    def read(synapses: np.ndarray, crops: Tensor) -> list[Features]:
        rows, spreads = positions.rows[synapses], spreads_of(config, positions, synapses)
        drawn = composition.draw_pair(config, config.seed, EPOCH, rows.tolist(), spreads)
        views = [composition.apply(crops, one, config.crop_size, voxel_size) for one in drawn]
        return [
            {**readout.read(view), HISTOGRAM: histogram_features(view.numpy())} for view in views
        ]

    return read


def _reads_moved_crops(job: ExtractionJob, readout: Readout) -> ReadCrops:
    """Return what reads crops whose centres are moved: with the network, by hand, and untrained."""
    config, dataset, architecture = job.config, job.dataset, job.architecture
    assert architecture is not None
    reach = dataset.centre_jitter(config)
    n_crops = N_JITTERS if reach else 1
    # In bfloat16 these would be worse than they are, and the network seem better.
    untrained = [
        job.readout_of(Vgg3D.untrained(architecture, config.seed + number), "float32")
        for number in range(FIRST_UNTRAINED, FIRST_UNTRAINED + N_UNTRAINED)
    ]
    by_hand = Descriptors(config.crop_size, dataset.known_voxel_size)
    readers: list[Reader] = [Several([readout, by_hand]), *untrained]

    def read(synapses: np.ndarray, crops: Tensor) -> list[Features]:
        rows = dataset.positions.rows[synapses].tolist()
        offsets = draw_jitters(reach, config.seed, rows, n_crops, dataset.voxel_size)
        moved = [moved_crops(crops, offsets[:, i], config.crop_size) for i in range(n_crops)]
        return [_side_by_side([reader.read(some) for some in moved]) for reader in readers]

    return read


def _side_by_side(several: Sequence[Mapping[Any, np.ndarray]]) -> Features:
    """Return ``(B, J, C)`` features of J mappings to ``(B, C)``."""
    return {source: np.stack([one[source] for one in several], axis=1) for source in several[0]}


def _score(
    job: ExtractionJob, read: _Read, control: Control
) -> Generator[Event, None, Report | None]:
    from napari_synapse_cl.features.scores import Crops, Readings, score_layers
    from napari_synapse_cl.features.verdict import make_report

    first, second, *of_crops = read.features
    crops = None
    if of_crops:
        layers, *untrained = of_crops
        crops = Crops(layers, layers.pop(HAND), tuple(untrained))
    names = {layer.index: f"{layer.index} · {layer.name}" for layer in job.layers}
    probes = _probes(job, read.synapses)
    steps = score_layers(Readings((first, second), crops), names, probes)
    while True:
        try:
            yield Progress(*next(steps))
        except StopIteration as end:
            scores = end.value
            break
        if control.stopping:
            return None
    return make_report(
        scores.scores,
        probes,
        scores.verdict,
        label_column=job.label_column,
        trained_on=_was_trained_on(job),
        centre_jitter=job.dataset.centre_jitter(job.config),
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
    for sentence in (*report.verdict, *report.remarks):
        yield Message(sentence)
    yield Wrote("report", str(table))
    if job.config.figures:
        # Matplotlib takes longer to import than a job should wait to begin.
        from napari_synapse_cl.pipeline.figures import draw_layer_report

        with job.folder.being_written():
            draw_layer_report(report, table.with_suffix(".png"))
        yield Wrote("figure", str(table.with_suffix(".png")))
