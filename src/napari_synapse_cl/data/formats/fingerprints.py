"""Tell whether a volume is still the one that it was."""

import hashlib
from pathlib import Path
from typing import Any

from napari_synapse_cl.data.formats.locations import METADATA, Location, parse, split_file
from napari_synapse_cl.data.formats.slices import slice_files
from napari_synapse_cl.data.formats.stores import Store
from napari_synapse_cl.errors import InputError


def fingerprint(location: str) -> list[Any]:
    """Return values, for JSON, that change when the volume at a location does.

    Of a file its path, size and time of change. Of a folder the same of its metadata, or the number
    of slices and the same of the first and last; voxels that are changed in place are not seen.
    Of a URL its metadata.

    Raises
    ------
    InputError
        If there is nothing at this location, or a server cannot be reached.
    """
    place = parse(location)
    if place.is_remote:
        return _remote_fingerprint(place)
    path = Path(place.base).absolute()
    found = split_file(path)
    if found is not None:
        file, inner = found
        return [str(file), inner, *_stat(file)]
    if not path.is_dir():
        raise InputError(f"there is no volume {location}")
    documents = [path / name for name in METADATA if (path / name).is_file()]
    if documents:
        return [str(path), *((file.name, *_stat(file)) for file in documents)]
    slices = slice_files(path)
    if slices:
        return [str(path), len(slices), *_stat(slices[0]), *_stat(slices[-1])]
    for folder, _ in place.enclosing():
        # A level of a precomputed volume is described in the folder around it.
        info = Path(folder.base).absolute() / "info"
        if info.is_file():
            return [str(path), "info", *_stat(info)]
    return [str(path), *_stat(path)]


def _remote_fingerprint(place: Location) -> list[Any]:
    for around in (place, *(folder for folder, _ in place.enclosing())):
        documents = Store(around).read_bytes(METADATA)
        if documents:
            content = b"\n".join(documents[name] for name in sorted(documents))
            return [place.text, hashlib.sha256(content).hexdigest()]
    raise InputError(f"there is no volume {place.text}")


def _stat(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return (stat.st_size, stat.st_mtime_ns)
