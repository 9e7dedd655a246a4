"""TIFF stacks: plain, BigTIFF, ImageJ and OME; and which grey values a file shows.

0 may be white, and values may stand for colours.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from napari_synapse_cl.data import tifffile
from napari_synapse_cl.data.arrays import Array3D, ReadArray, Region, bounded
from napari_synapse_cl.data.formats.ome import OmeTiff, check_xml
from napari_synapse_cl.data.formats.places import (
    NO_SCALE,
    Found,
    Messages,
    Scale,
    scale_of,
    spatial_axes,
)
from napari_synapse_cl.data.formats.tiff_pages import PageReader, check_not_cut_off
from napari_synapse_cl.errors import InputError

SUFFIXES = (".tif", ".tiff", ".btf")

LUMINOSITY = (299, 587, 114)
"""What red, green and blue add to grey, in thousandths (ITU-R BT.601)."""


@dataclass(frozen=True)
class Tones:
    """How stored values become grey values."""

    dtype: np.dtype[Any]
    """Of the grey values."""
    convert: Callable[[np.ndarray], np.ndarray] | None = None
    """Returns the grey values of an array of stored ones, or None where they are the same."""
    note: str = ""
    """What to tell of it, behind the name of the file."""

    def of(self, stored: np.ndarray) -> np.ndarray:
        """Return grey values."""
        return stored if self.convert is None else self.convert(stored)


def tones_of(page: Any, *, is_imagej: bool, are_labels: bool) -> Tones:
    """Return how the values of a page become grey values.

    Parameters
    ----------
    page
        A page of tifffile, of one sample a pixel.
    is_imagej
        Whether ImageJ wrote it, whose colours are those of the display alone.
    are_labels
        Labels are numbers and not shades, so they stay as they are stored.
    """
    bits, stored = page.bitspersample, page.dtype
    dtype = np.dtype(np.uint8) if stored.kind == "b" else stored
    scale = _from_bits if stored.kind == "b" else None
    is_white_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    colors = _colors(page)
    if is_imagej and colors is not None:
        # Fire, HiLo or a window of contrast: the data are what it stores. An inverting table is
        # how black and white are told.
        greys = colors[:, 0].astype(int)
        is_grey = bool((colors == colors[:, :1]).all())
        is_white_zero = is_grey and bool((np.diff(greys) <= 0).all()) and greys[0] > greys[-1]
        colors = None
    if are_labels:
        note = "stores white as 0; labels are numbers, so they are read as they are stored"
        return Tones(dtype, scale, note if is_white_zero else "")
    if is_white_zero:
        how = "are negated" if dtype.kind == "f" else "are inverted"
        note = f"stores white as 0, so its values {how}: what it shows as black is low"
        return Tones(dtype, lambda values: _exchanged(values, bits), note)
    if colors is not None:
        shades = grey(colors)
        if not np.array_equal(shades, np.arange(len(shades))):
            note = "stores colours of a palette, which become grey"
            return Tones(shades.dtype, lambda values: shades[values], note)
    return Tones(dtype, scale)


def grey(colors: np.ndarray) -> np.ndarray:
    """Return grey values ``(…)`` of colours ``(…, C)`` of any type.

    Of fewer than three channels the first is grey; a fourth tells what is transparent.
    """
    if colors.shape[-1] < 3:
        return colors[..., 0]
    is_integer = colors.dtype.kind in "ui"
    wide = colors[..., :3].astype(np.int64 if is_integer else np.float64)
    thousands = sum(part * wide[..., i] for i, part in enumerate(LUMINOSITY))
    mixed = (thousands + 500) // 1000 if is_integer else thousands / 1000
    return np.asarray(mixed).astype(colors.dtype)


def _colors(page: Any) -> np.ndarray | None:
    """Return ``(N, 3)`` uint8, the colours that the values of a page stand for, or None."""
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or page.colormap is None:
        return None
    return (page.colormap.T // 256).astype(np.uint8)


def _exchanged(values: np.ndarray, bits: int) -> np.ndarray:
    """Return values with black and white exchanged, within the range of their type."""
    if values.dtype.kind == "b":
        return _from_bits(~values)
    if values.dtype.kind == "i":
        return ~values
    if values.dtype.kind == "u":
        # Those of few bits were spread over eight.
        top = values.dtype.type(2 ** max(bits, 8) - 1)
        return np.asarray(top - values)
    # Floating types have no range.
    return -values


def _from_bits(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint8) * np.uint8(255)


def open_tiff(path: Path, *, are_labels: bool = False) -> Found:
    """Open a TIFF stack: memory-mapped, or where it is compressed piece by piece.

    Parameters
    ----------
    path
        The file, or any of those of an OME-TIFF in several.
    are_labels
        Whether it holds labels, whose numbers are kept as they are stored.

    Raises
    ------
    InputError
        If it is cut off, or holds no single volume of grey values.
    """
    file = tifffile.TiffFile(path)
    try:
        check_not_cut_off(file, path)
        ome = _ome(file, path)
        if ome is not None and ome.is_spread:
            return _open_spread(ome, path, file, are_labels)
        pages = _single_pages(file)
        if pages is not None:
            shape: tuple[int, ...] = (len(pages), *file.series[0].shape)
            return _paged(path, file, pages, shape, _scale(file, ome, shape), are_labels)
        series = _volume_series(file, path)
        axes = _axes(series.axes, series.shape, path)
        shape = tuple(series.shape[axis] for axis in axes)
        scale = _scale(file, ome, shape)
        if series.dataoffset is None:
            return _paged(path, file, series.pages, shape, scale, are_labels)
        return _mapped(path, file, series, shape, scale, are_labels)
    except BaseException:
        file.close()
        raise


def _mapped(
    path: Path,
    file: tifffile.TiffFile,
    series: Any,
    shape: tuple[int, ...],
    scale: Scale,
    are_labels: bool,
) -> Found:
    dtype = np.dtype(f"{file.byteorder}{series.dtype.char}")
    if series.dataoffset + math.prod(shape) * dtype.itemsize > path.stat().st_size:
        raise InputError(f"{path} is cut off: its last voxels are missing")
    tones = tones_of(series.keyframe, is_imagej=bool(file.is_imagej), are_labels=are_labels)
    file.close()
    stored = bounded(np.memmap(path, dtype, "r", series.dataoffset, shape))
    array = stored
    if tones.convert is not None:
        array = ReadArray(shape, tones.dtype, lambda region: tones.of(stored[region]), path.name)
    return _found(array, path, tones, scale)


def _open_spread(ome: OmeTiff, path: Path, file: tifffile.TiffFile, are_labels: bool) -> Found:
    """Open an OME-TIFF whose planes are in several files."""
    image = ome.chosen()
    axes = _axes(image.axes, image.shape, path)
    pages = ome.pages(image)
    shape = tuple(image.shape[axis] for axis in axes)
    if pages[0].shape != shape[1:]:
        raise InputError(
            f"{path} holds planes of {' × '.join(map(str, pages[0].shape))} pixels, and its "
            f"metadata tell of {' × '.join(map(str, shape[1:]))} along y, x"
        )
    return _paged(path, file, pages, shape, scale_of(image.lengths, image.units), are_labels)


def _ome(file: tifffile.TiffFile, path: Path) -> OmeTiff | None:
    """Return OME metadata, None where there are none that can be read."""
    page: Any = file.pages[0]
    check_xml(page.description, path)
    if not file.is_ome:
        return None
    try:
        return OmeTiff(path, page.description)
    except ElementTree.ParseError:
        return None


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


def _axes(axes: str, shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    names: list[str | None] = list(axes.lower())
    if any(name == "s" and n > 1 for name, n in zip(names, shape, strict=True)):
        raise InputError(
            f"{path} looks like a colour image; a volume of grey values along z, y, x is needed"
        )
    stacked = [
        axis
        for axis, (name, n) in enumerate(zip(names, shape, strict=True))
        if n > 1 and name not in ("y", "x")
    ]
    if len(stacked) == 1:
        if names[stacked[0]] == "c":
            raise InputError(
                f"{path} holds {shape[stacked[0]]} channels of one slice; a 3D volume of "
                "grey values along z, y, x is needed"
            )
        # Stacks are often saved as a series of times, or of nothing in particular.
        names = [None if name == "z" else name for name in names]
        names[stacked[0]] = "z"
    return spatial_axes(shape, names, str(path))


def _paged(
    path: Path,
    file: tifffile.TiffFile,
    pages: Any,
    shape: tuple[int, ...],
    scale: Scale,
    are_labels: bool,
) -> Found:
    if len(pages) != shape[0]:
        raise InputError(f"{path} has {len(pages)} pages for {shape[0]} slices; it may be cut off")
    reader = PageReader(path, file, pages)
    page = pages[0].keyframe
    tones = tones_of(page, is_imagej=bool(file.is_imagej), are_labels=are_labels)

    def read(region: Region) -> np.ndarray:
        z, y, x = region
        crop = np.empty(tuple(along.stop - along.start for along in region), reader.dtype)
        for slot, index in zip(crop, range(z.start, z.stop), strict=True):
            reader.read(index, y, x, slot)
        return tones.of(crop)

    array = ReadArray(shape, tones.dtype, read, path.name)
    weakref.finalize(array, file.close)
    return _found(array, path, tones, scale)


def _found(array: Array3D, path: Path, tones: Tones, scale: Scale) -> Found:
    notes: Messages = tuple((f"{path} {note}", "info") for note in (tones.note, scale.note) if note)
    return Found(array, voxel_size=scale.voxel_size, messages=notes)


def _scale(file: tifffile.TiffFile, ome: OmeTiff | None, shape: tuple[int, ...]) -> Scale:
    if ome is not None:
        return _ome_scale(ome, shape)
    if not file.is_imagej or not file.imagej_metadata:
        return NO_SCALE
    page: Any = file.pages[0]
    metadata = file.imagej_metadata
    # As pixels per unit.
    per_unit = [page.tags.valueof(name) for name in ("YResolution", "XResolution")]
    in_plane = [value[1] / value[0] if _is_ratio(value) else None for value in per_unit]
    unit = metadata.get("unit")
    units = [metadata.get("zunit", unit), metadata.get("yunit", unit), unit]
    spacing = metadata.get("spacing")
    # To ImageJ, the sign of a spacing means nothing.
    spacing = abs(spacing) if isinstance(spacing, int | float) else spacing
    return scale_of([spacing, *in_plane], units)


def _is_ratio(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and bool(value[0])


def _ome_scale(ome: OmeTiff, shape: tuple[int, ...]) -> Scale:
    """Return the voxel size of the image of that shape; of several they must be alike."""
    same = [image for image in ome.images if sorted(_long(image.shape)) == sorted(_long(shape))]
    scales = {scale_of(image.lengths, image.units) for image in same or ome.images[:1]}
    return scales.pop() if len(scales) == 1 else NO_SCALE


def _long(shape: tuple[int, ...]) -> list[int]:
    return [n for n in shape if n > 1]
