"""Where the features of a report come from: the run behind them, and what is known of it all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_synapse_cl import __version__
from napari_synapse_cl.config import SECTIONS, Config, CropConfig, ExploreConfig
from napari_synapse_cl.config.data_sections import VolumeConfig
from napari_synapse_cl.pipeline.exploring_preparation import Exploration, source_of
from napari_synapse_cl.pipeline.networks import run_of
from napari_synapse_cl.pipeline.provenance import NEW_FOLDER
from napari_synapse_cl.runs.folder import REPRODUCE, RunFolder
from napari_synapse_cl.system.words import command_line, size

Fact = tuple[str, str]
"""What it is, and its value."""
OF_A_TABLE = ("label_column", "seed")


def run_behind(job: Exploration) -> RunFolder | None:
    """Return the training that the features come from, None if it is not known or gone."""
    assert job.config.features is not None
    beside = RunFolder(job.config.features.absolute().parent)
    if beside.holds_run:
        return beside
    checkpoint = job.vectors.record_of(job.vectors.names[0]).get("checkpoint")
    return run_of(Path(checkpoint)) if isinstance(checkpoint, str) else None


def facts_of(job: Exploration) -> Iterator[Fact]:
    """Yield what is known of a table of features."""
    source = source_of(job)["explored"]
    yield "Feature table", source["features"]
    yield "SHA-256 of the table", source["sha256"]
    yield "Rows", f"{source['rows']:,}"
    for name, n in source["vectors"].items():
        yield "Vector", f"{name}, {n} numbers"
        yield from _of_record(job.vectors.record_of(name))
    yield "Reported by", f"napari-synapse-cl {__version__}"


def _of_record(record: dict[str, Any]) -> Iterator[Fact]:
    """Yield what a record says of the features; any of it may be missing."""
    if not record:
        yield "Origin", "the table has no record of where its features come from"
        return
    lengths = {"Crop size": ("crop_size", "voxels"), "Voxel size": ("voxel_size", "nm")}
    plain = {"Network": "checkpoint", "SHA-256 of the network": "sha256", "Volume": "volume"}
    plain |= {"Precision": "precision", "Device": "device"}
    for label, name in plain.items():
        if record.get(name) is not None:
            yield label, str(record[name])
    for layer in record.get("layers") or []:
        if isinstance(layer, dict):
            yield "Layer", f"{layer.get('name')}, {layer.get('channels')} channels"
    for label, (name, unit) in lengths.items():
        value = record.get(name)
        if isinstance(value, list) and all(isinstance(n, int | float) for n in value):
            yield label, f"{size(value)} {unit} along z, y, x"
    if record.get("made") is not None:
        version = record.get("napari-synapse-cl")
        yield "Features made", f"{record['made']}, by napari-synapse-cl {version}"
    settings = record.get("settings")
    if isinstance(settings, dict):
        yield "Settings of the features", _changed(settings)


def _changed(settings: dict[str, Any]) -> str:
    """Return the settings that are not what they are by default."""
    default = Config().as_json()
    found = [
        f"{name} {value}" for name, value in settings.items() if value != default.get(name, value)
    ]
    return "; ".join(found) or "the defaults"


def facts_of_run(run: RunFolder) -> Iterator[Fact]:
    """Yield what is known of a training."""
    yield "Folder", str(run.path.absolute())
    begun, status, about = run.begun(), run.status(), run.about()
    if begun.get("started"):
        yield "Started", str(begun["started"])
    if status is not None:
        done = f"{status.step:,} of {status.total_steps:,} steps when it last began"
        yield "State", f"{status.state}; {done}" if status.step else status.state
        held_out = f"{status.n_training:,} synapses, {status.n_validation:,} held out"
        yield "Trained on", held_out
        yield "Computed on", f"{status.device}, {status.precision}"
    versions = about.get("versions")
    if isinstance(versions, dict):
        yield "Versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    data = about.get("data")
    for source in data if isinstance(data, list) else []:
        if isinstance(source, dict):
            what = " ".join(str(source.get(n) or "") for n in ("what", "volume")).strip()
            told = f"{source.get('path')} ({source.get('hashed')}: {source.get('sha256')})"
            yield f"Data, {what}", told
    if about.get(REPRODUCE):
        yield "To train again", str(about[REPRODUCE])


def command_of(config: Config) -> str:
    """Return the command that makes a report again."""
    sections = (ExploreConfig, VolumeConfig, CropConfig)
    names = {name for section in sections for name in section.model_fields}
    names |= {*OF_A_TABLE, "dataset"}
    default, values = Config().as_json(), config.as_json()
    command = ["synapse-cl", "--report"]
    for name in (name for section in SECTIONS for name in section.model_fields):
        value = values[name]
        if name not in names or name == "report" or value in (default[name], None):
            continue
        command.append(f"--{name}")
        if value is not True:
            command += map(str, value if isinstance(value, list) else [value])
    return command_line([*command, "--output", NEW_FOLDER])
