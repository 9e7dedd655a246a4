"""Maps in shards: they are planned, and finished when all blocks are done."""

import csv
import json
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.opening import open_image
from napari_synapse_cl.errors import InputError, JobError, disk_in_words, reason
from napari_synapse_cl.features.maps.blocks import box_of
from napari_synapse_cl.features.maps.extraction import wanted_tile_voxels
from napari_synapse_cl.features.maps.store import MapStore, array_name, finish_maps
from napari_synapse_cl.pipeline.extraction_preparation import open_chosen_network
from napari_synapse_cl.pipeline.maps import paint_maps, prepare_maps
from napari_synapse_cl.pipeline.provenance import source_of_image
from napari_synapse_cl.pipeline.shards.map_plan import MEGA, Layout, MapPlan, hash_of
from napari_synapse_cl.pipeline.shards.planning import network_of
from napari_synapse_cl.runs.events import Control, Event, Growing, Message, Progress
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import read_record, replacing, write_json
from napari_synapse_cl.system.words import counted

GIVEN = (
    "voxel_size",
    "network_voxel_size",
    "intensity",
    "percentiles",
    "invert",
    "layer_num",
    "region",
    "network",
    "precision",
)
"""Settings that shape maps."""
FAILED_COLUMNS = ("z", "y", "x", "to_z", "to_y", "to_x", "reason")


def planned(
    places: Places, config: Config, device: tuple[str, str] | None = None
) -> Generator[Event, None, MapPlan]:
    """Return the plan of maps, which is made if there is none; another's is refused.

    Parameters
    ----------
    device
        Type of the workers' device and their precision; None where they are those of this process.

    Raises
    ------
    InputError
        If something that was given cannot be used, or the folder holds something else.
    """
    plan = MapPlan.read(places)
    given = config.model_dump(mode="json", include={*GIVEN})
    if plan is not None and not config.overwrite:
        _check_goes_on(places, plan, config, given)
        yield Growing("maps", str(plan.folder(places)), [])
        return plan
    here = config if device is None else config.model_copy(update={"device": "cpu"})
    job = prepare_maps(here)
    kind, precision = device or (job.device.type, job.precision)
    settings = job.config.model_copy(update={"device": config.device, "precision": precision})
    plan = MapPlan(
        given=given,
        network=network_of(job.record),
        data=[dict(source_of_image(job.volume))],
        config=settings.as_json(),
        device=kind,
        precision=precision,
        sizes=[],
        record={**job.record, "device": kind, "precision": precision},
        target=job.target.name,
        layers=[layer.index for layer in job.layers],
        region=[*job.region.start, *job.region.stop],
        volume_shape=list(job.volume.shape),
        intensities=list(job.intensities),
        voxels_at_once=wanted_tile_voxels(job.layers),
        replaces=config.overwrite,
    )
    layout = Layout.of(plan, job.architecture)
    sizes = [max(1, box_of(block).n_voxels // MEGA) for block in layout.blocks]
    plan = MapPlan(**json.loads(json.dumps({**vars(plan), "sizes": sizes})))
    if places.plan.exists():
        shutil.rmtree(places.shards)
    # Not used as a context manager: what is there stays when a job ends.
    MapStore(
        job.target,
        job.layers,
        job.grids,
        voxel_size=job.voxel_size,
        provenance=plan.record,
        overwrite=config.overwrite,
        folder=plan.being_made(places),
    )
    with disk_in_words(lambda error: f"cannot write the plan {places.plan}: {reason(error)}"):
        for file in (places.block(0), places.trail(0)):
            file.parent.mkdir(exist_ok=True)
        plan.write(places)
    for text in job.warnings:
        yield Message(text, "warning")
    yield Message(
        f"the maps are extracted in {counted(plan.n_shards, 'shard')}; ended early, the same "
        "command goes on"
    )
    yield Growing("maps", str(plan.folder(places)), [])
    return plan


def _check_goes_on(places: Places, plan: MapPlan, config: Config, given: dict[str, Any]) -> None:
    opened = open_chosen_network(config)
    data = [source_of_image(open_image(config, opened.voxel_size).volume)]
    plan.check(given, network_of(opened.origin.as_dict()), data)
    target = places.output / plan.target
    if plan.folder(places) == target and not target.exists():
        raise InputError(
            f"{target} is gone, of which {places.shards} says what is done: remove that folder to "
            "begin anew"
        )
    if plan.folder(places) != target and target.exists() and not plan.replaces:
        raise InputError(
            f"{target} is there already, and is not what is in work in {places.shards}: move one "
            "of them away"
        )


def missing(places: Places, plan: MapPlan, *, read: bool) -> list[int]:
    """Return the blocks that are not noted as done; what was written is read in the end alone."""
    return [shard for shard in range(plan.n_shards) if plan.glance(places, shard) is None]


def finished_with(plan: MapPlan, config: Config) -> dict[str, Any]:
    """Return what decides what is made of all blocks, in plain types."""
    return {"plan": plan.key, "maps": plan.target}


def finish(
    places: Places, plan: MapPlan, config: Config, control: Control
) -> Generator[Event, None, list[int]]:
    """Read all blocks, paint the maps, say what failed, and give them their name.

    Yields
    ------
    Event
        What happens.

    Returns
    -------
    list
        Blocks that are not whole, which have to be done again first; then nothing is made.

    Raises
    ------
    JobError
        If something cannot be written, or no block could be made.
    """
    folder, target = plan.folder(places), places.output / plan.target
    layout = Layout.of(plan, open_chosen_network(plan.settings()).architecture)
    failed: list[tuple[list[int], str]] = []
    damaged: list[int] = []
    fewer, is_empty = 0, True
    for shard in range(plan.n_shards):
        about = plan.glance(places, shard)
        values = _read(folder, layout, shard)
        if about is None or values is None or hash_of(values) != about.sha256:
            places.block(shard).unlink(missing_ok=True)
            damaged.append(shard)
        else:
            failed += about.failed
            fewer += about.fewer_at_once
            is_empty = is_empty and not any(np.isfinite(v).any() for v in values.values())
        yield Progress("checking what shards have left", shard + 1, plan.n_shards, "shard")
        yield from control.pauses()
        if control.stopping:
            return []
    if damaged:
        return damaged
    if is_empty:
        raise JobError(f"nothing of the region can be used: {failed[0][-1] if failed else 'NaN'}")
    if folder != target or read_record(places.finished) != finished_with(plan, config):
        for event in paint_maps(folder, layout.layers):
            yield event
            yield from control.pauses()
            if control.stopping:
                return []
    if fewer:
        yield Message(
            f"in {counted(fewer, 'shard')} fewer voxels went through the network at once, since "
            "memory was short or workers died of them: the last digits of their maps may differ"
        )
    with disk_in_words(lambda error: f"cannot write to {places.output}: {reason(error)}"):
        _write_failed(places.failed, failed)
        if folder != target:
            finish_maps(folder, target, {layer.index: not failed for layer in layout.layers})
        write_json(places.finished, finished_with(plan, config))
    if failed:
        yield Message(
            f"{counted(len(failed), 'tile')} of the maps could not be made; {places.failed} says "
            "why",
            "warning",
        )
    yield plan.result(places)
    return []


def _read(folder: Path, layout: Layout, shard: int) -> dict[int, np.ndarray] | None:
    """Return what is on the disk of a block, None if that cannot be read."""
    try:
        group = zarr.open_group(folder, mode="r")
        return {
            index: group[array_name(index)][(slice(None), *place)]
            for index, place in layout.slices(shard).items()
        }
    # Of a damaged chunk its codecs say so in many ways.
    except Exception:
        return None


def _write_failed(file: Path, failed: list[tuple[list[int], str]]) -> None:
    """Write which voxels have no features, and why."""
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(FAILED_COLUMNS)
        writer.writerows([*region, why] for region, why in failed)
