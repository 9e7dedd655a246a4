"""Train a network, and extract the features of its synapses."""

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.cache import CachedCrops, cache_size, cut_crops
from napari_synapse_cl.data.crops.cutting import CropState
from napari_synapse_cl.data.crops.sources import CropSource, StreamedCrops, cache_folder
from napari_synapse_cl.pipeline.exporting import export_trained, exports_of
from napari_synapse_cl.pipeline.extraction import extract, results_of
from napari_synapse_cl.pipeline.extraction_preparation import ExtractionJob
from napari_synapse_cl.pipeline.provenance import NetworkOrigin
from napari_synapse_cl.pipeline.steps import (
    check_absent,
    crops_left_out,
    stopped,
)
from napari_synapse_cl.pipeline.training_preparation import TrainingJob, prepare_training
from napari_synapse_cl.runs.events import (
    Control,
    Discarded,
    Event,
    Message,
    Progress,
    Started,
    Wrote,
)
from napari_synapse_cl.runs.folder import RunFolder, RunStatus
from napari_synapse_cl.runs.following import following_commands
from napari_synapse_cl.runs.health import HealthCheck
from napari_synapse_cl.runs.metrics import epoch_events, read_metrics, step_events
from napari_synapse_cl.runs.recording import Recorder, TensorBoardLog
from napari_synapse_cl.system.distributed import ALONE, Ranks
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.training.estimates import plan_of
from napari_synapse_cl.training.objectives import chance_loss
from napari_synapse_cl.training.partners import Partners
from napari_synapse_cl.training.trainer import Trainer
from napari_synapse_cl.training.validation import Labelled

CHECKED_AT_ONCE = 16


def train_and_extract(config: Config, control: Control, ranks: Ranks = ALONE) -> Iterator[Event]:
    """Train and extract; keep the run folder up with what happens, and watch over it.

    Of several processes the main one does so; the others help.
    """
    job = prepare_training(config, ranks)
    _check_results(job)
    # The folder is looked at by all before anything is written.
    ranks.wait()
    if not ranks.is_main:
        yield from _told(job, control)
        return
    folder, checkpoint = job.folder, job.checkpoint
    folder.create(job.config, job.about)
    n_kept = job.schedule.steps_recorded(checkpoint) if checkpoint else 0
    damaged = folder.forget_after(n_kept)
    tensorboard = TensorBoardLog.of_run(folder, job.config, n_kept)
    health = HealthCheck()
    recording = Recorder(folder, _status(job), tensorboard)
    with recording as recorder, following_commands(folder, control):
        for text in damaged:
            yield Message(text, "warning")
        # What closing it meets, as a full disk, is an error too.
        with closing(_told(job, control)) as events:
            for event in events:
                recorder.record(event)
                yield event
                yield from health.take(event)
                if isinstance(event, Started):
                    steps = read_metrics(folder.steps_file)
                    epochs = read_metrics(folder.epochs_file)
                    yield from health.catch_up(step_events(steps), epoch_events(epochs))


def _check_results(job: TrainingJob) -> None:
    """Check that nothing of others lies where the results go, unless it may be replaced."""
    config, owned = job.config, job.folder.owned
    # Runs of earlier versions have not made the first.
    results = [job.folder.held_out_file, *exports_of(job.folder, config)]
    results += [] if config.train_only else results_of(job.folder, config)
    check_absent((file for file in results if not owned.owns(file)), config)


def _status(job: TrainingJob) -> RunStatus:
    return RunStatus.of_this_process(
        device=str(job.device),
        precision=job.plan.precision,
        n_training=len(job.split.training),
        n_validation=len(job.split.validation),
        batch_size=job.schedule.batch_size,
        steps_per_epoch=job.schedule.steps_per_epoch,
        total_steps=job.schedule.total_steps,
        step=job.schedule.steps_done(job.checkpoint) if job.checkpoint else 0,
        chance_loss=chance_loss(job.config, job.schedule.batch_size),
    )


def _told(job: TrainingJob, control: Control) -> Generator[Event, None, None]:
    config, folder = job.config, job.folder
    yield Wrote("settings", str(folder.config_file))
    for text, level in job.dataset.messages:
        # What is wrong comes with the plan.
        if level != "warning":
            yield Message(text, level)
    for text in plan_of(job.dataset, config, machine=None).warnings:
        yield Message(text, "warning")
    if len(job.split.left_out):
        yield Message(
            f"{counted(len(job.split.left_out), 'synapse')} near the border to the validation "
            "neither train nor validate: their crops overlap with crops that do",
            "detail",
        )
    if n_struck := len(job.split.struck_out):
        verb = "is" if n_struck == 1 else "are"
        yield Message(
            f"{counted(n_struck, 'synapse')} that {verb} struck out in the table neither train nor "
            "validate; their features are extracted all the same",
        )
    for text, level in job.notes:
        yield Message(text, level)
    if job.ranks.size > 1:
        yield Message(f"{job.ranks.size} processes train together, each on its share of a batch")
    crops = yield from _cut_crops(job, control)
    # Windows removes no file that is mapped, and whoever leaves may have the run removed.
    with closing(crops):
        yield from _with_crops(job, crops, control)


def _with_crops(
    job: TrainingJob, crops: CropSource, control: Control
) -> Generator[Event, None, None]:
    config, folder = job.config, job.folder
    if stopped(control, job.ranks):
        yield from _remove_if_void(job, crops, control)
        return
    job = yield from _without_unusable(job, crops, control)
    if stopped(control, job.ranks):
        yield from _remove_if_void(job, crops, control)
        return
    labelled = None if job.labels is None else Labelled.of(job.labels, job.split)
    if isinstance(labelled, str):
        yield Message(f"nearest neighbours are not judged in each epoch: {labelled}", "warning")
        labelled = None
    partners = Partners.of_dataset(job.dataset, job.split.training, config, job.cells)
    if partners is not None:
        yield Message(partners.told())
    trainer = Trainer(
        job.model,
        crops,
        job.split,
        config,
        device=job.device,
        plan=job.plan,
        memory=job.memory,
        voxel_size=job.dataset.voxel_size,
        folder=folder,
        labelled=labelled,
        partners=partners,
        cells=job.cells,
        ranks=job.ranks,
    )
    if job.checkpoint:
        trainer.restore(job.checkpoint)
    with closing(trainer.run()) as events:
        for event in events:
            yield event
            yield from control.pauses()
            if stopped(control, job.ranks):
                trainer.stop(keep=not control.discarding)
    ended = stopped(control, job.ranks)
    if ended and (yield from _remove_if_void(job, crops, control)):
        return
    if config.figures and job.ranks.is_main:
        yield from _draw_loss(folder)
    if ended:
        return
    if config.export and job.ranks.is_main:
        with folder.being_written():
            folder.owned.claim(*exports_of(folder, config), replace=config.overwrite)
        yield from export_trained(folder, config, control)
    if config.train_only:
        return
    if job.ranks.is_main:
        with folder.being_written():
            folder.owned.claim(*results_of(folder, config), replace=config.overwrite)
    extraction = ExtractionJob(
        config=config,
        folder=folder,
        dataset=job.dataset,
        crops=crops,
        network=job.model.backbone,
        architecture=job.model.architecture,
        device=job.device,
        precision=job.plan.precision,
        ranks=job.ranks,
        origin=NetworkOrigin.of_file(folder.last_checkpoint, "trained"),
    )
    yield from extract(extraction, control)


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
    if job.ranks.is_main:
        yield from _fill(cache, source, job, control)
    # The others wait for it here.
    return source if stopped(control, job.ranks) else CachedCrops(cache)


def _fill(
    cache: Path, source: StreamedCrops, job: TrainingJob, control: Control
) -> Iterator[Event]:
    if cache.parent == job.folder.path:
        with job.folder.being_written():
            job.folder.owned.claim(cache)
    yield from cut_crops(source, cache, len(job.dataset.table), control)


def _without_unusable(
    job: TrainingJob, crops: CropSource, control: Control
) -> Generator[Event, None, TrainingJob]:
    """Return the training without the crops that nothing can be learnt from."""
    states = crops.states()
    if states is None:
        assert isinstance(crops, StreamedCrops)
        states = yield from _states_of(crops, control)
        if control.stopping:
            return job
    yield from crops_left_out(states, "they are not trained on and get no features")
    unusable = np.flatnonzero(states != CropState.GOOD)
    return job.without(unusable) if len(unusable) else job


def _states_of(crops: StreamedCrops, control: Control) -> Generator[Event, None, np.ndarray]:
    """Cut all crops once, to know which of them can be used."""
    states = np.zeros(len(crops), dtype=np.uint8)
    for first in range(0, len(crops), CHECKED_AT_ONCE):
        some = range(first, min(first + CHECKED_AT_ONCE, len(crops)))
        states[first : some.stop] = [crop.state for crop in crops.cut(some)]
        yield Progress("checking crops", some.stop, len(crops))
        yield from control.pauses()
        if control.stopping:
            break
    return states


def _draw_loss(folder: RunFolder) -> Iterator[Event]:
    # Matplotlib, and scikit-learn below, take longer to import than a job should wait to begin.
    from napari_synapse_cl.pipeline.figures import draw_loss

    try:
        folder.owned.claim(folder.loss_figure)
    except FileExistsError as error:
        yield Message(f"the loss is not drawn: {error}", "warning")
        return
    steps, epochs = read_metrics(folder.steps_file), read_metrics(folder.epochs_file)
    with folder.being_written():
        draw_loss(steps, epochs, folder.loss_figure)
    yield Wrote("figure", str(folder.loss_figure))


def _remove_if_void(
    job: TrainingJob, crops: CropSource, control: Control
) -> Generator[Event, None, bool]:
    """Remove a run that is not wanted, or in which nothing was trained; return whether it was."""
    folder = job.folder
    job.ranks.wait()
    if folder.last_checkpoint.exists() and not control.discarding:
        return False
    if not control.discarding:
        yield Message("the training was stopped before its first step, so there is nothing to keep")
    crops.close()
    if job.ranks.is_main:
        folder.discard()
    yield Discarded(str(folder.path))
    return True
