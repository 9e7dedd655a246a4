"""Columns of tables as features of points, and points coloured by them.

napari is imported late: the reader of tables needs these before a viewer does.
"""

from __future__ import annotations

import colorsys
import html
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_synapse_cl.data import pd
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.tables.columns import FEATURE_COLUMN, as_numbers, numbers_said
from napari_synapse_cl.data.tables.conventions import Source, by_name, find_partners
from napari_synapse_cl.data.tables.typed import in_objects
from napari_synapse_cl.system.words import counted

if TYPE_CHECKING:
    from napari.layers import Points

SIDES = {"side_1": "side_1_coord_{}", "side_2": "side_2_coord_{}"}
"""How columns of a side are named that have numbers for x, y, z; others end with the axis."""
AS_READ = "_as_read"


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose cells are single values: napari cannot select points with others.

    Positions in one column become three columns, as ``pre_pt_position_x``; anything else is text.
    """
    columns: dict[str, Any] = {}
    for name, column in table.items():
        if column.dtype != object or not column.map(_is_several).any():
            columns[str(name)] = column
            continue
        if all(len(cell) == 3 for cell in column if _is_several(cell)):
            for i, axis in enumerate("xyz"):
                columns[f"{name}_{axis}"] = column.map(
                    lambda cell, i=i: cell[i] if _is_several(cell) else np.nan
                )
        else:
            columns[str(name)] = column.map(str)
    return in_objects(pd.DataFrame(columns, index=table.index))


def with_partners(table: pd.DataFrame, partners: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return a table whose positions of partners are in the voxels that the points are in.

    Columns that hold them otherwise, as in nm, get another name.

    Parameters
    ----------
    table
        As :func:`plain` returns it.
    partners
        ``(M, 3)`` z, y, x in voxels of each, by the names of the partners.
    """
    sources = find_partners(by_name(table.columns))
    for name, voxels in partners.items():
        source = sources.get(name)
        if source is None or np.array_equal(_values(table, source), voxels, equal_nan=True):
            continue
        table = table.rename(columns={column: f"{column}{AS_READ}" for column in source.columns})
        template = SIDES.get(name, f"{name}_{{}}")
        ends = "321" if name in SIDES else AXES
        table = table.assign(**{template.format(end): voxels[:, i] for i, end in enumerate(ends)})
    return table


def _values(table: pd.DataFrame, source: Source) -> np.ndarray:
    columns: list[Hashable] = list(source.columns)
    if source.order == "x, y, z":
        columns.reverse()
    return np.stack([as_numbers(table[column]) for column in columns], axis=1)


def _is_several(cell: Any) -> bool:
    return isinstance(cell, list | tuple | np.ndarray)


def feature_match(name: object) -> re.Match[str] | None:
    """Return the parts of a column's name, if it is one that an extraction adds."""
    return FEATURE_COLUMN.fullmatch(str(name))


def is_component(name: object) -> bool:
    """Whether a column holds a principal component of features that an extraction adds."""
    match = feature_match(name)
    return match is not None and bool(match["component"])


def is_channel(name: object) -> bool:
    """Whether a column is one of the numbers of a vector."""
    match = feature_match(name)
    return match is not None and match["channel"] is not None


def free_name(name: str, names: Iterable[object]) -> str:
    """Return a name for a new column: this one, or with a version that is not there yet."""
    there, version, found = set(map(str, names)), 1, name
    while found in there:
        version += 1
        found = f"{name}_v{version}"
    return found


METADATA_KEY = "napari_synapse_cl"
"""The same key that files keep their record under."""
VOLUME_KEY = "napari_synapse_cl_volume"
"""Where the metadata of points say which volume they were opened with: its location and name."""
ROWS_KEY = "napari_synapse_cl_rows"
"""Where they say of which feature table the points are rows: its path, its vectors with how many
numbers each has, and the column with the number of the row."""
RECIPE = "recipe"
"""In the metadata of an image under that key: the preset that suits it, until it was chosen."""


CATEGORY_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Okabe and Ito's, told apart by colour-blind people too."""
LIGHTNESS = (1.0, 0.5, 1.4)
"""Of the colours of the first seven classes, of the next seven and of the seven after these."""
N_COLORS = len(CATEGORY_COLORS) * len(LIGHTNESS)
"""Classes with a colour of their own."""
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
    found = colors_of(points.features[names[column]].reset_index(drop=True))
    # As napari has it, colours of numbers cannot give way to those of classes, nor of dates to any.
    points.face_color = found.rgba
    return found.legend


@dataclass(frozen=True)
class Colored:
    """Colours of the values of a column."""

    rgba: np.ndarray
    """``(N, 4)`` float64 from 0 to 1, transparent where there is no value."""
    legend: Legend
    codes: np.ndarray
    """``(N,)`` int64, the number of each one's class in the legend; -1 where there is no value, and
    of all numbers."""


def colors_of(values: pd.Series) -> Colored:
    """Return colours: of numbers, dates and spans along a colormap, of all else as classes.

    Parameters
    ----------
    values
        N cells, counted from 0.
    """
    from napari.utils.colormaps import ensure_colormap

    numbers = _numbers(values)
    missing = values.isna().to_numpy(bool) if numbers is None else ~np.isfinite(numbers)
    rgba = np.zeros((len(values), 4))
    codes = np.full(len(values), -1)
    if numbers is None:
        codes[~missing], classes = pd.factorize(values[~missing].map(str))
        palette = np.array([_class_color(i) for i in range(len(classes))]).reshape(-1, 4)
        rgba[~missing] = palette[codes[~missing]]
        legend = Legend(tuple(map(_hex, palette)), tuple(classes), int(missing.sum()), False)
    else:
        known = numbers[~missing]
        colormap = ensure_colormap(NUMBER_COLORS)
        rgba[~missing] = colormap.map(_shares(known))
        steps = colormap.map(np.linspace(0, 1, N_STEPS))
        ends = () if missing.all() else _ends(values[~missing], known)
        legend = Legend(tuple(map(_hex, steps)), ends, int(missing.sum()), True)
    return Colored(rgba, legend, codes)


def own_legend(points: Points) -> Legend | None:
    """Return what colours of classes mean that napari gives points, such as those of the sample.

    None if they are of no column, or classes share a colour, or there are no points.
    """
    if points.face_color_mode != "cycle" or not len(points.data):
        return None
    colors = pd.DataFrame(points.face_color)
    for _, values in points.features.items():
        # What extractions add are numbers, and may be thousands of columns.
        if values.dtype.kind != "f":
            pairs = colors.assign(text=values.astype(str).to_numpy()).drop_duplicates()
            shades = tuple(map(_hex, pairs[[0, 1, 2]].to_numpy()))
            if pairs["text"].is_unique and len(set(shades)) == len(shades):
                return Legend(shades, tuple(pairs["text"]), 0, False)
    return None


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
    from napari.utils.colormaps.standardize_color import transform_color

    rgba = transform_color(CATEGORY_COLORS[number % len(CATEGORY_COLORS)])[0]
    factor = LIGHTNESS[number // len(CATEGORY_COLORS) % len(LIGHTNESS)]
    hue, light, saturation = colorsys.rgb_to_hls(*rgba[:3].tolist())
    light = light * factor if factor < 1 else 1 - (1 - light) / factor
    return np.array([*colorsys.hls_to_rgb(hue, light, saturation), 1.0])


def class_color(number: int) -> str:
    """Return the colour of a class as #rrggbb."""
    return _hex(_class_color(number))


def _hex(rgba: np.ndarray) -> str:
    return "#" + "".join(f"{round(255 * float(v)):02x}" for v in rgba[:3])
