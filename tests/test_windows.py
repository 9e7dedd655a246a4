"""Grey values become [0, 1]: by the volume or by the crop, either way up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_synapse_cl.data.intensity import (
    crop_problem,
    crop_window,
    inverted,
    to_unit_range,
    volume_window,
)
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError

TYPES = [np.uint8, np.int16, np.uint16, np.uint32, np.float32, np.float64]


def grey(dtype: type = np.uint8, shape: tuple = (12, 14, 16), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(30, 120, shape).astype(dtype)


class TestOfTheVolume:
    def test_the_range_is_that_of_the_type(self) -> None:
        assert volume_window(Volume(grey(np.uint16)), "range", (1, 99)) == (0, 65535)

    def test_percentiles_are_those_of_the_voxels(self) -> None:
        array = np.arange(1000, dtype=np.uint16).reshape(10, 10, 10)
        assert volume_window(Volume(array), "percentiles", (10, 90)) == pytest.approx((99.9, 899.1))

    def test_percentiles_pass_over_values_that_are_not_finite(self) -> None:
        array = np.linspace(0, 1, 1001)[:1000].reshape(10, 10, 10)
        array[0, 0, :3] = np.nan, np.inf, -np.inf
        window = volume_window(Volume(array), "percentiles", (1, 99))
        assert window == pytest.approx((0.013, 0.989), abs=2e-3)

    def test_percentiles_that_agree_are_widened_to_the_lowest_and_highest_value(self) -> None:
        array = np.zeros((20, 20, 20), np.uint8)
        array[3, 4, 5] = 200
        assert volume_window(Volume(array), "percentiles", (1, 99)) == (0, 200)

    @pytest.mark.parametrize("value", [7.0, np.nan])
    def test_a_volume_of_one_value_or_none_is_refused(self, value: float) -> None:
        with pytest.raises(InputError, match="the layer em has no contrast"):
            volume_window(Volume(np.full((9, 9, 9), value), "the layer em"), "percentiles", (1, 99))

    @pytest.mark.parametrize("intensity", ["crop", "z-score"])
    def test_there_is_none_where_each_crop_has_its_own(self, intensity: str) -> None:
        assert volume_window(Volume(grey()), intensity, (1, 99)) is None


class TestOfACrop:
    @pytest.mark.parametrize("dtype", TYPES)
    def test_its_lowest_value_becomes_0_and_its_highest_1(self, dtype: type) -> None:
        crop = grey(dtype)
        unit = to_unit_range(crop, crop_window(crop, "crop"))
        assert (unit.min(), unit.max()) == (0, 1)

    @pytest.mark.parametrize("dtype", TYPES)
    def test_its_mean_becomes_one_half_and_a_standard_deviation_one_sixth(
        self, dtype: type
    ) -> None:
        crop = grey(dtype)
        unit = to_unit_range(crop, crop_window(crop, "z-score"))
        assert unit.mean() == pytest.approx(0.5, abs=1e-5)
        assert unit.std() == pytest.approx(1 / 6, abs=1e-5)

    @pytest.mark.parametrize("intensity", ["crop", "z-score"])
    @pytest.mark.parametrize("gain", [0.25, 3.0])
    def test_brightness_and_contrast_of_the_microscope_go_unseen(
        self, intensity: str, gain: float
    ) -> None:
        crop = grey(np.float32)
        other = gain * crop - 40
        np.testing.assert_allclose(
            to_unit_range(other, crop_window(other, intensity)),
            to_unit_range(crop, crop_window(crop, intensity)),
            atol=1e-5,
        )

    @pytest.mark.parametrize("intensity", ["crop", "z-score"])
    @pytest.mark.parametrize("value", [0, 0.1, -3e-30, 255, 1e9, -1e30])
    def test_a_single_value_becomes_one_half(self, intensity: str, value: float) -> None:
        crop = np.full((5, 6, 7), value)
        unit = to_unit_range(crop, crop_window(crop, intensity))
        np.testing.assert_allclose(unit, 0.5, atol=0.05)


class TestMapping:
    @pytest.mark.parametrize("dtype", TYPES)
    def test_the_lower_end_becomes_0_and_the_upper_1_and_what_is_beyond_is_clipped(
        self, dtype: type
    ) -> None:
        crops = np.arange(30, 90, dtype=dtype).reshape(3, 4, 5)
        expected = np.clip((np.arange(30, 90) - 40) / 40, 0, 1).reshape(3, 4, 5)
        np.testing.assert_allclose(to_unit_range(crops, (40, 80)), expected, atol=1e-6)

    def test_the_range_of_bytes_is_divided_by_255_to_the_bit(self) -> None:
        crop = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
        np.testing.assert_array_equal(to_unit_range(crop, (0.0, 255.0)), crop / np.float32(255))

    def test_each_crop_has_its_own_window(self) -> None:
        crops = grey(np.uint8, (3, 6, 7, 8))
        windows = np.array([(0, 255), (40.5, 80), (110, 50)])
        unit = to_unit_range(crops, windows)
        assert unit.dtype == np.float32
        for i, window in enumerate(windows):
            np.testing.assert_array_equal(unit[i], to_unit_range(crops[i], tuple(window)))

    @settings(max_examples=30, deadline=None)
    @given(
        low=st.floats(-300, 300),
        width=st.floats(0.01, 1000),
        dtype=st.sampled_from(TYPES),
    )
    def test_values_lie_between_0_and_1_and_an_inverted_window_turns_them_over(
        self, low: float, width: float, dtype: type
    ) -> None:
        crop, window = grey(dtype), (low, low + width)
        unit = to_unit_range(crop, window)
        assert unit.min() >= 0
        assert unit.max() <= 1
        np.testing.assert_allclose(
            to_unit_range(crop, inverted(window)), 1 - unit, atol=1e-6 + 1e-4 / width
        )

    def test_the_input_is_left_as_it_is(self) -> None:
        crop = grey(np.float32)
        before = crop.copy()
        to_unit_range(crop, (50, 60))
        np.testing.assert_array_equal(crop, before)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([1.0, 2.0], None),
        ([2.0, 2.0], "constant"),
        ([1.0, np.nan], "not finite"),
        ([1.0, np.inf], "not finite"),
        ([-np.inf, -np.inf], "not finite"),
    ],
)
def test_a_crop_without_contrast_or_with_values_that_are_not_finite_is_told_of(
    values: list, problem: str | None
) -> None:
    crop = np.resize(np.array(values), (3, 4, 5))
    assert crop_problem(crop) == problem
    if problem != "not finite":
        assert crop_problem(crop.astype(np.uint8)) == problem
