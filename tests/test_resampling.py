"""Crops are brought to the voxel size of a network: in place, without aliasing, as by SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_synapse_cl.data.crops.resampling import Resampling

SIZES = [
    ((10, 10, 10), (8, 8, 8)),
    ((8, 8, 8), (10, 10, 10)),
    ((40, 4, 4), (8, 8, 8)),
    ((4, 4, 4), (16, 12, 4)),
    ((0.1, 7.3, 5), (0.3, 3.1, 13.7)),
]
SHAPES = [(12, 12, 12), (9, 14, 35), (1, 2, 7)]


def region_of(resampling: Resampling, dtype: type = np.float64, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random(resampling.source_shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * 255).astype(dtype)


def offsets(shape: tuple, axis: int) -> np.ndarray:
    """How many voxels each one along an axis lies from the centre voxel."""
    return np.arange(shape[axis]) - shape[axis] // 2


def by_scipy(region: np.ndarray, shape: tuple, have: tuple, want: tuple) -> np.ndarray:
    """The same in double precision, with a value around the region that would show if read."""
    around = 1e3
    result = region.astype(float)
    for axis, (h, w) in enumerate(zip(have, want, strict=True)):
        if w > h:
            sigma = np.sqrt(((w / h) ** 2 - 1) / (8 * np.log(2)))
            result = ndimage.gaussian_filter1d(result, sigma, axis, mode="constant", cval=around)
    places = [
        region.shape[axis] // 2 + offsets(shape, axis) * want[axis] / have[axis]
        for axis in range(3)
    ]
    return ndimage.map_coordinates(
        result, np.meshgrid(*places, indexing="ij"), order=1, mode="constant", cval=around
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("have", "want"), SIZES, ids=str)
def test_it_is_what_scipy_computes_of_the_region_alone(
    have: tuple, want: tuple, shape: tuple
) -> None:
    resampling = Resampling(shape, have, want)
    region = region_of(resampling)
    found = resampling.apply(region)
    assert found.shape == shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_scipy(region, shape, have, want), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float16, np.float32, bool])
def test_any_type_of_grey_values_and_masks_is_resampled(dtype: type) -> None:
    resampling = Resampling((8, 9, 10), (10, 4, 8), (8, 8, 8))
    region = region_of(resampling, dtype)
    expected = by_scipy(region, (8, 9, 10), (10, 4, 8), (8, 8, 8))
    np.testing.assert_allclose(resampling.apply(region), expected, rtol=1e-5, atol=1e-5)


def test_a_region_that_is_a_view_is_resampled_as_its_copy() -> None:
    resampling = Resampling((8, 9, 10), (10, 4, 8), (8, 8, 9))
    region = region_of(resampling, np.float32)
    view = np.asfortranarray(region)
    # The order in which sums are formed may differ with the strides.
    np.testing.assert_allclose(resampling.apply(view), resampling.apply(region), rtol=1e-6)


@pytest.mark.parametrize("want", [(8, 8, 8), (8.007, 7.993, 8)])
def test_voxels_of_the_same_size_are_left_as_they_are_and_not_copied(want: tuple) -> None:
    resampling = Resampling((6, 7, 8), (8, 8, 8), want)
    assert resampling.is_identity
    assert resampling.source_shape == (6, 7, 8)
    assert resampling.stride == (1, 1, 1)
    region = region_of(resampling, np.uint8)
    assert resampling.apply(region) is region


def test_an_axis_along_which_the_size_agrees_is_left_as_it_is() -> None:
    resampling = Resampling((6, 7, 8), (8, 8, 8), (8, 4, 8))
    assert not resampling.is_identity
    assert resampling.source_shape[::2] == (6, 8)
    region = region_of(resampling, np.float32)
    centre = resampling.source_shape[1] // 2
    # Of the seven elements, those beside the centre by two lie on the source voxels beside it.
    on_the_grid = resampling.apply(region)[:, [1, 3, 5]]
    np.testing.assert_array_equal(on_the_grid, region[:, centre - 1 : centre + 2])


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
@pytest.mark.parametrize(("have", "want"), SIZES, ids=str)
def test_a_ramp_along_an_axis_keeps_its_slope_and_its_value_at_the_centre(
    have: tuple, want: tuple, shape: tuple
) -> None:
    resampling = Resampling(shape, have, want)
    for axis in range(3):
        along = np.expand_dims(
            offsets(resampling.source_shape, axis) * have[axis],
            [other for other in range(3) if other != axis],
        )
        found = resampling.apply(np.broadcast_to(along, resampling.source_shape))
        lines = np.moveaxis(found, axis, -1).reshape(-1, shape[axis])
        expected = offsets(shape, axis) * want[axis]
        np.testing.assert_allclose(lines, np.tile(expected, (len(lines), 1)), atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    have=st.tuples(*[st.floats(2, 50)] * 3),
    want=st.tuples(*[st.floats(2, 50)] * 3),
)
def test_a_constant_stays_constant(shape: tuple, have: tuple, want: tuple) -> None:
    resampling = Resampling(shape, have, want)
    found = resampling.apply(np.full(resampling.source_shape, 200, np.uint8))
    assert found.shape == shape
    np.testing.assert_allclose(found, 200, rtol=1e-5)


def wave(period: float, have: float, want: float) -> np.ndarray:
    """One line of a resampled wave whose period is in source voxels."""
    resampling = Resampling((64, 1, 1), (have, 8, 8), (want, 8, 8))
    z = offsets(resampling.source_shape, 0)
    source = np.sin(2 * np.pi * z / period + 0.3)[:, None, None]
    return resampling.apply(source)[:, 0, 0]


def test_waves_that_are_too_fine_for_the_new_voxels_vanish_and_do_not_turn_into_others() -> None:
    for period in (2.1, 2.5, 3.0, 3.9):
        assert np.abs(wave(period, have=4, want=16)).max() < 0.04
    every_fourth = np.sin(2 * np.pi * np.arange(64) * 4 / 3.9 + 0.3)
    assert np.abs(every_fourth).max() > 0.9


def test_waves_that_the_new_voxels_can_hold_stay() -> None:
    assert np.abs(wave(40.0, have=4, want=16)).max() > 0.9


@settings(max_examples=30, deadline=None)
@given(
    have=st.tuples(*[st.floats(4, 12)] * 3),
    want=st.tuples(*[st.floats(4, 12)] * 3),
    place=st.tuples(*[st.floats(-30, 30)] * 3),
    odd=st.booleans(),
)
def test_a_bright_spot_stays_where_it_is_in_nanometres(
    have: tuple, want: tuple, place: tuple, odd: bool
) -> None:
    # Linear interpolation itself shifts it by up to 0.2 nm, a wrong centre by 2 nm or more.
    width = 20.0
    z, y, x = (2 * int(140 / w) + odd for w in want)
    resampling = Resampling((z, y, x), have, want)

    def positions(shape: tuple, size: tuple) -> list[np.ndarray]:
        lines = [offsets(shape, axis) * size[axis] for axis in range(3)]
        return np.meshgrid(*lines, indexing="ij", sparse=True)

    source = positions(resampling.source_shape, have)
    squared = sum((p - c) ** 2 for p, c in zip(source, place, strict=True))
    spot = resampling.apply(np.exp(-0.5 * squared / width**2))
    for line, c in zip(positions((z, y, x), want), place, strict=True):
        assert (spot * line).sum() / spot.sum() == pytest.approx(c, abs=0.5)


def test_a_region_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="is needed"):
        Resampling((6, 6, 6), (8, 8, 8), (4, 4, 4)).apply(np.zeros((6, 6, 6)))
