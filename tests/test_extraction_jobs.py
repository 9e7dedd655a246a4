"""Extraction by the command line: which network, which layers, what it leaves, how it ends."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
import zarr

from conftest import SMALL, Files, as_flags
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.analysis import principal_components
from napari_synapse_cl.features.descriptors import describe, descriptor_columns
from napari_synapse_cl.features.tables import FORMATS, read_table
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import load_backbone, save_checkpoint
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.pipeline.networks import make_model
from napari_synapse_cl.runs.events import Control, Event, Growing, Message, Progress, Wrote
from napari_synapse_cl.system import devices


@pytest.fixture(scope="module")
def trained(sample_files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training."""
    image, table = sample_files
    folder = tmp_path_factory.mktemp("trained") / "run"
    named = {"image": image, "synapses": table, "output": folder, "voxel_size": 10}
    assert main(["--train_only", *as_flags({**SMALL, **named})]) == 0
    return folder


@pytest.fixture
def settings(trained: Path, sample_files: Files, tmp_path: Path) -> dict[str, Any]:
    image, table = sample_files
    return {
        "extract_only": True,
        "checkpoint": trained,
        "image": image,
        "synapses": table,
        "voxel_size": 10,
        "output": tmp_path / "out",
        "device": "cpu",
        "precision": "float32",
    }


def events(settings: dict[str, Any], control: Control | None = None) -> Iterator[Event]:
    return run(Config.from_values(settings), control)


def written(happened: list[Event], what: str = "features") -> list[Path]:
    return [Path(e.path) for e in happened if isinstance(e, Wrote) and e.what == what]


def warnings(happened: list[Event]) -> list[str]:
    return [e.text for e in happened if isinstance(e, Message) and e.level == "warning"]


class TestNetworks:
    """Of a run folder, or of a file in it."""

    def record(self, settings: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
        [file] = written(list(events(settings)))
        return read_table(file)

    def test_a_run_folder_stands_for_its_last_checkpoint(
        self, settings: dict[str, Any], trained: Path, tmp_path: Path
    ) -> None:
        of_folder, record = self.record(settings)
        file = trained / "checkpoints" / "last.pt"
        of_file, _ = self.record({**settings, "checkpoint": file, "output": tmp_path / "other"})
        pd.testing.assert_frame_equal(of_folder, of_file)
        assert (record["network"], record["checkpoint"]) == ("trained", str(file))

    def test_the_best_network_is_that_of_best_pt(
        self, settings: dict[str, Any], trained: Path
    ) -> None:
        _, record = self.record({**settings, "network": "best"})
        assert record["checkpoint"] == str(trained / "checkpoints" / "best.pt")

    def test_the_start_is_the_random_network_of_the_seed(
        self, settings: dict[str, Any], trained: Path, tmp_path: Path
    ) -> None:
        start, record = self.record({**settings, "network": "start"})
        assert (record["checkpoint"], record["seed"]) == (str(trained), 0)
        assert "sha256" not in record
        config = Config.from_file(trained / "config.json")
        file = tmp_path / "start.pt"
        torch.save(make_model(config).backbone.state_dict(), file)
        again = {**settings, "checkpoint": file, "crop_size": 16, "output": tmp_path / "again"}
        expected, _ = self.record(again)
        pd.testing.assert_frame_equal(start, expected)

    @pytest.mark.parametrize(("precision", "of_start"), [("auto", "float32"), ("bfloat16",) * 2])
    def test_random_weights_are_read_in_bfloat16_only_where_it_is_asked_for(
        self,
        settings: dict[str, Any],
        precision: str,
        of_start: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # On a device that is twice as fast in bfloat16.
        monkeypatch.setattr(devices, "_gain_of_bfloat16", lambda device: 2.0)
        values = {**settings, "precision": precision, "layer_num": 3, "n_components": 0}
        maps = {**values, "synapses": None, "dense": True, "region": (0, 0, 0, 12, 12, 12)}
        both = (("trained", "bfloat16"), ("start", of_start))
        for network, expected in both[precision == "bfloat16" :]:
            output = tmp_path / network
            _, record = self.record({**values, "network": network, "output": output})
            assert record["precision"] == expected
            list(events({**maps, "network": network, "output": output}))
            array = zarr.open_group(output / "maps_L3.zarr", mode="r")["L3"]
            assert array.attrs["provenance"]["precision"] == expected

    def test_the_start_of_a_run_from_a_file_is_that_file(
        self, settings: dict[str, Any], trained: Path, sample_files: Files, tmp_path: Path
    ) -> None:
        pretrained = trained / "checkpoints" / "last.pt"
        image, table = sample_files
        second = {**SMALL, "image": image, "synapses": table, "num_epochs": 1, "train_only": True}
        second |= {"pretrained": pretrained, "output": tmp_path / "second"}
        list(events(second))
        start = {**settings, "checkpoint": tmp_path / "second", "network": "start"}
        of_start, record = self.record(start)
        assert record["checkpoint"] == str(pretrained)
        before, _ = self.record({**settings, "output": tmp_path / "before"})
        pd.testing.assert_frame_equal(of_start, before)

    @pytest.mark.parametrize(
        ("checkpoint", "network", "message"),
        [
            ("empty", "trained", "is no run folder"),
            ("alone.pt", "best", "lies in no run folder"),
            ("alone.pt", "start", "lies in no run folder"),
            ("none.pt", "trained", "there is no checkpoint"),
        ],
    )
    def test_a_network_that_is_not_there_is_said(
        self,
        settings: dict[str, Any],
        trained: Path,
        tmp_path: Path,
        checkpoint: str,
        network: str,
        message: str,
    ) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "alone.pt").write_bytes((trained / "checkpoints" / "last.pt").read_bytes())
        wrong = {**settings, "checkpoint": tmp_path / checkpoint, "network": network}
        with pytest.raises(InputError, match=message):
            list(events(wrong))
        assert not (tmp_path / "out").exists()


class TestTables:
    def test_several_layers_and_poolings_share_a_table(self, settings: dict[str, Any]) -> None:
        happened = list(events({**settings, "layer_num": (3, 20), "pooling": "mean+max"}))
        [file] = written(happened)
        assert file.name == "features_L3_L20_mean+max.csv"
        table, record = read_table(file)
        parts = [
            ["z", "y", "x", "class"],
            [f"L3_{part}_{channel:03d}" for part in ("mean", "max") for channel in range(2)],
            [f"L3_mean+max_PC{i}" for i in (1, 2, 3)],
            [f"L20_{part}_{channel:03d}" for part in ("mean", "max") for channel in range(8)],
            [f"L20_mean+max_PC{i}" for i in (1, 2, 3)],
        ]
        assert list(table.columns) == [name for part in parts for name in part]
        assert [layer["index"] for layer in record["layers"]] == [3, 20]
        assert {path.name for path in written(happened, "figure")} == {
            "features_L3_mean+max.png",
            "features_L20_mean+max.png",
        }

    def test_components_are_those_of_the_features_beside_them(
        self, settings: dict[str, Any]
    ) -> None:
        [file] = written(list(events({**settings, "n_components": 2})))
        table, _ = read_table(file)
        features = table.filter(regex=r"_\d{3}$").to_numpy()
        components = table[["L20_mean_PC1", "L20_mean_PC2"]].to_numpy()
        assert "L20_mean_PC3" not in table
        expected = principal_components(features, 2)
        np.testing.assert_allclose(components, expected, rtol=1e-3, atol=1e-4)

    def test_no_components_are_added_where_none_are_wanted(self, settings: dict[str, Any]) -> None:
        [file] = written(list(events({**settings, "n_components": 0})))
        assert not read_table(file)[0].filter(like="PC").columns.size

    def test_pictures_are_left_out_if_they_are_not_wanted(self, settings: dict[str, Any]) -> None:
        happened = list(events({**settings, "figures": False}))
        assert len(written(happened)) == 1
        assert written(happened, "figure") == []
        assert not list(Path(settings["output"]).glob("*.png"))

    @pytest.mark.parametrize("name", FORMATS)
    def test_every_format_keeps_the_features_and_where_they_come_from(
        self, settings: dict[str, Any], name: str, sample: Sample
    ) -> None:
        [file] = written(list(events({**settings, "feature_format": name})))
        assert file.suffix == f".{name}"
        table, record = read_table(file)
        assert len(table) == 12
        assert list(table["class"]) == list(sample.synapses["class"])
        assert len(record["sha256"]) == 64
        assert record["voxel_size"] == [10, 10, 10]
        assert record["settings"]["pooling"] == "mean"
        assert record["complete"] is True
        assert record["napari-synapse-cl"]

    def test_positions_outside_get_a_row_and_no_features(
        self, settings: dict[str, Any], sample: Sample, tmp_path: Path
    ) -> None:
        far = pd.DataFrame({"z": [9000], "y": [5], "x": [5], "class": ["far"]})
        file = tmp_path / "far.csv"
        pd.concat([far, sample.synapses.head(3)]).to_csv(file, index=False)
        happened = list(events({**settings, "synapses": file}))
        assert any("1 of 4 positions lie outside" in text for text in warnings(happened))
        table, _ = read_table(written(happened)[0])
        missing = table.filter(like="L20").isna().all(axis=1)
        assert missing.tolist() == [True, False, False, False]

    def test_unpooled_maps_are_arrays_with_a_row_a_synapse(
        self, settings: dict[str, Any], sample: Sample, tmp_path: Path
    ) -> None:
        far = pd.DataFrame({"z": [9000], "y": [5], "x": [5]})
        file = tmp_path / "far.csv"
        pd.concat([far, sample.synapses.head(2)]).to_csv(file, index=False)
        values = {**settings, "synapses": file, "layer_num": (12, 20), "pooling": "none"}
        happened = list(events(values))
        first, second = written(happened)
        assert (first.name, second.name) == ("features_L12_none.npy", "features_L20_none.npy")
        maps = np.load(second)
        assert maps.shape == (3, 8, 4, 4, 4)
        assert np.isnan(maps[0]).all()
        assert np.isfinite(maps[1:]).all()
        pooled = {**values, "pooling": "mean", "layer_num": 20, "n_components": 0}
        table, _ = read_table(written(list(events(pooled)))[0])
        np.testing.assert_allclose(
            maps.mean(axis=(2, 3, 4))[1:], table.filter(like="L20")[1:], rtol=1e-4, atol=1e-6
        )
        assert json.loads(second.with_suffix(".json").read_text())["pooling"] == "none"
        assert not list((tmp_path / "out").glob(".*"))

    def test_results_that_are_there_are_not_replaced_unasked(
        self, settings: dict[str, Any]
    ) -> None:
        values = {**settings, "pooling": "none"}
        [file] = written(list(events(values)))
        before = file.stat().st_mtime_ns
        with pytest.raises(InputError, match="is there already"):
            list(events(values))
        assert file.stat().st_mtime_ns == before
        list(events({**values, "overwrite": True}))
        assert file.stat().st_mtime_ns > before


class TestDescriptors:
    """Columns that no network has made, beside those of a layer or alone."""

    def alone(self, settings: dict[str, Any]) -> dict[str, Any]:
        left = {k: v for k, v in settings.items() if k not in ("checkpoint", "precision")}
        return {**left, "descriptors": True, "layer_num": "none", "crop_size": 16}

    def test_alone_they_need_no_network_and_see_what_a_network_would(
        self, settings: dict[str, Any], sample: Sample
    ) -> None:
        happened = list(events(self.alone(settings)))
        [file] = written(happened)
        assert file.name == "features_hand.csv"
        assert [path.name for path in written(happened, "figure")] == ["features_hand.png"]
        table, record = read_table(file)
        assert record["layers"] == []
        assert "checkpoint" not in record
        assert record["descriptors"]["scales_nm"] == [10, 20, 40]
        assert record["settings"]["descriptors"] is True
        [row] = np.flatnonzero((sample.synapses[["z", "y", "x"]] > 8).all(axis=1))[:1]
        z, y, x = sample.synapses.loc[row, ["z", "y", "x"]].astype(int)
        crop = sample.image[z - 8 : z + 8, y - 8 : y + 8, x - 8 : x + 8] / np.float32(255)
        found = table[descriptor_columns()].to_numpy()[row]
        np.testing.assert_allclose(found, describe(crop[None], (10, 10, 10))[0], atol=1e-6)
        assert {"hand_PC1", "hand_PC3"} < set(table.columns)

    @pytest.mark.parametrize("name", FORMATS)
    def test_every_format_keeps_them_beside_a_layer(
        self, settings: dict[str, Any], name: str
    ) -> None:
        [plain] = written(list(events({**settings, "figures": False})))
        both = {**settings, "descriptors": True, "feature_format": name, "figures": False}
        [file] = written(list(events(both)))
        assert file.name == f"features_L20_mean_hand.{name}"
        table, record = read_table(file)
        layer, _ = read_table(plain)
        pd.testing.assert_frame_equal(table[layer.columns], layer)
        added = [*descriptor_columns(), "hand_PC1", "hand_PC2", "hand_PC3"]
        assert list(table.columns) == [*layer.columns, *added]
        assert table[added].dtypes.eq(np.float32).all()
        assert table[added].notna().all(axis=None)
        assert [layer["index"] for layer in record["layers"]] == [20]

    def test_a_training_writes_them_too(self, sample_files: Files, tmp_path: Path) -> None:
        image, table = sample_files
        values = {**SMALL, "image": image, "synapses": table, "num_epochs": 1, "figures": False}
        values |= {"voxel_size": 10, "descriptors": True, "output": tmp_path / "run"}
        [file] = written(list(events(values)))
        assert file.name == "features_L20_mean_hand.csv"

    def test_without_a_voxel_size_their_scales_are_told(self, settings: dict[str, Any]) -> None:
        sizeless = {**self.alone(settings), "voxel_size": None}
        [text] = warnings(list(events(sizeless)))
        assert "descriptors take a voxel for 10 nm" in text

    def test_their_names_are_told_as_they_grow(self, settings: dict[str, Any]) -> None:
        [growing] = [e for e in events(self.alone(settings)) if isinstance(e, Growing)]
        assert growing.columns == descriptor_columns()

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"layer_num": "none"}, "layer_num can be none with descriptors alone"),
            ({"descriptors": True, "checkpoint": None}, "extract_only needs a checkpoint"),
            ({"descriptors": True, "pooling": "none"}, "choose another pooling than none"),
            (
                {"descriptors": True, "layer_num": "none", "compare_layers": True},
                "compare_layers needs layers",
            ),
        ],
        ids=str,
    )
    def test_what_cannot_be_is_refused(
        self, settings: dict[str, Any], more: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            list(events({**settings, **more}))


class TestWarnings:
    def test_crops_of_another_size_than_in_training(self, settings: dict[str, Any]) -> None:
        happened = list(events({**settings, "crop_size": 32}))
        [text] = warnings(happened)
        assert "trained on crops of 16 × 16 × 16 voxels and sees crops of 32 × 32 × 32" in text

    def test_voxels_of_another_size_than_in_training(self, settings: dict[str, Any]) -> None:
        # Else crops are resampled to what the network was trained on.
        own = {"voxel_size": (40, 4, 4), "network_voxel_size": (40, 4, 4)}
        [text] = warnings(list(events({**settings, **own})))
        assert "trained on voxels of 10 × 10 × 10 nm and sees voxels of 40 × 4 × 4 nm" in text

    def test_none_where_all_is_as_in_training(self, settings: dict[str, Any]) -> None:
        assert warnings(list(events(settings))) == []


class TestGrowing:
    """Results that can be looked at before all are there."""

    @pytest.fixture(autouse=True)
    def small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("napari_synapse_cl.features.extraction.BATCH_VOXELS", 4 * 16**3)

    def test_features_can_be_read_while_they_are_extracted(self, settings: dict[str, Any]) -> None:
        growing, seen = None, []
        for event in events(settings):
            if isinstance(event, Growing):
                growing = event
            elif isinstance(event, Progress) and growing is not None:
                values = np.load(growing.path)
                assert values.shape == (12, 8) == (12, len(growing.columns))
                assert np.isfinite(values[: event.done]).all()
                assert np.isnan(values[event.done :]).all()
                seen.append(event.done)
        assert seen == [0, 4, 8, 12]
        assert growing is not None
        assert not Path(growing.path).exists()

    @pytest.mark.parametrize("pooling", ["mean", "none"])
    def test_an_extraction_that_is_ended_keeps_nothing(
        self, settings: dict[str, Any], pooling: str, tmp_path: Path
    ) -> None:
        happened = self.ended_after(4, {**settings, "pooling": pooling})
        assert written(happened) == []
        assert any(isinstance(e, Message) and "nothing is kept" in e.text for e in happened)
        assert list((tmp_path / "out").iterdir()) == []

    def test_what_is_there_is_kept_if_that_was_asked_for(self, settings: dict[str, Any]) -> None:
        happened = self.ended_after(8, {**settings, "keep_partial": True})
        table, record = read_table(written(happened)[0])
        channels = table.filter(regex=r"_\d{3}$")
        assert channels.notna().all(axis=1).tolist() == [True] * 8 + [False] * 4
        assert (record["complete"], record["synapses"]) == (False, 8)

    def test_a_part_of_unpooled_maps_is_kept_too(self, settings: dict[str, Any]) -> None:
        values = {**settings, "keep_partial": True, "pooling": "none"}
        [file] = written(self.ended_after(8, values))
        assert (
            np.isfinite(np.load(file)).all(axis=(1, 2, 3, 4)).tolist() == [True] * 8 + [False] * 4
        )

    def ended_after(self, n: int, values: dict[str, Any]) -> list[Event]:
        control, happened = Control(), []
        for event in events(values, control):
            happened.append(event)
            if isinstance(event, Progress) and event.done == n:
                control.request("stop")
        return happened


class TestFullDisk:
    def test_an_array_that_does_not_fit_is_refused_before_anything_is_computed(
        self, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.posix_fallocate", full)
        with pytest.raises(JobError, match=r"the \d+ bytes of features .*No space left"):
            list(events(settings))
        assert not list((tmp_path / "out").rglob("*"))


class TestRefusals:
    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"layer_num": (20, 34)}, "no layer 34: this network's features have the layers 0 to"),
            ({"layer_num": -1}, "layer_num cannot be -1"),
            ({"pooling": "median"}, "pooling cannot be 'median'"),
            ({"crop_size": 24}, "must be a multiple of 16 × 16 × 16"),
            ({"crops": "folder"}, "image and crops exclude each other"),
            ({"n_components": -1}, "n_components cannot be -1"),
            ({"dense": True}, "dense works on the image alone"),
            ({"region": (0, 0, 0, 4, 4, 4)}, "region is for dense"),
            ({"compare_layers": True, "pooling": "none"}, "choose another pooling than none"),
            ({"compare_layers": True, "dense": True, "synapses": None}, "exclude each other"),
            (
                {"network": "start", "extract_only": False, "checkpoint": None},
                "is for extract_only",
            ),
            ({"label_column": "kind"}, "no column kind"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
    )
    def test_settings_that_cannot_be(
        self, settings: dict[str, Any], more: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=message):
            list(events({**settings, **more}))
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("more", [{}, {**SMALL, "extract_only": False, "checkpoint": None}])
    def test_a_column_that_the_format_does_not_take_is_told_before_anything_is_computed(
        self, settings: dict[str, Any], more: dict[str, Any], sample: Sample, tmp_path: Path
    ) -> None:
        mixed = [number if number % 2 else "odd" for number in range(len(sample.synapses))]
        sample.synapses.assign(note=mixed).to_excel(tmp_path / "t.xlsx", index=False)
        given = {"synapses": tmp_path / "t.xlsx", "feature_format": "parquet"}
        with pytest.raises(InputError, match="the column note holds values of the types int, str"):
            next(events({**settings, **more, **given}))
        assert not (tmp_path / "out").exists()


class TestComparison:
    def test_it_scores_all_convolutions_and_baselines(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        happened = list(events({**settings, "compare_layers": True}))
        [file] = written(happened, "report")
        table = pd.read_csv(file)
        layers = table[table["kind"] == "layer"]
        assert layers["layer"].tolist() == [0, 3, 6, 9, 13, 16, 20, 23, 27, 30]
        assert layers["recall"].between(0, 1).all()
        assert table["best"].sum() == layers["best"].sum() == 1
        assert table.loc[table["kind"] == "baseline", "name"].tolist() == [
            *("untrained networks", "hand-made descriptors"),
            *("central intensity histogram", "intensity histogram"),
        ]
        assert table["knn"].notna().all()
        assert written(happened, "figure")[0].stat().st_size > 10_000
        content = json.loads(file.with_suffix(".json").read_text())
        assert content["report"]["label_column"] == "class"
        assert content["report"]["centre_jitter"] == 60
        assert content["sha256"]
        remarks = [e.text for e in happened if isinstance(e, Message)]
        assert any("was trained on these synapses" in text for text in remarks)
        assert set(content["report"]["verdict"]) <= set(remarks)

    def test_untrained_networks_do_not_become_worse_by_a_low_precision(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        tables = []
        for precision in ("float32", "bfloat16"):
            values = {**settings, "compare_layers": True, "layer_num": (20, 30), "figures": False}
            values |= {"precision": precision, "output": tmp_path / precision}
            [file] = written(list(events(values)), "report")
            tables.append(pd.read_csv(file).set_index("name"))
        exact, rounded = (table.loc["untrained networks", ["knn", "linear"]] for table in tables)
        assert exact.tolist() == rounded.tolist()

    def test_without_labels_it_scores_the_chosen_layers_alone(
        self, settings: dict[str, Any]
    ) -> None:
        values = {**settings, "compare_layers": True, "layer_num": (20, 30), "network": "start"}
        happened = list(events({**values, "label_column": ""}))
        table = pd.read_csv(written(happened, "report")[0])
        assert table["layer"][:-1].tolist() == [20, 30]
        assert table["name"].tolist()[-1] == "intensity histogram"
        assert not any(isinstance(e, Message) and "trained on" in e.text for e in happened)

    def test_without_augmentation_every_partner_is_found(self, settings: dict[str, Any]) -> None:
        none = ("rotation_range", "flip_prob", "noise_level", "contrast_range")
        none += ("brightness_range", "gaussian_blur_sigma")
        values = {**settings, "compare_layers": True, "layer_num": 20, **dict.fromkeys(none, 0)}
        table = pd.read_csv(written(list(events(values)), "report")[0])
        assert table["recall"].dropna().tolist() == [1, 1]

    def test_crops_have_room_for_moved_centres(self, settings: dict[str, Any]) -> None:
        values = {**settings, "compare_layers": True, "crop_size": 16, "rotation_range": 0}
        for more, expected in (
            ({}, 28),
            ({"centre_jitter": 0}, 16),
            ({"centre_jitter": 23}, 20),
            ({"compare_layers": False}, 16),
        ):
            config = Config.from_values({**values, **more})
            assert open_dataset(config).context(config) == (expected,) * 3

    def test_without_a_voxel_size_it_says_that_centres_are_not_moved(
        self, settings: dict[str, Any]
    ) -> None:
        values = {**settings, "compare_layers": True, "layer_num": 20}
        del values["voxel_size"]
        happened = list(events(values))
        assert any("so centres are not moved by centre_jitter" in t for t in warnings(happened))
        content = json.loads(written(happened, "report")[0].with_suffix(".json").read_text())
        assert content["report"]["centre_jitter"] == 0

    def test_ended_early_it_leaves_nothing(self, settings: dict[str, Any], tmp_path: Path) -> None:
        control, happened = Control(), []
        for event in events({**settings, "compare_layers": True}, control):
            happened.append(event)
            control.request("stop")
        assert written(happened, "report") == []
        assert list((tmp_path / "out").iterdir()) == []


class TestMaps:
    @pytest.fixture
    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        del settings["synapses"]
        return {**settings, "dense": True, "region": (10, 20, 30, 42, 60, 71)}

    def test_maps_over_a_region_are_those_of_the_whole_volume(
        self, settings: dict[str, Any], sample: Sample, trained: Path
    ) -> None:
        happened = list(events({**settings, "layer_num": (3, 20)}))
        [folder] = written(happened, "maps")
        assert folder.name == "maps_L3_L20.zarr"
        group = zarr.open_group(folder, mode="r")
        assert {name for name, _ in group.arrays()} == {"L3", "L3_rgb", "L20", "L20_rgb"}
        network = load_backbone(trained / "checkpoints" / "last.pt").network.eval()
        whole = torch.from_numpy(sample.image / 255 * 2 - 1).float()[None, None]
        with torch.no_grad():
            for index, output in network.iterate_layers(whole, (3, 20)):
                array = group[f"L{index}"]
                assert isinstance(array, zarr.Array)
                first, shape = array.attrs["first"], array.shape[1:]
                part = tuple(slice(f, f + n) for f, n in zip(first, shape, strict=True))
                expected = output[0].numpy()[(slice(None), *part)]
                tolerance = 1e-5 * np.abs(expected).max()
                np.testing.assert_allclose(array[:], expected, atol=tolerance)
        record = group["L20"].attrs["provenance"]
        assert len(record["sha256"]) == 64
        assert record["region"] == [10, 20, 30, 42, 60, 71]
        assert group["L20"].attrs["complete"] is True

    def test_without_a_region_the_whole_volume_is_taken(
        self, settings: dict[str, Any], sample: Sample
    ) -> None:
        del settings["region"]
        [folder] = written(list(events(settings)), "maps")
        shape = tuple(n // 4 for n in sample.image.shape)
        assert zarr.open_group(folder, mode="r")["L20"].shape == (8, *shape)

    def test_maps_that_are_there_are_not_replaced_unasked(self, settings: dict[str, Any]) -> None:
        [folder] = written(list(events(settings)), "maps")
        with pytest.raises(InputError, match="is there already"):
            list(events(settings))
        assert written(list(events({**settings, "overwrite": True})), "maps") == [folder]

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"region": (900, 0, 0, 950, 9, 9)}, "lies outside the volume"),
            ({"region": (5, 5, 5, 5, 9, 9)}, "is empty"),
            ({"region": (1, 2, 3)}, "region"),
            ({"layer_num": 34}, "no layer 34"),
            ({"pooling": "max"}, "pooling is for synapses"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
    )
    def test_what_cannot_be_is_refused_and_leaves_nothing(
        self, settings: dict[str, Any], more: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=message):
            list(events({**settings, **more}))
        assert not (tmp_path / "out").exists()

    def test_a_disk_with_too_little_room_is_told_of_before_anything_is_computed(
        self, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(InputError, match=r"the feature maps take .* are free"):
            list(events(settings))
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("network") / "network.pt"
    config = Config(fmaps=4)
    save_checkpoint(file, make_model(config).backbone, Architecture.from_config(config))
    return file


@pytest.mark.real_data
class TestRealVolume:
    """FIB-SEM of the medulla, with an untrained network of the default depth."""

    @pytest.fixture
    def settings(self, medulla: Path, untrained: Path, tmp_path: Path) -> dict[str, Any]:
        return {
            "extract_only": True,
            "checkpoint": untrained,
            "image": medulla / "training_sample1.tif",
            "synapses": medulla / "training_sample1_sites.csv",
            "voxel_size": 10,
            "crop_size": 48,
            "output": tmp_path / "out",
            "device": "cpu",
            "precision": "float32",
        }

    def test_features_are_those_of_the_plain_network_on_crops_of_the_file(
        self, settings: dict[str, Any]
    ) -> None:
        [file] = written(list(events({**settings, "layer_num": (12, 20)})))
        table, _ = read_table(file)
        image = tifffile.imread(settings["image"])
        features = load_backbone(settings["checkpoint"]).network.eval().features
        checked = 0
        for _, row in table.iloc[::20].iterrows():
            low = row[["z", "y", "x"]].to_numpy(int) - 24
            if (low < 0).any() or (low + 48 > image.shape).any():
                continue
            z, y, x = (slice(n, n + 48) for n in low)
            output = torch.from_numpy(image[z, y, x] / 255 * 2 - 1).float()[None, None]
            with torch.no_grad():
                for index, module in enumerate(features[:21]):
                    output = module(output)
                    if index in (12, 20):
                        expected = output.mean(dim=(2, 3, 4))[0].numpy()
                        names = [f"L{index}_mean_{c:03d}" for c in range(len(expected))]
                        found = row[names].to_numpy(np.float32)
                        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
                        checked += 1
        assert checked >= 4

    def test_layers_are_compared_beside_the_histogram(self, settings: dict[str, Any]) -> None:
        values = {**settings, "compare_layers": True, "layer_num": (3, 20), "crop_size": 16}
        table = pd.read_csv(written(list(events(values)), "report")[0])
        # T-bars were chosen for a dark centre, which the baseline must show.
        assert table["knn"].iloc[-1] > 0.7
        assert table["recall"].dropna().between(0, 1).all()
