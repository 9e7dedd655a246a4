"""TIFF stacks: plain, BigTIFF, ImageJ and OME."""

import struct
import weakref
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_synapse_cl.data.arrays import Array3D, ReadArray, Region, bounded
from napari_synapse_cl.data.formats.axes import spatial_axes
from napari_synapse_cl.data.formats.found import Found, Triple
from napari_synapse_cl.data.formats.lengths import size_in_nm
from napari_synapse_cl.data.formats.pages import PageReader
from napari_synapse_cl.errors import InputError

SUFFIXES = (".tif", ".tiff", ".btf")


def open_tiff(path: Path) -> Found:
    """Open a TIFF stack: memory-mapped, or where it is compressed piece by piece.

    Raises
    ------
    InputError
        If it is cut off, or holds no single volume of grey values.
    """
    file = tifffile.TiffFile(path)
    try:
        check_not_cut_off(file, path)
        pages = _single_pages(file)
        if pages is not None:
            shape = (len(pages), *file.series[0].shape)
            return Found(_paged(path, file, pages, shape), voxel_size=_voxel_size(file))
        series = _volume_series(file, path)
        axes = _axes(series, path)
        shape = tuple(series.shape[axis] for axis in axes)
        size = _voxel_size(file)
        offset = series.dataoffset
        if offset is not None:
            dtype = np.dtype(f"{file.byteorder}{series.dtype.char}")
            if offset + int(np.prod(shape)) * dtype.itemsize > path.stat().st_size:
                raise InputError(f"{path} is cut off: its last voxels are missing")
            file.close()
            return Found(bounded(np.memmap(path, dtype, "r", offset, shape)), voxel_size=size)
        array = _paged(path, file, series.pages, shape)
    except BaseException:
        file.close()
        raise
    return Found(array, voxel_size=size)


def check_not_cut_off(file: tifffile.TiffFile, path: Path) -> None:
    """Follow the chain of pages to its end, which libraries take to be where the file ends.

    Raises
    ------
    InputError
        If a page, or the voxels of the last, would lie beyond the end of the file.
    """
    handle, form = file.filehandle, file.tiff
    n_bytes = handle.size
    handle.seek(form.offsetsize if form.is_bigtiff else 4)
    place = struct.unpack(form.offsetformat, handle.read(form.offsetsize))[0]
    seen = set()
    while place and place not in seen:
        seen.add(place)
        handle.seek(place)
        count = handle.read(form.tagnosize)
        n_tags = struct.unpack(form.tagnoformat, count)[0] if len(count) == form.tagnosize else 0
        handle.seek(min(place + form.tagnosize + n_tags * form.tagsize, n_bytes))
        following = handle.read(form.offsetsize)
        if len(count) < form.tagnosize or len(following) < form.offsetsize:
            raise InputError(f"{path} is cut off: page {len(seen)} is not in it")
        place = struct.unpack(form.offsetformat, following)[0]
    last = file.pages[-1]
    ends = [a + n for a, n in zip(last.dataoffsets, last.databytecounts, strict=True)]
    if max(ends, default=0) > n_bytes:
        raise InputError(f"{path} is cut off: voxels of its last page are missing")


def _single_pages(file: tifffile.TiffFile) -> list[Any] | None:
    """Return the pages of a stack that was written one by one, as an image of its own each."""
    if len(file.series) < 2:
        return None
    pages: list[Any] = [series.pages[0] for series in file.series]
    is_stack = all(
        series.ndim == 2 and len(series.pages) == 1 and page.hash == pages[0].hash
        for series, page in zip(file.series, pages, strict=True)
    )
    return pages if is_stack else None


def _volume_series(file: tifffile.TiffFile, path: Path) -> Any:
    """Return the one series of pages that may be a volume."""
    several = [series for series in file.series if len(series.pages) > 1 or series.ndim > 2]
    if len(file.series) > 1 and len(several) != 1:
        raise InputError(
            f"{path} holds {len(file.series)} images of different sizes; a 3D volume is needed"
        )
    return several[0] if several else file.series[0]


def _axes(series: Any, path: Path) -> tuple[int, int, int]:
    names: list[str | None] = list(series.axes.lower())
    if any(name == "s" and n > 1 for name, n in zip(names, series.shape, strict=True)):
        raise InputError(
            f"{path} looks like a colour image; a volume of grey values along z, y, x is needed"
        )
    stacked = [
        axis
        for axis, (name, n) in enumerate(zip(names, series.shape, strict=True))
        if n > 1 and name not in ("y", "x")
    ]
    if len(stacked) == 1:
        if names[stacked[0]] == "c":
            raise InputError(
                f"{path} holds {series.shape[stacked[0]]} channels of one slice; a 3D volume of "
                "grey values along z, y, x is needed"
            )
        # Stacks are often saved as a series of times, or of nothing in particular.
        names = [None if name == "z" else name for name in names]
        names[stacked[0]] = "z"
    return spatial_axes(series.shape, names, str(path))


def _paged(path: Path, file: tifffile.TiffFile, pages: Any, shape: tuple[int, ...]) -> Array3D:
    if len(pages) != shape[0]:
        raise InputError(f"{path} has {len(pages)} pages for {shape[0]} slices; it may be cut off")
    reader = PageReader(path, file, pages)

    def read(region: Region) -> np.ndarray:
        z, y, x = region
        crop = np.empty(tuple(along.stop - along.start for along in region), reader.dtype)
        for slot, index in zip(crop, range(z.start, z.stop), strict=True):
            reader.read(index, y, x, slot)
        return crop

    array = ReadArray(shape, reader.dtype, read, path.name)
    weakref.finalize(array, file.close)
    return array


def _voxel_size(file: tifffile.TiffFile) -> Triple | None:
    if file.is_ome and file.ome_metadata:
        return _ome_voxel_size(file.ome_metadata)
    if not file.is_imagej or not file.imagej_metadata:
        return None
    page: Any = file.pages[0]
    tags, metadata = page.tags, file.imagej_metadata
    # As pixels per unit.
    per_unit = [tags.valueof(name) for name in ("YResolution", "XResolution")]
    if not all(isinstance(value, tuple) and value[0] for value in per_unit):
        return None
    y, x = (value[1] / value[0] for value in per_unit)
    return size_in_nm((metadata.get("spacing"), y, x), metadata.get("unit"))


def _ome_voxel_size(text: str) -> Triple | None:
    try:
        elements = ElementTree.fromstring(text).iter()
    except ElementTree.ParseError:
        return None
    pixels = next((e for e in elements if e.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None
    names = [f"PhysicalSize{axis}" for axis in "ZYX"]
    # The unit that OME gives lengths without one.
    units = [pixels.get(f"{name}Unit", "µm") for name in names]
    return size_in_nm([pixels.get(name) for name in names], units)
