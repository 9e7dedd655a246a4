"""Which grey values a TIFF file shows: 0 may be white, and values may stand for colours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tifffile import PHOTOMETRIC

LUMINOSITY = (299, 587, 114)
"""What red, green and blue add to grey, in thousandths (ITU-R BT.601)."""


@dataclass(frozen=True)
class Tones:
    """How stored values become grey values.

    Attributes
    ----------
    dtype
        Of the grey values.
    convert
        Returns the grey values of an array of stored ones, or None where they are the same.
    note
        What to tell of it, behind the name of the file.
    """

    dtype: np.dtype[Any]
    convert: Callable[[np.ndarray], np.ndarray] | None = None
    note: str = ""

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
    is_white_zero = page.photometric == PHOTOMETRIC.MINISWHITE
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
    if page.photometric != PHOTOMETRIC.PALETTE or page.colormap is None:
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
