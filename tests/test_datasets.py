"""Volumes of several files, at several resolutions, with masks, come to one training."""

import json
import os
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from math import prod
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
import zarr

from conftest import SMALL
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.arrays import ReadArray
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.opening import open_dataset, read_entries
from napari_synapse_cl.data.split import split_by_space
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.models.checkpoints import load_backbone
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.pipeline.provenance import BLOCK_SHAPE, BLOCKS_ALONG
from napari_synapse_cl.runs.events import Event, Message, Progress, Started

SHAPE = (40, 48, 56)


def noise(seed: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def positions(seed: int, n: int = 8) -> pd.DataFrame:
    inner = np.random.default_rng(seed).integers(10, np.array(SHAPE) - 10, (n, 3))
    return pd.DataFrame(inner, columns=["z", "y", "x"])


def texts(events: list[Event], level: str) -> list[str]:
    return [event.text for event in events if isinstance(event, Message) and event.level == level]


@pytest.fixture
def one(tmp_path: Path) -> dict[str, Any]:
    """Settings of a training on one volume of noise."""
    np.save(tmp_path / "v.npy", noise(0))
    positions(0).to_csv(tmp_path / "t.csv", index=False)
    named = {"image": tmp_path / "v.npy", "synapses": tmp_path / "t.csv"}
    return {**SMALL, **named, "voxel_size": 8, "output": tmp_path / "run", "figures": False}


def opened(settings: dict[str, Any], **more: Any) -> Dataset:
    return open_dataset(Config.from_values({**settings, **more}))


def crops(dataset: Dataset, size: int = 16, **settings: Any) -> np.ndarray:
    config = Config.from_values({"crop_size": size, **settings})
    return dataset.streamed(config, config.crop_size).read(range(len(dataset.positions.voxels)))


class TestSeveralVolumes:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        np.save(tmp_path / "a.npy", noise(1))
        tifffile.imwrite(tmp_path / "b.tif", noise(2))
        for seed, name in ((1, "a"), (2, "b")):
            positions(seed).to_csv(tmp_path / f"{name}.csv", index=False)
        volumes = [
            {"name": "left", "image": "a.npy", "synapses": "a.csv", "voxel_size": 8},
            {"name": "right", "image": "b.tif", "synapses": "b.csv"},
        ]
        (tmp_path / "both.json").write_text(json.dumps({"volumes": volumes}))
        (tmp_path / "both.yaml").write_text(yaml.safe_dump({"volumes": volumes}))
        return tmp_path

    def test_one_training_sees_the_synapses_of_all_and_all_get_features(self, folder: Path) -> None:
        settings = {**SMALL, "dataset": folder / "both.yaml", "voxel_size": 8, "figures": False}
        events = list(run(Config.from_values({**settings, "output": folder / "run"})))
        started = next(event for event in events if isinstance(event, Started))
        assert started.n_training + started.n_validation == 16
        table = pd.read_csv(folder / "run" / "features_L20_mean.csv")
        assert table["volume"].tolist() == ["left"] * 8 + ["right"] * 8
        alone = {
            **SMALL,
            "extract_only": True,
            "checkpoint": folder / "run",
            "image": folder / "b.tif",
            "synapses": folder / "b.csv",
            "voxel_size": 8,
            "output": folder / "alone",
        }
        list(run(Config.from_values(alone)))
        features = pd.read_csv(folder / "alone" / "features_L20_mean.csv")
        names = [name for name in features if name.startswith("L20_mean_0")]
        np.testing.assert_allclose(table[names][8:], features[names], rtol=1e-4, atol=1e-6)

    def test_json_and_yaml_say_the_same_with_paths_relative_to_them(self, folder: Path) -> None:
        entries = read_entries(folder / "both.json")
        assert entries == read_entries(folder / "both.yaml")
        assert entries["right"].image == str(folder / "b.tif")

    def test_ids_that_one_table_alone_has_keep_their_digits(self, folder: Path) -> None:
        ids = [720575940623374833 + i for i in range(8)]
        positions(1).assign(id=ids, code="00012").to_csv(folder / "a.csv", index=False)
        table = opened({"dataset": folder / "both.json", "voxel_size": 8}).table
        assert table["id"].dropna().tolist() == ids
        assert table["code"].dropna().tolist() == ["00012"] * 8
        assert table["id"].isna().sum() == 8

    def test_the_end_of_each_volume_is_held_out(self, folder: Path) -> None:
        dataset = opened({"dataset": folder / "both.json", "voxel_size": 8})
        split = split_by_space(dataset.positions, 0.25, dataset.image_sizes, [(1, 1, 1)] * 2)
        for volume in (0, 1):
            members = dataset.positions.volumes == volume
            extent = np.ptp(dataset.positions.voxels[members], axis=0)
            x = dataset.positions.voxels[:, int(np.argmax(extent))]
            held = np.isin(np.arange(16), split.validation) & members
            assert held.sum() == 2
            assert x[held].min() >= x[members & ~held].max()

    def test_voxel_sizes_are_brought_to_that_of_the_first(self, folder: Path) -> None:
        volumes = json.loads((folder / "both.json").read_text())["volumes"]
        volumes[1]["voxel_size"] = [4, 4, 4]
        (folder / "two.json").write_text(json.dumps(volumes))
        dataset = opened({"dataset": folder / "two.json"})
        assert dataset.known_voxel_size == (8, 8, 8)
        assert "resampled from voxels of 4 × 4 × 4 nm to 8 × 8 × 8" in dataset.messages[-1][0]
        # Averaged over neighbours, noise of the second volume has less contrast.
        cut = crops(dataset)
        assert cut[8:].std() < 0.6 * cut[:8].std()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("volumes: []", "a list “volumes” is needed"),
            ("volumes: [{image: a.npy}]", "volume 1 in .* names no synapses"),
            ("volumes: [{image: a.npy, synapses: a.csv, colour: 1}]", "volume 1 in .*colour"),
            ("volumes: [a]", "volume 1 in .* no group of settings"),
            ("volumes: [{name: a, image: a.npy, synapses: a.csv}] * 2", "no JSON or YAML"),
            ("{volumes: ", "no JSON or YAML file"),
            ("[" * 10**4, "no JSON or YAML file"),
            ("volumes: [{name: [a], image: a.npy, synapses: a.csv}]", "a name that is no text"),
        ],
    )
    def test_what_is_no_dataset_is_refused_in_one_line(
        self, text: str, message: str, folder: Path
    ) -> None:
        (folder / "bad.yaml").write_text(text)
        with pytest.raises(InputError, match=message) as caught:
            read_entries(folder / "bad.yaml")
        assert "\n" not in str(caught.value)

    def test_two_volumes_of_one_name_are_refused(self, folder: Path) -> None:
        volume = {"name": "a", "image": "a.npy", "synapses": "a.csv"}
        (folder / "bad.json").write_text(json.dumps([volume, volume]))
        with pytest.raises(InputError, match="two volumes called a"):
            read_entries(folder / "bad.json")


class TestPublishedFolders:
    """``raw/bboxN/slice_*.tif``, ``seg/bboxN``, a folder of masks, and ``bboxN.xlsx``."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        base = tmp_path / "7_bboxes_plus_seg"
        for number in (2, 10):
            name = f"bbox{number}"
            grey = noise(number)
            cells = np.ones(SHAPE, np.uint16)
            cells[:, :, 28:] = 2
            masks = np.zeros(SHAPE, np.uint8)
            masks[18:22, 20:28, 26:30] = 2  # cleft
            masks[18:22, 20:28, 16:24] = 3  # vesicles, in the cell 1
            masks[2:4, 2:4, 2:4] = 3  # and some far away
            places = {
                base / "raw" / name: grey,
                base / "seg" / name: cells,
                tmp_path / "masks" / f"bbox_{number}": masks,
            }
            for place, volume in places.items():
                place.mkdir(parents=True)
                for z, plane in enumerate(volume):
                    tifffile.imwrite(place / f"slice_{z}.tif", plane)
            row = {"Var1": "s1", **_xyz("central_coord", 28, 24, 20)}
            row |= {**_xyz("side_1_coord", 36, 24, 20), **_xyz("side_2_coord", 20, 24, 20)}
            pd.DataFrame([row]).to_excel(base / f"{name}.xlsx", index=False)
        return base

    def test_open_in_one_step(self, folder: Path) -> None:
        dataset = opened({"dataset": folder, "voxel_size": 10})
        assert [part.name for part in dataset.parts] == ["bbox2", "bbox10"]
        assert dataset.positions.voxels.tolist() == [[20, 24, 28]] * 2
        assert set(dataset.positions.partners) == {"side_1", "side_2"}
        expected = noise(10)[12:28, 16:32, 20:36] / np.float32(255)
        np.testing.assert_array_equal(crops(dataset)[1, 0], expected)

    def test_their_folder_does_as_well(self, folder: Path) -> None:
        assert read_entries(folder) == read_entries(folder.parent)

    @pytest.mark.parametrize(
        ("keep", "x"),
        [
            ("presynapse", range(20, 28)),
            ("postsynapse", range(28, 36)),
            ("vesicles+cleft", [*range(20, 24), *range(26, 30)]),
            ("cleft", range(26, 30)),
        ],
    )
    def test_masks_keep_what_was_asked_for(self, keep: str, x: Any, folder: Path) -> None:
        entry = read_entries(folder)["bbox2"]
        values = entry.model_dump(exclude_unset=True)
        settings = {**values, "voxel_size": 10, "keep": keep, "background": 0.25, "crop_size": 16}
        [[crop]] = crops(opened(settings), **{n: settings[n] for n in ("keep", "background")})
        plain = noise(2)[12:28, 16:32, 20:36] / np.float32(255)
        # In the middle plane, along x through the synapse.
        kept = np.isin(np.arange(20, 36), list(x))
        line, expected = crop[8, 8], plain[8, 8]
        np.testing.assert_allclose(line[kept], expected[kept], atol=1e-6)
        np.testing.assert_allclose(line[~kept], 64 / 255, atol=1e-6)

    def test_labels_of_half_the_resolution_need_no_voxel_size(
        self, one: dict[str, Any], tmp_path: Path
    ) -> None:
        labels = np.zeros((20, 24, 28), np.uint8)
        labels[10:12, 12:14, 14:16] = 5
        np.save(tmp_path / "labels.npy", labels)
        pd.DataFrame({"z": [20], "y": [24], "x": [28]}).to_csv(tmp_path / "t.csv", index=False)
        dataset = opened({**one, "labels": tmp_path / "labels.npy", "keep": "5"})
        [[crop]] = crops(dataset, keep="5", background=0)
        kept = np.argwhere(crop > 0)
        assert (kept.min(axis=0).tolist(), kept.max(axis=0).tolist()) == ([8] * 3, [11] * 3)

    def test_crops_move_toward_the_side_that_holds_the_vesicles(self, folder: Path) -> None:
        # Which values the masks of bbox10 have is not known from its name.
        said = {"voxel_size": 10, "roles": "vesicles=3 cleft=2"}
        shifted = opened({"dataset": folder, **said, "presynaptic_shift": 0.5})
        assert shifted.positions.voxels[0].tolist() == [20, 24, 24]

    def test_a_folder_without_tables_is_refused(self, folder: Path) -> None:
        for table in folder.glob("*.xlsx"):
            table.unlink()
        with pytest.raises(InputError, match=r"no dataset.*no table for bbox10, bbox2"):
            read_entries(folder)


def _xyz(name: str, x: int, y: int, z: int) -> dict[str, int]:
    return {f"{name}_1": x, f"{name}_2": y, f"{name}_3": z}


class TestLeavingOut:
    def test_constant_and_nan_crops_are_counted_not_trained_on_and_get_no_features(
        self, one: dict[str, Any], tmp_path: Path
    ) -> None:
        values = noise(0).astype(np.float32)
        table = pd.DataFrame({"z": [9, 31, 20, 20, 20, 20, 20, 20], "y": 24, "x": 28})
        table["x"] += np.arange(8)
        values[:20, :, :] = 3.5
        values[38] = np.nan
        np.save(tmp_path / "v.npy", values)
        table.to_csv(tmp_path / "t.csv", index=False)
        events = list(run(Config.from_values({**one, "rotation_range": 0})))
        started = next(event for event in events if isinstance(event, Started))
        # One that is left to validate on has nothing to contrast with.
        assert (started.n_training, started.n_validation) == (5, 0)
        warned = texts(events, "warning")
        assert any("1 of 8 crops are left out, each of which is constant" in w for w in warned)
        assert any("1 of 8 crops are left out" in w and "not finite" in w for w in warned)
        features = pd.read_csv(tmp_path / "run" / "features_L20_mean.csv")["L20_mean_000"]
        assert features.isna().tolist() == [True, True, *[False] * 6]

    def test_the_same_without_a_cache(self, one: dict[str, Any], tmp_path: Path) -> None:
        values = noise(0)
        values[:, :, :17] = 7
        np.save(tmp_path / "v.npy", values)
        table = positions(0)
        table["x"] = 30 + np.arange(8)
        table.loc[0] = [20, 24, 8]
        table.to_csv(tmp_path / "t.csv", index=False)
        events = list(run(Config.from_values({**one, "cache_limit": 0, "rotation_range": 0})))
        assert any("1 of 8 crops are left out" in text for text in texts(events, "warning"))

    def test_where_none_is_left_there_is_one_line(
        self, one: dict[str, Any], tmp_path: Path
    ) -> None:
        np.save(tmp_path / "v.npy", np.zeros(SHAPE, np.uint8))
        with pytest.raises(JobError, match="0 can be used, and at least 2 are needed"):
            list(run(Config.from_values(one)))

    def test_crops_that_reach_outside_are_left_out_on_request(
        self, one: dict[str, Any], tmp_path: Path
    ) -> None:
        table = positions(0)
        table.loc[0] = [3, 24, 28]
        table.to_csv(tmp_path / "t.csv", index=False)
        assert len(opened(one).positions.voxels) == 8
        dataset = opened(one, borders="exclude")
        assert len(dataset.positions.voxels) == 7
        assert ("1 synapse left out, whose crops reach outside", "warning") in dataset.messages
        with pytest.raises(InputError, match="every crop reaches outside"):
            opened(one, borders="exclude", crop_size=64)

    def test_outside_is_grey_on_request(self, one: dict[str, Any], tmp_path: Path) -> None:
        pd.DataFrame({"z": [3], "y": [24], "x": [28]}).to_csv(tmp_path / "t.csv", index=False)
        [[crop]] = crops(opened(one), borders="constant", background=0.25)
        np.testing.assert_allclose(crop[:5], 64 / 255)
        np.testing.assert_array_equal(crop[5:], noise(0)[:11, 16:32, 20:36] / np.float32(255))

    def test_synapses_in_one_voxel_train_once(self, one: dict[str, Any], tmp_path: Path) -> None:
        table = positions(0)
        table.loc[3] = table.loc[0]
        table.to_csv(tmp_path / "t.csv", index=False)
        dataset = opened(one)
        split = split_by_space(dataset.positions, 0, dataset.image_sizes, [(1, 1, 1)])
        assert split.training.tolist() == [0, 1, 2, 4, 5, 6, 7]
        assert any("1 synapse lies in the same voxel" in text for text, _ in dataset.messages)

    def test_rows_without_a_position_are_counted(self, one: dict[str, Any], tmp_path: Path) -> None:
        table = positions(0).astype(float)
        table.loc[2, "y"] = np.nan
        table.to_csv(tmp_path / "t.csv", index=False)
        dataset = opened(one)
        assert dataset.positions.rows.tolist() == [0, 1, 3, 4, 5, 6, 7]
        assert any("1 row of" in text and "no position" in text for text, _ in dataset.messages)


def test_of_a_volume_of_20000_cubed_only_what_is_seen_is_read(
    one: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = zarr.create_array(
        tmp_path / "v.zarr", shape=(20_000,) * 3, chunks=(64,) * 3, dtype="u1"
    )
    corners = 64 * np.random.default_rng(0).integers(1, 300, (6, 3))
    for seed, (z, y, x) in enumerate(corners):
        volume[z : z + 64, y : y + 64, x : x + 64] = noise(seed, (64, 64, 64))
    pd.DataFrame(corners + 32, columns=["z", "y", "x"]).to_csv(tmp_path / "t.csv", index=False)
    read: list[int] = []
    plain = ReadArray.__getitem__

    def counted(array: ReadArray, key: Any) -> np.ndarray:
        found = plain(array, key)
        read.append(found.size)
        return found

    monkeypatch.setattr(ReadArray, "__getitem__", counted)
    list(run(Config.from_values({**one, "image": tmp_path / "v.zarr", "n_components": 1})))
    table = pd.read_csv(tmp_path / "run" / "features_L20_mean.csv")
    assert np.isfinite(table["L20_mean_000"]).all()
    # The crops with their context, a little of them to know the cache again, and some blocks to
    # know the volume again.
    assert sum(read) <= 6 * (28**3 + 16**3) + BLOCKS_ALONG**3 * prod(BLOCK_SHAPE)


def test_a_checkpoint_is_fetched_before_anything_else_and_that_is_told(
    one: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(run(Config.from_values({**one, "train_only": True})))
    served = tmp_path / "run" / "checkpoints"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/last.pt"
    settings = {**one, "extract_only": True, "checkpoint": url, "output": tmp_path / "far"}
    events = list(run(Config.from_values(settings)))
    server.shutdown()
    server.server_close()
    assert isinstance(events[0], Progress)
    assert events[0].task == "downloading the network"
    record = json.loads((tmp_path / "far" / "features_L20_mean.json").read_text())
    assert record["checkpoint"] == url
    # The server is gone, and the file is there.
    list(run(Config.from_values({**settings, "output": tmp_path / "again"})))
    missing = f"http://127.0.0.1:{server.server_port}/other.pt"
    with pytest.raises(InputError, match="cannot be downloaded"):
        list(run(Config.from_values({**settings, "checkpoint": missing})))


def test_a_folder_that_was_written_anew_has_another_cache(
    one: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**one, "image": tmp_path / "v.zarr", "train_only": True, "num_epochs": 1}
    for seed in (0, 1):
        zarr.save_array(tmp_path / "v.zarr", noise(seed), zarr_format=2, overwrite=True)
        metadata = tmp_path / "v.zarr" / ".zarray"
        os.utime(metadata, ns=(0, 0))
        more = {"cache_dir": tmp_path / "cache", "output": tmp_path / f"run_{seed}"}
        list(run(Config.from_values({**settings, **more})))
    assert len(list((tmp_path / "cache").iterdir())) == 2


class TestReadings:
    def test_how_positions_were_read_is_told(self, one: dict[str, Any]) -> None:
        (text, level), *_ = opened(one).messages
        assert level == "detail"
        assert "8 of 8 positions" in text
        assert "read as columns z, y, x in voxels" in text

    def test_another_reading_that_fits_far_better_is_told_in_place_of_a_training(
        self, one: dict[str, Any], tmp_path: Path
    ) -> None:
        np.save(tmp_path / "v.npy", noise(0, (40, 48, 300)))
        table = pd.DataFrame({"z": np.arange(60, 260, 5), "y": 24, "x": 20})
        table.to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(InputError, match=r"0 of 40.*all 40.*--position_columns x y z"):
            opened(one)
        read = opened(one, position_columns=["x", "y", "z"])
        assert read.positions.voxels[0].tolist() == [20, 24, 60]
        # The results have columns z, y, x in voxels, and what was read beside them.
        assert read.table.loc[0, ["z", "y", "x", "z_as_read"]].tolist() == [20, 24, 60, 60]

    def test_nanometres_are_told_by_the_columns_or_on_request(
        self, one: dict[str, Any], tmp_path: Path
    ) -> None:
        voxels = positions(0)
        (voxels * 8).add_suffix("_nm").to_csv(tmp_path / "t.csv", index=False)
        np.testing.assert_array_equal(opened(one).positions.voxels, voxels)
        (voxels * 8).to_csv(tmp_path / "t.csv", index=False)
        np.testing.assert_array_equal(opened(one, position_unit="nm").positions.voxels, voxels)


class TestResolution:
    def test_crops_are_resampled_around_the_synapse(
        self, one: dict[str, Any], tmp_path: Path
    ) -> None:
        coarse = noise(3, (20, 24, 28)).astype(np.float32)
        fine = np.repeat(np.repeat(np.repeat(coarse, 2, 0), 2, 1), 2, 2)
        np.save(tmp_path / "v.npy", fine)
        pd.DataFrame({"z": [20], "y": [24], "x": [28]}).to_csv(tmp_path / "t.csv", index=False)
        dataset = opened(one, voxel_size=4, network_voxel_size=8)
        [[crop]] = crops(dataset, network_voxel_size=8)
        expected = coarse[2:18, 4:20, 6:22]
        assert np.corrcoef(crop.ravel(), expected.ravel())[0, 1] > 0.8

    def test_a_network_sees_voxels_as_large_as_in_its_training(
        self, one: dict[str, Any], tmp_path: Path
    ) -> None:
        list(run(Config.from_values({**one, "train_only": True})))
        assert load_backbone(tmp_path / "run" / "checkpoints" / "last.pt").voxel_size == (8, 8, 8)
        settings = {**one, "extract_only": True, "checkpoint": tmp_path / "run", "voxel_size": 16}
        events = list(run(Config.from_values({**settings, "output": tmp_path / "finer"})))
        assert any("resampled from voxels of 16" in text for text in texts(events, "info"))
        record = json.loads((tmp_path / "finer" / "features_L20_mean.json").read_text())
        assert record["voxel_size"] == [8, 8, 8]

    def test_crops_are_made_as_in_the_training_unless_flags_say_otherwise(
        self, one: dict[str, Any], tmp_path: Path
    ) -> None:
        list(run(Config.from_values({**one, "train_only": True, "intensity": "z-score"})))
        settings = {**one, "extract_only": True, "checkpoint": tmp_path / "run", "crop_size": 16}
        features = {}
        said = {"same": {}, "said": {"intensity": "z-score"}, "other": {"intensity": "range"}}
        for name, more in said.items():
            output = tmp_path / name
            list(run(Config.from_values({**settings, **more, "output": output})))
            features[name] = pd.read_csv(output / "features_L20_mean.csv")["L20_mean_000"]
        assert features["same"].equals(features["said"])
        assert not np.allclose(features["same"], features["other"], rtol=1e-3)
        other = {**settings, "intensity": "range", "output": tmp_path / "told"}
        in_vain, warned = texts(list(run(Config.from_values(other))), "warning")
        assert "have no effect with extract_only" in in_vain
        assert "trained with intensity z-score and sees range" in warned

    def test_a_size_that_is_not_known_cannot_be_resampled(self, one: dict[str, Any]) -> None:
        one.pop("voxel_size")
        with pytest.raises(InputError, match=r"voxel size of v\.npy is not known.*--voxel_size"):
            opened(one, network_voxel_size=8)

    def test_anisotropic_networks_work_from_end_to_end(self, one: dict[str, Any]) -> None:
        settings = {"crop_size": [16, 32, 32], "downsampling": "anisotropic", "fmaps": 2}
        settings |= {"voxel_size": [40, 4, 4], "n_convolutions": [2, 2, 2, 2], "layer_num": 10}
        list(run(Config.from_values({**one, **settings})))
        table = pd.read_csv(one["output"] / "features_L10_mean.csv")
        assert np.isfinite(table.filter(like="L10_mean_0").to_numpy()).all()
        last = load_backbone(one["output"] / "checkpoints" / "last.pt")
        assert last.architecture.total_downsampling == (2, 16, 16)
        assert last.voxel_size == (40, 4, 4)


class TestIntensities:
    def test_an_image_that_uses_little_of_its_type_is_told_of(
        self, one: dict[str, Any], tmp_path: Path
    ) -> None:
        def warned(**settings: Any) -> list[str]:
            return [text for text, _ in opened(one, **settings).messages if "contrast" in text]

        assert warned() == []
        np.save(tmp_path / "v.npy", noise(0).astype(np.int16))
        (text,) = warned()
        assert "uses 0 to 254 of the range of int16" in text
        assert warned(intensity="percentiles") == []
        np.save(tmp_path / "v.npy", noise(0).astype(np.uint16) * 200)
        assert warned() == []

    def test_inverted_images_and_their_opposites_give_the_same_crops(
        self, one: dict[str, Any], tmp_path: Path
    ) -> None:
        dark = crops(opened(one))
        np.save(tmp_path / "v.npy", 255 - noise(0))
        np.testing.assert_allclose(crops(opened(one), invert=True), dark, atol=1e-6)

    @pytest.mark.parametrize("intensity", ["percentiles", "crop", "z-score"])
    def test_brightness_and_contrast_of_the_image_do_not_matter(
        self, intensity: str, one: dict[str, Any], tmp_path: Path
    ) -> None:
        before = crops(opened(one), intensity=intensity)
        np.save(tmp_path / "v.npy", noise(0).astype(np.uint16) * 30 + 1000)
        after = crops(opened(one), intensity=intensity)
        np.testing.assert_allclose(after, before, atol=1e-4)
        assert before.std() > 0.1
