"""Datasets of HDF5 files."""

import weakref
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.data.arrays import ReadArray, Region
from napari_synapse_cl.data.formats.hdf5_checks import SoundChunks, check_path, check_storage
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
from napari_synapse_cl.errors import InputError
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
