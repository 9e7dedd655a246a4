"""What data of laboratories brought to light: levels, labels, greys, units and damaged files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from conftest import SMALL
from napari_synapse_cl.config import Config, CropConfig
from napari_synapse_cl.data.crops.cache import CachedCrops, fill_cache
from napari_synapse_cl.data.crops.cutting import CropState, Cutter
from napari_synapse_cl.data.crops.sources import StreamedCrops, cache_folder
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.data.parts import Part, Positions
from napari_synapse_cl.data.volumes import AlignedLabels, Volume, aligned
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.pipeline.training_preparation import with_what_was_found
from napari_synapse_cl.runs.events import Message

SIDE = 64
PLACES = pd.DataFrame({"z": [30, 34], "y": [30, 34], "x": [30, 34]})


def noise(side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (side,) * 3, dtype=np.uint8)


def opened(**settings: Any) -> Dataset:
    return open_dataset(Config.from_values({"crop_size": 16, **settings}))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    PLACES.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


@pytest.fixture
def levels(tmp_path: Path) -> Path:
    """A multiscale volume of noise with voxels of 10, 20 and 40 nm."""
    group = zarr.open_group(tmp_path / "levels.zarr", mode="w", zarr_format=2)
    listed = []
    for number, factor in enumerate((1, 2, 4)):
        level = noise()[::factor, ::factor, ::factor]
        group.create_array(str(number), data=level, chunks=(32, 32, 32))
        scale = {"type": "scale", "scale": [10.0 * factor] * 3}
        listed.append({"path": str(number), "coordinateTransformations": [scale]})
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": listed}]
    return tmp_path / "levels.zarr"


class TestLevels:
    def test_a_run_that_is_gone_on_with_reads_the_levels_that_it_began_with(
        self, levels: Path, table: Path, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "coarse.npy", noise())
        coarse = {"image": "coarse.npy", "synapses": "t.csv", "voxel_size": 40}
        volumes = [coarse, {"image": levels.name, "synapses": "t.csv"}]
        (tmp_path / "d.json").write_text(json.dumps(volumes), encoding="utf-8")
        config = Config.from_values({"dataset": tmp_path / "d.json"})
        first = open_dataset(config)
        again = open_dataset(with_what_was_found(config, first))
        factors = [[part.volume.factor for part in dataset.parts] for dataset in (first, again)]
        assert factors[0] == factors[1] == [(1, 1, 1), (4, 4, 4)]

    @pytest.mark.parametrize(("true", "factor"), [(5, 4), (10, 2), (20, 1)])
    def test_no_level_is_coarser_than_the_network_sees_where_the_file_is_wrong(
        self, true: float, factor: int, levels: Path, table: Path
    ) -> None:
        dataset = opened(image=levels, synapses=table, voxel_size=true, network_voxel_size=20)
        assert dataset.parts[0].volume.factor == (factor,) * 3
        assert dataset.parts[0].voxel_size == (true * factor,) * 3

    def test_labels_of_the_finest_level_fit_the_coarser_one_that_is_read(
        self, levels: Path, table: Path, tmp_path: Path
    ) -> None:
        labels = np.arange(SIDE**3, dtype=np.uint32).reshape((SIDE,) * 3)
        tifffile.imwrite(tmp_path / "labels.tif", labels)
        dataset = opened(
            image=levels, synapses=table, network_voxel_size=20, labels=tmp_path / "labels.tif"
        )
        found = dataset.parts[0].labels
        assert found is not None
        assert found.cut((8, 8, 8), (4, 4, 4))[2, 2, 2] == labels[17, 17, 17]

    def test_coarser_labels_that_tell_no_offset_begin_where_the_image_does(
        self,
    ) -> None:
        image = Volume(noise(), offset=(100, 100, 100))
        labels = np.zeros((SIDE // 2,) * 3, np.uint8)
        labels[5, 6, 7] = 9
        found = aligned(Volume(labels), image, (20, 20, 20), (10, 10, 10))
        assert found.at((10, 12, 14)) == 9


class TestCrops:
    def test_what_lies_beside_the_crop_alone_is_not_kept(self) -> None:
        labels = np.zeros((SIDE,) * 3, np.uint8)
        labels[32, 32, 32 + 12] = 1
        part = Part(Volume(noise()), labels=AlignedLabels(Volume(labels)))
        config = CropConfig.model_validate({"crop_size": 16, "keep": "1"})
        # The context for rotations reaches farther than the crop.
        cutter = Cutter(part, config, (32, 32, 32), None)
        assert cutter.cut((32, 32, 32), {}).state == CropState.EMPTY
        assert cutter.cut((32, 32, 38), {}).state == CropState.GOOD

    @pytest.mark.parametrize("invert", [False, True])
    def test_outside_is_as_dark_as_what_is_not_kept(self, invert: bool) -> None:
        cells = np.zeros((SIDE,) * 3, np.uint8)
        cells[4, 4, 4] = 1
        part = Part(Volume(noise()), labels=AlignedLabels(Volume(cells)))
        place = Positions(np.array([[4, 4, 4]]), np.array([0]), 0)
        for more in ({"borders": "constant"}, {"keep": "1"}):
            settings = {"crop_size": 16, "background": 0.2, "invert": invert, **more}
            config = CropConfig.model_validate(settings)
            crop = StreamedCrops([part], place, config, (16, 16, 16)).read([0])
            assert crop[0, 0, 0, 0, 0] == pytest.approx(0.2, abs=1e-6)

    @pytest.mark.parametrize("background", [0.0, 1.0])
    @pytest.mark.parametrize("invert", [False, True])
    def test_black_and_white_of_z_scores_need_not_be_values_of_the_type(
        self, background: float, invert: bool
    ) -> None:
        # Few bright voxels on black: three deviations below the mean there are no grey values.
        image = np.where(noise() > 250, noise(), 0).astype(np.uint8)
        labels = np.zeros(image.shape, np.uint8)
        labels[4, 4, 4] = 1
        part = Part(Volume(image), labels=AlignedLabels(Volume(labels)))
        for more in ({"borders": "constant"}, {"keep": "1"}):
            config = CropConfig.model_validate(
                {
                    "crop_size": 16,
                    "intensity": "z-score",
                    "background": background,
                    "invert": invert,
                    **more,
                }
            )
            place = Positions(np.array([[4, 4, 4]]), np.array([0]), 0)
            crop = StreamedCrops([part], place, config, (16, 16, 16)).read([0])
            assert crop[0, 0, 0, 0, 0] == pytest.approx(background, abs=1e-6)

    @pytest.mark.parametrize(
        "sizes",
        [
            {"voxel_size": 10, "network_voxel_size": 1000},
            {"voxel_size": (1000, 0.01, 0.01), "rotation_range": 15},
        ],
    )
    def test_sizes_for_which_no_memory_would_do_are_refused_before_anything_is_written(
        self, sizes: dict[str, Any], table: Path, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "v.npy", noise())
        named = {"image": tmp_path / "v.npy", "synapses": table, "output": tmp_path / "run"}
        with pytest.raises(InputError, match="no memory holds: check voxel_size"):
            list(run(Config.from_values({**SMALL, **named, **sizes})))
        assert not (tmp_path / "run").exists()

    def test_a_file_that_tells_a_voxel_size_beyond_reason_is_named(
        self, table: Path, tmp_path: Path
    ) -> None:
        image = zarr.create_array(tmp_path / "v.zarr", shape=(SIDE,) * 3, dtype="u1")
        image.attrs["resolution"] = [1e6] * 3
        with pytest.raises(InputError, match=r"v\.zarr has voxels of 1000000"):
            opened(image=tmp_path / "v.zarr", synapses=table)

    def test_crops_overlap_by_the_size_at_which_they_are_cut(
        self, table: Path, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "v.npy", noise())
        dataset = opened(
            image=tmp_path / "v.npy", synapses=table, voxel_size=10, network_voxel_size=20
        )
        assert dataset.places.tolist() == [[15] * 3, [17] * 3]


class TestCropsOfEarlier:
    @pytest.fixture
    def folder(self, table: Path, tmp_path: Path) -> Path:
        np.save(tmp_path / "v.npy", noise())
        config = Config.from_values(
            {
                "image": tmp_path / "v.npy",
                "synapses": table,
                "voxel_size": (20, 10, 10),
                "network_voxel_size": 20,
                "crop_size": 16,
            }
        )
        dataset = open_dataset(config)
        source = dataset.streamed(config, config.crop_size)
        folder = cache_folder(source, tmp_path)
        list(fill_cache(source, folder, len(dataset.table)))
        return folder

    def test_know_the_voxels_of_the_image_that_their_positions_count_in(
        self, folder: Path, table: Path
    ) -> None:
        dataset = opened(crops=folder, synapses=table)
        assert dataset.image_sizes == [(20, 10, 10)]
        assert dataset.places[0].tolist() == [30, 15, 15]

    def test_are_not_taken_for_those_of_another_voxel_size(self, folder: Path, table: Path) -> None:
        with pytest.raises(InputError, match="have voxels of 20 × 20 × 20 nm"):
            opened(crops=folder, synapses=table, network_voxel_size=10)

    @pytest.mark.parametrize("name", ["positions.npz", "states.npy", "crops.npy", "index.json"])
    @pytest.mark.parametrize("content", [b"", b"[]", b"PK\x03\x04cut off"])
    def test_that_are_damaged_are_refused_in_one_line(
        self, name: str, content: bytes, folder: Path
    ) -> None:
        (folder / name).write_bytes(content)
        with pytest.raises(InputError, match="is no folder of crops") as raised:
            CachedCrops(folder)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"voxelsize": 8}, "volume 1 in .*: there is no setting called voxelsize$"),
        ({"roles": {"cleft": "x"}}, "cleft=x is not written as a name and label values"),
    ],
)
def test_a_wrong_setting_in_a_dataset_is_named_in_plain_words(
    settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    volume = {"image": "v.npy", "synapses": "t.csv", **settings}
    (tmp_path / "d.json").write_text(json.dumps([volume]), encoding="utf-8")
    with pytest.raises(InputError, match=words) as raised:
        opened(dataset=tmp_path / "d.json")
    assert "Value error" not in str(raised.value)


@pytest.mark.real_data
class TestDenseAfterMasks:
    @pytest.fixture
    def settings(self, medulla: Path, tmp_path: Path) -> dict[str, Any]:
        volume = tifffile.imread(medulla / "training_sample2.tif", key=range(64))
        cells = tifffile.imread(medulla / "training_sample2_groundtruth_bodies.tif", key=range(64))
        np.save(tmp_path / "v.npy", volume[:, :96, :96])
        np.save(tmp_path / "cells.npy", cells[:, :96, :96])
        places = np.random.default_rng(0).integers(20, 44, (8, 3))
        pd.DataFrame(places, columns=["z", "y", "x"]).to_csv(tmp_path / "t.csv", index=False)
        masked = {"segmentation": tmp_path / "cells.npy", "keep": "object"}
        named = {"image": tmp_path / "v.npy", "synapses": tmp_path / "t.csv"}
        list(
            run(
                Config.from_values(
                    {
                        **SMALL,
                        **named,
                        **masked,
                        "voxel_size": 10,
                        "num_epochs": 1,
                        "train_only": True,
                        "figures": False,
                        "output": tmp_path / "run",
                    }
                )
            )
        )
        return {
            "image": tmp_path / "v.npy",
            "voxel_size": 10,
            "extract_only": True,
            "dense": True,
            "checkpoint": tmp_path / "run",
            "region": (0, 0, 0, 32, 32, 32),
            "device": "cpu",
            "precision": "float32",
            "output": tmp_path / "maps",
        }

    def test_a_map_sees_what_was_masked_in_training_and_says_so(
        self, settings: dict[str, Any]
    ) -> None:
        told = [e.text for e in run(Config.from_values(settings)) if isinstance(e, Message)]
        assert any("trained on crops of which object was kept" in text for text in told)

    def test_a_region_that_is_cut_off_and_a_level_that_is_not_the_finest_are_told(
        self, settings: dict[str, Any], levels: Path
    ) -> None:
        more = {"image": levels, "voxel_size": None, "network_voxel_size": 20}
        region = {"region": (0, 0, 0, 200, 64, 64)}
        happened = run(Config.from_values({**settings, **more, **region}))
        told = [event.text for event in happened if isinstance(event, Message)]
        assert any("2 × 2 × 2 of the finest: maps count" in text for text in told)
        assert any("lies in the volume" in text for text in told)

    def test_what_is_for_crops_alone_is_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="keep is for synapses"):
            list(run(Config.from_values({**settings, "keep": "object"})))
