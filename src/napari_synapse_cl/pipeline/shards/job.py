"""Extraction in shards, from the plan to one dataset; the same command goes on with it."""

import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.formats.stores import be_patient
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.pipeline.shards.finish import finish, finished_with
from napari_synapse_cl.pipeline.shards.here import extract_among_others, extract_here, share_of
from napari_synapse_cl.pipeline.shards.parts import missing_shards
from napari_synapse_cl.pipeline.shards.plan import Places, Plan
from napari_synapse_cl.pipeline.shards.planning import check_goes_on, check_shards, make_plan
from napari_synapse_cl.pipeline.shards.worker import Worker
from napari_synapse_cl.pipeline.steps import check_absent, how_data_were_read
from napari_synapse_cl.runs.events import Control, Event, Message, Wrote
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.system.files import read_record
from napari_synapse_cl.system.folder_lock import HeldError, Hold
from napari_synapse_cl.system.words import counted

ROUNDS = 3
"""How often parts are made again that turn out not to be whole in the end."""
PLAN_SECONDS = 1.0
"""How often a job looks whether another has written the plan."""


def extract_in_shards(config: Config, control: Control) -> Iterator[Event]:
    """Extract features in shards: in this process, on a Dask cluster, or as a job of an array.

    Raises
    ------
    InputError
        If something that was given cannot be used, or the folder holds another extraction.
    JobError
        If the extraction cannot go on; what is done is kept, and the same command goes on.
    """
    check_shards(config)
    be_patient()
    assert config.output is not None
    places = Places(config.output)
    if config.shard is not None:
        yield from _as_job_of_array(places, config, control, share_of(config.shard))
        return
    if config.scheduler is None and config.workers == 1:
        plan = yield from _planned(places, config)
        worker = Worker(places, plan)
        for _ in range(ROUNDS):
            missing = missing_shards(places, plan, read=True)
            yield from extract_here(places, plan, worker, missing, control)
            if (yield from _ended(places, plan, config, control)):
                return
        raise _not_whole(places)
    yield from _on_cluster(places, config, control)


def _on_cluster(places: Places, config: Config, control: Control) -> Iterator[Event]:
    from napari_synapse_cl.pipeline.shards import cluster, fleet

    cluster.check_dask()
    with ExitStack() as stack:
        client = None
        if config.scheduler is not None:
            client = stack.enter_context(cluster.Cluster(0, config.scheduler))
            found = None
            if Plan.read(places) is None or config.overwrite:
                # This computer may have no GPU, and the workers have.
                found = cluster.device_of_workers(client, config.device, config.precision)
            plan = yield from _planned(places, config, found)
        else:
            plan = yield from _planned(places, config)
        for _ in range(ROUNDS):
            missing = missing_shards(places, plan, read=True)
            if missing and client is None:
                n = min(config.workers, len(missing))
                client = stack.enter_context(cluster.Cluster(n, None))
            if missing and client is not None:
                seconds = 60 * config.shard_minutes
                yield from fleet.extract_on_cluster(client, places, plan, missing, control, seconds)
            if (yield from _ended(places, plan, config, control)):
                return
    raise _not_whole(places)


def _as_job_of_array(
    places: Places, config: Config, control: Control, start: float
) -> Iterator[Event]:
    plan = None
    while plan is None:
        try:
            with Hold(places.shards, "folder of shards"):
                plan = yield from _planned(places, config)
        except HeldError:
            # Another plans, and this one goes on as soon as that is done.
            if Plan.read(places) is not None:
                plan = yield from _planned(places, config)
            elif control.wait_for_stop(PLAN_SECONDS):
                return
    if read_record(places.finished) == finished_with(plan, config):
        yield Message("all shards are done already")
        yield Wrote("features", str(places.features))
        return
    worker = None
    for _ in range(ROUNDS):
        if missing_shards(places, plan, read=False):
            worker = worker or Worker(places, plan)
            seconds = 60 * config.shard_minutes
            yield from extract_among_others(places, plan, worker, control, start, seconds)
        if control.stopping:
            yield from _told_of_stop(places, plan)
            return
        left = missing_shards(places, plan, read=False)
        if left:
            yield Message(
                f"{counted(len(left), 'shard')} of {plan.n_shards} are being done by other jobs, "
                "and the last of these finishes; if one of them is ended, give its command again"
            )
            return
        try:
            with Hold(places.shards / "finishing", "folder of shards"):
                if (yield from _ended(places, plan, config, control)):
                    return
        except HeldError:
            yield Message("all shards are done, and another job finishes")
            return
    raise _not_whole(places)


def _planned(
    places: Places, config: Config, device: tuple[str, str] | None = None
) -> Generator[Event, None, Plan]:
    """Return the plan, which is made if there is none; another's is refused."""
    plan = Plan.read(places)
    if plan is not None and not config.overwrite:
        check_goes_on(plan, config)
        if read_record(places.finished).get("format") != config.feature_format:
            check_absent(_one_file_of(places, config), config)
        return plan
    if plan is not None:
        _remove(places)
    elif places.features.exists() and any(places.features.iterdir()):
        raise InputError(
            f"{places.features} is there already, and is of no extraction in shards that could go "
            "on; move it away, or name another output folder"
        )
    check_absent([places.record, *_one_file_of(places, config)], config)
    plan, job = make_plan(config, places, device)
    yield from how_data_were_read(job.dataset)
    for text in job.warnings:
        yield Message(text, "warning")
    yield Message(
        f"{counted(plan.n_rows, 'row')} are extracted in {counted(plan.n_shards, 'shard')}; ended "
        "early, the same command goes on"
    )
    return plan


def _one_file_of(places: Places, config: Config) -> list[Path]:
    """Return what is written beside the parts, if that is wanted."""
    table = RunFolder(places.output).features_file(config)
    return [table, table.with_suffix(".json")] if config.one_file else []


def _ended(
    places: Places, plan: Plan, config: Config, control: Control
) -> Generator[Event, None, bool]:
    """Finish, if all is done and nothing damaged; return whether this is the end."""
    if control.stopping:
        yield from _told_of_stop(places, plan)
        return True
    damaged = yield from finish(places, plan, config, control)
    if damaged:
        yield Message(
            f"{counted(len(damaged), 'part')} of the features are damaged and made again", "warning"
        )
    return not damaged


def _told_of_stop(places: Places, plan: Plan) -> Iterator[Event]:
    n = plan.n_shards - len(missing_shards(places, plan, read=False))
    yield Message(
        f"ended with {n} of {counted(plan.n_shards, 'shard')} done: the same command goes on"
    )


def _remove(places: Places) -> None:
    """Remove an extraction, for another in its place; files that are not of one stay."""
    shutil.rmtree(places.shards)
    for part in places.features.glob("part-*.parquet"):
        part.unlink()
    for file in (places.features / "_common_metadata", places.record, places.failed):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        places.features.rmdir()


def _not_whole(places: Places) -> JobError:
    return JobError(
        f"parts in {places.features} are damaged again and again: look after the disk, and give "
        "the same command"
    )
