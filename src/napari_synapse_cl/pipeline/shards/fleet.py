"""Have the workers of a Dask cluster do shards.

Dask gives out the shards, notices workers that die and gives what they had to others. Here is what
it does not do: a limit of time, another try elsewhere after an error, and an end.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from statistics import median
from typing import TYPE_CHECKING, Any

from napari_synapse_cl.config import is_url
from napari_synapse_cl.data.arrays import first_line
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.pipeline.shards.cluster import CONNECT_SECONDS, FIRST_LIMIT, TRIES
from napari_synapse_cl.pipeline.shards.here import fewer_at_once
from napari_synapse_cl.pipeline.shards.plan import About, Plan, worker_of
from napari_synapse_cl.pipeline.shards.tally import Tally
from napari_synapse_cl.pipeline.shards.trail import Trail
from napari_synapse_cl.runs.events import Control, Event, Message
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.memory import is_shortage

if TYPE_CHECKING:
    from distributed import Client, Future

TOPIC = "napari-synapse-cl-shards"
TIMES_MEDIAN, LEAST_LIMIT = 10.0, 60.0
"""A shard that takes so many times the median, and so many seconds, is taken for hung."""
SERVER_SECONDS = 300.0
"""How much longer that is where servers may let it wait."""
OPENING_SECONDS = 300.0
"""How long a worker may take, with shards to do, before it begins the first."""
LOOK_SECONDS = 0.5
LOOK_AT_WORKERS_SECONDS = 2.0
LEAST_WAITING = 64
"""Shards that wait at the scheduler at least: by them clusters that grow see that there is work."""


def _extract(output: str, key: str, shard: int, at_once: int | None) -> About:
    """Do a shard, in a worker."""
    from distributed import get_worker

    dask_worker = get_worker()
    name = dask_worker.name
    worker = worker_of(Path(output), key, name if isinstance(name, int) else None)
    # How long it took to open network and volumes tells nothing of how long shards take.
    dask_worker.log_event(TOPIC, {"shard": shard, "worker": dask_worker.address})
    steps = worker.extract(shard, at_once=at_once)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            about: About = end.value
            return about


class _Fleet:
    """Shards that workers do, and what becomes of them."""

    def __init__(
        self, client: "Client", places: Places, plan: Plan, tally: Tally, limit: float
    ) -> None:
        self.client, self.places, self.plan, self.tally = client, places, plan, tally
        self.waiting: list[int] = []
        self._limit = limit
        self._news: SimpleQueue[Any] = SimpleQueue()
        self._futures: dict[int, Future] = {}
        self._running: dict[int, tuple[str, float]] = {}
        self._seconds: list[float] = []
        self._quiet: dict[str, float] = {}
        self._looked = 0.0
        self._tries: Counter[int] = Counter()
        self._submitted: Counter[int] = Counter()
        self._at_once: dict[int, int | None] = {}
        self._avoided: dict[int, set[str]] = {}
        self._trails: dict[int, tuple[int, ...]] = {}
        is_remote = any(is_url(source["path"]) for source in plan.data)
        self._waits = SERVER_SECONDS if is_remote else 0.0
        client.subscribe_topic(TOPIC, self._news.put)

    @property
    def is_busy(self) -> bool:
        """Whether a shard is to be done yet."""
        return bool(self.waiting or self._futures)

    def submit(self) -> None:
        """Hand out shards, as many as keep workers busy."""
        threads = self.client.nthreads()
        self.tally.workers = len(threads)
        most = max(LEAST_WAITING, 3 * sum(threads.values()))
        while self.waiting and len(self._futures) < most:
            self._hand_out(self.waiting.pop(0), threads)

    def look(self) -> list[Event]:
        """Wait for what happens next, a moment at most; return what is to be told."""
        told: list[Event] = []
        with suppress(Empty):
            news = self._news.get(timeout=LOOK_SECONDS)
            while True:
                told += self._take(news)
                news = self._news.get_nowait()
        if self.client.status not in ("running", "connecting"):
            raise JobError(
                "the scheduler is gone; what is done is kept: start it again, and give the same "
                "command"
            )
        told += self._end_hung()
        return told

    def cancel(self) -> None:
        """Leave off."""
        with suppress(Exception):
            self.client.cancel(list(self._futures.values()))

    def _hand_out(self, shard: int, threads: dict[str, int]) -> None:
        others = sorted(set(threads) - self._avoided.get(shard, set()))
        self._submitted[shard] += 1
        future = self.client.submit(
            _extract,
            str(self.places.output.absolute()),
            self.plan.key,
            shard,
            self._at_once.get(shard),
            key=f"shard-{self.plan.key}-{shard}-{self._submitted[shard]}",
            workers=others if shard in self._avoided and others else None,
            allow_other_workers=False,
        )
        self._futures[shard] = future
        future.add_done_callback(lambda done, shard=shard: self._news.put((shard, done)))

    def _take(self, news: Any) -> list[Event]:
        """Take one piece of news: that a shard was begun, or has ended."""
        if not isinstance(news[1], dict):
            return self._ended(*news)
        shard, worker = news[1]["shard"], news[1]["worker"]
        if shard in self._futures:
            if shard in self._running:
                self.tally.again += 1
            self._running[shard] = (worker, time.monotonic())
        return [self.tally.event()]

    def _ended(self, shard: int, future: "Future") -> list[Event]:
        # That of a try before, which was given up.
        if shard not in self._futures or self._futures[shard] is not future:
            return []
        del self._futures[shard]
        worker, begun = self._running.pop(shard, ("", time.monotonic()))
        if future.status == "finished":
            self._seconds.append(time.monotonic() - begun)
            self.tally.done(shard, future.result())
            return [self.tally.event()]
        if future.status == "cancelled":
            raise JobError(
                "the scheduler is gone; what is done is kept: start it again, and give the same "
                "command"
            )
        return self._failed(shard, worker, future.exception())

    def _failed(self, shard: int, worker: str, error: BaseException) -> list[Event]:
        """Decide how a shard goes on that has failed."""
        from distributed import KilledWorker

        if isinstance(error, InputError):
            raise error
        self.tally.again += 1
        self._tries[shard] += 1
        self.waiting.append(shard)
        if isinstance(error, KilledWorker):
            trail = Trail(self.places.trail(shard)).told
            # As long as it comes to another row each time, it is found out which one it is.
            if self._trails.get(shard) == trail:
                raise JobError(
                    f"{TRIES} workers in turn died before they had begun to compute shard {shard}: "
                    "look at what they say"
                ) from None
            self._trails[shard] = trail
            return [Message(f"{TRIES} workers in turn have died in shard {shard}: it goes on")]
        self._avoided.setdefault(shard, set()).add(worker)
        if is_shortage(error) and self._tries[shard] >= min(TRIES, len(self.client.nthreads())):
            at_once = self._at_once.get(shard) or self.plan.at_once
            self._at_once[shard] = fewer_at_once(at_once, error)
            del self._avoided[shard]
        elif self._tries[shard] >= TRIES and not is_shortage(error):
            raise JobError(f"shard {shard} failed {TRIES} times: {first_line(error)}") from error
        where = f"on {worker}" if worker else "on a worker"
        return [Message(f"shard {shard} failed {where} and is tried again: {first_line(error)}")]

    def _end_hung(self) -> list[Event]:
        limit = self._limit
        if not limit:
            times = [TIMES_MEDIAN * median(self._seconds)] if self._seconds else [FIRST_LIMIT]
            limit = max(LEAST_LIMIT, *times) + self._waits
        now = time.monotonic()
        told: list[Event] = []
        for shard, (worker, begun) in list(self._running.items()):
            if now - begun > limit:
                # Once is enough, until another begins it.
                self._running[shard] = (worker, now + FIRST_LIMIT)
                self._end(worker)
                text = f"shard {shard} has taken {now - begun:.0f} s: its worker is ended"
                told.append(Message(f"{text}, and another does it", "warning"))
        for worker, since in self._idle_since(now).items():
            if now - since > max(limit, OPENING_SECONDS):
                self._quiet[worker] = now + FIRST_LIMIT
                self._end(worker)
                told.append(Message(f"the worker {worker} does not begin, and is ended", "warning"))
        return told

    def _idle_since(self, now: float) -> dict[str, float]:
        """Return since when workers have had shards and begun none, as one that is stopped does."""
        if now - self._looked > LOOK_AT_WORKERS_SECONDS:
            self._looked = now
            busy = {worker for worker, _ in self._running.values()}
            given = {worker for worker, keys in self.client.processing().items() if keys}
            self._quiet = {worker: self._quiet.get(worker, now) for worker in given - busy}
        return self._quiet

    def _end(self, worker: str) -> None:
        threading.Thread(target=self._restart, args=(worker,), daemon=True).start()

    def _restart(self, worker: str) -> None:
        # Its nanny ends it, whatever state it is in; a worker that has none is given up.
        with suppress(Exception):
            self.client.restart_workers([worker], timeout=CONNECT_SECONDS, raise_for_error=False)


def extract_on_cluster(
    client: "Client",
    places: Places,
    plan: Plan,
    missing: Iterable[int],
    control: Control,
    limit: float,
) -> Iterator[Event]:
    """Have workers do shards.

    Parameters
    ----------
    limit
        Seconds after which a worker is taken for hung; 0 tells it from how long shards take.

    Raises
    ------
    JobError
        If a shard cannot be done that is not the fault of a row, or the scheduler is gone.
    """
    missing = list(missing)
    link = client.dashboard_link if find_spec("bokeh") else ""
    tally = Tally(places, plan, missing, link or "")
    fleet = _Fleet(client, places, plan, tally, limit)
    fleet.waiting = missing
    tally.workers = len(client.nthreads())
    yield tally.event()
    try:
        while fleet.is_busy:
            fleet.submit()
            yield from fleet.look()
            yield from control.pauses()
            if control.stopping:
                return
    finally:
        fleet.cancel()
