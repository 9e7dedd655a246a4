"""Pages of compressed TIFF files, decoded piece by piece, and whole images in colour or grey."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from napari_synapse_cl.errors import InputError

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
    path
        The file.
    file
        The same, opened.
    pages
        Its pages, of one size and compression.

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
        self._decodes = _can_decode(page)
        self._is_plain = all(_is_one_run(page) for page in pages)
        self._lock, self._key = threading.Lock(), object()
        self._piece = self.shape
        if page.is_tiled and self._decodes:
            self._piece = (page.tilelength, page.tilewidth)
        elif self._decodes:
            self._piece = (min(page.rowsperstrip, self.shape[0]), self.shape[1])
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
        with self._lock:
            handle = page.parent.filehandle
            handle.seek(page.dataoffsets[0] + rows.start * row_bytes)
            content = handle.read((rows.stop - rows.start) * row_bytes)
        stored = self.dtype.newbyteorder(self._file.byteorder)
        return np.frombuffer(content, stored).reshape(-1, width)

    def _decoded(self, index: int, i: int, j: int) -> np.ndarray:
        """Return a strip, a tile or, where only Pillow can decode it, a page."""
        page = self._pages[index]
        if page is None:
            raise ValueError(f"page {index} is missing")
        if not self._decodes:
            return read_image(self._path, page.index)
        width = self._piece[1]
        n = i * -(-self.shape[1] // width) + j
        with self._lock:
            handle = page.parent.filehandle
            handle.seek(page.dataoffsets[n])
            content = handle.read(page.databytecounts[n])
        if len(content) < page.databytecounts[n]:
            raise ValueError(f"page {index} is cut off")
        piece = self._page.decode(content, n, jpegtables=self._page.jpegtables)[0]
        if piece is None:
            return np.zeros(self._piece, self.dtype)
        return np.ascontiguousarray(piece[0, :, :, 0])


def read_image(path: Path, index: int = 0) -> np.ndarray:
    """Return an image with Pillow, grey ``(Y, X)`` or in colour ``(Y, X, 3)``.

    Parameters
    ----------
    path
        The file.
    index
        Which of its images.
    """
    with _opened(path, index) as image:
        return _values(image)


def image_header(path: Path) -> tuple[tuple[int, int], np.dtype]:
    """Return the size along y, x and the type of an image, without decoding it."""
    with _opened(path) as image:
        kind = np.uint16 if image.mode.startswith("I") else np.uint8
        return (image.height, image.width), np.dtype(kind)


@contextmanager
def _opened(path: Path, index: int = 0) -> Iterator[Image.Image]:
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


def _can_decode(page: Any) -> bool:
    return (
        page.compression in tifffile.TIFF.DECOMPRESSORS
        and page.predictor in tifffile.TIFF.UNPREDICTORS
    )
