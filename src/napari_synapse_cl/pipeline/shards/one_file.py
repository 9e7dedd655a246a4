"""One file of all parts, in the order of the table."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_synapse_cl.data.tables.typed import from_arrow
from napari_synapse_cl.errors import JobError, disk_in_words, reason
from napari_synapse_cl.features.extraction import GrowingArray
from napari_synapse_cl.features.parquet_tables import KEY, notes_of
from napari_synapse_cl.features.tables import check_place, write_table
from napari_synapse_cl.pipeline.shards.components import Components
from napari_synapse_cl.pipeline.shards.parts import read_part
from napari_synapse_cl.pipeline.shards.table import TablePlan
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import replacing, write_json

if TYPE_CHECKING:
    import pyarrow as pa

SLICE = 2**16
"""Rows that are written at once."""


def write_one_file(
    places: Places,
    plan: TablePlan,
    components: list[Components],
    target: Path,
    record: dict[str, Any],
) -> None:
    """Write the table with all features and components, whole or not at all.

    Features come to lie in the table's order in a memory map, and Parquet and CSV are written from
    there slice by slice: memory holds the other columns of the table alone. The other formats are
    made in memory.

    Raises
    ------
    InputError
        If a file of something else lies where the record goes.
    JobError
        If it cannot be written, or a part is gone.
    """
    check_place(target)
    names = _columns(plan, components)
    path = target.with_name(f".{target.stem}.partial.npy")
    with GrowingArray(path, (plan.total, len(names)), blank=False) as growing:
        own = _gathered(places, plan, names, growing.values)
        with disk_in_words(lambda error: f"cannot write the features {target}: {reason(error)}"):
            if target.suffix in (".parquet", ".csv"):
                sidecar = target.with_suffix(".json")
                sidecar.unlink(missing_ok=True)
                with replacing(target) as temporary:
                    _stream(own, names, growing.values, temporary, record)
                write_json(sidecar, {**record, KEY: target.suffix[1:]})
                return
        [(_, table)] = _slices(own, names, growing.values, plan.total)
        write_table(from_arrow(table), target, record)


def _columns(plan: TablePlan, components: list[Components]) -> list[str]:
    """Return the columns of each source, and its components behind them."""
    found: list[str] = []
    for number, (_, names) in enumerate(plan.columns):
        found += names
        found += components[number].names if components else []
    return found


def _gathered(places: Places, plan: TablePlan, names: list[str], values: np.ndarray) -> "pa.Table":
    """Put the features of all parts where their rows are; return the other columns likewise."""
    import pyarrow as pa

    parts, rows = [], []
    for shard in range(plan.n_shards):
        part = read_part(places, plan, shard)
        if part is None:
            raise JobError(f"{places.part(shard)} was removed or changed meanwhile: begin again")
        table = part[0]
        numbers = table[plan.row].to_numpy()
        found = np.stack([table[name].to_numpy() for name in names], axis=1)
        values[numbers] = found
        rows.append(numbers)
        parts.append(table.drop_columns([plan.row, *names]))
    own = pa.concat_tables(parts)
    return own.take(pa.array(np.argsort(np.concatenate(rows))))


def _slices(
    own: "pa.Table", names: list[str], values: np.ndarray, length: int
) -> Iterator[tuple[int, "pa.Table"]]:
    """Yield the table in slices, and the row that each begins with."""
    import pyarrow as pa

    for first in range(0, len(own), length):
        table = own.slice(first, length)
        for name, column in zip(names, values[first : first + length].T, strict=True):
            table = table.append_column(name, pa.array(np.ascontiguousarray(column)))
        yield first, table


def _stream(
    own: "pa.Table", names: list[str], values: np.ndarray, path: Path, record: dict[str, Any]
) -> None:
    from pyarrow import parquet

    with ExitStack() as stack:
        writer = None
        for first, some in _slices(own, names, values, SLICE):
            if path.suffix == ".csv":
                from_arrow(some).to_csv(path, mode="a", header=first == 0, index=False)
                continue
            kept = {n: v for n, v in (some.schema.metadata or {}).items() if n == b"pandas"}
            table = some.replace_schema_metadata({**kept, **notes_of(record)})
            if writer is None:
                file = stack.enter_context(path.open("wb"))
                writer = parquet.ParquetWriter(file, table.schema, write_page_checksum=True)
                stack.enter_context(writer)
            writer.write_table(table)
