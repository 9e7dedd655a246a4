"""Points coloured by any column they may have, and what the legend says of the colours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.layers import Points

from napari_synapse_cl.widgets.layers.features import CATEGORY_COLORS, color_by

from .conftest import EXTRACT, open_widget

N = 6


def points_with(**columns: Any) -> Points:
    return Points(np.zeros((N, 3)), features=pd.DataFrame(columns))


def shades(points: Points) -> list[tuple[float, ...]]:
    return [tuple(np.round(color, 3).tolist()) for color in points.face_color]


def test_a_column_of_text_takes_the_place_of_one_of_numbers_and_the_other_way_round() -> None:
    points = points_with(size=np.arange(6.0), kind=list("abcabc"))
    for _ in range(2):
        assert color_by(points, "size").texts == ("0", "5")
        by_size = shades(points)
        assert len(set(by_size)) == 6
        assert color_by(points, "kind").texts == ("a", "b", "c")
        assert shades(points) != by_size
        assert shades(points)[:3] == shades(points)[3:]


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pd.date_range("2020-01-01", periods=N), ("2020-01-01 00:00:00", "2020-01-06 00:00:00")),
        (
            pd.date_range("2020-01-01", periods=N, tz="UTC"),
            ("2020-01-01 00:00:00+00:00", "2020-01-06 00:00:00+00:00"),
        ),
        (pd.to_timedelta(np.arange(N), "h"), ("0 days 00:00:00", "0 days 05:00:00")),
        ([1 + 2j] * 3 + [2j] * 3, ("(1+2j)", "2j")),
        ([[1, 2]] * 3 + [[3]] * 3, ("[1, 2]", "[3]")),
        ([True, False] * 3, ("True", "False")),
        (pd.Categorical(list("xyxyxy"), categories=["y", "x"]), ("x", "y")),
        ([2**53, 2**53 + 1] * 3, ("9.007e+15", "9.007e+15")),
    ],
    ids=["dates", "dates of a zone", "spans", "complex", "lists", "bool", "categories", "large"],
)
def test_columns_of_any_kind_have_colours(column: Any, texts: Sequence[str]) -> None:
    points = points_with(value=column)
    legend = color_by(points, "value")
    assert legend.texts == tuple(texts)
    assert (points.face_color[:, 3] == 1).all()


@pytest.mark.parametrize(
    "column",
    [
        [np.nan, np.inf, -np.inf, 1.0, 2.0, 3.0],
        pd.array([None, None, None, 1, 2, 3], dtype="Int64"),
        [None, None, None, "a", "b", "b"],
        pd.to_datetime([None, None, None, "2020", "2021", "2022"]),
    ],
    ids=["infinite", "nullable", "text", "dates"],
)
def test_points_without_a_value_are_not_shown_and_are_counted(column: Any) -> None:
    points = points_with(value=column)
    legend = color_by(points, "value")
    assert (points.face_color[:, 3] > 0).tolist() == [False] * 3 + [True] * 3
    assert "3 points without a value: not shown" in legend.as_html()


def test_the_largest_numbers_are_told_apart() -> None:
    points = points_with(value=[-1.7e308, 0.0, 1.7e308] * 2)
    color_by(points, "value")
    assert len(set(shades(points))) == 3


def test_a_column_of_missing_values_alone_shows_no_point() -> None:
    points = points_with(value=[np.nan] * N)
    assert "no values" in color_by(points, "value").as_html()
    assert not points.face_color[:, 3].any()


def choose(box: Any, name: str) -> None:
    """Choose a column as a click in the list does."""
    index = box.findText(name)
    assert index > 0
    box.setCurrentIndex(index)
    box.activated.emit(index)


def test_every_column_may_follow_every_other_and_has_a_legend(window: Any) -> None:
    points = window.points
    n = len(points.data)
    order, halves = np.arange(n), np.arange(n) < n // 2
    columns: dict[Any, Any] = {
        "number": order / 2,
        "text": [f"class {i}" for i in order],
        "date": pd.date_range("2020-01-01", periods=n),
        "span": pd.to_timedelta(order, "h"),
        "complex": order + 1j,
        # Numbers among lists are classes too.
        "list": [[int(i), 0] if i else 1 for i in order],
        "infinite": np.where(halves, np.inf, order),
        7: order,
    }
    window.viewer.layers.selection.active = window.image
    points.features = pd.DataFrame(columns)
    window.viewer.layers.selection.active = points
    box = open_widget(window.viewer, EXTRACT).points_panel.color_box
    names = list(map(str, columns))
    along: dict[str, list[tuple[float, ...]]] = {}
    for name in [*names, *names[::-1], "number", "date", "text", "span", "number", "list"]:
        box.legend.setText("")
        choose(box, name)
        known = ~halves if name == "infinite" else np.full(n, True)
        assert (points.face_color[:, 3] > 0).tolist() == known.tolist(), name
        assert len(set(shades(points))) >= known.sum(), name
        assert box.legend.text().count("■") == n
        assert not box.legend.isHidden()
        along[name] = shades(points)
    # Dates and spans lie along the colormap as numbers do; what else has no order is classes.
    assert along["date"] == along["span"] == along["number"] == along["7"]
    assert along["complex"] == along["list"] == along["text"] != along["number"]


def test_the_classes_of_the_sample_have_a_legend_before_any_column_is_chosen(window: Any) -> None:
    points, viewer = window.points, window.viewer
    viewer.layers.selection.active = points
    box = open_widget(viewer, EXTRACT).points_panel.color_box
    assert box.column is None
    assert not box.legend.isHidden()
    shown = dict(zip(points.features["class"], shades(points), strict=True))
    for name, (red, green, blue, _) in shown.items():
        color = "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))
        assert f'<span style="color: {color}">■</span> {name}' in box.legend.text()
    # One colour of all says nothing of a class, be it the only one.
    points.face_color = "red"
    points.features = pd.DataFrame({"class": ["ribbon"] * len(points.data)})
    viewer.layers.selection.active = window.image
    viewer.layers.selection.active = points
    assert box.legend.isHidden()


def test_the_legend_is_there_again_with_the_points(window: Any) -> None:
    points, viewer = window.points, window.viewer
    points.features = pd.DataFrame({"size": np.arange(float(len(points.data)))})
    viewer.layers.selection.active = points
    box = open_widget(viewer, EXTRACT).points_panel.color_box
    choose(box, "size")
    legend = box.legend.text()
    for other in (window.image, viewer.add_points([[1, 2, 3]])):
        viewer.layers.selection.active = other
        assert box.column is None
        assert box.legend.isHidden()
        viewer.layers.selection.active = points
        assert box.column == "size"
        assert box.legend.text() == legend
        assert not box.legend.isHidden()
    viewer.layers.selection.active = window.image
    points.face_color = "red"
    viewer.layers.selection.active = points
    assert box.column is None
    assert box.legend.isHidden()


def test_a_column_whose_name_is_no_text_is_found_by_what_is_read() -> None:
    points = Points(np.zeros((N, 3)))
    points.features = pd.DataFrame({7: np.arange(N), ("a", 1): list("aabbcc")})
    assert color_by(points, "7").texts == ("0", "5")
    assert color_by(points, "('a', 1)").texts == ("a", "b", "c")


@pytest.mark.parametrize("n", [3, 7, 21])
def test_every_class_has_a_colour_of_its_own(n: int) -> None:
    points = Points(np.zeros((n, 3)), features={"kind": [f"class {i}" for i in range(n)]})
    legend = color_by(points, "kind")
    colors = points.face_color[:, :3]
    apart = [np.abs(a - b).max() for i, a in enumerate(colors) for b in colors[:i]]
    assert min(apart) > 0.1
    assert legend.colors[:7] == CATEGORY_COLORS[: min(n, 7)]
    assert ("and 9 more" in legend.as_html()) == (n == 21)


def test_what_stands_in_a_legend_is_no_markup() -> None:
    points = points_with(kind=["<b>x"] * N)
    assert "&lt;b&gt;x" in color_by(points, "kind").as_html()
