"""What is made of all parts in the end: one dataset with principal components, and what failed."""

import csv
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.tables.folders import COMMON
from napari_synapse_cl.errors import JobError, disk_in_words, reason
from napari_synapse_cl.features.parquet_tables import notes_of
from napari_synapse_cl.pipeline.shards.components import AllMoments, Components, mark_of, split
from napari_synapse_cl.pipeline.shards.parts import read_part, write_table
from napari_synapse_cl.pipeline.shards.plan import ROW, About
from napari_synapse_cl.pipeline.shards.table import KEY, TablePlan
from napari_synapse_cl.runs.events import Control, Event, Message, Progress, Wrote
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import replacing, write_json
from napari_synapse_cl.system.words import counted

if TYPE_CHECKING:
    import pyarrow as pa

Failed = tuple[int, Any, Any, Any, str]
"""A row, its z, y, x as the table has them, and why it has no features."""


def finish(
    places: Places, plan: TablePlan, config: Config, control: Control
) -> Generator[Event, None, list[int]]:
    """Make one dataset of all parts.

    Memory holds a part at a time, and of all rows nothing but what failed.

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
        If something cannot be written, or no row has features.
    """
    moments = AllMoments(plan, config.n_components)
    failed: list[Failed] = []
    damaged: list[int] = []
    fewer = 0
    for shard in range(plan.n_shards):
        part = read_part(places, plan, shard)
        if part is None:
            damaged.append(shard)
        elif not damaged:
            table, values, about = part
            moments.add(values)
            failed += failed_in(plan, table, about)
            fewer += about.fewer_at_once
        if shard % 100 == 99:
            yield Progress("checking what shards have left", shard + 1, plan.n_shards, "shard")
        if control.stopping:
            return []
    if damaged:
        return damaged
    if len(failed) == plan.total:
        raise JobError(f"none of the crops can be used: {failed[0][-1]}")
    components = moments.components() if config.n_components else []
    schema = yield from _with_components(places, plan, components, control)
    if schema is None:
        return []
    failed.sort(key=lambda row: row[0])
    with disk_in_words(lambda error: f"cannot write to {places.output}: {reason(error)}"):
        record = {
            **plan.record,
            "complete": True,
            "synapses": plan.total - len(failed),
            "shards": plan.n_shards,
        }
        _write_common(schema, record, places.features / COMMON)
        write_json(places.record, record)
        write_failed(places, failed)
        for left in places.features.glob(".part-*.partial.parquet"):
            left.unlink(missing_ok=True)
    if failed:
        yield Message(
            f"{counted(len(failed), 'row')} of {plan.total:,} have no features; {places.failed} "
            "says why",
            "warning",
        )
    yield from tell_fewer(fewer)
    yield plan.result(places)
    if config.one_file:
        yield from _one_file(places, plan, components, config, record)
    with disk_in_words(lambda error: f"cannot write to {places.output}: {reason(error)}"):
        write_json(places.finished, finished_with(plan, config))
    return []


def tell_fewer(n_shards: int) -> Iterator[Event]:
    """Tell in how many shards fewer crops went through the network at once, if in any."""
    if n_shards:
        yield Message(
            f"in {counted(n_shards, 'shard')} crops were computed in smaller batches, since memory "
            "ran out or workers died of them: the last digits of their features may differ"
        )


def finished_with(plan: TablePlan, config: Config) -> dict[str, Any]:
    """Return what decides what is made of all parts, in plain types."""
    wanted = {"components": config.n_components, "one_file": config.one_file}
    return {"plan": plan.key, **wanted, "format": config.feature_format if config.one_file else ""}


def _with_components(
    places: Places, plan: TablePlan, components: list[Components], control: Control
) -> Generator[Event, None, "pa.Schema | None"]:
    """Put the components behind the features of each part; return the columns, None if ended."""
    mark = mark_of(components) if components else ""
    schema = None
    for shard in range(plan.n_shards):
        part = read_part(places, plan, shard)
        if part is None:
            raise JobError(f"{places.part(shard)} was removed or changed meanwhile: begin again")
        table, values, about = part
        if about.components != mark:
            table = _composed(plan, table, values, components)
            write_table(table, replace(about, components=mark), places.part(shard))
        schema = table.schema
        if components and shard % 100 == 99:
            yield Progress("adding principal components", shard + 1, plan.n_shards, "shard")
        if control.stopping:
            return None
    return schema


def _composed(
    plan: TablePlan, table: "pa.Table", values: np.ndarray, components: list[Components]
) -> "pa.Table":
    """Return a part with the columns of each source, and its components behind them."""
    import pyarrow as pa

    made = set(plan.names)
    before = table.column_names[: min(table.column_names.index(name) for name in made)]
    composed = table.select(before)
    for number, (_, names) in enumerate(plan.columns):
        for name in names:
            composed = composed.append_column(name, table[name])
        if components:
            found = components[number].apply(split(plan, values)[number])
            for name, column in zip(components[number].names, found.T, strict=True):
                composed = composed.append_column(name, pa.array(np.ascontiguousarray(column)))
    return composed


def _write_common(schema: "pa.Schema", record: dict[str, Any], path: Path) -> None:
    from pyarrow import parquet

    notes = {name: value for name, value in (schema.metadata or {}).items() if name != KEY}
    with replacing(path) as temporary:
        parquet.write_metadata(schema.with_metadata({**notes, **notes_of(record)}), temporary)


def failed_in(plan: TablePlan, table: "pa.Table", about: About) -> list[Failed]:
    """Return the rows of a part that have no features, with their positions."""
    where = {row: number for number, row in enumerate(table[plan.row].to_pylist())}
    places = [table[axis] for axis in AXES]
    return [(row, *(c[where[row]].as_py() for c in places), why) for row, why in about.failed]


def write_failed(places: Places, failed: list[Failed]) -> None:
    """Write which rows have no features, where they lie, and why."""
    with (
        replacing(places.failed) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([ROW, *AXES, "reason"])
        writer.writerows(failed)


def _one_file(
    places: Places,
    plan: TablePlan,
    components: list[Components],
    config: Config,
    record: dict[str, Any],
) -> Iterator[Event]:
    """Write one file in the order of the table; features wait for it in a memory map."""
    from napari_synapse_cl.pipeline.shards.one_file import write_one_file

    target = RunFolder(places.output).features_file(config)
    write_one_file(places, plan, components, target, record)
    yield Wrote("features", str(target))
