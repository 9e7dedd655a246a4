"""Volumes are opened lazily, tables are checked, and crops are cut where they should be."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from napari_synapse_cl.data.crops import (
    CachedCrops,
    StreamedCrops,
    cache_folder,
    cut_crop,
    fill_cache,
)
from napari_synapse_cl.data.intensities import intensity_range
from napari_synapse_cl.data.synapses import Positions, positions_inside, read_synapses
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (20, 24, 28), dtype=np.uint8)


def all_positions(*voxels: tuple[int, int, int]) -> Positions:
    return Positions(np.array(voxels), np.arange(len(voxels)), 0)


class TestOpeningVolumes:
    def test_an_uncompressed_tiff_is_memory_mapped(self, grey: np.ndarray, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "v.tif", grey)
        volume = open_volume(tmp_path / "v.tif")
        assert isinstance(volume.array, np.memmap)
        np.testing.assert_array_equal(volume.array, grey)

    def test_a_compressed_tiff_is_read_page_by_page(self, grey: np.ndarray, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "v.tiff", grey, compression="zlib")
        volume = open_volume(tmp_path / "v.tiff")
        assert isinstance(volume.array, zarr.Array)
        np.testing.assert_array_equal(volume.array[3:5, 2:4], grey[3:5, 2:4])

    def test_npy_is_memory_mapped(self, grey: np.ndarray, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", grey)
        volume = open_volume(tmp_path / "v.npy")
        assert isinstance(volume.array, np.memmap)
        assert volume.shape == grey.shape

    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_a_zarr_array_or_a_group_with_one_array_opens(
        self, grey: np.ndarray, tmp_path: Path, zarr_format: int
    ) -> None:
        group = zarr.open_group(tmp_path / "g.zarr", mode="w", zarr_format=zarr_format)
        group.create_array("raw", data=grey, chunks=(8, 8, 8))
        for path in (tmp_path / "g.zarr", tmp_path / "g.zarr" / "raw"):
            volume = open_volume(path)
            assert isinstance(volume.array, zarr.Array)
            np.testing.assert_array_equal(volume.array[:], grey)

    def test_a_group_of_several_arrays_asks_for_one(self, tmp_path: Path) -> None:
        group = zarr.open_group(tmp_path / "g.zarr", mode="w")
        for name in ("raw", "labels"):
            group.create_array(name, shape=(4, 4, 4), dtype="u1")
        with pytest.raises(InputError, match="labels, raw"):
            open_volume(tmp_path / "g.zarr")

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((40, 50), "3D volume"),
            ((40, 50, 3), "colour image"),
            ((4, 40, 50, 3), "3D volume"),
            ((1, 40, 50), "3D volume"),
        ],
    )
    def test_images_that_are_no_volume_are_refused(
        self, shape: tuple, message: str, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "v.npy", np.zeros(shape, np.uint8))
        with pytest.raises(InputError, match=message):
            open_volume(tmp_path / "v.npy")

    def test_complex_numbers_are_no_grey_values(self, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", np.zeros((8, 8, 8), complex))
        with pytest.raises(InputError, match="complex"):
            open_volume(tmp_path / "v.npy")

    @pytest.mark.parametrize("name", ["none.tif", "text.txt", "broken.tif", "broken.npy", "empty"])
    def test_files_that_are_missing_strange_or_damaged_are_refused(
        self, name: str, tmp_path: Path
    ) -> None:
        for broken in ("text.txt", "broken.tif", "broken.npy"):
            (tmp_path / broken).write_text("no voxels")
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match=name):
            open_volume(tmp_path / name)


class TestIntensities:
    @pytest.mark.parametrize(("dtype", "high"), [(np.uint8, 255), (np.uint16, 65535)])
    def test_integers_use_the_range_of_their_type(self, dtype: type, high: int) -> None:
        assert intensity_range(Volume(np.zeros((4, 4, 4), dtype))) == (0, high)

    def test_floats_in_the_unit_range_stay_as_they_are(self) -> None:
        assert intensity_range(Volume(np.linspace(0.2, 0.7, 64).reshape(4, 4, 4))) == (0, 1)

    def test_other_floats_use_their_lowest_and_highest_value(self) -> None:
        array = np.linspace(-3, 9, 64).reshape(4, 4, 4)
        array[0, 0, 1] = np.nan
        assert intensity_range(Volume(array)) == (-3, 9)

    def test_a_constant_float_volume_is_refused(self) -> None:
        with pytest.raises(InputError, match="no contrast"):
            intensity_range(Volume(np.full((4, 4, 4), 7.0)))


class TestTables:
    def read(self, text: str, folder: Path) -> pd.DataFrame:
        (folder / "t.csv").write_text(text)
        return read_synapses(folder / "t.csv")

    def test_rows_order_and_other_columns_are_kept(self, tmp_path: Path) -> None:
        table = self.read("id,z,y,x,class\n9,1,2,3,a\n4,5.5,6,7,b\n", tmp_path)
        assert list(table.columns) == ["id", "z", "y", "x", "class"]
        assert table["id"].tolist() == [9, 4]
        assert table["z"].tolist() == [1, 5.5]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a,b\n1,2\n", "no column z, y, x.*found a, b"),
            ("z,y\n1,2\n", "no column x"),
            ("z,y,x\n", "no synapses"),
            ("", "empty"),
            ("z,y,x\n1,2,3\n1,,3\n", "y in data row 2 is not a number"),
            ("z,y,x\n1,2,3\nfoo,2,3\nbar,2,3\n", r"z in data row 2 \(and 1 more\).*foo"),
            ("z,y,x\ninf,2,3\n", "not a number"),
        ],
    )
    def test_tables_that_cannot_be_used_are_refused(
        self, text: str, message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=message):
            self.read(text, tmp_path)

    def test_a_missing_or_binary_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no synapse table .*none\.csv"):
            read_synapses(tmp_path / "none.csv")
        (tmp_path / "b.csv").write_bytes(bytes(range(256)))
        with pytest.raises(InputError, match=r"b\.csv"):
            read_synapses(tmp_path / "b.csv")

    def test_positions_outside_are_left_out_and_counted(self) -> None:
        table = pd.DataFrame({"z": [0, -1, 9.6, 9], "y": [0, 5, 5, 9], "x": [0, 5, 5, 9]})
        positions = positions_inside(table, (10, 10, 10))
        assert positions.rows.tolist() == [0, 3]
        assert positions.voxels.tolist() == [[0, 0, 0], [9, 9, 9]]
        assert positions.n_outside == 2

    def test_a_table_all_outside_is_refused_with_what_it_spans(self) -> None:
        table = pd.DataFrame({"z": [500, 900], "y": [5, 5], "x": [5, 5]})
        with pytest.raises(InputError, match=r"all 2 positions .* span z 500–900"):
            positions_inside(table, (10, 10, 10))


class TestCrops:
    def test_a_crop_inside_is_the_region_around_its_centre(self, grey: np.ndarray) -> None:
        crop = cut_crop(Volume(grey), (10, 11, 12), (4, 6, 5))
        np.testing.assert_array_equal(crop, grey[8:12, 8:14, 10:15])

    @pytest.mark.parametrize("centre", [(0, 0, 0), (19, 23, 27), (1, 12, 26)])
    @pytest.mark.parametrize("shape", [(8, 8, 8), (60, 61, 70)])
    def test_a_crop_that_reaches_outside_is_reflected(
        self, grey: np.ndarray, centre: tuple, shape: tuple
    ) -> None:
        pad = 80
        padded = np.pad(grey, pad, mode="symmetric")
        starts = [c + pad - s // 2 for c, s in zip(centre, shape, strict=True)]
        z, y, x = (slice(a, a + s) for a, s in zip(starts, shape, strict=True))
        np.testing.assert_array_equal(cut_crop(Volume(grey), centre, shape), padded[z, y, x])

    def test_values_that_are_not_finite_are_refused_with_their_place(self) -> None:
        array = np.random.default_rng(0).random((9, 9, 9))
        array[4, 4, 4] = np.nan
        with pytest.raises(InputError, match=r"NaN.*z, y, x = 5, 5, 5"):
            cut_crop(Volume(array), (5, 5, 5), (4, 4, 4))

    def test_cached_and_streamed_crops_are_the_same(self, grey: np.ndarray, tmp_path: Path) -> None:
        positions = all_positions((3, 3, 3), (10, 11, 12), (19, 0, 5))
        streamed = StreamedCrops(Volume(grey), positions, (6, 8, 10))
        folder = cache_folder(streamed, tmp_path)
        assert list(fill_cache(streamed, folder)) == [1, 2, 3]
        cached = CachedCrops(folder)
        assert cached.shape == streamed.shape == (6, 8, 10)
        np.testing.assert_array_equal(cached.read([2, 0]), streamed.read([2, 0]))
        assert cached.read([1]).dtype == np.float32
        expected = cut_crop(Volume(grey), (10, 11, 12), (6, 8, 10)) / np.float32(255)
        np.testing.assert_array_equal(cached.read([1])[0, 0], expected)

    def test_cutting_that_was_broken_off_goes_on_with_what_is_missing(
        self, grey: np.ndarray, tmp_path: Path
    ) -> None:
        streamed = StreamedCrops(
            Volume(grey), all_positions((3, 3, 3), (9, 9, 9), (5, 6, 7)), (4, 4, 4)
        )
        cutting = fill_cache(streamed, tmp_path)
        assert next(cutting) == 1
        cutting.close()
        with pytest.raises(InputError, match="2 of 3 crops"):
            CachedCrops(tmp_path)
        assert list(fill_cache(streamed, tmp_path)) == [2, 3]
        np.testing.assert_array_equal(CachedCrops(tmp_path).read(range(3)), streamed.read(range(3)))

    def test_another_volume_size_or_position_has_another_cache(
        self, grey: np.ndarray, tmp_path: Path
    ) -> None:
        here, there = all_positions((5, 5, 5)), all_positions((5, 5, 6))
        sources = [
            StreamedCrops(Volume(grey), here, (4, 4, 4)),
            StreamedCrops(Volume(255 - grey), here, (4, 4, 4)),
            StreamedCrops(Volume(grey), here, (4, 4, 6)),
            StreamedCrops(Volume(grey), there, (4, 4, 4)),
        ]
        assert len({cache_folder(source, tmp_path) for source in sources}) == 4

    def test_a_file_that_changed_has_another_cache(self, grey: np.ndarray, tmp_path: Path) -> None:
        file = tmp_path / "v.npy"
        folders = set()
        for array in (grey, np.concatenate([grey, grey])[:20]):
            np.save(file, array)
            streamed = StreamedCrops(open_volume(file), all_positions((5, 5, 5)), (4, 4, 4))
            folders.add(cache_folder(streamed, tmp_path))
        assert len(folders) == 2

    def test_a_folder_without_crops_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no folder of crops"):
            CachedCrops(tmp_path)
