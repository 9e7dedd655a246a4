"""Positions that were not written in voxels along z, y, x are noticed, and others are let be."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_synapse_cl.data.crops import cut_crop
from napari_synapse_cl.data.position_checks import (
    NO_VOXEL_SIZE,
    crops_reaching_outside,
    position_warnings,
)
from napari_synapse_cl.data.synapses import Positions, positions_inside, read_synapses
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError

SHAPE = (60, 200, 300)
VOXEL_SIZE = (40.0, 8.0, 8.0)
MEDULLA = ("training_sample1", "training_sample2", "validation_z000-259")


def table(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, columns=["z", "y", "x"])


def positions(n: int = 100, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, shape, (n, 3)).astype(float)


def warnings(values: np.ndarray, voxel_size: tuple[float, float, float] | None) -> list[str]:
    return position_warnings(table(values), SHAPE, voxel_size)


class TestGoodTables:
    @pytest.mark.parametrize("n", [1, 2, 100])
    def test_nothing_is_said_of_positions_inside(self, n: int) -> None:
        assert warnings(positions(n), VOXEL_SIZE) == []

    def test_nothing_is_said_of_a_table_of_a_larger_volume(self) -> None:
        larger = positions(1000, (300, 1000, 1500))
        assert warnings(larger, VOXEL_SIZE) == []
        assert warnings(larger, (5.0, 5.0, 5.0)) == []
        assert warnings(larger, None) == [NO_VOXEL_SIZE]

    def test_nothing_is_said_of_a_few_beside_a_volume_that_is_nearly_a_cube(self) -> None:
        few = table(np.array([[252.0, 100, 100], [100, 100, 100]]))
        assert position_warnings(few, (250, 256, 256), VOXEL_SIZE) == []

    def test_a_voxel_size_that_is_missing_is_told_of_with_how_to_give_it(self) -> None:
        (warning,) = warnings(positions(), None)
        assert "--voxel_size" in warning
        assert "units" in warning


class TestOtherReadings:
    def test_swapped_columns_are_noticed(self) -> None:
        (warning,) = warnings(positions()[:, ::-1], VOXEL_SIZE)
        assert "many positions lie outside" in warning
        assert "all 100 would lie inside when read in the order x, y, z" in warning

    def test_nanometres_are_noticed_by_the_voxel_size(self) -> None:
        (warning,) = warnings(positions() * VOXEL_SIZE, VOXEL_SIZE)
        assert "all 100 would lie inside when read in nm with the voxel size of 40, 8, 8 nm" in (
            warning
        )

    def test_nanometres_are_noticed_by_a_common_voxel_size(self) -> None:
        warning, missing = warnings(positions() * 8.0, None)
        assert "in nm with a voxel size of 8, 8, 8 nm" in warning
        assert missing == NO_VOXEL_SIZE

    def test_nanometres_in_the_order_x_y_z_are_noticed(self) -> None:
        (warning,) = warnings((positions() * VOXEL_SIZE)[:, ::-1], VOXEL_SIZE)
        assert "in nm, in the order x, y, z," in warning

    def test_positions_in_a_corner_are_not_called_nanometres(self) -> None:
        # Divided by 50 they lie inside too, as anything does that is not too large.
        corner = np.array([400.0, 400, 400]) + positions(50, (20, 20, 20))
        assert warnings(corner, None) == [NO_VOXEL_SIZE]

    @pytest.mark.parametrize(
        ("values", "hint"),
        [
            (np.array([[10.0, 20, 250]])[:, ::-1], "in the order x, y, z"),
            (np.array([[10.0, 20, 250]]) * VOXEL_SIZE + [2400, 0, 0], "Positions are needed"),
            (np.array([[30.0, 120, 250]]) * VOXEL_SIZE, "in nm with the voxel size"),
        ],
    )
    def test_a_table_that_is_refused_is_refused_with_the_same_hint(
        self, values: np.ndarray, hint: str
    ) -> None:
        with pytest.raises(InputError, match=hint):
            positions_inside(table(values), SHAPE, voxel_size=VOXEL_SIZE)


@pytest.mark.real_data
@pytest.mark.parametrize("name", MEDULLA)
class TestMedulla:
    @pytest.fixture
    def sites(self, medulla: Path, name: str) -> pd.DataFrame:
        return read_synapses(medulla / f"{name}_sites.csv")

    @pytest.fixture
    def shape(self, medulla: Path, name: str) -> tuple[int, int, int]:
        return open_volume(medulla / f"{name}.tif").shape

    def test_nothing_is_said_of_the_table(
        self, sites: pd.DataFrame, shape: tuple[int, int, int]
    ) -> None:
        assert position_warnings(sites, shape, (10.0, 10.0, 10.0)) == []
        assert position_warnings(sites, shape, None) == [NO_VOXEL_SIZE]

    def test_nanometres_are_noticed(self, sites: pd.DataFrame, shape: tuple[int, int, int]) -> None:
        scaled = sites.assign(**{axis: sites[axis] * 10 for axis in "zyx"})
        assert "in nm with the voxel size" in position_warnings(scaled, shape, (10.0,) * 3)[0]
        assert "in nm with a voxel size" in position_warnings(scaled, shape, None)[0]

    def test_swapped_columns_are_noticed_where_the_volume_is_no_cube(
        self, sites: pd.DataFrame, shape: tuple[int, int, int]
    ) -> None:
        swapped = sites.rename(columns={"z": "x", "x": "z"})
        said = position_warnings(swapped, shape, (10.0, 10.0, 10.0))
        assert len(said) == (len(set(shape)) > 1)


class TestReachingOutside:
    @pytest.mark.parametrize("shape", [(4, 6, 5), (5, 5, 5), (20, 2, 2)])
    def test_a_crop_reaches_outside_where_it_is_reflected(
        self, shape: tuple[int, int, int]
    ) -> None:
        volume_shape = (9, 10, 11)
        # Each voxel of the volume has a value of its own, so a reflected crop holds one twice.
        volume = Volume(np.arange(9 * 10 * 11).reshape(volume_shape))
        for voxel in np.ndindex(volume_shape):
            crop = cut_crop(volume, voxel, shape)
            one = Positions(np.array([voxel]), np.array([0]), 0)
            reflected = len(np.unique(crop)) < crop.size
            assert crops_reaching_outside(one, shape, volume_shape) == reflected

    def test_they_are_counted(self) -> None:
        three = Positions(np.array([[0, 5, 5], [5, 5, 5], [9, 9, 9]]), np.arange(3), 0)
        assert crops_reaching_outside(three, (4, 4, 4), (10, 10, 10)) == 2
