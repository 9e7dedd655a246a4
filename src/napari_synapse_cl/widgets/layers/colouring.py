"""Points coloured by a column of their features, and the legend that says what colours mean."""

from __future__ import annotations

import colorsys
import html
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from napari.layers import Points
from napari.utils.colormaps import ensure_colormap
from napari.utils.colormaps.standardize_color import transform_color

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.tables.columns import numbers_said
from napari_synapse_cl.system.words import counted

CATEGORY_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Okabe and Ito's, told apart by colour-blind people too."""
LIGHTNESS = (1.0, 0.5, 1.4)
"""Of the colours of the first seven classes, of the next seven and of the seven after these."""
NUMBER_COLORS = "viridis"
MOST_CLASSES = 12
"""Classes that a legend names; the others are counted."""
N_STEPS = 12
"""Squares that stand for the colours of numbers."""


@dataclass(frozen=True)
class Legend:
    """What the colours of points mean.

    Attributes
    ----------
    colors, texts
        A colour, as #rrggbb, and what it stands for; of numbers the lowest and the highest alone
        have a text.
    n_missing
        Points without a value, which are not shown.
    of_numbers
        Whether colours stand for numbers, in place of classes.
    """

    colors: tuple[str, ...]
    texts: tuple[str, ...]
    n_missing: int
    of_numbers: bool

    def as_html(self) -> str:
        """Return the legend as rich text."""
        squares = [f'<span style="color: {color}">■</span>' for color in self.colors]
        texts = [html.escape(text) for text in self.texts]
        if self.of_numbers:
            shown = f"{texts[0]} {''.join(squares)} {texts[-1]}" if texts else "no values"
        else:
            named = [f"{s} {t}" for s, t in zip(squares, texts, strict=True)][:MOST_CLASSES]
            if len(squares) > MOST_CLASSES:
                named.append(f"and {len(squares) - MOST_CLASSES} more")
            shown = " &nbsp; ".join(named)
        if self.n_missing:
            shown += f"<br>{counted(self.n_missing, 'point')} without a value: not shown"
        return shown


def color_by(points: Points, column: str) -> Legend:
    """Colour points by a column: numbers, dates and spans along a colormap, all else as classes.

    Points that have no value are transparent.

    Parameters
    ----------
    column
        Its name, as text.

    Returns
    -------
    Legend
        What the colours mean.
    """
    names: dict[str, Hashable] = {str(name): name for name in points.features.columns}
    values = points.features[names[column]].reset_index(drop=True)
    numbers = _numbers(values)
    missing = values.isna().to_numpy(bool) if numbers is None else ~np.isfinite(numbers)
    rgba = np.zeros((len(values), 4))
    if numbers is None:
        codes, classes = pd.factorize(values[~missing].map(str))
        palette = np.array([_class_color(i) for i in range(len(classes))]).reshape(-1, 4)
        rgba[~missing] = palette[codes]
        legend = Legend(tuple(map(_hex, palette)), tuple(classes), int(missing.sum()), False)
    else:
        known = numbers[~missing]
        rgba[~missing] = ensure_colormap(NUMBER_COLORS).map(_shares(known))
        steps = ensure_colormap(NUMBER_COLORS).map(np.linspace(0, 1, N_STEPS))
        ends = () if missing.all() else _ends(values[~missing], known)
        legend = Legend(tuple(map(_hex, steps)), ends, int(missing.sum()), True)
    # As napari has it, colours of numbers cannot give way to those of classes, nor of dates to any.
    points.face_color = rgba
    return legend


def freeze_colors(points: Points) -> None:
    """Let points keep their colours whatever becomes of the column that these come from."""
    if points.face_color_mode != "direct":
        points.face_color = points.face_color.copy()
    if points.border_color_mode != "direct":
        points.border_color = points.border_color.copy()


def _numbers(values: pd.Series) -> np.ndarray | None:
    """Return what is told along a colormap, NaN where there is none; None for classes."""
    if values.dtype.kind in "mM":
        numbers = values.astype("int64").to_numpy(np.float64)
        numbers[values.isna()] = np.nan
        return numbers
    if values.dtype == object and not values.map(pd.api.types.is_scalar).all():
        return None
    return numbers_said(values)


def _shares(known: np.ndarray) -> np.ndarray:
    """Return where numbers lie between the lowest and the highest, from 0 to 1."""
    if not len(known):
        return known
    # The span of the largest floats has no number.
    scaled = known / max(float(np.abs(known).max()), np.finfo(float).tiny)
    low, high = scaled.min(), scaled.max()
    return np.asarray((scaled - low) / ((high - low) or 1))


def _ends(values: pd.Series, numbers: np.ndarray) -> tuple[str, str]:
    if values.dtype.kind in "mM":
        return str(values.min()), str(values.max())
    return f"{numbers.min():.4g}", f"{numbers.max():.4g}"


def _class_color(number: int) -> np.ndarray:
    """Return the colour of a class, ``(4,)``: after 21 of them they come again."""
    rgba = transform_color(CATEGORY_COLORS[number % len(CATEGORY_COLORS)])[0]
    factor = LIGHTNESS[number // len(CATEGORY_COLORS) % len(LIGHTNESS)]
    hue, light, saturation = colorsys.rgb_to_hls(*rgba[:3].tolist())
    light = light * factor if factor < 1 else 1 - (1 - light) / factor
    return np.array([*colorsys.hls_to_rgb(hue, light, saturation), 1.0])


def _hex(rgba: np.ndarray) -> str:
    return "#" + "".join(f"{round(255 * float(v)):02x}" for v in rgba[:3])
