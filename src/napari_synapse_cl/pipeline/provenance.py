"""Where runs and results come from: network, data, settings, versions, and how to make them again.

Data are told by hashes, so that it can be seen later whether they are still the same. These are of
contents, so files may be copied, moved or written anew as they were.
"""

import hashlib
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from napari_synapse_cl import __version__
from napari_synapse_cl.config import Config, Section, absolute
from napari_synapse_cl.data.crops.sources import fingerprint
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.formats.locations import parse, split_file
from napari_synapse_cl.data.opening import entries_of
from napari_synapse_cl.data.tables.folders import hash_of_table
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.models.architecture import Layer
from napari_synapse_cl.runs.folder import REPRODUCE
from napari_synapse_cl.system.devices import device_name
from napari_synapse_cl.system.distributed import Ranks
from napari_synapse_cl.system.downloads import local_file
from napari_synapse_cl.system.files import sha256_of
from napari_synapse_cl.system.words import command_line
from napari_synapse_cl.training.memory.plan import StepPlan

Which = Literal["trained", "best", "start"]

WHOLE_BYTES = 2**26
"""Of volumes; larger ones are hashed in parts, since reading all of one may take hours."""
PARTS = 64
PART_BYTES = 2**20
BLOCK_SHAPE = (4, 64, 64)
"""Few slices, since each may have to be decoded whole."""
BLOCKS_ALONG = 3
Source = dict[str, str]
"""``what`` it is ("image", "synapses" …) of which ``volume`` of a dataset, its ``path``, and the
``sha256`` of what ``hashed`` says."""
NEW_FOLDER = "NEW_FOLDER"
"""Where the command that makes a run again puts it, until another name is written there."""


@dataclass(frozen=True)
class NetworkOrigin:
    """Where a network comes from, for the record."""

    network: Which
    """Which one of a run it is."""
    checkpoint: str
    """The file, or the folder of the run whose random start weights these are."""
    sha256: str | None = None
    """Hash of the file; None for random weights."""
    seed: int | None = None
    """Of random weights."""

    @classmethod
    def of_file(cls, location: str | Path, network: Which) -> Self:
        """Return the origin of the network in a file, which a path or a URL names."""
        return cls(network, absolute(str(location)), sha256_of(local_file(location)))

    def as_dict(self) -> dict[str, Any]:
        """Return what there is of it in plain types."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def sources_of(config: Config, dataset: Dataset) -> list[Source]:
    """Return what a dataset was read from.

    Tables and files up to 64 MiB are hashed whole, larger ones by their size and 64 parts of a
    MiB; folders of slices or chunks by some blocks of voxels; volumes on servers by the documents
    that describe them; the sample volume by its voxels.

    Parameters
    ----------
    config
        The settings that name it.
    dataset
        What was opened with them.

    Raises
    ------
    InputError
        If something cannot be read any more.
    """
    try:
        return list(_sources(config, dataset))
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {reason(error)}") from None


def source_of_image(volume: Volume) -> Source:
    """Return what a volume was read from, told as :func:`sources_of` tells it.

    Raises
    ------
    InputError
        If it cannot be read any more.
    """
    try:
        if volume.location is None:
            return _of_voxels(volume)
        return _of_volume("image", "", volume)
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {reason(error)}") from None


def changed_sources(before: Sequence[Mapping[str, Any]], now: Sequence[Source]) -> list[str]:
    """Return in words which sources are others than before.

    Parameters
    ----------
    before
        As :func:`sources_of` returned them; none where that is not known.
    now
        As it returns them now.
    """
    if not before:
        return []
    then, present = _by_name(before), _by_name(now)
    return [
        f"the {name[1]} {source.get('path', '')}"
        for name, source in {**then, **present}.items()
        if _content(then.get(name)) != _content(present.get(name))
    ]


def _by_name(sources: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(str(s.get("volume")), str(s.get("what"))): s for s in sources}


def _content(source: Mapping[str, Any] | None) -> tuple[Any, Any] | None:
    return None if source is None else (source.get("hashed"), source.get("sha256"))


def _sources(config: Config, dataset: Dataset) -> Iterator[Source]:
    if config.dataset is not None and config.dataset.is_file():
        yield _of_file("dataset", "", config.dataset)
    if config.dataset is None and config.synapses is None:
        yield from _of_sample(dataset)
        return
    if config.crops is not None:
        files = [config.crops / name for name in ("crops.npy", "windows.npy", "states.npy")]
        digest = hashlib.sha256("".join(_file_hash(file)[1] for file in files).encode())
        yield _source("crops", "", config.crops, "hashes of its arrays", digest.hexdigest())
    # Crops that were cut already have no parts.
    parts = dataset.parts or [None]
    for (name, entry), part in zip(entries_of(config).items(), parts, strict=True):
        if part is not None:
            yield _of_volume("image", name, part.volume)
            for what, labels in (("labels", part.labels), ("segmentation", part.segmentation)):
                if labels is not None:
                    yield _of_volume(what, name, labels.volume)
        assert entry.synapses is not None
        table = _table_file(entry.synapses)
        hashed = "hashes of its files" if table.is_dir() else "the file"
        yield _source("synapses", name, table.absolute(), hashed, hash_of_table(table))


def _of_sample(dataset: Dataset) -> Iterator[Source]:
    for part in dataset.parts:
        yield _of_voxels(part.volume)
    table = hashlib.sha256(dataset.table.to_csv(index=False, lineterminator="\n").encode())
    yield _source("synapses", "", "the sample's table", "its rows", table.hexdigest())


def _of_voxels(volume: Volume) -> Source:
    digest = hashlib.sha256(np.ascontiguousarray(volume.array[:]).tobytes())
    return _source("image", "", volume.name, "all voxels", digest.hexdigest())


def _of_file(what: str, volume: str, file: Path) -> Source:
    return _source(what, volume, file.absolute(), "the file", sha256_of(file))


def _of_volume(what: str, name: str, volume: Volume) -> Source:
    assert volume.location is not None
    if parse(volume.location).is_remote:
        # What a server says of the voxels is all that can be known without reading them.
        return _source(
            what, name, volume.location, "its documents", str(fingerprint(volume.location)[-1])
        )
    found = split_file(Path(parse(volume.location).base).absolute())
    hashed, sha256 = _blocks_hash(volume) if found is None else _file_hash(found[0])
    return _source(what, name, absolute(volume.location), hashed, sha256)


def _file_hash(file: Path) -> tuple[str, str]:
    """Return what is hashed of a file, and its hash."""
    size = file.stat().st_size
    if size <= WHOLE_BYTES:
        return "the file", sha256_of(file)
    with file.open("rb") as opened:
        digest = hashlib.sha256(str(size).encode())
        for start in np.linspace(0, size - PART_BYTES, PARTS).astype(np.int64).tolist():
            opened.seek(start)
            digest.update(opened.read(PART_BYTES))
    return f"size and {PARTS} parts of the file", digest.hexdigest()


def _blocks_hash(volume: Volume) -> tuple[str, str]:
    """Return what is hashed of a folder, and its hash."""
    digest = hashlib.sha256(f"{volume.shape} {volume.array.dtype}".encode())
    starts = [
        np.unique(np.linspace(0, max(n - want, 0), BLOCKS_ALONG).astype(int)).tolist()
        for n, want in zip(volume.shape, BLOCK_SHAPE, strict=True)
    ]
    for start in product(*starts):
        z, y, x = (slice(a, a + n) for a, n in zip(start, BLOCK_SHAPE, strict=True))
        digest.update(np.ascontiguousarray(volume.array[z, y, x]).tobytes())
    return "shape, type and some blocks", digest.hexdigest()


def _table_file(path: Path) -> Path:
    """Return the file of a table, behind which a sheet or a layer may be named."""
    return path if path.exists() else Path(str(path).rpartition("#")[0])


def _source(what: str, volume: str, path: str | Path, hashed: str, sha256: str) -> Source:
    return {
        "what": what,
        "volume": volume,
        "path": str(path),
        "hashed": hashed,
        "sha256": sha256,
    }


def about_run(
    config_file: Path,
    config: Config,
    plan: StepPlan,
    device: torch.device,
    data: Sequence[Source],
    ranks: Ranks,
) -> dict[str, Any]:
    """Return, in plain types, what decides a run beside its settings.

    Parameters
    ----------
    config_file
        Where the settings are written.
    config, plan
        The settings, and how steps are computed where they leave that open.
    device
        Where it is computed.
    data
        What is trained on.
    ranks
        The processes that train together.
    """
    return {
        REPRODUCE: command_line(_command(config_file, config, plan, ranks)),
        "versions": {
            "napari-synapse-cl": __version__,
            "torch": version("torch"),
            "numpy": version("numpy"),
            "python": platform.python_version(),
        },
        "platform": platform.platform(),
        "device": f"{device} ({device_name(device)})" if device.type == "cuda" else str(device),
        # On a CPU, sums of another number of threads round otherwise.
        "threads": torch.get_num_threads(),
        "processes": ranks.size,
        "data": list(data),
    }


def _command(config_file: Path, config: Config, plan: StepPlan, ranks: Ranks) -> list[str]:
    program = ["synapse-cl"]
    if ranks.size > 1:
        program = ["torchrun", "--nproc-per-node", str(ranks.size), "-m", "napari_synapse_cl"]
    command = [*program, "--config", str(config_file.absolute()), "--output", NEW_FOLDER]
    # What was measured might come out otherwise next time.
    if config.precision == "auto":
        command += ["--precision", plan.precision]
    if config.micro_batch_size == 0 and plan.micro_batch_size < config.batch_size // ranks.size:
        command += ["--micro_batch_size", str(plan.micro_batch_size)]
    return command


def make_record(
    origin: NetworkOrigin | None, layers: Sequence[Layer], config: Config, *sections: type[Section]
) -> dict[str, Any]:
    """Return what every result tells of itself, in plain types.

    Parameters
    ----------
    origin
        The network, None where descriptors alone are made.
    layers
        Its layers that were read.
    sections
        Those of the settings that decide what the result is.
    """
    names = {name for section in sections for name in section.model_fields}
    return {
        "napari-synapse-cl": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        **({} if origin is None else origin.as_dict()),
        "layers": [
            {
                "index": layer.index,
                "name": str(layer),
                "channels": layer.channels,
                "stride": list(layer.stride),
                "receptive_field": list(layer.receptive_field),
            }
            for layer in layers
        ],
        "settings": config.model_dump(mode="json", include=names),
    }
