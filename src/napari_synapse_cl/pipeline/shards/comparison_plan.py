"""What layers of a network are compared by, of some rows of a table that are read in shards."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from napari_synapse_cl.data.grey_spread import spreads_of
from napari_synapse_cl.features.descriptors import descriptor_columns
from napari_synapse_cl.features.extraction import HAND
from napari_synapse_cl.pipeline.comparison import results_of
from napari_synapse_cl.pipeline.comparison_reading import N_UNTRAINED, Features, n_moved, what_reads
from napari_synapse_cl.pipeline.extraction import columns_of
from napari_synapse_cl.pipeline.extraction_preparation import ExtractionJob
from napari_synapse_cl.pipeline.shards.plan import Worker
from napari_synapse_cl.pipeline.shards.table import ShardRows, TablePlan
from napari_synapse_cl.pipeline.shards.worker import ReadRows, TableWorker
from napari_synapse_cl.runs.events import Wrote
from napari_synapse_cl.runs.shards import Places

N_VIEWS = 2


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan(TablePlan):
    """A comparison of layers whose crops are read in shards.

    What its columns are of is written "number/source": of the how manieth reading of
    `comparison_reading.what_reads`, and of which layer, histogram or descriptors in it.
    """

    kind: ClassVar[str] = "comparison"
    what: ClassVar[str] = "features to compare"

    @property
    def is_probed(self) -> bool:
        """Whether what probes are asked of is read too."""
        return len({str(source).split("/")[0] for source, _ in self.columns}) > N_VIEWS

    def part(self, places: Places, shard: int) -> Path:
        """Return where what a shard has made goes."""
        return places.shards / "compared" / places.part(shard).name

    def open_worker(self, places: Places, ordinal: int | None = None) -> Worker:
        """Open network and volumes for shard after shard."""
        return ComparisonWorker(places, self, ordinal)

    def result(self, places: Places) -> Wrote:
        """Return the report."""
        return Wrote("report", str(results_of(places.output, self.settings())[0]))


class ComparisonWorker(TableWorker):
    """Network, untrained ones and volumes of a plan, opened for shard after shard."""

    plan: ComparisonPlan

    def reads(self, job: ExtractionJob) -> ReadRows:
        """Return what makes of crops all that layers are compared by."""
        reads = what_reads(job, probed=self.plan.is_probed)

        def read(rows: ShardRows, which: np.ndarray, crops: Tensor) -> Mapping[Any, np.ndarray]:
            # Draws are told by the rows of the whole table, so they are those of one process.
            of_table = rows.rows[rows.positions.rows[which]]
            spreads = spreads_of(job.config, rows.positions, which)
            return {
                f"{number}/{source}": values.reshape(len(values), -1)
                for number, features in enumerate(reads(of_table, spreads, crops))
                for source, values in features.items()
            }

        return read


def columns_to_compare(job: ExtractionJob, *, probed: bool) -> list[tuple[int | str, list[str]]]:
    """Return what the columns of a plan are of, and their names."""
    # scikit-learn takes longer to import than a job should wait to begin.
    from napari_synapse_cl.features.analysis import N_BINS
    from napari_synapse_cl.features.scores import HISTOGRAM

    layers = {source: len(names) for source, names in columns_of(job.config, job.layers).items()}
    readings: list[dict[Any, int]] = [{**layers, HISTOGRAM: N_BINS}] * N_VIEWS
    if probed:
        by_all = [{**layers, HAND: len(descriptor_columns())}, *[layers] * N_UNTRAINED]
        n = n_moved(job)
        readings += [{source: n * width for source, width in one.items()} for one in by_all]
    return [
        (f"{number}/{source}", [f"{number}/{source}/{channel}" for channel in range(width)])
        for number, reading in enumerate(readings)
        for source, width in reading.items()
    ]


def features_in(plan: ComparisonPlan, values: np.ndarray, n_crops: int) -> tuple[Features, ...]:
    """Return what was read, as `comparison.Read` has it.

    Parameters
    ----------
    values
        ``(N, C)`` float32, what the parts hold.
    n_crops
        Crops of each synapse that probes learn from.
    """
    found: dict[int, Features] = {}
    start = 0
    for key, names in plan.columns:
        number, source = str(key).split("/")
        part = values[:, start : start + len(names)]
        start += len(names)
        if int(number) >= N_VIEWS:
            part = part.reshape(len(part), n_crops, -1)
        found.setdefault(int(number), {})[HAND if source == HAND else int(source)] = part
    return tuple(found.values())
