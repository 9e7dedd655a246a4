"""Train and extract, whole: what the command line runs and the widgets start."""

from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.control import Control
from napari_synapse_cl.data.crops import (
    CachedCrops,
    CropSource,
    cache_folder,
    cache_size,
    fill_cache,
)
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.estimates import plan, plan_of_crops
from napari_synapse_cl.events import (
    Discarded,
    Event,
    Message,
    Paused,
    Progress,
    Resumed,
    Started,
    Wrote,
)
from napari_synapse_cl.features.extraction import (
    extract_features,
    feature_columns,
    feature_table,
    write_table,
)
from napari_synapse_cl.files import write_json
from napari_synapse_cl.preparation import (
    ExtractionJob,
    TrainingJob,
    label_column,
    prepare_extraction,
    prepare_training,
)
from napari_synapse_cl.training.commands import following_commands
from napari_synapse_cl.training.health import HealthCheck
from napari_synapse_cl.training.metrics import epoch_events, read_metrics, step_events
from napari_synapse_cl.training.recording import Recorder
from napari_synapse_cl.training.runs import RunFolder
from napari_synapse_cl.training.status import RunStatus
from napari_synapse_cl.training.trainer import Trainer


def run(config: Config, control: Control | None = None) -> Generator[Event, None, None]:
    """Do what the settings ask for: train and extract, or one of them.

    Everything that can be checked is checked before anything is written.

    Parameters
    ----------
    config
        The settings.
    control
        Pauses or ends the job from outside.

    Yields
    ------
    Event
        What happens.

    Raises
    ------
    InputError
        If something that was given cannot be used; nothing has been written then.
    JobError
        If the job cannot go on; what was reached is kept.
    """
    control = control or Control()
    if config.extract_only:
        job = prepare_extraction(config)
        _make_folder(job.folder)
        yield from _left_out(job.dataset)
        yield from _extract(job, control)
    else:
        yield from _train_and_extract(prepare_training(config), control)


def _train_and_extract(job: TrainingJob, control: Control) -> Iterator[Event]:
    """Train and extract; keep the run folder up with what happens, and watch over it."""
    folder, checkpoint = job.folder, job.checkpoint
    folder.create(job.config)
    folder.forget_after(job.schedule.steps_recorded(checkpoint) if checkpoint else 0)
    health = HealthCheck()
    with Recorder(folder, _status(job)) as recorder, following_commands(folder, control):
        for event in _told(job, control):
            recorder.record(event)
            yield event
            yield from health.take(event)
            if isinstance(event, Started):
                steps, epochs = read_metrics(folder.steps_file), read_metrics(folder.epochs_file)
                yield from health.catch_up(step_events(steps), epoch_events(epochs))


def _status(job: TrainingJob) -> RunStatus:
    return RunStatus.of_this_process(
        device=str(job.device),
        precision=job.precision,
        n_training=len(job.split.training),
        n_validation=len(job.split.validation),
        batch_size=job.schedule.batch_size,
        steps_per_epoch=job.schedule.steps_per_epoch,
        total_steps=job.schedule.total_steps,
        step=job.schedule.steps_done(job.checkpoint) if job.checkpoint else 0,
    )


def _told(job: TrainingJob, control: Control) -> Iterator[Event]:
    config, folder = job.config, job.folder
    yield Wrote("settings", str(folder.config_file))
    yield from _warnings(job.dataset, config)
    for text in job.warnings:
        yield Message(text, "warning")
    crops = yield from _cut_crops(job, control)
    if control.stopping:
        yield from _remove_if_void(folder, control)
        return
    trainer = Trainer(
        job.model,
        crops,
        job.split,
        config,
        device=job.device,
        precision=job.precision,
        voxel_size=job.dataset.voxel_size,
        folder=folder,
    )
    if job.checkpoint:
        trainer.restore(job.checkpoint)
    for event in trainer.run():
        yield event
        yield from _wait_while_paused(control)
        if control.stopping:
            trainer.stop(keep=not control.discarding)
    if control.stopping and (yield from _remove_if_void(folder, control)):
        return
    yield _draw_loss(folder)
    if config.train_only or control.stopping:
        return
    extraction = ExtractionJob(
        config=config,
        folder=folder,
        dataset=job.dataset,
        crops=crops,
        network=job.model.backbone,
        architecture=job.model.architecture,
        device=job.device,
        precision=job.precision,
        origin={"checkpoint": str(folder.last_checkpoint.absolute()), "step": trainer.step},
    )
    yield from _extract(extraction, control)


def _cut_crops(job: TrainingJob, control: Control) -> Generator[Event, None, CropSource]:
    """Cut the crops into a cache, unless they are there or it would be too large."""
    source = job.source
    if isinstance(source, CachedCrops):
        return source
    size = cache_size(source)
    if size > job.config.cache_limit:
        yield Message(
            f"a cache of all crops would take {size:.1f} GiB, more than cache_limit allows, so "
            "they are read from the volume at every step",
        )
        return source
    cache = cache_folder(source, job.config.cache_dir or job.folder.path)
    for n_done in fill_cache(source, cache):
        yield Progress("cutting crops", n_done, len(source))
        yield from _wait_while_paused(control)
        if control.stopping:
            return source
    return CachedCrops(cache)


def _extract(job: ExtractionJob, control: Control) -> Iterator[Event]:
    config, dataset = job.config, job.dataset
    task = f"extracting layer {config.layer_num}"
    parts: list[np.ndarray] = []
    yield Progress(task, 0, len(job.crops))
    for part in extract_features(
        job.network,
        job.crops,
        config.crop_size,
        layer=config.layer_num,
        pooling=config.pooling,
        device=job.device,
        precision=job.precision,
    ):
        parts.append(part)
        yield Progress(task, sum(map(len, parts)), len(job.crops))
        yield from _wait_while_paused(control)
        if control.stopping:
            yield Message("the extraction was ended before it was complete, so nothing is kept")
            return
    features = np.concatenate(parts)
    columns = feature_columns(config.layer_num, config.pooling, features.shape[1])
    target = job.folder.features_file(config)
    table = feature_table(dataset.table, dataset.positions.rows, features, columns)
    layer = str(job.architecture.layers[config.layer_num])
    record = {
        **job.origin,
        "layer": layer,
        "pooling": config.pooling,
        "crop_size": list(config.crop_size),
        "precision": job.precision,
    }
    with job.folder.being_written():
        write_table(table, target)
        write_json(target.with_suffix(".json"), record)
    yield Wrote("features", str(target))
    yield _draw_map(target.with_suffix(".png"), layer, features, job)


def _draw_loss(folder: RunFolder) -> Wrote:
    # Matplotlib, and scikit-learn below, take longer to import than a job should wait to begin.
    from napari_synapse_cl.figures import draw_loss

    steps, epochs = read_metrics(folder.steps_file), read_metrics(folder.epochs_file)
    with folder.being_written():
        draw_loss(steps, epochs, folder.loss_figure)
    return Wrote("figure", str(folder.loss_figure))


def _draw_map(path: Path, layer: str, features: np.ndarray, job: ExtractionJob) -> Wrote:
    from napari_synapse_cl.features.analysis import knn_balanced_accuracy, principal_components
    from napari_synapse_cl.figures import draw_feature_map

    labels = _labels(job.dataset, job.config)
    title = f"Features of layer {layer}"
    if labels is not None and len(np.unique(labels)) > 1:
        # With too few synapses there is no spatial split.
        with suppress(ValueError):
            accuracy = knn_balanced_accuracy(features, labels, job.dataset.positions.voxels)
            title += f"\nbalanced accuracy of nearest neighbours, spatial split: {accuracy:.2f}"
    with job.folder.being_written():
        draw_feature_map(principal_components(features), labels, title, path)
    return Wrote("figure", str(path))


def _labels(dataset: Dataset, config: Config) -> np.ndarray | None:
    """Return the label of each synapse inside the volume, as strings."""
    column = label_column(dataset, config)
    if column is None:
        return None
    return dataset.table[column].to_numpy(str)[dataset.positions.rows]


def _warnings(dataset: Dataset, config: Config) -> Iterator[Event]:
    """Say what the window says too before a training starts, but for what has to be measured."""
    yield from _left_out(dataset)
    voxel_size = dataset.known_voxel_size
    if isinstance(dataset.source, CachedCrops):
        expected = plan_of_crops(dataset.positions, config, voxel_size, machine=None)
    else:
        expected = plan(dataset.table, dataset.source.shape, config, voxel_size, machine=None)
    for warning in expected.warnings:
        yield Message(warning, "warning")


def _left_out(dataset: Dataset) -> Iterator[Event]:
    n_outside = dataset.positions.n_outside
    if n_outside:
        yield Message(
            f"{n_outside} of {len(dataset.table)} positions lie outside {dataset.name} and are "
            "left out; they get no features",
            "warning",
        )


def _make_folder(folder: RunFolder) -> None:
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to the output folder {folder.path}: {error.strerror}"
        ) from None


def _wait_while_paused(control: Control) -> Iterator[Event]:
    if control.paused:
        yield Paused()
        control.wait()
        yield Resumed()


def _remove_if_void(folder: RunFolder, control: Control) -> Generator[Event, None, bool]:
    """Remove a run that is not wanted, or in which nothing was trained; return whether it was."""
    if folder.last_checkpoint.exists() and not control.discarding:
        return False
    if not control.discarding:
        yield Message("the training was stopped before its first step, so there is nothing to keep")
    folder.discard()
    yield Discarded(str(folder.path))
    return True
