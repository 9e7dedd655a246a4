"""Crops are put back where they were cut, and points fall on the voxel they were set on."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Layer, Points
from scipy.spatial.transform import Rotation

from napari_synapse_cl.data.crops.cutting import cut_crop
from napari_synapse_cl.data.crops.resampling import Resampling
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.widgets.layers.taking import take
from napari_synapse_cl.widgets.layers.voxels import geometry_within

SHAPE = (17, 19, 23)
UNITS = {"nm": 1.0, "um": 1000.0, "angstrom": 0.1}
# Of a layer turned out of the axes napari says that its slices are not exact; none are shown here.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
many = settings(max_examples=30, deadline=None)

angles = st.tuples(*[st.floats(-180, 180)] * 3)
voxels = st.tuples(*[st.integers(0, n - 1) for n in SHAPE])
crop_shapes = st.tuples(*[st.integers(1, 12)] * 3)


def matrix(turn: tuple, stretch: tuple, shift: tuple) -> np.ndarray:
    """An affine transform of the world, ``(4, 4)``."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("zyx", turn, degrees=True).as_matrix() @ np.diag(stretch)
    affine[:3, 3] = shift
    return affine


geometries = st.fixed_dictionaries(
    {
        "scale": st.tuples(*[st.floats(0.1, 50)] * 3),
        "translate": st.tuples(*[st.floats(-1000, 1000)] * 3),
        "rotate": angles.map(lambda turn: Rotation.from_euler("zyx", turn, True).as_matrix()),
        "shear": st.tuples(*[st.floats(-0.5, 0.5)] * 3),
        "affine": st.builds(
            matrix,
            turn=angles,
            stretch=st.tuples(*[st.floats(0.2, 5)] * 3),
            shift=st.tuples(*[st.floats(-1000, 1000)] * 3),
        ),
    }
)
"""Everything that can place a layer in napari's world."""


def in_units(unit: str) -> dict[str, Any]:
    return {"units": (unit, unit, unit)}


def world(layer: Layer, positions: np.ndarray) -> np.ndarray:
    return np.array([layer.data_to_world(position) for position in positions])


def data(layer: Layer, positions: np.ndarray) -> np.ndarray:
    return np.array([layer.world_to_data(position) for position in positions])


def indices(shape: tuple) -> np.ndarray:
    return np.argwhere(np.ones(shape, bool))


def centre_index(shape: tuple) -> np.ndarray:
    return np.array(shape) // 2


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """No two of its voxels are alike."""
    values = np.random.default_rng(0).permutation(np.prod(SHAPE))
    return values.reshape(SHAPE).astype(np.uint16)


@many
@given(geometry=geometries, centre=voxels, shape=crop_shapes)
def test_a_crop_put_back_shows_each_voxel_where_the_volume_has_it(
    volume: np.ndarray, geometry: dict, centre: tuple, shape: tuple
) -> None:
    layer = Image(volume, **geometry, **in_units("nm"))
    crop = cut_crop(Volume(volume), centre, shape)
    origin = np.array(centre) - centre_index(shape)
    copy = Image(crop, **geometry_within(layer, origin))
    assert copy.units == layer.units

    index = indices(shape)
    size = np.abs(world(layer, np.array([[0, 0, 0], SHAPE]))).max() + 1
    np.testing.assert_allclose(
        world(copy, index), world(layer, index + origin), atol=1e-9 * size, rtol=0
    )
    found = data(layer, world(copy, index))
    np.testing.assert_allclose(found, index + origin, atol=1e-4)
    inside = ((np.rint(found) >= 0) & (np.rint(found) < SHAPE)).all(axis=1)
    assert inside.any()
    z, y, x = np.rint(found[inside]).astype(int).T
    np.testing.assert_array_equal(volume[z, y, x], crop[tuple(index[inside].T)])


@many
@given(
    geometry=geometries,
    have=st.tuples(*[st.floats(4, 12)] * 3),
    want=st.tuples(*[st.floats(4, 12)] * 3),
    shape=crop_shapes,
)
def test_a_resampled_crop_put_back_shows_grey_values_where_the_volume_has_them(
    geometry: dict, have: tuple, want: tuple, shape: tuple
) -> None:
    resampling = Resampling(shape, have, want)
    # So large that no crop is reflected at its faces, and of grey values that tell the place.
    centre = np.array(resampling.source_shape) // 2 + 3
    large = tuple(np.array(resampling.source_shape) + 6)
    slopes = np.array([1.0, 0.3, -0.5])
    ramps = (indices(large) @ slopes).reshape(large)
    layer = Image(ramps, **geometry)

    crop = resampling.apply(cut_crop(Volume(ramps), centre, resampling.source_shape))
    origin = centre - centre_index(shape) * np.array(resampling.stride)
    copy = Image(crop, **geometry_within(layer, origin, resampling.stride))

    index = indices(shape)
    from_centre = (index - centre_index(shape)) * np.array(want) / np.array(have)
    found = data(layer, world(copy, index))
    is_changed = np.array(resampling.stride) != 1
    np.testing.assert_allclose(
        found[:, is_changed], (centre + from_centre)[:, is_changed], atol=1e-3
    )
    np.testing.assert_allclose(found @ slopes, crop.ravel(), atol=1e-2)
    at_centre = world(copy, centre_index(shape)[None])
    np.testing.assert_allclose(data(layer, at_centre), centre[None], atol=1e-3)


@many
@given(
    image_geometry=geometries,
    points_geometry=geometries,
    units=st.tuples(st.sampled_from(list(UNITS)), st.sampled_from(list(UNITS))),
    chosen=st.lists(voxels, min_size=1, max_size=5),
)
def test_points_of_a_layer_of_its_own_geometry_and_units_lie_on_the_voxels_they_show(
    volume: np.ndarray,
    image_geometry: dict,
    points_geometry: dict,
    units: tuple,
    chosen: list,
) -> None:
    image = Image(volume, **image_geometry, **in_units(units[0]))
    points = Points(ndim=3, **points_geometry, **in_units(units[1]))
    ratio = UNITS[units[0]] / UNITS[units[1]]
    points.data = data(points, world(image, np.array(chosen)) * ratio)

    found = take(image, points).table[["z", "y", "x"]].to_numpy()
    np.testing.assert_allclose(found, chosen, atol=1e-2)
    back = data(points, world(image, found) * ratio)
    size = np.abs(points.data).max() + 1
    np.testing.assert_allclose(back, points.data, atol=1e-6 * size)
    for voxel, position in zip(chosen, found, strict=True):
        crop = cut_crop(Volume(volume), np.rint(position).astype(int), (5, 4, 3))
        assert crop[2, 2, 1] == volume[voxel]
