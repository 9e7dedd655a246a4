"""Extraction in shards, from the plan to one dataset; the same command goes on with it."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.formats.stores import be_patient
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.pipeline.shards.here import extract_among_others, extract_here, share_of
from napari_synapse_cl.pipeline.shards.plan import Plan
from napari_synapse_cl.pipeline.shards.planning import check_shards
from napari_synapse_cl.runs.events import Control, Event, Message
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import read_record
from napari_synapse_cl.system.folder_lock import HeldError, Hold
from napari_synapse_cl.system.words import counted

ROUNDS = 3
"""How often parts are made again that turn out not to be whole in the end."""
PLAN_SECONDS = 1.0
"""How often a job looks whether another has written the plan."""


@dataclass(frozen=True)
class Kind:
    """What is extracted in shards: features, maps, or what layers are compared by."""

    planned: Callable[[Places, Config, tuple[str, str] | None], Generator[Event, None, Plan]]
    """Returns the plan, which is made if there is none."""
    missing: Callable[..., list[int]]
    """Returns the shards that are to be done."""
    finish: Callable[[Places, Any, Config, Control], Generator[Event, None, list[int]]]
    """Makes the result of all shards; returns those that are not whole."""
    finished_with: Callable[[Any, Config], dict[str, Any]]
    """Returns what decides what is made in the end."""


def _kind_of(config: Config) -> Kind:
    # Zarr and what tables take are imported by those who need them.
    if config.dense:
        from napari_synapse_cl.pipeline.shards import maps

        return Kind(maps.planned, maps.missing, maps.finish, maps.finished_with)
    from napari_synapse_cl.pipeline.shards import finish, parts, planning

    if config.compare_layers:
        from napari_synapse_cl.pipeline.shards import comparing as c

        return Kind(c.planned, parts.missing_shards, c.finish, c.finished_with)
    return Kind(planning.planned, parts.missing_shards, finish.finish, finish.finished_with)


def extract_in_shards(config: Config, control: Control) -> Iterator[Event]:
    """Extract features or maps in shards: here, on a Dask cluster, or as a job of an array.

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
    places, kind = Places(config.output), _kind_of(config)
    if config.shard is not None:
        yield from _as_job_of_array(places, kind, config, control, share_of(config.shard))
        return
    if config.scheduler is None and config.workers == 1:
        plan = yield from kind.planned(places, config, None)
        worker = plan.open_worker(places)
        for _ in range(ROUNDS):
            missing = kind.missing(places, plan, read=True)
            yield from extract_here(places, plan, worker, missing, control)
            if (yield from _ended(places, kind, plan, config, control)):
                return
        raise _not_whole(places)
    yield from _on_cluster(places, kind, config, control)


def _on_cluster(places: Places, kind: Kind, config: Config, control: Control) -> Iterator[Event]:
    from napari_synapse_cl.pipeline.extraction_preparation import (
        open_chosen_network,
        precision_to_read,
    )
    from napari_synapse_cl.pipeline.shards import cluster, fleet

    cluster.check_dask()
    with ExitStack() as stack:
        client = None
        if config.scheduler is not None:
            client = stack.enter_context(cluster.Cluster(0, config.scheduler))
            found = None
            if Plan.read(places) is None or config.overwrite:
                # This computer may have no GPU, and the workers have.
                origin = open_chosen_network(config).origin if config.checkpoint else None
                precision = precision_to_read(config, origin)
                found = cluster.device_of_workers(client, config.device, precision)
            plan = yield from kind.planned(places, config, found)
        else:
            plan = yield from kind.planned(places, config, None)
        for _ in range(ROUNDS):
            missing = kind.missing(places, plan, read=True)
            if missing and client is None:
                n = min(config.workers, len(missing))
                client = stack.enter_context(cluster.Cluster(n, None))
            if missing and client is not None:
                seconds = 60 * config.shard_minutes
                yield from fleet.extract_on_cluster(client, places, plan, missing, control, seconds)
            if (yield from _ended(places, kind, plan, config, control)):
                return
    raise _not_whole(places)


def _as_job_of_array(
    places: Places, kind: Kind, config: Config, control: Control, start: float
) -> Iterator[Event]:
    plan = None
    while plan is None:
        try:
            with Hold(places.shards, "folder of shards"):
                plan = yield from kind.planned(places, config, None)
        except HeldError:
            # Another plans, and this one goes on as soon as that is done.
            if Plan.read(places) is not None:
                plan = yield from kind.planned(places, config, None)
            elif control.wait_for_stop(PLAN_SECONDS):
                return
    if read_record(places.finished) == kind.finished_with(plan, config):
        yield Message("all shards are done already")
        yield plan.result(places)
        return
    worker = None
    for _ in range(ROUNDS):
        if kind.missing(places, plan, read=False):
            worker = worker or plan.open_worker(places)
            seconds = 60 * config.shard_minutes
            yield from extract_among_others(places, plan, worker, control, start, seconds)
        if control.stopping:
            yield from _told_of_stop(places, kind, plan)
            return
        left = kind.missing(places, plan, read=False)
        if left:
            yield Message(
                f"{counted(len(left), 'shard')} of {plan.n_shards} are being done by other jobs, "
                "and the last of these finishes; if one of them is ended, give its command again"
            )
            return
        try:
            with Hold(places.shards / "finishing", "folder of shards"):
                if (yield from _ended(places, kind, plan, config, control)):
                    return
        except HeldError:
            yield Message("all shards are done, and another job finishes")
            return
    raise _not_whole(places)


def _ended(
    places: Places, kind: Kind, plan: Plan, config: Config, control: Control
) -> Generator[Event, None, bool]:
    """Finish, if all is done and nothing damaged; return whether this is the end."""
    if control.stopping:
        yield from _told_of_stop(places, kind, plan)
        return True
    damaged = yield from kind.finish(places, plan, config, control)
    if damaged:
        yield Message(
            f"{counted(len(damaged), 'part')} of the {plan.what} are damaged and made again",
            "warning",
        )
    return not damaged


def _told_of_stop(places: Places, kind: Kind, plan: Plan) -> Iterator[Event]:
    n = plan.n_shards - len(kind.missing(places, plan, read=False))
    yield Message(
        f"ended with {n} of {counted(plan.n_shards, 'shard')} done: the same command goes on"
    )


def _not_whole(places: Places) -> JobError:
    return JobError(
        f"parts in {places.output} are damaged again and again: look after the disk, and give "
        "the same command"
    )
