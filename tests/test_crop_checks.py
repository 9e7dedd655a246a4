"""What is told of a crop before it is trusted."""

import numpy as np
import pytest

from napari_synapse_cl.data.crops.cutting import cut_crop
from napari_synapse_cl.data.intensity import (
    crop_problem,
    crop_warnings,
    percent,
    share_clipped,
    share_outside,
)
from napari_synapse_cl.data.volumes import Volume


@pytest.mark.parametrize("centre", [(10, 12, 9), (0, 0, 0), (2, 12, 17), (19, 23, 17), (0, 12, 0)])
@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 8, 30)])
def test_share_outside_is_that_of_the_reflected_voxels(
    centre: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    volume = np.ones((20, 24, 18))
    starts = [c - n // 2 for c, n in zip(centre, shape, strict=True)]
    grid = np.meshgrid(
        *(np.arange(s, s + n) for s, n in zip(starts, shape, strict=True)), indexing="ij"
    )
    outside = np.zeros(shape, dtype=bool)
    for index, n in zip(grid, volume.shape, strict=True):
        outside |= (index < 0) | (index >= n)
    assert cut_crop(Volume(volume), centre, shape).shape == shape
    assert share_outside(centre, shape, volume.shape) == pytest.approx(outside.mean())


def test_a_crop_wholly_beyond_the_volume_is_wholly_outside() -> None:
    assert share_outside((100, 5, 5), (8, 8, 8), (10, 10, 10)) == 1


def test_clipped_voxels_are_those_at_exactly_0_or_1() -> None:
    view = np.full((10, 10, 10), 0.5, np.float32)
    view[0] = 0
    view[1, :5] = 1
    view[2] = 0.999
    assert share_clipped(view) == pytest.approx(0.15)


def test_constant_means_one_value() -> None:
    crop = np.full((4, 4, 4), 0.25)
    assert crop_problem(crop) == "constant"
    crop[1, 2, 3] = 0.26
    assert crop_problem(crop) is None


def test_warnings_say_how_much_is_wrong_and_nothing_where_all_is_well() -> None:
    rng = np.random.default_rng(0)
    crop = rng.uniform(0.2, 0.8, (10, 10, 10))
    reach = {"reach": crop.shape, "context": (14, 14, 14)}
    well = {"volume_shape": (50, 50, 50), "crop": crop, **reach}
    assert crop_warnings((25, 25, 25), views=(crop, crop), **well) == ()
    (outside,) = crop_warnings((25, 25, 4), views=(crop, crop), **well)
    assert outside.startswith("10 % of the crop lies outside the volume and is reflected")
    (margin,) = crop_warnings((25, 25, 6), views=(crop, crop), **well)
    assert margin.startswith("7 % of what rotated views can reach lies outside")
    (grey,) = crop_warnings((25, 25, 4), views=(crop, crop), borders="constant", **well)
    assert grey.startswith("10 % of the crop lies outside the volume and is grey")
    clipped = crop.copy()
    clipped[:3] = 1
    (told,) = crop_warnings((25, 25, 25), views=(crop, clipped), **well)
    assert told == "30 % of view 2 is clipped to black or white."
    flat = np.full_like(crop, 0.5)
    (told,) = crop_warnings((25, 25, 25), views=(flat, flat), **{**well, "crop": flat})
    assert "constant: every voxel has the intensity 0.50" in told


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.123, "12 %"), (0.01, "1 %"), (0.004, "0.4 %"), (1e-5, "< 0.1 %"), (1, "100 %")],
)
def test_shares_are_written_as_percent(share: float, text: str) -> None:
    assert percent(share) == text
