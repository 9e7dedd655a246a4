"""Datasets of several volumes: a file that lists them, or the folders of published boxes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from napari_synapse_cl.config import VolumeConfig, is_url
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.system.files import read_json, read_yaml
from napari_synapse_cl.system.words import natural, shown

FILES = ("image", "synapses", "labels", "segmentation")
TABLES = (".xlsx", ".xlsm", ".csv", ".tsv", ".parquet")
NAME = "name"
_MOST_BOXES = ("cleft=7", "vesicles=6", "mitochondria=5")
PUBLISHED_ROLES: dict[str, tuple[str, ...]] = {
    "bbox1": _MOST_BOXES,
    "bbox2": ("cleft=2,4", "vesicles=3", "mitochondria=1"),
    "bbox3": ("cleft=8,9", "vesicles=7", "mitochondria=6"),
    "bbox4": ("cleft=1,4", "vesicles=2", "mitochondria=3"),
    "bbox5": ("cleft=2,4", "vesicles=3", "mitochondria=1"),
    "bbox6": _MOST_BOXES,
    "bbox7": ("cleft=3,4", "vesicles=2", "mitochondria=1"),
}
"""Label values in the masks that are published with SynapseClusterEM
(https://github.com/alim98/SynapseClusterEM, dataloader of its package ``newdl``)."""


def read_entries(path: Path) -> dict[str, VolumeConfig]:
    """Return the volumes of a dataset by their names.

    Parameters
    ----------
    path
        A JSON or YAML file with a list ``volumes``, whose paths are relative to it, or a folder
        that holds ``raw/NAME``, a table ``NAME.xlsx`` and, where there are any, ``seg/NAME`` and
        one more folder with ``NAME`` or ``NAME`` with an underscore before its number.

    Raises
    ------
    InputError
        If there is no such dataset, or it cannot be understood.
    """
    if path.is_dir():
        return _of_folders(path)
    if not path.exists():
        raise InputError(f"there is no dataset {path}")
    try:
        content = read_json(path) if path.suffix.lower() == ".json" else read_yaml(path)
    except OSError as error:
        raise InputError(f"cannot read the dataset {path}: {reason(error)}") from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON or YAML file of a dataset: {error}") from None
    listed = content.get("volumes") if isinstance(content, dict) else content
    if not isinstance(listed, list) or not listed:
        raise InputError(
            f"{path} is no dataset: a list “volumes” is needed, each with image and synapses"
        )
    entries: dict[str, VolumeConfig] = {}
    for number, values in enumerate(listed, start=1):
        where = f"volume {number} in {path}"
        if not isinstance(values, dict):
            raise InputError(f"{where} is no group of settings")
        name = values.get(NAME, f"volume {number}")
        if not isinstance(name, str | int | float):
            raise InputError(f"{where} has a name that is no text")
        name = str(name)
        if name in entries:
            raise InputError(f"{path} has two volumes called {name}")
        entries[name] = _entry(values, path.parent, where)
    return entries


def _entry(values: Mapping[str, Any], folder: Path, where: str) -> VolumeConfig:
    settings = {key: value for key, value in values.items() if key != NAME}
    for key in FILES:
        location = settings.get(key)
        if isinstance(location, str) and not is_url(location):
            settings[key] = str(folder / location)
    try:
        entry = VolumeConfig.model_validate(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"][:1])
        if problem["type"] == "extra_forbidden":
            raise InputError(f"{where}: there is no setting called {name}") from None
        why = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {name} cannot be {shown(problem['input'])}: {why}") from None
    for key in ("image", "synapses"):
        if getattr(entry, key) is None:
            raise InputError(f"{where} names no {key}")
    return entry


def _of_folders(folder: Path) -> dict[str, VolumeConfig]:
    """Return the volumes of a folder with ``raw``, ``seg``, tables and a folder of masks."""
    inner = [f for f in sorted(folder.iterdir()) if (f / "raw").is_dir()]
    base = inner[0] if not (folder / "raw").is_dir() and len(inner) == 1 else folder
    raw = base / "raw"
    names = [f.name for f in raw.iterdir() if f.is_dir()] if raw.is_dir() else []
    # Without volumes this may be any folder, and large.
    files = sorted(base.rglob("*")) if names else []
    tables = {f.stem: f for f in files if f.suffix.lower() in TABLES}
    found = sorted((name for name in names if name in tables), key=natural)
    if not found:
        raise InputError(
            f"{folder} is no dataset: folders raw/NAME with the slices of a volume and tables "
            "NAME.xlsx with its synapses were expected"
            + (f", and there is no table for {', '.join(sorted(names))}" if names else "")
        )
    entries = {}
    for name in found:
        segmentation, labels = base / "seg" / name, _masks(base, name)
        entries[name] = VolumeConfig(
            image=str(raw / name),
            synapses=tables[name],
            segmentation=str(segmentation) if segmentation.is_dir() else None,
            labels=None if labels is None else str(labels),
        )
        if labels is not None and name in PUBLISHED_ROLES:
            entries[name] = entries[name].model_copy(update={"roles": PUBLISHED_ROLES[name]})
    return entries


def _masks(base: Path, name: str) -> Path | None:
    """Return the folder of masks for a volume: in a folder beside ``raw``, or beside the base."""
    spellings = (name, re.sub(r"(\d+)$", r"_\1", name))
    found = [
        place / spelling
        for around in (base, base.parent)
        for place in sorted(around.iterdir())
        if place.is_dir() and place != base and place.name not in ("raw", "seg")
        for spelling in dict.fromkeys(spellings)
        if (place / spelling).is_dir()
    ]
    if len(found) > 1:
        raise InputError(
            f"{base} has several folders of masks for {name}: {', '.join(map(str, found))}; "
            "list the volumes in a dataset file, with the labels of each"
        )
    return found[0] if found else None
