"""What does shards: a process that has opened network and volumes once."""

import json
import os
import platform
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl.config import Config, is_url
from napari_synapse_cl.data.arrays import first_line
from napari_synapse_cl.data.crops.sources import StreamedCrops, fingerprint
from napari_synapse_cl.data.formats.stores import be_patient
from napari_synapse_cl.data.opening import open_parts
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.extraction import BATCH_VOXELS
from napari_synapse_cl.pipeline.extraction_preparation import ExtractionJob, open_chosen_network
from napari_synapse_cl.pipeline.shards.parts import read_part, write_part
from napari_synapse_cl.pipeline.shards.plan import About, Plan
from napari_synapse_cl.pipeline.shards.planning import without_synapses
from napari_synapse_cl.pipeline.shards.table import ShardRows, TablePlan, read_rows
from napari_synapse_cl.pipeline.shards.trail import Trail
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.devices import choose_device
from napari_synapse_cl.system.memory import is_shortage
from napari_synapse_cl.system.words import VoxelSize, triple

MOST_AT_ONCE = 256
"""Crops that go through the network at once: so few rows are computed again where one breaks."""
OUTSIDE = "it lies outside the volume, has no position, or its crop is left out at the border"
_OF_SERVERS = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED")
"""How tensorstore begins to tell of a server that does not answer as it should."""


ReadRows = Callable[[ShardRows, np.ndarray, Tensor], Mapping[Any, np.ndarray]]
"""Makes, by the sources of the plan, ``(B, C)`` float32 of crops of some positions of a shard."""


def job_of(places: Places, plan: TablePlan, device: torch.device) -> ExtractionJob:
    """Return the extraction of a plan, without any synapse.

    Raises
    ------
    InputError
        If something cannot be opened any more.
    """
    config = plan.settings()
    opened = None if config.checkpoint is None else open_chosen_network(config)
    parts = open_parts(config, _triple(plan.network_size))
    dataset = without_synapses(parts, _triple(plan.voxel_size), plan.name, list(plan.partners))
    shape = dataset.context(config) if config.compare_layers else config.crop_size
    return ExtractionJob(
        config=config,
        folder=RunFolder(places.output),
        dataset=dataset,
        crops=dataset.streamed(config, shape),
        network=None if opened is None else opened.network,
        architecture=None if opened is None else opened.architecture,
        device=device,
        precision=plan.precision,
        origin=None if opened is None else opened.origin,
    )


def usually_at_once(config: Config) -> int:
    """Return how many crops go through the network at once where memory suffices."""
    size = config.shard_size
    most = max(1, min(MOST_AT_ONCE, size, BATCH_VOXELS // prod(config.crop_size)))
    # As even as can be: where the last batch is not full, crops are computed in vain.
    return -(-size // -(-size // most))


class TableWorker:
    """Network and volumes of a plan, opened for shard after shard.

    Parameters
    ----------
    ordinal
        The number of this worker on its computer, by which it takes one of several GPUs.

    Raises
    ------
    InputError
        If something cannot be opened any more, or the device is of another type than planned.
    """

    def __init__(self, places: Places, plan: TablePlan, ordinal: int | None = None) -> None:
        be_patient()
        self.places, self.plan = places, plan
        job = job_of(places, plan, device_of(plan, ordinal))
        self.parts = job.dataset.parts
        self._reads = self.reads(job)
        assert isinstance(job.crops, StreamedCrops)
        self._crops = job.crops
        self._sources = [source for source, _ in plan.columns]
        self.at_once = usually_at_once(job.config)

    def reads(self, job: ExtractionJob) -> ReadRows:
        """Return what makes features of crops."""
        reader = job.reader
        return lambda rows, which, crops: reader.read(crops)

    def extract(self, shard: int, *, at_once: int | None = None) -> Generator[int, None, About]:
        """Extract the features of a shard and write its part, unless that is there and whole.

        Batches are always full, with repeated crops where there are too few: the bits of a row's
        features are the same whatever is beside it.

        Parameters
        ----------
        at_once
            How many crops go through the network at once, where memory does not suffice for more.

        Yields
        ------
        int
            How many rows of the shard are done.

        Raises
        ------
        JobError
            If a server is down, or the part cannot be written.
        """
        there = read_part(self.places, self.plan, shard)
        if there is not None:
            return there[2]
        begun = time.monotonic()
        rows = read_rows(self.places, self.plan, shard)
        work = _ShardWork(self, rows, at_once or self.at_once, self.places.trail(shard))
        yield from work.run()
        about = About(
            plan=self.plan.key,
            shard=shard,
            sha256="",
            failed=[(int(rows.rows[number]), why) for number, why in sorted(work.failed.items())],
            fewer_at_once=at_once is not None or work.is_alone,
        )
        columns = rows.own.append_column(self.plan.row, [rows.rows])
        write_part(self.places, self.plan, about, columns, work.values)
        work.trail.remove()
        log_done(
            self.places.done, shard, len(rows.rows), len(work.failed), time.monotonic() - begun
        )
        return about

    def describe(
        self, rows: ShardRows, which: np.ndarray, crops: np.ndarray, at_once: int
    ) -> np.ndarray:
        """Return ``(n, C)`` float32 of ``(n, 1, D, H, W)`` crops, at most as many as at once.

        Parameters
        ----------
        which
            ``(n,)``, of which positions of the shard they are.
        """
        n = len(crops)
        places = np.concatenate([np.arange(n), np.zeros(at_once - n, np.int64)])
        read = self._reads(rows, which[places], torch.from_numpy(crops[places]))
        return np.concatenate([read[source] for source in self._sources], axis=1)[:n]

    def crops_of(self, rows: ShardRows) -> StreamedCrops:
        """Return the crops of a shard."""
        return self._crops.around(rows.positions)


class _ShardWork:
    """The rows of a shard while they are computed; numbers count within the shard."""

    def __init__(self, worker: TableWorker, rows: ShardRows, at_once: int, trail: Path) -> None:
        self._worker, self._rows, self._at_once = worker, rows, at_once
        self._crops = worker.crops_of(rows)
        # Of positions, which are those inside, their numbers within the shard.
        self._numbers = rows.positions.rows
        self.trail = Trail(trail)
        self.is_alone = False
        self.values = np.full((len(rows.rows), len(worker.plan.names)), np.nan, np.float32)
        outside = np.setdiff1d(np.arange(len(rows.rows)), self._numbers)
        self.failed = dict.fromkeys(outside.tolist(), OUTSIDE)

    def run(self) -> Generator[int, None, None]:
        """Compute all, batch after batch."""
        n = len(self._crops)
        for first in range(0, n, self._at_once):
            batch = range(first, min(first + self._at_once, n))
            one_by_one = self.trail.begin_batch(first)
            if one_by_one and not self._stand_alone(batch):
                self.is_alone = True
                for position in self._left(batch):
                    self._compute([position])
            else:
                self._compute(self._left(batch))
            yield batch.stop
        for position, why in self.trail.failed.items():
            self.failed[int(self._numbers[position])] = why

    def _left(self, batch: range) -> list[int]:
        return [position for position in batch if position not in self.trail.failed]

    def _stand_alone(self, batch: range) -> bool:
        """Compute each row alone, to find what breaks workers; return whether they go together."""
        for position in batch:
            if not self.trail.begin_row(position):
                continue
            try:
                self._compute([position])
            except Exception as error:
                if is_shortage(error) or isinstance(error, JobError):
                    raise
                self.trail.fail(position, first_line(error))
        return self.trail.end_rows(batch.stop)

    def _compute(self, positions: list[int]) -> None:
        pieces = self._read(positions)
        usable = np.concatenate([found for _, found in pieces]) if pieces else np.empty(0)
        for position in np.setdiff1d(positions, usable).tolist():
            number = int(self._numbers[position])
            if number not in self.failed:
                self.failed[number] = self._crops.problem(position)
        if len(usable):
            crops = np.concatenate([crops for crops, _ in pieces])
            self.values[self._numbers[usable]] = self._worker.describe(
                self._rows, usable, crops, self._at_once
            )

    def _read(self, positions: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return crops that can be used, and which they are; why others cannot be read is kept."""
        if not positions:
            return []
        try:
            return [self._crops.read_usable(positions)]
        except Exception as error:
            if is_shortage(error):
                raise
            if len(positions) > 1:
                middle = len(positions) // 2
                return [*self._read(positions[:middle]), *self._read(positions[middle:])]
            check_servers(error, self._worker.parts)
            self.failed[int(self._numbers[positions[0]])] = str(error)
            return []


def device_of(plan: Plan, ordinal: int | None) -> torch.device:
    """Return the device of a worker.

    Parameters
    ----------
    ordinal
        As :meth:`Plan.open_worker` takes it.

    Raises
    ------
    InputError
        If it is of another type than planned.
    """
    device = choose_device(plan.settings().device)
    if device.type != plan.device:
        raise InputError(
            f"the {plan.what} were begun on the device {plan.device}, and here they would be "
            f"computed on {device.type}: name --device {plan.device}, or begin anew in another "
            "output folder"
        )
    if device.type == "cuda" and ordinal is not None:
        return torch.device("cuda", ordinal % torch.cuda.device_count())
    return device


def check_servers(error: Exception, parts: Iterable[Part]) -> None:
    """Check after an error of reading that servers answer at all, so that it is not their fault.

    Raises
    ------
    JobError
        If one does not.
    """
    cause = error.__cause__ or error
    if not (isinstance(cause, TimeoutError) or first_line(cause).startswith(_OF_SERVERS)):
        return
    for part in parts:
        location = part.volume.location
        if location is not None and is_url(location):
            try:
                fingerprint(location)
            except InputError as down:
                raise JobError(str(down)) from down


def _triple(values: list[float] | None) -> VoxelSize | None:
    return None if values is None else triple(values)


def log_done(file: Path, shard: int, rows: int, failed: int, seconds: float) -> None:
    """Append who has done a shard; lines as short as these are not mixed with others'."""
    line = {
        "shard": shard,
        "rows": rows,
        "failed": failed,
        "seconds": round(seconds, 3),
        "host": platform.node(),
        "pid": os.getpid(),
    }
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(line) + "\n")
