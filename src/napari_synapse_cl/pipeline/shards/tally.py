"""How far an extraction in shards has come, as everybody who drives it tells."""

import time
from collections.abc import Iterable

from napari_synapse_cl.pipeline.shards.plan import About, Plan
from napari_synapse_cl.runs.events import ShardsDone
from napari_synapse_cl.runs.shards import Places

LEAST_SECONDS = 1.0
"""Before it no rate is told: it would be that of the start."""


class Tally:
    """Counts of shards and rows that are done, in this start and before.

    Parameters
    ----------
    missing
        The shards that are to be done yet.
    dashboard
        Address of Dask's, empty without one.
    """

    def __init__(
        self, places: Places, plan: Plan, missing: Iterable[int], dashboard: str = ""
    ) -> None:
        self._plan, self._dashboard = plan, dashboard
        self._missing = set(missing)
        before = set(range(plan.n_shards)) - self._missing
        told = (plan.glance(places, shard) for shard in before)
        self._failed = sum(len(about.failed) for about in told if about is not None)
        self._n_before = sum(plan.sizes[shard] for shard in before)
        self._partly: dict[int, int] = {}
        self._n_now = 0
        self._begun = time.monotonic()
        self.again = 0
        self.workers = 1

    def advance(self, shard: int, rows: int) -> None:
        """Note how many rows of a shard are done that is under way."""
        self._partly[shard] = rows

    def done(self, shard: int, about: About | None = None) -> None:
        """Note that a shard is done, by whomever; without `about` by another job."""
        self._partly.pop(shard, None)
        if shard in self._missing:
            self._missing.remove(shard)
            self._n_now += self._plan.sizes[shard]
            self._failed += len(about.failed) if about is not None else 0

    def event(self) -> ShardsDone:
        """Return what there is to tell."""
        seconds = time.monotonic() - self._begun
        now = self._n_now + sum(self._partly.values())
        rate = now / seconds if seconds > LEAST_SECONDS else 0.0
        left = self._plan.total - self._n_before - now
        return ShardsDone(
            task=f"extracting {self._plan.what} in shards",
            done=self._plan.n_shards - len(self._missing),
            total=self._plan.n_shards,
            crops=self._n_before + now,
            total_crops=self._plan.total,
            workers=self.workers,
            crops_per_second=rate,
            seconds_left=left / rate if rate else None,
            failed=self._failed,
            again=self.again,
            unit=self._plan.unit,
            dashboard=self._dashboard,
        )
