"""Datasets of HDF5 files, and what a file that came from elsewhere may lead to and unpack to."""

import threading
import weakref
import zlib
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.data.arrays import ReadArray, Region
from napari_synapse_cl.data.formats.places import (
    NO_OFFSET,
    Found,
    Messages,
    Voxel,
    check_size,
    listed,
    no_chunks,
    offset_in_voxels,
    size_in_nm,
    spatial_axes,
    three_numbers,
    told_size,
)
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.system.files import parse_json
from napari_synapse_cl.system.words import VoxelSize

SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
CHUNK_BYTES = 2**26
"""How much of the chunks that were decoded is kept."""
CHUNK_SLOTS = 10_007
"""Places for them, a prime number as HDF5 advises."""


def open_hdf5(path: Path, inner: str, name: str) -> Found:
    """Open a dataset of an HDF5 file; without a name, the only one with three axes or more.

    Parameters
    ----------
    inner
        Path of the dataset in it, may be empty.
    name
        How to call it in messages.

    Raises
    ------
    InputError
        If there is no such dataset, or several where none is named.
    """
    import h5py

    # Nobody's lock matters to one who only reads, and not every file system has locks.
    file = h5py.File(path, "r", locking=False, rdcc_nbytes=CHUNK_BYTES, rdcc_nslots=CHUNK_SLOTS)
    try:
        dataset = _dataset(file, path, inner)
        check_storage(dataset, Path(dataset.file.filename))
        _check_filters(dataset, path)
        names = _axis_names(dataset)
        axes = spatial_axes(dataset.shape, names, f"{path}{dataset.name}")
        chunk_bytes = prod(dataset.chunks or ()) * dataset.dtype.itemsize
        check_size(dataset.shape, chunk_bytes, f"{path}{dataset.name}")
        array = _array(dataset, axes, name)
        size, offset, note = _placement(dataset.attrs)
        messages = _messages(dataset, name, note)
    except BaseException:
        file.close()
        raise
    weakref.finalize(array, file.close)
    return Found(array, f"{path}{dataset.name}", size, offset, messages=messages)


def _dataset(file: Any, path: Path, inner: str) -> Any:
    import h5py

    check_path(file, path, inner)
    if inner and inner not in file:
        raise InputError(f"there is no {inner} in {path}, which holds {listed(_names(file))}")
    node = file[inner] if inner else file
    if isinstance(node, h5py.Dataset):
        return node
    names = _names(node)
    if len(names) == 1:
        return node[names[0]]
    if not names:
        raise InputError(f"{path} holds no dataset with three axes")
    raise InputError(
        f"{path} holds {listed(names)}; name one, as in {path.name}/{inner + '/' if inner else ''}"
        f"{names[0]}"
    )


def _names(group: Any) -> list[str]:
    """Return the names of all datasets in a group that may be volumes."""
    import h5py

    names: list[str] = []

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim >= 3 and node.dtype.kind in "uif":
            names.append(name)

    group.visititems(visit)
    return names


def _check_filters(dataset: Any, path: Path) -> None:
    from h5py import h5z

    made = dataset.id.get_create_plist()
    for i in range(made.get_nfilters()):
        code, _, _, title = made.get_filter(i)
        if not h5z.filter_avail(code):
            title = title.decode(errors="replace") or f"filter {code}"
            raise InputError(
                f"{path}{dataset.name} is compressed in a way that HDF5 cannot read here "
                f"({title}); save it with gzip, or without compression"
            )


def _array(dataset: Any, axes: tuple[int, int, int], name: str) -> ReadArray:
    kept = sorted(axes)
    chunks = SoundChunks(dataset)

    def read(region: Region) -> np.ndarray:
        key: list[Any] = [0] * dataset.ndim
        for axis, along in zip(axes, region, strict=True):
            key[axis] = along
        chunks.check(tuple(key))
        return np.transpose(dataset[tuple(key)], [kept.index(axis) for axis in axes])

    return ReadArray(tuple(dataset.shape[axis] for axis in axes), dataset.dtype, read, name)


def _axis_names(dataset: Any) -> list[str]:
    """Return the names of axes, as ilastik or HDF5 itself keep them."""
    try:
        tags = parse_json(dataset.attrs["axistags"])["axes"]
        return [str(tag["key"]) for tag in tags]
    except (KeyError, TypeError, ValueError):
        return [dimension.label for dimension in dataset.dims]


def _placement(attributes: Any) -> tuple[VoxelSize | None, Voxel, str]:
    """Return voxel size, offset and a note: as CREMI and funlib tell them, or ilastik in µm."""
    resolution = attributes.get("resolution", attributes.get("voxel_size"))
    if resolution is None:
        return size_in_nm(attributes.get("element_size_um"), "um"), NO_OFFSET, ""
    offset = offset_in_voxels(attributes.get("offset"), resolution)
    sizes, units = three_numbers(resolution), attributes.get("units", attributes.get("unit"))
    if sizes is None or min(sizes) <= 0:
        return None, offset, ""
    size, note = told_size(sizes, units)
    return size, offset, note


def _messages(dataset: Any, name: str, note: str) -> Messages:
    messages: Messages = ((f"{name} {note}", "info"),) if note else ()
    if dataset.is_virtual or dataset.id.get_storage_size():
        return messages
    return ((no_chunks(name, dataset.fillvalue), "warning"), *messages)


DEFLATE = 1
"""HDF5's number for gzip, which makes at most 1032 bytes of one."""
DEFLATE_RATIO = 1032
HARMLESS_BYTES = 2**28
HEAD_BYTES = 2**16
REMEMBERED = 2**20
"""How many chunks are remembered to be sound."""

MOST_LINKS = 32
"""From one to the next; more are a circle."""
HOW = "; copy that dataset into one file, as h5repack and h5copy do"


def check_path(file: Any, path: Path, inner: str) -> None:
    """Check where the links on a path in a file lead, before any of them is followed.

    Parameters
    ----------
    file
        The file, or a group of it.

    Raises
    ------
    InputError
        If one leads to a file outside of the folder, or they lead in circles.
    """
    _follow(file, path, inner.split("/"), MOST_LINKS)


def check_storage(dataset: Any, path: Path, n_left: int = MOST_LINKS) -> None:
    """Check that a dataset has its voxels in this file, or in others of the folder that are there.

    HDF5 takes what is missing for the fill value.

    Raises
    ------
    InputError
        If it has not.
    """
    import h5py

    name = f"{path}{dataset.name}"
    if dataset.external:
        raise InputError(
            f"{name} has its voxels in another file, {dataset.external[0][0]}, and may so read any "
            f"file{HOW}"
        )
    if not dataset.is_virtual:
        return
    if not n_left:
        raise InputError(f"{name} is put together of itself")
    for _, file_name, source, _ in dataset.virtual_sources():
        file = path if file_name == "." else _in_folder(path, file_name, name)
        with h5py.File(file, "r", locking=False) as opened:
            check_path(opened, file, source)
            if not isinstance(opened.get(source), h5py.Dataset):
                raise InputError(
                    f"{name} is put together of others, of which {source} in {file} is missing"
                )
            check_storage(opened[source], file, n_left - 1)


def _follow(group: Any, path: Path, parts: list[str], n_left: int) -> None:
    import h5py

    for i, part in enumerate(parts):
        if not part:
            continue
        if not isinstance(group, h5py.Group):
            return
        link = group.get(part, getlink=True)
        rest = parts[i + 1 :]
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink) and not n_left:
            raise InputError(f"{path} has links that lead in a circle, at {group.name}")
        if isinstance(link, h5py.ExternalLink):
            file = _in_folder(path, link.filename, f"{path}, {part}")
            with h5py.File(file, "r", locking=False) as opened:
                _follow(opened, file, [*link.path.split("/"), *rest], n_left - 1)
            return
        if isinstance(link, h5py.SoftLink):
            start = group.file if link.path.startswith("/") else group
            _follow(start, path, [*link.path.split("/"), *rest], n_left - 1)
            return
        if link is None:
            return
        group = group[part]


def _in_folder(path: Path, name: str, what: str) -> Path:
    """Return a file that another one names, if it lies in the folder of that one."""
    folder = path.absolute().parent
    file = (folder / name).resolve()
    if not any(file.is_relative_to(around) for around in (folder.resolve(), path.resolve().parent)):
        raise InputError(
            f"{what} lies in another file, {name}, which is not in the folder of {path.name}: what "
            f"it names could be any file{HOW}"
        )
    if not file.is_file():
        raise InputError(f"{what} lies in another file, {name}, which is missing")
    return file


class SoundChunks:
    """Checks chunks before they are read.

    Parameters
    ----------
    dataset
        Of h5py.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        made = dataset.id.get_create_plist()
        filters = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
        self._is_deflated = filters[-1:] == [DEFLATE]
        self._sound: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()
        self._n_bytes = prod(dataset.chunks or ()) * dataset.dtype.itemsize

    def check(self, key: tuple[Any, ...]) -> None:
        """Check the chunks that a region touches.

        Parameters
        ----------
        key
            Slices and integers along the axes of the dataset.

        Raises
        ------
        JobError
            If one unpacks to far more than it is to hold.
        """
        if not self._is_deflated:
            return
        ranges = []
        for along, step in zip(key, self._dataset.chunks, strict=True):
            start, stop = (
                (along.start, along.stop) if isinstance(along, slice) else (along, along + 1)
            )
            ranges.append(range(start // step * step, stop, step))
        for place in product(*ranges):
            if place not in self._sound:
                self._check_one(place)
                with self._lock:
                    if len(self._sound) < REMEMBERED:
                        self._sound.add(place)

    def _check_one(self, place: tuple[int, ...]) -> None:
        stored = self._dataset.id.get_chunk_info_by_coord(place).size
        if not stored or stored * DEFLATE_RATIO <= max(HARMLESS_BYTES, self._n_bytes):
            return
        is_sound = stored <= 2 * self._n_bytes + HEAD_BYTES
        if is_sound:
            mask, packed = self._dataset.id.read_direct_chunk(place)
            limit = self._n_bytes + 1
            try:
                head = zlib.decompressobj().decompress(packed[:HEAD_BYTES], limit)
            except zlib.error:
                # HDF5 says what is wrong.
                return
            is_sound = bool(mask) or len(head) < limit
        if not is_sound:
            raise JobError(
                f"{self._dataset.file.filename}{self._dataset.name} is damaged: its chunk at "
                f"{', '.join(map(str, place))} unpacks to far more than the {self._n_bytes:,} "
                "bytes of a chunk"
            )
