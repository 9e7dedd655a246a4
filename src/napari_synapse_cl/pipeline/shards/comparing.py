"""A comparison of layers in shards: it is planned, and made when all shards are read."""

import shutil
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.parts import Positions
from napari_synapse_cl.errors import disk_in_words, reason
from napari_synapse_cl.pipeline.comparison import (
    Read,
    draw_compared,
    has_probes,
    how_many_are_drawn,
    prepare_comparison,
    results_of,
    score,
    with_layers,
    write_comparison,
)
from napari_synapse_cl.pipeline.comparison_reading import n_moved
from napari_synapse_cl.pipeline.extraction_preparation import ExtractionJob
from napari_synapse_cl.pipeline.shards.comparison_plan import (
    ComparisonPlan,
    columns_to_compare,
    features_in,
)
from napari_synapse_cl.pipeline.shards.finish import Failed, failed_in, tell_fewer, write_failed
from napari_synapse_cl.pipeline.shards.parts import read_part
from napari_synapse_cl.pipeline.shards.planning import check_goes_on, on_any_device, write_plan
from napari_synapse_cl.pipeline.shards.rows import in_space
from napari_synapse_cl.pipeline.shards.table import ShardRows, read_rows
from napari_synapse_cl.pipeline.shards.worker import job_of
from napari_synapse_cl.pipeline.steps import check_absent, how_data_were_read
from napari_synapse_cl.runs.events import Control, Event, Message, Progress
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import read_record, write_json
from napari_synapse_cl.system.words import counted

TIMES = 8
"""How many crops of each synapse go through networks, where there are labels."""


def planned(
    places: Places, config: Config, device: tuple[str, str] | None = None
) -> Generator[Event, None, ComparisonPlan]:
    """Return the plan of a comparison, which is made if there is none; another's is refused.

    Which synapses are compared on is drawn for it, and stands in it.

    Parameters
    ----------
    device
        Type of the workers' device and their precision; None where they are those of this process.

    Raises
    ------
    InputError
        If something that was given cannot be used, or the folder holds something else.
    """
    config = with_layers(config)
    plan = ComparisonPlan.read(places)
    if plan is not None and not config.overwrite:
        check_goes_on(plan, config)
        if read_record(places.finished) != finished_with(plan, config):
            check_absent(results_of(places.output, config), config)
        return plan
    job = prepare_comparison(on_any_device(config, device))
    chosen = draw_compared(job)
    if plan is not None:
        shutil.rmtree(places.shards)
    order = in_space(job.dataset, chosen)
    columns = columns_to_compare(job, probed=has_probes(job, chosen))
    size = max(1, config.shard_size // TIMES)
    plan = write_plan(ComparisonPlan, places, job, config, device, order, len(order), columns, size)
    yield from how_data_were_read(job.dataset)
    for text in job.warnings:
        yield Message(text, "warning")
    yield from how_many_are_drawn(job, chosen)
    yield Message(
        f"{counted(plan.total, 'synapse')} to compare layers on are read in "
        f"{counted(plan.n_shards, 'shard')}; ended early, the same command goes on"
    )
    return plan


def finished_with(plan: ComparisonPlan, config: Config) -> dict[str, Any]:
    """Return what decides what is made in the end, in plain types."""
    return {"plan": plan.key, "figures": config.figures}


def finish(
    places: Places, plan: ComparisonPlan, config: Config, control: Control
) -> Generator[Event, None, list[int]]:
    """Compare the layers by what all shards have read; nothing is read of volumes.

    Yields
    ------
    Event
        What happens.

    Returns
    -------
    list
        Shards whose part is not whole, which have to be done again first; then nothing is made.

    Raises
    ------
    JobError
        If something cannot be written, or layers cannot be compared by what was read.
    """
    values: list[np.ndarray] = []
    rows: list[ShardRows] = []
    failed: list[Failed] = []
    damaged: list[int] = []
    fewer = 0
    for shard in range(plan.n_shards):
        part = read_part(places, plan, shard)
        if part is None:
            damaged.append(shard)
        else:
            table, of_shard, about = part
            values.append(of_shard)
            rows.append(read_rows(places, plan, shard))
            failed += failed_in(plan, table, about)
            fewer += about.fewer_at_once
        yield Progress("checking what shards have left", shard + 1, plan.n_shards, "shard")
        if control.stopping:
            return []
    if damaged:
        return damaged
    failed.sort(key=lambda row: row[0])
    with disk_in_words(lambda error: f"cannot write to {places.output}: {reason(error)}"):
        write_failed(places, failed)
    if failed:
        yield Message(
            f"{counted(len(failed), 'crop')} of {plan.total:,} left out, which cannot be used: "
            f"{places.failed} says why",
            "warning",
        )
    yield from tell_fewer(fewer)
    lost = np.array([row for row, *_ in failed], np.int64)
    job, order = _job_of_all(places, plan, config, rows, lost)
    features = features_in(plan, np.concatenate(values)[order], n_moved(job))
    report = yield from score(job, Read(features, np.arange(len(order))), control)
    if report is None:
        return []
    yield from write_comparison(job, report)
    with disk_in_words(lambda error: f"cannot write to {places.output}: {reason(error)}"):
        write_json(places.finished, finished_with(plan, config))
    return []


def _job_of_all(
    places: Places, plan: ComparisonPlan, config: Config, rows: list[ShardRows], lost: np.ndarray
) -> tuple[ExtractionJob, np.ndarray]:
    """Return the comparison as one process has it, in the order of the table, and that order.

    Parameters
    ----------
    rows
        Those of all shards.
    lost
        Which of them are left out.
    """
    numbers = np.concatenate([of_shard.rows for of_shard in rows])
    order = np.argsort(numbers)
    order = order[~np.isin(numbers[order], lost)]
    positions = [of_shard.positions for of_shard in rows]
    own = pa.concat_tables([of_shard.own for of_shard in rows]).to_pandas()
    volumes = [some.volumes for some in positions if some.volumes is not None]
    of_all = Positions(
        np.concatenate([some.voxels for some in positions])[order],
        np.arange(len(order)),
        0,
        np.concatenate(volumes)[order] if volumes else None,
    )
    # Where this process finishes for others, their device need not be here.
    job = job_of(places, plan, torch.device("cpu"))
    table = own.iloc[order].reset_index(drop=True)
    return replace(
        job,
        config=job.config.model_copy(update={"figures": config.figures}),
        dataset=replace(job.dataset, table=table, positions=of_all),
    ), order
