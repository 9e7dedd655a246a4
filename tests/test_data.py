"""Volumes are opened lazily, tables are checked, and crops are cut where they should be."""

import errno
import gc
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import Bomb, crops_of
from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.cache import CachedCrops, cut_crops, fill_cache
from napari_synapse_cl.data.crops.cutting import cut_crop
from napari_synapse_cl.data.crops.sources import VERSION, cache_folder
from napari_synapse_cl.data.dataset import Dataset, assemble
from napari_synapse_cl.data.intensity import intensity_range
from napari_synapse_cl.data.parts import Part, Positions
from napari_synapse_cl.data.placing import place_points
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.events import Control, Paused, Progress, Resumed
from napari_synapse_cl.system.files import open_array


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (20, 24, 28), dtype=np.uint8)


def all_positions(*voxels: tuple[int, int, int]) -> Positions:
    return Positions(np.array(voxels), np.arange(len(voxels)), 0)


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


class TestPositions:
    def test_positions_outside_are_left_out_and_counted(self) -> None:
        table = pd.DataFrame({"z": [0, -1, 9.6, 9], "y": [0, 5, 5, 9], "x": [0, 5, 5, 9]})
        volume = Volume(np.arange(1000.0).reshape(10, 10, 10))
        positions = assemble(
            [Part(volume)], [place_points(table, volume, None)], Config()
        ).positions
        assert positions.rows.tolist() == [0, 3]
        assert positions.voxels.tolist() == [[0, 0, 0], [9, 9, 9]]
        assert positions.n_outside == 2

    @pytest.mark.parametrize("length", [3, 2**40])
    def test_of_those_in_a_voxel_the_first_is_told(self, length: int) -> None:
        """Also where the numbers of all voxels that they span go into no integer."""
        ends = np.array([-length, 0, length])
        voxels = np.random.default_rng(0).choice(ends, (60, 3))
        rows = voxels.tolist()
        expected = [rows.index(row) == number for number, row in enumerate(rows)]
        assert all_positions(*map(tuple, rows)).is_first.tolist() == expected

    def test_a_table_all_outside_is_refused_with_what_it_spans(self) -> None:
        table = pd.DataFrame({"z": [500, 900], "y": [5, 5], "x": [5, 5]})
        volume = Volume(np.zeros((10, 10, 10)))
        with pytest.raises(InputError, match=r"all 2 positions .* span z 500–900"):
            place_points(table, volume, None)


def cut(cutting: Iterator[Progress]) -> list[int]:
    """Return how many crops were there after each that was cut."""
    return [progress.done for progress in cutting if progress.task == "cutting crops"]


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

    def test_a_crop_that_cannot_be_used_is_told_with_its_place(self, tmp_path: Path) -> None:
        array = np.random.default_rng(0).random((9, 9, 9))
        array[4, 4, 4] = np.nan
        streamed = crops_of(Volume(array), all_positions((5, 5, 5), (7, 7, 7)), (4, 4, 4))
        list(fill_cache(streamed, tmp_path, 2))
        for crops in (streamed, CachedCrops(tmp_path)):
            with pytest.raises(InputError, match=r"z, y, x = 5, 5, 5.*NaN"):
                crops.read([0, 1])
            read, usable = crops.read_usable([0, 1])
            assert usable.tolist() == [1]
            np.testing.assert_array_equal(read, crops.read([1]))

    def test_cached_and_streamed_crops_are_the_same(self, grey: np.ndarray, tmp_path: Path) -> None:
        positions = all_positions((3, 3, 3), (10, 11, 12), (19, 0, 5))
        streamed = crops_of(Volume(grey), positions, (6, 8, 10))
        folder = cache_folder(streamed, tmp_path)
        assert cut(fill_cache(streamed, folder, 3)) == [1, 2, 3]
        cached = CachedCrops(folder)
        assert cached.shape == streamed.shape == (6, 8, 10)
        np.testing.assert_array_equal(cached.read([2, 0]), streamed.read([2, 0]))
        assert cached.read([1]).dtype == np.float32
        expected = cut_crop(Volume(grey), (10, 11, 12), (6, 8, 10)) / np.float32(255)
        np.testing.assert_array_equal(cached.read([1])[0, 0], expected)

    def test_cutting_waits_while_the_job_is_paused(self, grey: np.ndarray, tmp_path: Path) -> None:
        streamed = crops_of(Volume(grey), all_positions((3, 3, 3), (9, 9, 9), (5, 6, 7)), (4, 4, 4))
        control = Control()
        control.request("pause")
        events = cut_crops(streamed, tmp_path, 3, control)
        assert [type(next(events)) for _ in range(2)] == [Progress, Paused]
        control.request("resume")
        assert isinstance(next(events), Resumed)
        control.request("stop")
        assert list(events) == []

    def test_cutting_that_was_broken_off_goes_on_with_what_is_missing(
        self, grey: np.ndarray, tmp_path: Path
    ) -> None:
        streamed = crops_of(Volume(grey), all_positions((3, 3, 3), (9, 9, 9), (5, 6, 7)), (4, 4, 4))
        cutting = fill_cache(streamed, tmp_path, 3)
        assert next(cutting).done == 1
        cutting.close()
        with pytest.raises(InputError, match="2 of 3 crops"):
            CachedCrops(tmp_path)
        assert cut(fill_cache(streamed, tmp_path, 3)) == [2, 3]
        np.testing.assert_array_equal(CachedCrops(tmp_path).read(range(3)), streamed.read(range(3)))

    def test_a_check_that_was_broken_off_is_made_anew_and_tells_what_is_damaged(
        self, grey: np.ndarray, tmp_path: Path
    ) -> None:
        streamed = crops_of(Volume(grey), all_positions((3, 3, 3), (9, 9, 9), (5, 6, 7)), (4, 4, 4))
        list(fill_cache(streamed, tmp_path, 3))
        np.load(tmp_path / "crops.npy", mmap_mode="r+")[:2] ^= 1
        checking = fill_cache(streamed, tmp_path, 3)
        assert next(checking) == Progress("checking crops", 1, 3)
        checking.close()
        told: list[str] = []
        assert cut(fill_cache(streamed, tmp_path, 3, told)) == [2, 3]
        assert told[0].startswith("2 of 3 crops")
        np.testing.assert_array_equal(CachedCrops(tmp_path).read(range(3)), streamed.read(range(3)))

    def test_another_volume_size_or_position_has_another_cache(
        self, grey: np.ndarray, tmp_path: Path
    ) -> None:
        here, there = all_positions((5, 5, 5)), all_positions((5, 5, 6))
        sources = [
            crops_of(Volume(grey), here, (4, 4, 4)),
            crops_of(Volume(255 - grey), here, (4, 4, 4)),
            crops_of(Volume(grey), here, (4, 4, 6)),
            crops_of(Volume(grey), there, (4, 4, 4)),
        ]
        assert len({cache_folder(source, tmp_path) for source in sources}) == 4

    def test_a_file_that_changed_has_another_cache(self, grey: np.ndarray, tmp_path: Path) -> None:
        file = tmp_path / "v.npy"
        folders = set()
        for array in (grey, np.concatenate([grey, grey])[:20]):
            np.save(file, array)
            streamed = crops_of(open_volume(file), all_positions((5, 5, 5)), (4, 4, 4))
            folders.add(cache_folder(streamed, tmp_path))
        assert len(folders) == 2

    @pytest.mark.parametrize(
        ("settings", "remedy"),
        [
            ({"crop_size": 8, "rotation_range": 15}, "crop_size or rotation_range"),
            ({"crop_size": 16, "rotation_range": 0}, "crop_size"),
        ],
        ids=["too small to rotate in", "too small"],
    )
    def test_crops_that_are_too_small_are_refused_with_what_asks_for_more(
        self, grey: np.ndarray, tmp_path: Path, settings: dict, remedy: str
    ) -> None:
        positions = all_positions((10, 10, 10))
        assert cut(fill_cache(crops_of(Volume(grey), positions, (8, 8, 8)), tmp_path, 1)) == [1]
        dataset = Dataset(pd.DataFrame(), positions, (), CachedCrops(tmp_path), None, "old")
        config = Config.from_values(settings)
        shape = context_shape(config.crop_size, config)
        with pytest.raises(InputError, match=rf"8 × 8 × 8 voxels large.* a smaller {remedy}$"):
            dataset.crop_source(config, shape)

    def test_a_folder_without_crops_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no folder of crops"):
            CachedCrops(tmp_path)


def test_a_npy_file_that_is_cut_off_is_refused_in_one_line(
    grey: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "v.npy", grey)
    whole = (tmp_path / "v.npy").read_bytes()
    for n in (20, 5000):
        (tmp_path / "v.npy").write_bytes(whole[:n])
        with pytest.raises(InputError, match=r"v\.npy cannot be read as a volume") as caught:
            open_volume(tmp_path / "v.npy")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header", [b"{'descr': (", b"(" * 5000, b"{'a': " * 2000, b"\xff" * 20, b"[1, 2]", b""]
)
def test_an_array_whose_header_is_damaged_is_called_so(header: bytes, tmp_path: Path) -> None:
    """Crop caches are made of such files, and NumPy raises many kinds of errors on them."""
    file = tmp_path / "crops.npy"
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(ValueError, match=r"crops\.npy is damaged"):
        open_array(file, "r")
    (tmp_path / "index.json").write_text(json.dumps({"version": VERSION}))
    with pytest.raises(InputError, match="is no folder of crops") as refused:
        CachedCrops(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip"])
def test_positions_of_crops_that_are_damaged_are_said_in_one_line(
    content: bytes, tmp_path: Path
) -> None:
    shapes = {"crops": (1, 2, 2, 2), "windows": (1, 2), "states": (1,)}
    for name, shape in shapes.items():
        np.save(tmp_path / f"{name}.npy", np.ones(shape, np.uint8))
    (tmp_path / "index.json").write_text(json.dumps({"version": VERSION}))
    (tmp_path / "positions.npz").write_bytes(content)
    with pytest.raises(InputError, match="is no folder of crops") as refused:
        CachedCrops(tmp_path)
    assert "\n" not in str(refused.value)
    del refused
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert not [w for w in caught if str(tmp_path) in str(w.message)]


@pytest.mark.parametrize("name", ["crops.npy", "positions.npz"])
def test_nothing_that_a_folder_of_crops_carries_is_run(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for part, shape in {"crops": (1, 2, 2, 2), "windows": (1, 2), "states": (1,)}.items():
        np.save(tmp_path / f"{part}.npy", np.ones(shape, np.uint8))
    (tmp_path / "index.json").write_text(json.dumps({"version": VERSION}))
    bad = np.array([Bomb(trace)], dtype=object)
    if name == "crops.npy":
        np.save(tmp_path / name, bad, allow_pickle=True)
    else:
        np.savez(tmp_path / name, voxels=bad, rows=bad)
    with pytest.raises(InputError, match="is no folder of crops") as refused:
        CachedCrops(tmp_path)
    assert "\n" not in str(refused.value)
    assert not trace.exists()


def test_crops_that_a_full_disk_does_not_take_are_told(
    grey: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("napari_synapse_cl.data.crops.cache.create_array", full)
    source = crops_of(Volume(grey), all_positions((10, 12, 14)), (8, 8, 8))
    with pytest.raises(InputError, match=r"cannot write the crops to .*: the disk is full"):
        list(fill_cache(source, tmp_path / "crops", 1))
