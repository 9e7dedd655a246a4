"""Positions that were not written in voxels along z, y, x are noticed, and others are let be."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.cutting import cut_crop
from napari_synapse_cl.data.dataset import assemble
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.placing import place, place_points
from napari_synapse_cl.data.tables import (
    Mapping,
    Reading,
    check_reading,
    in_voxels,
    interpret,
    open_table,
    read_table,
)
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError

SHAPE = (60, 200, 300)
VOXEL_SIZE = (40.0, 8.0, 8.0)
MEDULLA = ("training_sample1", "training_sample2", "validation_z000-259")


def table(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, columns=["z", "y", "x"])


def positions(n: int = 100, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, shape, (n, 3)).astype(float)


def warnings(
    values: np.ndarray,
    voxel_size: tuple[float, float, float] | None,
    shape: tuple[int, int, int] = SHAPE,
) -> list[str]:
    """What is said of points at these positions, be it that none is in the volume."""
    volume = Volume(np.broadcast_to(np.uint8(0), shape))
    try:
        placed = place_points(table(values), volume, voxel_size)
    except InputError as error:
        return [str(error)]
    return [text for text, _ in placed.messages]


def said_of(values: np.ndarray, voxel_size: tuple[float, float, float]) -> str:
    """What a terminal says of a table of these positions."""
    volume = Volume(np.broadcast_to(np.uint8(0), SHAPE))
    with pytest.raises(InputError) as refused:
        place(interpret(table(values), "t.csv"), "the points layer", volume, voxel_size)
    return str(refused.value)


class TestGoodTables:
    @pytest.mark.parametrize("n", [1, 2, 100])
    def test_nothing_is_said_of_positions_inside(self, n: int) -> None:
        assert warnings(positions(n), VOXEL_SIZE) == []

    def test_nothing_is_said_of_a_table_of_a_larger_volume(self) -> None:
        larger = positions(1000, (300, 1000, 1500))
        assert warnings(larger, VOXEL_SIZE) == []
        assert warnings(larger, (5.0, 5.0, 5.0)) == []
        assert warnings(larger, None) == []

    def test_nothing_is_said_of_a_few_beside_a_volume_that_is_nearly_a_cube(self) -> None:
        few = np.array([[252.0, 100, 100], [100, 100, 100]])
        assert warnings(few, VOXEL_SIZE, (250, 256, 256)) == []


class TestOtherReadings:
    def test_swapped_columns_are_noticed(self) -> None:
        (warning,) = warnings(positions()[:, ::-1], VOXEL_SIZE)
        assert "many positions lie outside" in warning
        assert (
            "all 100 in the points layer would lie inside when read in the order x, y, z" in warning
        )

    @pytest.mark.parametrize(
        ("values", "to_do"),
        [
            (positions()[:, ::-1], "swap the columns z and x"),
            (positions() * VOXEL_SIZE, "divide them by the voxel size"),
            (
                (positions() * VOXEL_SIZE)[:, ::-1],
                "swap the columns z and x and divide them by the voxel size",
            ),
            (positions() * (1, 2, 2), "give the layer the scale of these voxels"),
        ],
        ids=["swapped", "in nm", "both", "in finer voxels"],
    )
    def test_window_and_terminal_say_the_same_and_flags_are_for_the_terminal(
        self, values: np.ndarray, to_do: str
    ) -> None:
        (window,) = warnings(values, VOXEL_SIZE)
        terminal = said_of(values, VOXEL_SIZE)
        said = re.search(r"all 100 in the points layer would lie inside when read [^:]*", window)
        assert said is not None
        assert said[0] in terminal
        assert "--position_" not in window
        assert window.endswith(f": {to_do} if that is how they were written")
        assert "--position_" in terminal

    def test_nanometres_are_noticed_by_the_voxel_size(self) -> None:
        (warning,) = warnings(positions() * VOXEL_SIZE, VOXEL_SIZE)
        assert "would lie inside when read in nm, with voxels of 40 × 8 × 8 nm" in warning

    def test_nanometres_are_noticed_by_a_common_voxel_size(self) -> None:
        (warning,) = warnings(positions() * 8.0, None)
        assert "in nm, with voxels of 8 × 8 × 8 nm" in warning

    def test_nanometres_in_the_order_x_y_z_are_noticed(self) -> None:
        (warning,) = warnings((positions() * VOXEL_SIZE)[:, ::-1], VOXEL_SIZE)
        assert "in the order x, y, z and in nm" in warning

    def test_positions_in_a_corner_are_not_called_nanometres(self) -> None:
        # Divided by 50 they lie inside too, as anything does that is not too large.
        corner = np.array([400.0, 400, 400]) + positions(50, (20, 20, 20))
        (refusal,) = warnings(corner, None)
        assert "in nm" not in refusal

    @pytest.mark.parametrize(
        ("values", "hint"),
        [
            (np.array([[10.0, 20, 250]])[:, ::-1], "in the order x, y, z"),
            (np.array([[10.0, 20, 250]]) * VOXEL_SIZE + [2400, 0, 0], "Positions are needed"),
            (np.array([[30.0, 120, 250]]) * VOXEL_SIZE, "in nm, with voxels of 40"),
        ],
    )
    def test_a_table_that_is_refused_is_refused_with_the_same_hint(
        self, values: np.ndarray, hint: str
    ) -> None:
        (refusal,) = warnings(values, VOXEL_SIZE)
        assert hint in refusal


AS_NAMED = Reading(("z", "y", "x"), "named", "voxels", None, is_explicit=False)
IN_NM = replace(AS_NAMED, unit="nm")


def doubt(
    written: np.ndarray,
    reading: Reading = AS_NAMED,
    voxel_size: tuple[float, float, float] | None = VOXEL_SIZE,
    shape: tuple[int, int, int] = SHAPE,
) -> str | None:
    """What is said of positions as they are in a table."""
    voxels = in_voxels(written, reading, voxel_size, "t.csv")
    inside = ((np.rint(voxels) >= 0) & (np.rint(voxels) < shape)).all(axis=1).sum()
    return check_reading(voxels, shape, reading, voxel_size, int(inside), "t.csv")


class TestFlagsForAnotherReading:
    def test_nothing_is_said_of_positions_that_fit(self) -> None:
        assert doubt(positions()) is None
        assert doubt(positions(1)) is None
        assert doubt(positions() * VOXEL_SIZE, IN_NM) is None

    @pytest.mark.parametrize("times", [(5, 5, 5), (2, 2, 2), (4, 4, 4), (1, 3, 3), (3, 2, 2)])
    def test_nothing_is_said_of_a_table_of_a_larger_volume(self, times: tuple) -> None:
        larger = tuple(n * t for n, t in zip(SHAPE, times, strict=True))
        assert doubt(positions(2000, larger)) is None
        assert doubt(positions(2000, larger), voxel_size=None) is None

    def test_nothing_is_said_of_a_few_beside_a_volume_that_is_nearly_a_cube(self) -> None:
        few = np.array([[252.0, 100, 100], [100, 100, 100]])
        assert doubt(few, shape=(250, 256, 256)) is None

    def test_rows_without_a_position_are_passed_over(self) -> None:
        some = positions()
        some[3] = np.nan
        assert doubt(some) is None
        said = doubt(some[:, ::-1])
        assert said is not None
        assert said.startswith("all 99 in t.csv")

    @pytest.mark.parametrize(
        ("reading", "flags"),
        [
            (AS_NAMED, "in the order x, y, z: --position_columns x y z (the columns that hold"),
            (
                Reading(("c_1", "c_2", "c_3"), "x, y, z", "voxels", None, is_explicit=False),
                "in the order z, y, x: --position_columns c_1 c_2 c_3 (",
            ),
            (
                Reading(("z [nm]", "y [nm]", "x [nm]"), "named", "nm", None, is_explicit=False),
                "--position_columns 'x [nm]' 'y [nm]' 'z [nm]' (",
            ),
            (
                Reading(("pt",), "x, y, z", "voxels", None, is_explicit=False),
                "in the order z, y, x: exchange x and z in pt;",
            ),
        ],
    )
    def test_swapped_axes(self, reading: Reading, flags: str) -> None:
        # In nm it has another length along z than along x, too.
        shape = (60, 200, 500)
        right = positions(shape=shape) * (VOXEL_SIZE if reading.unit == "nm" else 1)
        said = doubt(right[:, ::-1], reading, shape=shape)
        assert said is not None
        assert said.startswith("all 100 in t.csv would lie inside when read in the order ")
        assert flags in said

    def test_the_flags_for_swapped_axes_do_read_them_so(self) -> None:
        swapped = table(positions()[:, ::-1])
        said = doubt(interpret(swapped, "t.csv").positions)
        assert said is not None
        given = said.partition("--position_columns ")[2].split()[:3]
        read = interpret(swapped, "t.csv", Mapping(columns=tuple(given)))
        np.testing.assert_array_equal(read.positions, positions())

    @pytest.mark.parametrize(
        ("values", "voxel_size", "flags"),
        [
            (positions() * VOXEL_SIZE, VOXEL_SIZE, ": --position_unit nm;"),
            (positions() * 8, None, ": --position_unit nm --voxel_size 8 8 8;"),
            (
                (positions() * VOXEL_SIZE)[:, ::-1],
                VOXEL_SIZE,
                ": --position_unit nm --position_columns x y z (",
            ),
        ],
    )
    def test_nanometres(self, values: np.ndarray, voxel_size: Any, flags: str) -> None:
        said = doubt(values, voxel_size=voxel_size)
        assert said is not None
        assert flags in said
        assert "in nm, with voxels of" in said

    @pytest.mark.parametrize("n", [2, 4, 8])
    def test_voxels_of_a_finer_resolution(self, n: int) -> None:
        finer = np.random.default_rng(0).integers(0, (60, 200 * n, 300 * n), (500, 3)).astype(float)
        said = doubt(finer)
        assert said is not None
        assert f"in voxels of 40 × {8 / n:g} × {8 / n:g} nm: " in said
        assert f"--position_voxel_size 40 {8 / n:g} {8 / n:g};" in said
        # Without a voxel size there are no flags that say so.
        assert doubt(finer, voxel_size=None) is None

    def test_how_to_keep_the_present_reading_is_said_unless_it_was_given(self) -> None:
        swapped = positions()[:, ::-1]
        kept = "; if they are right as they are, say so with --position_unit voxels"
        assert str(doubt(swapped)).endswith(kept)
        sized = replace(AS_NAMED, voxel_size=VOXEL_SIZE)
        assert str(doubt(swapped, sized)).endswith("with --position_voxel_size 40 8 8")
        assert "right as they are" not in str(doubt(swapped, replace(AS_NAMED, is_explicit=True)))

    def test_a_level_and_an_offset_of_the_volume_are_taken_into_account(self) -> None:
        offset, factor = np.array([10, 500, 900]), np.array([1, 2, 2])
        here = np.random.default_rng(0).integers(0, SHAPE, (100, 3)).astype(float)
        finest = (here + offset + 0.5) * factor - 0.5
        fine_size = tuple(np.array(VOXEL_SIZE) / factor)
        wrong = {
            "--position_columns x y z": finest[:, ::-1],
            "--position_unit nm": finest * fine_size,
        }
        for flags, written in wrong.items():
            placed = (written + 0.5) / factor - 0.5 - offset
            said = check_reading(
                placed, SHAPE, AS_NAMED, fine_size, 0, "t.csv", offset=offset, factor=factor
            )
            assert flags in str(said)

    def test_of_a_table_of_a_level_with_an_offset_too(self) -> None:
        grey = np.broadcast_to(np.uint8(0), SHAPE)
        volume = Volume(grey, offset=(10, 500, 900), factor=(1, 2, 2))
        fine_size = tuple(np.array(VOXEL_SIZE) / (1, 2, 2))
        finest = (positions() + volume.offset + 0.5) * volume.factor - 0.5
        reading = interpret(table(finest), "t.csv")
        told = place(reading, "t.csv", volume, fine_size).messages
        assert [level for _, level in told] == ["detail"]
        with pytest.raises(InputError, match="inside when read in the order x, y, z"):
            place(interpret(table(finest[:, ::-1]), "t.csv"), "t.csv", volume, fine_size)


@pytest.mark.real_data
@pytest.mark.parametrize("name", MEDULLA)
class TestMedulla:
    @pytest.fixture
    def sites(self, medulla: Path, name: str) -> pd.DataFrame:
        return read_table(medulla / f"{name}_sites.csv")

    @pytest.fixture
    def shape(self, medulla: Path, name: str) -> tuple[int, int, int]:
        return open_volume(medulla / f"{name}.tif").shape

    def test_nothing_is_said_of_the_table(
        self, sites: pd.DataFrame, shape: tuple[int, int, int]
    ) -> None:
        places = sites[["z", "y", "x"]].to_numpy(float)
        assert warnings(places, (10.0, 10.0, 10.0), shape) == []
        assert warnings(places, None, shape) == []

    def test_nanometres_are_noticed(self, sites: pd.DataFrame, shape: tuple[int, int, int]) -> None:
        scaled = sites[["z", "y", "x"]].to_numpy(float) * 10
        assert "in nm, with voxels of 10" in warnings(scaled, (10.0,) * 3, shape)[0]
        assert "in nm, with voxels of 10" in warnings(scaled, None, shape)[0]

    def test_the_table_is_read_as_it_is_and_its_nanometres_by_the_flags_for_them(
        self, medulla: Path, name: str, sites: pd.DataFrame, shape: tuple[int, int, int]
    ) -> None:
        read = open_table(medulla / f"{name}_sites.csv")
        np.testing.assert_array_equal(read.positions, sites[["z", "y", "x"]])
        ten = (10.0, 10.0, 10.0)
        assert doubt(read.positions, read.reading, ten, shape) is None
        said = doubt(read.positions * 10, read.reading, ten, shape)
        assert "--position_unit nm;" in str(said)

    def test_swapped_columns_are_noticed_where_the_volume_is_no_cube(
        self, sites: pd.DataFrame, shape: tuple[int, int, int]
    ) -> None:
        swapped = sites[["x", "y", "z"]].to_numpy(float)
        said = warnings(swapped, (10.0, 10.0, 10.0), shape)
        assert len(said) == (len(set(shape)) > 1)


class TestReachingOutside:
    @pytest.mark.parametrize("shape", [(4, 6, 5), (5, 5, 5), (20, 2, 2)])
    def test_a_crop_reaches_outside_where_it_is_reflected(
        self, shape: tuple[int, int, int]
    ) -> None:
        volume_shape = (9, 10, 11)
        # Each voxel of the volume has a value of its own, so a reflected crop holds one twice.
        volume = Volume(np.arange(9 * 10 * 11).reshape(volume_shape))
        part = Part(volume)
        for voxel in np.ndindex(volume_shape):
            crop = cut_crop(volume, voxel, shape)
            reflected = len(np.unique(crop)) < crop.size
            assert part.holds_crops(np.array([voxel]), shape, None).tolist() == [not reflected]

    def test_they_are_counted(self) -> None:
        three = pd.DataFrame({"z": [0, 5, 9], "y": [5, 5, 9], "x": [5, 5, 9]})
        volume = Volume(np.arange(1000).reshape(10, 10, 10))
        placed = place(interpret(three, "t.csv"), "t.csv", volume, None)
        dataset = assemble([Part(volume)], [placed], Config(intensity="crop"))
        assert dataset.n_reaching_outside((4, 4, 4)) == 2
