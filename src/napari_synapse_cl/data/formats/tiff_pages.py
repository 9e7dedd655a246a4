"""Pages of compressed TIFF files, decoded piece by piece, and whole images in colour or grey."""

from __future__ import annotations

import math
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_synapse_cl.data import tifffile
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.files import HEAD_BYTES, inflates_beyond, is_harmless
from napari_synapse_cl.system.memory import main_memory
from napari_synapse_cl.system.words import storage

if TYPE_CHECKING:
    from PIL import Image

DECODED_BYTES = 2**28
"""How much of what was decoded is kept, for all volumes together."""

_PILLOW = threading.Lock()


class DecodedPieces:
    """What was decoded last, up to a number of bytes.

    Parameters
    ----------
    limit
        In bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what is kept under a key, or decode it and keep it."""
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
                return self._pieces[key]
        # Two threads may decode the same, which is better than one waiting for another's piece.
        piece = decode()
        with self._lock:
            if key not in self._pieces:
                self._pieces[key] = piece
                self._n_bytes += piece.nbytes
            while self._n_bytes > self._limit and len(self._pieces) > 1:
                self._n_bytes -= self._pieces.popitem(last=False)[1].nbytes
        return piece


DECODED = DecodedPieces(DECODED_BYTES)


class PageReader:
    """Reads regions of the grey pages of a TIFF file that cannot be memory-mapped.

    Parameters
    ----------
    pages
        Its pages, of one size and compression, or those of other files.

    Raises
    ------
    InputError
        If the first page cannot be decoded.
    """

    def __init__(self, path: Path, file: tifffile.TiffFile, pages: Any) -> None:
        self._path, self._file, self._pages = path, file, pages
        page = pages[0].keyframe
        self._page, self.dtype = page, page.dtype
        self.shape = (page.imagelength, page.imagewidth)
        self._decodes = can_decode(page)
        self._is_plain = all(_is_one_run(page) for page in pages)
        self._lock, self._key = threading.Lock(), object()
        self._piece = self.shape
        if page.is_tiled and self._decodes:
            self._piece = (page.tilelength, page.tilewidth)
        elif self._decodes:
            self._piece = (min(page.rowsperstrip, self.shape[0]), self.shape[1])
        check_memory(path, self._piece, page.dtype)
        n_pieces = math.prod(-(-n // m) for n, m in zip(self.shape, self._piece, strict=True))
        if self._decodes and any(p and len(p.dataoffsets) < n_pieces for p in pages):
            raise InputError(
                f"{path} is damaged: pages of {self.shape[1]} × {self.shape[0]} pixels consist of "
                f"{n_pieces} pieces, and it holds fewer"
            )
        try:
            self._decoded(0, 0, 0)
        except Exception as error:
            reason = "" if self._decodes else "; installing imagecodecs may help"
            raise InputError(
                f"{path} is compressed ({page.compression.name}) and cannot be decoded: "
                f"{error}{reason}; save it without compression"
            ) from error

    def read(self, index: int, rows: slice, columns: slice, into: np.ndarray) -> None:
        """Write a region of a page into an array of its size."""
        if self._is_plain:
            into[:] = self._rows(index, rows)[:, columns]
            return
        height, width = self._piece
        for i in range(rows.start // height, -(-rows.stop // height)):
            for j in range(columns.start // width, -(-columns.stop // width)):
                key = (self._key, index, i, j)
                piece = DECODED.get(key, partial(self._decoded, index, i, j))
                top, left = i * height, j * width
                y = slice(max(rows.start, top), min(rows.stop, top + height))
                x = slice(max(columns.start, left), min(columns.stop, left + width))
                into[
                    y.start - rows.start : y.stop - rows.start,
                    x.start - columns.start : x.stop - columns.start,
                ] = piece[y.start - top : y.stop - top, x.start - left : x.stop - left]

    def _rows(self, index: int, rows: slice) -> np.ndarray:
        """Return some rows of a page without compression."""
        page, width = self._pages[index], self.shape[1]
        row_bytes = width * self.dtype.itemsize
        start, n_bytes = rows.start * row_bytes, (rows.stop - rows.start) * row_bytes
        content = self._content(page, page.dataoffsets[0] + start, n_bytes)
        stored = self.dtype.newbyteorder(page.parent.byteorder)
        return np.frombuffer(content, stored).reshape(-1, width)

    def _content(self, page: Any, start: int, n_bytes: int) -> bytes:
        """Return bytes of the file that a page is in."""
        if page.parent is not self._file:
            # There may be thousands, more than can be open at the same time.
            with page_path(page).open("rb", buffering=0) as stream:
                stream.seek(start)
                return stream.read(n_bytes)
        with self._lock:
            handle = page.parent.filehandle
            handle.seek(start)
            return handle.read(n_bytes)

    def _decoded(self, index: int, i: int, j: int) -> np.ndarray:
        """Return a strip, a tile or, where only Pillow can decode it, a page."""
        page = self._pages[index]
        if page is None:
            raise ValueError(f"page {index} is missing")
        if not self._decodes:
            return read_image(page_path(page), page.index, as_stored=True)
        width = self._piece[1]
        n = i * -(-self.shape[1] // width) + j
        content = self._content(page, page.dataoffsets[n], page.databytecounts[n])
        if len(content) < page.databytecounts[n]:
            raise ValueError(f"page {index} is cut off")
        check_inflated(self._page, content, math.prod(self._piece) * self.dtype.itemsize)
        piece = self._page.decode(content, n, jpegtables=self._page.jpegtables)[0]
        if piece is None:
            return np.zeros(self._piece, self.dtype)
        return np.ascontiguousarray(piece[0, :, :, 0])


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


def page_path(page: Any) -> Path:
    """Return the file that a page is in."""
    return Path(page.parent.filehandle.path)


def read_image(path: Path, index: int = 0, *, as_stored: bool = False) -> np.ndarray:
    """Return an image with Pillow, grey ``(Y, X)`` or in colour ``(Y, X, 3)``.

    Parameters
    ----------
    as_stored
        Return the numbers that stand for the colours of a palette, and values as they are where 0
        is white.
    """
    with _opened(path, index) as image:
        if as_stored and image.mode == "P":
            return np.asarray(image)
        values = _values(image)
        # Pillow turns these over, and 16 bits or floating types not.
        is_turned = image.mode in ("1", "L") and image.format == "TIFF"
        if as_stored and is_turned and _photometric(image) == tifffile.PHOTOMETRIC.MINISWHITE:
            return 255 - values
        return values


def image_header(path: Path) -> tuple[tuple[int, int], np.dtype]:
    """Return the size along y, x and the type of an image, without decoding it.

    Raises
    ------
    InputError
        If there is no memory for decoding it.
    """
    with _opened(path) as image:
        kind = np.dtype(np.uint16 if image.mode.startswith("I") else np.uint8)
        shape = (image.height, image.width)
        check_memory(path, (*shape, len(image.getbands())), kind)
        return shape, kind


def check_memory(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse what cannot be decoded as a whole, such as files made to fill up the memory.

    Parameters
    ----------
    shape, dtype
        Of what is decoded at once.

    Raises
    ------
    InputError
        If there is no memory for it.
    """
    # What was decoded is copied once.
    n_bytes = 2 * math.prod(shape) * dtype.itemsize
    # Looking costs something, and few images are so large.
    if n_bytes > DECODED_BYTES and n_bytes > (free := main_memory().free):
        raise InputError(
            f"{path} takes {storage(n_bytes)} to unpack {shape[1]} × {shape[0]} pixels at "
            f"once, and {storage(free)} of memory are free; save it in tiles or without "
            "compression as TIFF, or as Zarr"
        )


def check_inflated(page: Any, content: bytes, n_bytes: int) -> None:
    """Refuse a piece of a page that was made to fill up the memory.

    Parameters
    ----------
    page
        The page.
    content
        The piece, as it is in the file.
    n_bytes
        What it is to unpack to.

    Raises
    ------
    ValueError
        If it unpacks to more.
    """
    deflated = (tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE)
    if page.compression not in deflated or is_harmless(len(content), n_bytes):
        return
    if len(content) > 2 * n_bytes + HEAD_BYTES or inflates_beyond(content, n_bytes):
        raise ValueError(f"it unpacks to far more than the {n_bytes:,} bytes of its pixels")


@contextmanager
def _opened(path: Path, index: int = 0) -> Iterator[Image.Image]:
    from PIL import Image

    with _PILLOW:
        # Slices of a volume are larger than what Pillow takes for an attack.
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
            image.seek(index)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    # Several threads may decode at the same time.
    with image:
        yield image


def _photometric(image: Any) -> int | None:
    tags = getattr(image, "tag_v2", {})
    return tags.get(262)  # PhotometricInterpretation


def _values(image: Image.Image) -> np.ndarray:
    if image.mode == "LA":
        return np.asarray(image.getchannel(0))
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode == "I" and image.format == "PNG":
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("L", "F", "I") or image.mode.startswith("I;16"):
        return np.asarray(image)
    return np.asarray(image.convert("RGB"))


def _is_one_run(page: Any) -> bool:
    """Whether the rows of a page follow each other in its file as they are."""
    if page is None or not page.keyframe.is_memmappable:
        return False
    ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    return ends[:-1] == list(page.dataoffsets[1:])


def can_decode(page: Any) -> bool:
    """Whether tifffile decodes a page as it is installed here; else Pillow may do it."""
    return (
        page.bitspersample in (1, 8, 16, 32, 64)
        and page.compression in tifffile.TIFF.DECOMPRESSORS
        and page.predictor in tifffile.TIFF.UNPREDICTORS
    )
