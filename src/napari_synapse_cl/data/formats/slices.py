"""A folder of numbered slices, as TIFF, PNG or JPEG."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.data import tifffile
from napari_synapse_cl.data.arrays import MAPPED_AROUND, ReadArray, Region
from napari_synapse_cl.data.formats.places import Found, Messages, listed
from napari_synapse_cl.data.formats.tiff import Tones, grey, tones_of
from napari_synapse_cl.data.formats.tiff_pages import (
    DECODED,
    can_decode,
    check_inflated,
    check_memory,
    check_not_cut_off,
    image_header,
    read_image,
)
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.files import is_harmless
from napari_synapse_cl.system.words import natural

KINDS = {".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class Slice:
    """Where the grey values of a slice are."""

    shape: tuple[int, int]
    dtype: np.dtype
    """Size along y, x, and type as it is in the file."""
    offset: int | None = None
    """Of its first voxel in the file, or None where it has to be decoded."""
    tones: Tones | None = None
    """How what a TIFF file stores becomes grey."""

    @property
    def grey_dtype(self) -> np.dtype:
        """Type of its grey values."""
        return (self.dtype if self.tones is None else self.tones.dtype).newbyteorder("=")


def slice_files(folder: Path) -> list[Path]:
    """Return the images of a folder, in natural order: slice 2 before slice 10."""
    files = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in KINDS and not file.name.startswith(".") and file.is_file()
    ]
    return sorted(files, key=lambda file: natural(file.name))


def open_slices(folder: Path, *, are_labels: bool = False) -> Found:
    """Open a folder of slices; of those without compression only the rows of a crop are read.

    Parameters
    ----------
    are_labels
        Whether they hold labels, whose numbers are kept as they are stored.

    Raises
    ------
    InputError
        If a number is missing or there twice, or the slices are not alike.
    """
    files = slice_files(folder)
    kinds = {KINDS[file.suffix.lower()] for file in files}
    if len(kinds) > 1:
        raise InputError(f"{folder} holds slices as {listed(sorted(kinds))}; leave one kind in it")
    _check_numbers(folder, files)
    slices = [_slice(file, are_labels) for file in files]
    first = slices[0]
    for file, found in zip(files, slices, strict=True):
        if found.shape != first.shape:
            raise InputError(
                f"the slices in {folder} differ in size: {files[0].name} has {_size(first.shape)} "
                f"pixels, {file.name} {_size(found.shape)}"
            )
        if found.grey_dtype != first.grey_dtype:
            raise InputError(
                f"the slices in {folder} differ in type: {files[0].name} holds {first.grey_dtype}, "
                f"{file.name} {found.grey_dtype}"
            )
    shape, dtype = (len(files), *first.shape), first.grey_dtype
    volume = object()

    def read(region: Region) -> np.ndarray:
        z, y, x = region
        crop = np.empty(tuple(along.stop - along.start for along in region), dtype)
        for slot, index in zip(crop, range(z.start, z.stop), strict=True):
            file, found = files[index], slices[index]
            if found.offset is None:
                key = (volume, index)
                slot[:] = DECODED.get(key, partial(_decoded, file, found, are_labels))[y, x]
            else:
                rows = _rows(file, found, y)[:, x]
                slot[:] = rows if found.tones is None else found.tones.of(rows)
        return crop

    told = {
        found.tones.note: file for file, found in zip(files, slices, strict=True) if found.tones
    }
    notes: Messages = tuple((f"{file} {note}", "info") for note, file in told.items() if note)
    return Found(ReadArray(shape, dtype, read, folder.name), messages=notes)


def _rows(file: Path, found: Slice, rows: slice) -> np.ndarray:
    """Return some rows of a slice without compression."""
    assert found.offset is not None
    width = found.shape[1]
    row_bytes = width * found.dtype.itemsize
    if row_bytes > MAPPED_AROUND:
        return np.memmap(file, found.dtype, "r", found.offset, found.shape)[rows]
    # Short rows are read sooner than a file is mapped.
    with file.open("rb", buffering=0) as stream:
        stream.seek(found.offset + rows.start * row_bytes)
        content = stream.read((rows.stop - rows.start) * row_bytes)
    return np.frombuffer(content, found.dtype).reshape(-1, width)


def _check_numbers(folder: Path, files: list[Path]) -> None:
    """Refuse slices whose one number has gaps; other names are taken in natural order."""
    names = [natural(file.stem) for file in files]
    if len({tuple(text for text, _ in name) for name in names}) > 1:
        raise InputError(
            f"{folder} holds images that are not named alike, such as {files[0].name} and "
            f"{files[-1].name}; leave the slices of one volume in it"
        )
    columns = list(zip(*([n for _, n in name] for name in names), strict=True))
    varying = [column for column in columns if len(set(column)) > 1]
    if len(varying) != 1 and len(files) > 1:
        twice = "" if varying else f": {files[0].name} and {files[1].name} have the same number"
        if twice:
            raise InputError(f"the slices in {folder} are not numbered{twice}")
        return
    if len(files) < 2:
        return
    numbers = varying[0]
    by_number = defaultdict(list)
    for number, file in zip(numbers, files, strict=True):
        by_number[number].append(file.name)
    double = next((names for names in by_number.values() if len(names) > 1), None)
    if double is not None:
        raise InputError(f"{folder} holds a slice twice: {listed(double)}")
    steps = np.diff(sorted(by_number))
    step = int(np.gcd.reduce(steps))
    missing = sorted(set(range(min(numbers), max(numbers), step)) - set(by_number))
    if missing:
        which = listed([str(number) for number in missing], 5)
        noun, verb = ("slice", "is") if len(missing) == 1 else ("slices", "are")
        raise InputError(
            f"{noun} {which} {verb} missing in {folder}, which holds {min(numbers)} to "
            f"{max(numbers)}"
        )


def _slice(file: Path, are_labels: bool) -> Slice:
    """Return where the voxels of a slice are, from what is before them in its file."""
    try:
        if KINDS[file.suffix.lower()] == "TIFF":
            return _tiff_slice(file, are_labels)
        return Slice(*image_header(file))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the slice {file} cannot be read: {error}") from error


def _tiff_slice(file: Path, are_labels: bool) -> Slice:
    with tifffile.TiffFile(file) as opened:
        check_not_cut_off(opened, file)
        page: Any = opened.pages[0]
        if len(opened.pages) > 1:
            raise InputError(f"{file} holds {len(opened.pages)} images; a slice is one")
        shape, n_samples = (page.imagelength, page.imagewidth), page.samplesperpixel
        # One that tells what is transparent says nothing about grey.
        tones = (
            tones_of(page, is_imagej=bool(opened.is_imagej), are_labels=are_labels)
            if n_samples < 3
            else None
        )
        if n_samples == 1 and page.is_memmappable:
            dtype = page.dtype.newbyteorder(opened.byteorder)
            return Slice(shape, dtype, page.dataoffsets[0], tones)
        check_memory(file, (*shape, n_samples), page.dtype)
        return Slice(shape, page.dtype, None, tones)


def _decoded(file: Path, found: Slice, are_labels: bool) -> np.ndarray:
    """Return a whole slice in grey."""
    if KINDS[file.suffix.lower()] != "TIFF":
        values = read_image(file, as_stored=are_labels)
        return values if values.ndim == 2 else grey(values)
    with tifffile.TiffFile(file) as opened:
        page: Any = opened.pages[0]
        if not can_decode(page):
            values = read_image(file, as_stored=True)
        else:
            _check_pieces(opened, page)
            values = page.asarray()
            if page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                values = np.moveaxis(values, 0, -1)
    values = values if values.ndim == 2 else grey(values)
    return values if found.tones is None else found.tones.of(values)


def _check_pieces(file: tifffile.TiffFile, page: Any) -> None:
    """Check the strips or tiles of a page before they are unpacked."""
    n_bytes = prod(page.chunks) * page.dtype.itemsize
    for start, n in zip(page.dataoffsets, page.databytecounts, strict=True):
        if not is_harmless(n, n_bytes):
            file.filehandle.seek(start)
            check_inflated(page, file.filehandle.read(n), n_bytes)


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} × {shape[0]}"
