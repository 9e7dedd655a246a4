"""What is explored, and selected, is the same in the viewer: points come, go and move."""

from typing import Any

import napari
import numpy as np
import pandas as pd
import pytest
from pytestqt.qtbot import QtBot

from napari_synapse_cl.features.vectors import VectorTable
from napari_synapse_cl.widgets.explore.coloring import NO_VALUE, Entry
from napari_synapse_cl.widgets.explore.state import MOST_FRAMED, Exploration


def table_of(values: np.ndarray) -> VectorTable:
    names = [f"L3_mean_{i:03}" for i in range(values.shape[1])]
    places = pd.DataFrame(np.arange(len(values) * 3).reshape(-1, 3), columns=list("zyx"))
    none = np.empty((len(values), 0), np.float32)
    return VectorTable(
        places, {}, ("L3_mean",), tuple(names), (values.shape[1],), values, none, none
    )


@pytest.fixture
def explored() -> Any:
    """Six points of two kinds and one of none, each with a vector that says its number."""
    layer = napari.layers.Points(
        np.arange(18.0).reshape(-1, 3), features={"kind": ["a", "b", "a", None, "b", "a"]}
    )
    state = Exploration()
    state.explore(layer, table_of(np.arange(6, dtype=np.float32)[:, None]))
    return state


def wait_for_colors(qtbot: QtBot, state: Any, name: str) -> None:
    with qtbot.waitSignal(state.colors_changed):
        state.color_by(name)


def counted(signal: Any) -> list[int]:
    told: list[int] = []
    signal.connect(lambda *_: told.append(1))
    return told


def test_what_is_selected_is_the_same_in_the_viewer_in_both_directions(explored: Any) -> None:
    told = counted(explored.selected_changed)
    explored.select([4, 1, 1, 99])
    assert explored.layer.selected_data == {1, 4}
    assert explored.selected.tolist() == [1, 4]
    explored.select(np.array([1, 4]))
    assert len(told) == 1
    explored.layer.selected_data = {2}
    assert explored.selected.tolist() == [2]
    assert len(told) == 2
    explored.leave()
    assert explored.layer is None
    assert not explored.selected.size


def test_others_hear_once_what_came_and_went_and_the_frames_follow(explored: Any) -> None:
    layer, heard = explored.layer, []
    layer.selected_data.events.items_changed.connect(
        lambda added, removed: heard.append((set(added), set(removed)))
    )
    drawn = counted(layer.events.highlight)
    explored.select([0, 4])
    explored.select([0, 5])
    assert heard == [({0, 4}, set()), ({5}, {4})]
    assert len(drawn) == 2
    # The slice that is shown holds the first point alone.
    assert list(layer._highlight_index) == [0]
    explored.select([2])
    assert layer.selected_data.active == 2
    assert list(layer._highlight_index) == []


def test_more_points_than_napari_frames_at_once_are_selected_here() -> None:
    n = MOST_FRAMED + 1
    layer, state = napari.layers.Points(np.zeros((n, 3))), Exploration()
    state.explore(layer, table_of(np.zeros((n, 1), np.float32)))
    state.select(np.arange(n))
    assert len(state.selected) == n
    assert not layer.selected_data


def test_vectors_order_and_selection_follow_points_that_are_deleted(explored: Any) -> None:
    explored.set_order(np.array([5, 3, 1]), "odd", np.array([0.5, 0.3, 0.1]))
    explored.select([3, 5])
    told = counted(explored.rows_changed)
    explored.layer.remove([0, 3])
    assert explored.vectors.values[:, 0].tolist() == [1, 2, 4, 5]
    assert explored.order.tolist() == [3, 0]
    assert explored.scores.tolist() == [0.5, 0.1]
    assert explored.selected.tolist() == [3]
    assert len(told) == 1
    explored.layer.data = explored.layer.data[:1]
    assert explored.vectors.values[:, 0].tolist() == [1]
    explored.layer.remove([0])
    assert explored.n == 0


def test_points_that_are_added_have_no_vector_and_those_moved_keep_theirs(explored: Any) -> None:
    moved = counted(explored.moved)
    explored.layer.add([1, 2, 3])
    assert explored.n == 7
    assert explored.vectors.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert explored.selected.tolist() == [6]
    assert explored.order.tolist() == list(range(7))
    explored.layer.data = explored.layer.data + 1
    assert len(moved) == 1
    assert explored.vectors.values[:6, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_columns_are_the_layers_and_their_origin_is_kept(explored: Any) -> None:
    told: list[str] = []
    explored.columns_changed.connect(told.append)
    ids = [2**63 - 1, 1, 2, 3, 4, 5]
    explored.set_column("cluster", ids, {"from": "L3_mean"})
    explored.set_column("cluster", ids[::-1])
    assert explored.layer.features["cluster"].tolist() == ids[::-1]
    assert explored.layer.metadata["napari_synapse_cl"] == {"cluster": {"from": "L3_mean"}}
    assert explored.column_names == ["kind", "cluster"]
    assert told == ["cluster", "cluster"]


def test_features_assigned_by_others_are_noticed(explored: Any) -> None:
    told = counted(explored.outdated)
    explored.set_column("own", np.arange(6))
    explored.layer.data = explored.layer.data + 1
    assert not told
    explored.layer.features = pd.DataFrame({"other": range(6)})
    assert len(told) == 1
    assert explored.column_names == ["other"]


def test_classes_are_hidden_and_shown_in_the_viewer_too(explored: Any) -> None:
    explored.color_by("kind")
    assert [(e.label, e.count) for e in explored.legend] == [("a", 3), ("b", 2), (NO_VALUE, 1)]
    assert explored.legend[2] == Entry(NO_VALUE, "#808080", 1)
    assert np.allclose(explored.layer.face_color * 255, explored.colors)
    explored.toggle("a")
    assert explored.layer.shown.tolist() == [False, True, False, True, True, False]
    explored.toggle(NO_VALUE)
    assert explored.visible.sum() == 2
    explored.set_column("kind", ["a"] * 6)
    assert explored.hidden == {"a"}
    explored.leave()


@pytest.mark.parametrize(
    ("values", "low", "n_entries"),
    [
        ([3.0, np.nan, 1.0, 2.0, 5.0, 4.0], "1", 1),
        ([True, False, True, True, True, False], None, 2),
        (pd.date_range("2020-01-01", periods=6), "2020-01-01 00:00:00", 0),
        ([np.nan] * 6, None, 1),
    ],
)
def test_numbers_and_dates_have_a_scale(
    explored: Any, values: Any, low: str | None, n_entries: int
) -> None:
    explored.set_column("x", values)
    explored.color_by("x")
    assert (explored.scale and explored.scale.low) == low
    assert len(explored.legend) == n_entries
    explored.toggle(NO_VALUE)
    n_missing = int(pd.isna(pd.Series(values)).sum())
    assert (~explored.visible).sum() == n_missing


def test_many_rows_are_coloured_in_the_background_alike(
    explored: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    explored.palette = {"b": "#102030"}
    explored.color_by("kind")
    at_once = explored.colors.copy()
    assert at_once[1].tolist() == [16, 32, 48, 255]
    explored.color_by(None)
    monkeypatch.setattr("napari_synapse_cl.widgets.explore.rows.AT_ONCE", 0)
    wait_for_colors(qtbot, explored, "kind")
    assert np.array_equal(explored.colors, at_once)
    # Rows that went meanwhile have no colour any more.
    explored.color_by("kind")
    explored.layer.remove([0])
    assert len(explored.colors) == 5
    wait_for_colors(qtbot, explored, "kind")
    assert np.array_equal(explored.colors, at_once[1:])
