"""Maps of vectors: principal components as scikit-learn has them, and points found by a lasso."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.projections import (
    check_umap,
    principal_components,
    turned_like,
)
from napari_synapse_cl.widgets.explore.map.points import MapPoints
from napari_synapse_cl.widgets.explore.map.view import View


@pytest.mark.parametrize("shape", [(500, 12), (20, 60)], ids=["many rows", "many channels"])
def test_principal_components_are_those_of_scikit_learn(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=shape) * np.linspace(1, 4, shape[1]) + 10).astype(np.float32)
    found, shares = principal_components(values, 3)
    expected = PCA(3, svd_solver="full")
    components = expected.fit_transform(values.astype(np.float64))
    np.testing.assert_allclose(np.abs(found), np.abs(components), atol=1e-3)
    np.testing.assert_allclose(shares, expected.explained_variance_ratio_, rtol=1e-5)


def test_a_map_is_not_the_mirror_image_of_that_of_other_rows() -> None:
    values = np.random.default_rng(0).normal(size=(400, 5)) * [5, 3, 1, 1, 1]
    all_rows, _ = principal_components(values.astype(np.float32))
    some, _ = principal_components(values[::2].astype(np.float32))
    assert all((all_rows[::2] * some).sum(axis=0) > 0)


def test_a_map_is_turned_to_lie_as_near_as_can_be_to_another() -> None:
    before = np.random.default_rng(0).normal(size=(200, 2)) * [3, 1]
    before -= before.mean(axis=0)
    swapped = before[:, ::-1] * [1, -1]
    angle = np.deg2rad(140)
    turned = before @ [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    for other in (-before, swapped, turned, turned * [1, -1]):
        np.testing.assert_allclose(turned_like(other, before), before, atol=1e-12)
    # Of one that has moved no other turn is nearer, and no distance changes.
    moved = turned + np.random.default_rng(1).normal(size=turned.shape)
    found = turned_like(moved, before)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(moved, axis=1))
    for degrees in range(0, 360, 5):
        a = np.deg2rad(degrees)
        other = moved @ [[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]
        for one in (other, other * [1, -1]):
            assert ((found - before) ** 2).sum() <= ((one - before) ** 2).sum()


def test_a_map_of_points_at_one_place_stays_as_it_is() -> None:
    nothing = np.zeros((3, 2), np.float32)
    assert not turned_like(nothing, nothing).any()
    assert turned_like(np.ones((0, 2)), np.ones((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_vectors_that_are_few_or_alike_lie_at_one_place(n: int) -> None:
    components, shares = principal_components(np.ones((n, 4), np.float32))
    assert components.shape == (n, 2)
    assert not components.any()
    assert not shares.any()


def test_umap_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_synapse_cl.features.projections.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r'pip install "napari-synapse-cl\[umap\]"'):
        check_umap(100)
    monkeypatch.setattr("napari_synapse_cl.features.projections.find_spec", lambda _: True)
    with pytest.raises(InputError, match="needs 4 vectors at least, and these are 3"):
        check_umap(3)


def points(n: int = 3000) -> tuple[MapPoints, np.ndarray]:
    """Points on a grid of few places, so that many lie on edges and corners."""
    places = np.random.default_rng(1).integers(-8, 9, (n, 2)).astype(np.float32)
    places[::3] += np.random.default_rng(2).random((len(places[::3]), 2), np.float32)
    places[5] = np.nan
    visible = np.arange(n) % 7 != 3
    return MapPoints.of(places, visible), places


def is_inside(place: np.ndarray, corners: np.ndarray) -> bool:
    """Return whether a ray to the right leaves a polygon through an odd number of edges, slowly."""
    x, y = map(float, place)
    crossed = 0
    for i in range(len(corners)):
        (x0, y0), (x1, y1) = sorted((corners[i - 1], corners[i]), key=lambda corner: corner[1])
        crossed += y0 <= y < y1 and x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
    return crossed % 2 == 1


@pytest.mark.parametrize("seed", range(8))
def test_a_lasso_holds_what_a_slow_search_finds(seed: int) -> None:
    found, places = points()
    rng = np.random.default_rng(seed)
    # It crosses itself; some of its corners are at points, and some of its edges level.
    corners = rng.normal(scale=5, size=(int(rng.integers(3, 25)), 2))
    corners[::2] = corners[::2].round()
    rows = found.in_polygon(corners)
    shown = [r for r in range(len(places)) if r % 7 != 3 and r != 5]
    assert rows.tolist() == [row for row in shown if is_inside(places[row], corners)]


def test_a_lasso_of_a_line_holds_nothing() -> None:
    found, _ = points()
    assert not len(found.in_polygon(np.array([[0, 0], [5, 5]])))
    assert not len(found.in_polygon(np.array([[0, 0], [5, 5], [2, 2]])))


def test_a_rectangle_holds_its_border_and_the_nearest_point_is_the_nearest() -> None:
    found, places = points()
    visible = np.arange(len(places)) % 7 != 3
    inside = (places >= [-2, 1]).all(axis=1) & (places <= [3, 4]).all(axis=1) & visible
    assert found.in_box(-2, 1, 3, 4).tolist() == np.flatnonzero(inside).tolist()
    distances = np.where(visible, np.hypot(*(places - [0.3, 0.4]).T), np.nan)
    row = found.nearest(0.3, 0.4, 5)
    assert row is not None
    assert distances[row] == np.nanmin(distances)
    assert found.nearest(100, 100, 5) is None
    assert MapPoints.of(np.empty((0, 2)), np.empty(0, bool)).nearest(0, 0, 1) is None


def test_what_is_zoomed_stays_under_the_mouse_and_what_is_dragged_too() -> None:
    view = View.of((-1.0, 0.0, 3.0, 10.0), 300, 200)
    left, low, right, high = view.box
    assert left < -1 < 3 < right
    assert low < 0 < 10 < high
    place = view.place(70, 30)
    zoomed = view.zoomed(3, 70, 30)
    np.testing.assert_allclose(zoomed.place(70, 30), place)
    assert zoomed.scale == pytest.approx(3 * view.scale)
    np.testing.assert_allclose(view.moved(15, -8).place(85, 22), place)
    pixels = view.to_pixels(np.array([place[0]]), np.array([place[1]]))
    np.testing.assert_allclose(np.ravel(pixels), [70, 30])
    same = View.of((2.0, 2.0, 2.0, 2.0), 300, 200)
    np.testing.assert_allclose(
        np.ravel(same.to_pixels(np.array([2.0]), np.array([2.0]))), [150, 100]
    )


def test_what_lies_under_a_map_imports_no_pytorch() -> None:
    code = "import sys, napari_synapse_cl.features.projections as p; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
