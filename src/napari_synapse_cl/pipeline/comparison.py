"""Compare the layers of a network: how well each describes the synapses."""

from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

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
from napari_synapse_cl.features.extraction import HAND, in_batches
from napari_synapse_cl.features.layer_report import Report, to_json, to_table
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.pipeline.comparison_reading import Features, what_reads
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


@dataclass(frozen=True)
class Read:
    """What was read of the crops that can be used.

    First of two views of each; with probes then of its moved crops, by the network and by hand,
    and by each untrained network.
    """

    features: tuple[Features, ...]
    synapses: np.ndarray
    """Which they are."""


def compare_layers(config: Config, control: Control) -> Iterator[Event]:
    """Report how well each layer tells synapses apart, in a table, a picture and for programs."""
    job = prepare_comparison(config)
    yield from how_data_were_read(job.dataset)
    for text in job.warnings:
        yield Message(text, "warning")
    chosen = draw_compared(job)
    yield from how_many_are_drawn(job, chosen)
    read = yield from _read(job, chosen, control)
    if read is None:
        yield Message("the comparison was ended before it was complete, so nothing is kept")
        return
    report = yield from score(job, read, control)
    if report is not None:
        yield from write_comparison(job, report)


def prepare_comparison(config: Config) -> ExtractionJob:
    """Check the settings of a comparison and open what it needs.

    Raises
    ------
    InputError
        If something that was given cannot be used.
    """
    if config.n_compared == 1:
        raise InputError("n_compared is 1, and comparing layers needs at least 2 synapses")
    job = prepare_extraction(with_layers(config), with_context=True)
    if len(job.crops) < 2:
        raise InputError("there is only one synapse inside the volume; comparing needs at least 2")
    check_absent(results_of(job.folder.path, config), config)
    if config.centre_jitter and not job.dataset.centre_jitter(job.config):
        text = (
            "the voxel size is not known, so centres are not moved by centre_jitter, which counts "
            "in nm: what looks at the very centre alone may seem to tell more than it does"
        )
        job = replace(job, warnings=(*job.warnings, text))
    return job


def with_layers(config: Config) -> Config:
    """Return settings that name the layers: all convolutions, where they name none."""
    if "layer_num" in config.model_fields_set:
        return config
    layers = _convolutions(open_chosen_network(config).architecture)
    return Config.from_values({**config.model_dump(exclude_unset=True), "layer_num": layers})


def results_of(folder: Path, config: Config) -> list[Path]:
    """Return the files that a comparison leaves in a folder."""
    endings = (".csv", ".json", ".png") if config.figures else (".csv", ".json")
    return [folder / f"{NAME}{ending}" for ending in endings]


def draw_compared(job: ExtractionJob) -> np.ndarray:
    """Return which synapses layers are compared on, in their order.

    Where there are more than wanted they are drawn evenly, those with a label before all others:
    of a large table few may have one.
    """
    n, wanted = len(job.crops), job.config.n_compared
    if not 0 < wanted < n:
        return np.arange(n)
    order = np.random.default_rng(job.config.seed).permutation(n)
    if job.labels is not None:
        order = order[np.argsort(job.labels[order] == "", kind="stable")]
    return np.sort(order[:wanted])


def how_many_are_drawn(job: ExtractionJob, chosen: np.ndarray) -> Iterator[Event]:
    """Tell where layers are compared on some of the synapses alone."""
    if len(chosen) < len(job.crops):
        first = "" if job.labels is None else ", those with a label before others"
        yield Message(
            f"layers are compared on {len(chosen):,} of {len(job.crops):,} synapses (n_compared), "
            f"drawn at random{first}"
        )


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


def has_probes(job: ExtractionJob, synapses: np.ndarray) -> bool:
    """Return whether some synapses have labels by which layers can be compared."""
    return bool(_probes(job, synapses).folds)


def _read(
    job: ExtractionJob, chosen: np.ndarray, control: Control
) -> Generator[Event, None, Read | None]:
    """Read all that is compared of some synapses."""
    reads, positions = what_reads(job, probed=has_probes(job, chosen)), job.dataset.positions

    def read(synapses: np.ndarray, crops: Tensor) -> list[Features]:
        spreads = spreads_of(job.config, positions, synapses)
        return reads(positions.rows[synapses], spreads, crops)

    parts: defaultdict[int, defaultdict[Any, list[np.ndarray]]]
    parts = defaultdict(lambda: defaultdict(list))
    task, usable = "comparing layers", []
    yield Progress(task, 0, len(chosen))
    for batch in in_batches(job.crops, job.config.crop_size, read, of=chosen):
        if batch.result is not None:
            usable.append(batch.synapses)
            for number, features in enumerate(batch.result):
                for source, vectors in features.items():
                    parts[number][source].append(vectors)
        yield Progress(task, batch.n_done, len(chosen))
        yield from control.pauses()
        if control.stopping:
            return None
    synapses = np.concatenate([np.empty(0, dtype=np.int64), *usable])
    n_lost = len(chosen) - len(synapses)
    if n_lost:
        yield Message(f"{n_lost:,} crops cannot be used and are left out", "warning")
    joined = tuple(
        {source: np.concatenate(vectors) for source, vectors in part.items()}
        for part in parts.values()
    )
    return Read(joined, synapses)


def score(
    job: ExtractionJob, read: Read, control: Control
) -> Generator[Event, None, Report | None]:
    """Compare layers by what was read; None if the job is ended meanwhile.

    Raises
    ------
    JobError
        If too few crops could be used, or features are not finite.
    """
    n = len(read.synapses)
    if n < 2:
        raise JobError(f"{n} crops can be used, and comparing needs at least 2")
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


def write_comparison(job: ExtractionJob, report: Report) -> Iterator[Event]:
    """Write the comparison into the folder of the job."""
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
