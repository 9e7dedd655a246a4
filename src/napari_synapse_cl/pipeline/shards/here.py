"""Do shards in this process: all of them, or as a job of an array that needs no scheduler."""

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.pipeline.shards.plan import Plan, Worker
from napari_synapse_cl.pipeline.shards.tally import Tally
from napari_synapse_cl.runs.events import Control, Event, Message
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.environment import Launch, variable
from napari_synapse_cl.system.memory import is_shortage

ARRAYS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MAX"),
    ("LSB_JOBINDEX", "LSB_JOBINDEX_END"),
    ("PBS_ARRAY_INDEX", None),
    ("SGE_TASK_ID", "SGE_TASK_LAST"),
)
"""Variables in which schedulers tell a job of an array its number, and the last one."""
GOLDEN = 0.6180339887
"""Multiples of it lie evenly between whole numbers, however many there are of them."""
HUNG_SECONDS = 3600.0
"""For so long a job may be at one batch without a limit of its own."""


def share_of(shard: str) -> float:
    """Return where among all shards a job of an array begins, from 0 to below 1.

    Parameters
    ----------
    shard
        "I/N", or "array" for what torchrun's or the scheduler's variables say.

    Raises
    ------
    InputError
        If the number is not one of the array's, or no scheduler says one.
    """
    if shard != "array":
        index, total = map(int, shard.split("/"))
        if index > total:
            raise InputError(f"shard {shard} is no part: I/N counts from 1/{total} to {shard}")
        return (index - 1) / total
    launch = Launch.of_this_process()
    if launch.size > 1:
        return launch.rank / launch.size
    for name, last in ARRAYS:
        number = variable(name)
        if number is not None and number.isdigit():
            end = variable(last) if last else None
            # Arrays may begin anywhere and leave numbers out: jobs take over from each other.
            if end is not None and end.isdigit() and int(end) >= int(number) > 0:
                return (int(number) - 1) / int(end)
            return int(number) * GOLDEN % 1
    raise InputError(
        f"shard array takes the number of the job from {', '.join(n for n, _ in ARRAYS)}, and none "
        "is set: write I/N"
    )


def extract_here(
    places: Places, plan: Plan, worker: Worker, missing: Iterable[int], control: Control
) -> Iterator[Event]:
    """Do shards one after the other.

    Raises
    ------
    JobError
        If memory does not suffice for a single crop, a server is down, or the disk is full.
    """
    missing = list(missing)
    tally = Tally(places, plan, missing)
    yield tally.event()
    for shard in missing:
        yield from _one(worker, shard, tally, control)
        if control.stopping:
            return


def extract_among_others(
    places: Places, plan: Plan, worker: Worker, control: Control, start: float, limit: float
) -> Iterator[Event]:
    """Do the shards that nobody else does: first those of this job's share, then all others.

    Parameters
    ----------
    start
        Where the share begins among all, from 0 to below 1.
    limit
        Seconds after which a job is taken for hung that is at one batch; 0 for an hour.
    """
    first = int(start * plan.n_shards)
    order = [*range(first, plan.n_shards), *range(first)]
    missing = [shard for shard in order if plan.glance(places, shard) is None]
    tally = Tally(places, plan, missing)
    yield tally.event()
    for shard in missing:
        with _claimed(places, shard, limit or HUNG_SECONDS) as is_mine:
            if not is_mine:
                continue
            if plan.glance(places, shard) is None:
                yield from _one(worker, shard, tally, control)
            else:
                tally.done(shard)
        if control.stopping:
            return


@contextmanager
def _claimed(places: Places, shard: int, limit: float) -> Iterator[bool]:
    """Claim a shard as long as the block runs; say whether no other job has claimed it.

    One that has begun no batch for so many seconds is taken for hung: what two do comes out the
    same, and each renames it into its place whole.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    file = places.claim(shard)
    file.parent.mkdir(parents=True, exist_ok=True)
    for kind in (FileLock, SoftFileLock):
        lock = kind(file if kind is FileLock else file.with_suffix(".mark"), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield _is_old(places.trail(shard), limit)
            return
        # File systems that know no locks take a mark, which a job that dies elsewhere leaves.
        except (OSError, NotImplementedError):
            continue
        try:
            yield True
        finally:
            lock.release()
        return
    yield True


def _is_old(trail: Path, limit: float) -> bool:
    try:
        return time.time() - trail.stat().st_mtime > limit
    except OSError:
        return False


def _one(
    worker: Worker, shard: int, tally: Tally, control: Control
) -> Generator[Event, None, None]:
    """Do one shard, with less at once when memory runs out."""
    at_once = worker.at_once
    while True:
        steps = worker.extract(shard, at_once=None if at_once == worker.at_once else at_once)
        try:
            while True:
                tally.advance(shard, next(steps))
                yield tally.event()
                yield from control.pauses()
                if control.stopping:
                    return
        except StopIteration as end:
            tally.done(shard, end.value)
            yield tally.event()
            return
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            at_once = fewer_at_once(at_once, error)
            tally.again += 1
            yield Message(f"memory ran out: shard {shard} goes on with half as much at once")


def fewer_at_once(at_once: int, error: BaseException) -> int:
    """Return how many crops or voxels go through the network at once after memory ran out.

    Raises
    ------
    JobError
        If it was one already.
    """
    if at_once == 1:
        raise JobError(
            "memory ran out for the least that can go through the network at once; end other "
            "programs, or choose the device cpu, fewer layers or a smaller crop_size"
        ) from error
    return max(1, at_once // 2)
