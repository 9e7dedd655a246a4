"""Plan an extraction in shards: which rows lie together, and what all workers have to know."""

import json
import shutil
from collections.abc import Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from napari_synapse_cl.config import (
    AugmentationConfig,
    Config,
    CropConfig,
    DataConfig,
    ExtractionConfig,
)
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.opening import open_parts
from napari_synapse_cl.data.parts import Part, Positions
from napari_synapse_cl.errors import InputError, disk_in_words, reason
from napari_synapse_cl.features.tables import check_format, component_columns, storable
from napari_synapse_cl.pipeline.extraction import columns_of
from napari_synapse_cl.pipeline.extraction_preparation import (
    ExtractionJob,
    open_chosen_network,
    prepare_extraction,
)
from napari_synapse_cl.pipeline.provenance import sources_of
from napari_synapse_cl.pipeline.shards.plan import ROW
from napari_synapse_cl.pipeline.shards.rows import in_space, write_rows
from napari_synapse_cl.pipeline.shards.table import TablePlan
from napari_synapse_cl.pipeline.steps import check_absent, how_data_were_read
from napari_synapse_cl.runs.events import Event, Message
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import read_record
from napari_synapse_cl.system.words import counted

TableOrOther = TypeVar("TableOrOther", bound=TablePlan)
_MOVABLE = {"image", "synapses", "dataset", "crops", "labels", "segmentation"}
"""Settings that say where the data are: whether they are the same is told by their hashes."""
_LATER = {"n_components", "feature_format", "keep_partial", "label_column"}
"""Settings of an extraction that decide what is made of the features in the end."""
_OTHER_JOBS = {"compare_layers", "centre_jitter", "n_compared", "dense", "region"}
_OF_COMPARISONS = {"centre_jitter", "n_compared", "label_column", "seed"}
"""Settings that shape what layers are compared by, beside those of the augmentations."""


def planned(
    places: Places, config: Config, device: tuple[str, str] | None = None
) -> Generator[Event, None, TablePlan]:
    """Return the plan, which is made if there is none; another's is refused.

    Parameters
    ----------
    device
        Type of the workers' device and their precision; None where they are those of this process.

    Raises
    ------
    InputError
        If something that was given cannot be used, or the folder holds something else.
    """
    plan = TablePlan.read(places)
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
        f"{counted(plan.total, 'row')} are extracted in {counted(plan.n_shards, 'shard')}; ended "
        "early, the same command goes on"
    )
    return plan


def _one_file_of(places: Places, config: Config) -> list[Path]:
    """Return what is written beside the parts, if that is wanted."""
    table = RunFolder(places.output).features_file(config)
    return [table, table.with_suffix(".json")] if config.one_file else []


def _remove(places: Places) -> None:
    """Remove an extraction, for another in its place; files that are not of one stay."""
    shutil.rmtree(places.shards)
    for part in places.features.glob("part-*.parquet"):
        part.unlink()
    for file in (places.features / "_common_metadata", places.record, places.failed):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        places.features.rmdir()


def given_settings(config: Config) -> dict[str, Any]:
    """Return the settings that shape features and shards, in plain types."""
    names = {
        name
        for section in (DataConfig, CropConfig, ExtractionConfig)
        for name in section.model_fields
    }
    names -= {*_MOVABLE, *_LATER, *_OTHER_JOBS, "cache_dir", "cache_limit"}
    names |= {"network", "precision", "shard_size"}
    if config.compare_layers:
        names |= {*AugmentationConfig.model_fields, *_OF_COMPARISONS}
    return config.model_dump(mode="json", include=names)


def check_goes_on(plan: TablePlan, config: Config) -> None:
    """Check that a command asks for what is planned already; no table is interpreted for it.

    Raises
    ------
    InputError
        If settings, network or data are others, or something cannot be read.
    """
    opened = None if config.checkpoint is None else open_chosen_network(config)
    network = {} if opened is None else network_of(opened.origin.as_dict())
    parts = open_parts(config, None if opened is None else opened.voxel_size)
    plan.check(given_settings(config), network, sources_of(config, without_synapses(parts)))


def without_synapses(
    parts: list[Part], voxel_size: Any = None, name: str = "", partners: list[str] | None = None
) -> Dataset:
    """Return a dataset of some volumes in which no synapse is."""
    nowhere = np.empty((0, 3), np.int64)
    positions = Positions(
        nowhere,
        np.empty(0, np.int64),
        0,
        np.empty(0, np.int64) if len(parts) > 1 else None,
        {name: nowhere.astype(float) for name in partners or ()},
    )
    table = pd.DataFrame(nowhere, columns=list("zyx"))
    return Dataset(table, positions, tuple(parts), None, voxel_size, name)


def make_plan(
    config: Config, places: Places, found: tuple[str, str] | None = None
) -> tuple[TablePlan, ExtractionJob]:
    """Open what the settings name, cut the table into shards, and write both for all workers.

    Parameters
    ----------
    found
        Type of the workers' device and their precision; None where they are those of this process.

    Raises
    ------
    InputError
        If something that was given cannot be used.
    JobError
        If the plan cannot be written.
    """
    job = prepare_extraction(on_any_device(config, found))
    inside = in_space(job.dataset)
    is_outside = np.ones(len(job.dataset.table), bool)
    is_outside[inside] = False
    columns = list(columns_of(job.config, job.layers).items())
    order = np.concatenate([inside, np.flatnonzero(is_outside)])
    return write_plan(TablePlan, places, job, config, found, order, len(inside), columns), job


def on_any_device(config: Config, found: tuple[str, str] | None) -> Config:
    """Return settings to plan with, where workers may have a device that is not here."""
    return config if found is None else config.model_copy(update={"device": "cpu"})


def write_plan(
    kind: type[TableOrOther],
    places: Places,
    job: ExtractionJob,
    config: Config,
    found: tuple[str, str] | None,
    order: np.ndarray,
    n_inside: int,
    columns: list[tuple[int | str, list[str]]],
    size: int | None = None,
) -> TableOrOther:
    """Cut rows of a table into shards, and write these and the plan for all workers.

    Parameters
    ----------
    kind
        What the plan is of.
    job, config
        What was opened, and the settings as they were given.
    found
        As :func:`make_plan` takes it.
    order, n_inside
        Rows of the table in their order; the first so many have crops.
    columns
        As the plan has them.
    size
        Rows of a shard, without it those of the settings.

    Raises
    ------
    InputError
        If a column of the table cannot be kept.
    JobError
        If something cannot be written.
    """
    device, precision = found or (job.device.type, job.precision)
    size = size or config.shard_size
    changed = {"device": config.device, "precision": precision, "shard_size": size}
    resolved = job.config.model_copy(update=changed)
    check_format("parquet", job.dataset.table)
    sizes = [
        min(size, stop - first)
        for begin, stop in ((0, n_inside), (n_inside, len(order)))
        for first in range(begin, stop, size)
    ]
    size_of_network = None
    if config.checkpoint is not None:
        size_of_network = open_chosen_network(config).voxel_size
    own = _own_columns(job)
    plan = kind(
        given=given_settings(config),
        network={} if job.origin is None else network_of(job.origin.as_dict()),
        data=[dict(source) for source in sources_of(config, job.dataset)],
        config=resolved.as_json(),
        network_size=None if size_of_network is None else list(size_of_network),
        voxel_size=None
        if job.dataset.known_voxel_size is None
        else list(job.dataset.known_voxel_size),
        name=job.dataset.name,
        device=device,
        precision=precision,
        partners=list(job.dataset.positions.partners),
        columns=columns,
        sizes=sizes,
        n_inside=n_inside,
        row=_free_name(own),
        record={**job.record, "device": device, "precision": precision},
    )
    plan = kind(**json.loads(json.dumps(vars(plan))))
    with disk_in_words(lambda error: f"cannot write the plan {places.plan}: {reason(error)}"):
        for file in (plan.part(places, 0), places.rows(0), places.trail(0)):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_rows(places, job.dataset, own, order, sizes)
        plan.write(places)
    return plan


def network_of(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells a network from others, wherever its file lies."""
    known = origin.get("sha256") or origin.get("checkpoint")
    return {"network": origin["network"], "seed": origin.get("seed"), "content": known}


def _own_columns(job: ExtractionJob) -> pd.DataFrame:
    """Return the columns of the table that features do not replace, each of one type."""
    config = job.config
    columns = columns_of(config, job.layers)
    made = {name for names in columns.values() for name in names}
    for source in columns:
        made |= {*component_columns(source, config.pooling, config.n_components)}
    return storable(job.dataset.table.rename(columns=str).drop(columns=made, errors="ignore"))


def _free_name(table: pd.DataFrame) -> str:
    version, name = 1, ROW
    while name in table.columns:
        version += 1
        name = f"{ROW}_{version}"
    return name


def check_shards(config: Config) -> None:
    """Check that what the settings ask for can be extracted in shards.

    Raises
    ------
    InputError
        If it cannot.
    """
    ways = [name for name in ("workers", "scheduler", "shard") if getattr(config, name)]
    if len(ways) > 1:
        raise InputError(f"{ways[0]} and {ways[1]} are two ways to extract in shards: choose one")
    if config.crops is not None:
        raise InputError(f"{ways[0]} needs the image: name it in place of crops")
    if config.pooling == "none" and config.layer_num:
        raise InputError(
            f"{ways[0]} keeps vectors, and pooling none keeps maps: choose another pooling"
        )
    if config.shard and config.overwrite:
        raise InputError(
            "overwrite would remove what other jobs of the array have done: leave it out, and "
            "remove the output folder before the first begins"
        )
