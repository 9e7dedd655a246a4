"""Feature tables open in napari as points with features, and points are saved as such tables."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pandas as pd
import pytest
from napari.errors import ReaderPluginError
from napari.layers import Points
from napari.utils.notifications import Notification
from npe2 import PluginManager, PluginManifest

from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.table_formats import KEY
from napari_synapse_cl.features.tables import FORMATS, read_table, write_table
from napari_synapse_cl.widgets.layers.features import METADATA_KEY
from napari_synapse_cl.widgets.layers.files import get_reader, read_points, write_points

from .conftest import PLUGIN, messages

RECORD = {"checkpoint": "last.pt", "pooling": "mean", "voxel_size": [10.0, 8.0, 8.0]}
ROTATION = [[1.0, 0.0, 0.0], [0.0, 0.6, -0.8], [0.0, 0.8, 0.6]]


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., napari.Viewer]) -> napari.Viewer:
    return make_napari_viewer()


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"features.{request.param}"


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "z": [1, 2, 3],
            "y": [4, 5, 6],
            "x": [7.5, 8.5, 9.5],
            "class": ["a", None, "b"],
            "L20_mean_000": np.array([0.1, np.nan, 0.3], dtype=np.float32),
            "L20_mean_PC1": np.array([1.0, np.nan, 2.0], dtype=np.float32),
        }
    )


def layer_with_everything() -> Points:
    features = pd.DataFrame(
        {
            "id": [3, 4],
            "checked": [True, False],
            "note": ["a", None],
            "L20_mean_000": np.array([0.1, np.nan], dtype=np.float32),
        }
    )
    affine = np.eye(4)
    affine[:3, :3] = ROTATION
    affine[:3, 3] = [1, 2, 3]
    return Points(
        [[0.1, 2, 3], [4, 5.25, 1 / 3]],
        name="Synapses",
        features=features,
        scale=(4, -0.5, 0.25),
        units=("nm", "um", "um"),
        axis_labels=("z", "y", "x"),
        translate=(7, 8, 9),
        rotate=ROTATION,
        shear=(0.1, 0.2, 0.3),
        affine=affine,
        metadata={"napari_synapse_cl": {"L20_mean": RECORD, "file": Path("a")}, "other": object()},
    )


def open_alone(viewer: napari.Viewer, path: Path) -> Points:
    [layer] = viewer.open(path, plugin=PLUGIN)
    assert isinstance(layer, Points)
    return layer


def write_plain(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as other programs do, without a record."""
    if path.suffix == ".xlsx":
        table.to_excel(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


class TestReading:
    def test_a_table_opens_as_points_in_nanometres_with_features_and_record(
        self, viewer: napari.Viewer, table: pd.DataFrame, path: Path
    ) -> None:
        write_table(table, path, RECORD)
        layer = open_alone(viewer, path)
        assert layer.name == "features"
        np.testing.assert_array_equal(layer.data, table[["z", "y", "x"]])
        np.testing.assert_array_equal(layer.scale, [10, 8, 8])
        assert [str(unit) for unit in layer.units] == ["nanometer"] * 3
        pd.testing.assert_frame_equal(layer.features, table.drop(columns=["z", "y", "x"]))
        assert layer.metadata == {"napari_synapse_cl": {"L20_mean": RECORD}}

    def test_a_table_without_a_record_opens_in_voxels(
        self, viewer: napari.Viewer, table: pd.DataFrame, tmp_path: Path
    ) -> None:
        table.to_csv(tmp_path / "t.csv", index=False)
        layer = open_alone(viewer, tmp_path / "t.csv")
        np.testing.assert_array_equal(layer.scale, [1, 1, 1])
        assert [str(unit) for unit in layer.units] == ["pixel"] * 3
        assert layer.metadata == {"napari_synapse_cl": {}}

    def test_several_files_become_several_layers(self, table: pd.DataFrame, tmp_path: Path) -> None:
        paths = [str(tmp_path / name) for name in ("a.csv", "b.npz")]
        for path in paths:
            write_table(table, Path(path), RECORD)
        read = get_reader(paths)
        assert read is not None
        assert [meta["name"] for _, meta, _ in read(paths)] == ["a", "b"]

    def test_the_points_and_shapes_of_napari_itself_are_left_to_it(
        self, viewer: napari.Viewer, tmp_path: Path
    ) -> None:
        places = pd.DataFrame({"z": [1], "y": [1], "x": [1]})
        points, shapes = tmp_path / "points.csv", tmp_path / "shapes.csv"
        viewer.add_points(np.ones((1, 3)), features=places).save(str(points), plugin="napari")
        viewer.add_shapes(np.ones((1, 4, 2))).save(str(shapes), plugin="napari")
        assert points.exists()
        assert shapes.exists()
        assert get_reader(str(points)) is None
        assert get_reader(str(shapes)) is None

    def test_other_files_are_not_taken_and_none_of_a_list_with_one(
        self, table: pd.DataFrame, tmp_path: Path
    ) -> None:
        ours, image, text = (tmp_path / name for name in ("t.npz", "image.npz", "t.txt"))
        write_table(table, ours, RECORD)
        np.savez(image, np.zeros((2, 2)))
        text.write_text("z,y,x\n1,2,3\n")
        assert get_reader([str(ours), str(ours)])
        for other in (image, text):
            assert get_reader(str(other)) is None
            assert get_reader([str(ours), str(other)]) is None
        assert get_reader([]) is None

    def test_a_row_without_a_position_is_left_out_and_counted(
        self, table: pd.DataFrame, path: Path, notifications: list[Notification]
    ) -> None:
        write_table(table.assign(y=[1, np.nan, 3]), path, RECORD)
        [(points, keywords, _)] = read_points(str(path))
        assert points.tolist() == [[1, 1, 7.5], [3, 3, 9.5]]
        assert list(keywords["features"]["class"]) == ["a", "b"]
        told = f"1 row of {path.name} has no position and has been left out."
        assert messages(notifications, "info") == [told]

    def test_no_position_at_all_no_number_and_no_rows_are_said(
        self, table: pd.DataFrame, tmp_path: Path
    ) -> None:
        path = tmp_path / "t.csv"
        for wrong, words in [
            (table.assign(y=np.nan), "none of its 3 rows has a position"),
            (table.assign(y=["1", "two", "3"]), "two"),
            (table[:0], "holds no synapses"),
        ]:
            write_table(wrong, path, RECORD)
            with pytest.raises(InputError, match=words):
                read_points(str(path))

    def test_results_of_the_command_line_open_with_what_they_were_read_from(
        self, viewer: napari.Viewer, table: pd.DataFrame, path: Path
    ) -> None:
        results = table.assign(z_as_read=[10, 20, 30], volume=["a", "a", "b"])
        write_table(results, path, RECORD)
        layer = open_alone(viewer, path)
        np.testing.assert_array_equal(layer.data, table[["z", "y", "x"]])
        assert list(layer.features["z_as_read"]) == [10, 20, 30]
        assert list(layer.features["volume"]) == ["a", "a", "b"]

    @pytest.mark.parametrize("suffix", ["csv", "tsv", "xlsx", "parquet"])
    def test_positions_of_other_laboratories_open_by_the_names_of_their_columns(
        self, viewer: napari.Viewer, tmp_path: Path, suffix: str
    ) -> None:
        sites = pd.DataFrame({"id": [1, 2], "x_nm": [40, 80], "y_nm": [10, 20], "z_nm": [0, 5]})
        path = write_plain(sites, tmp_path / f"t.{suffix}")
        assert get_reader(str(path))
        layer = open_alone(viewer, path)
        assert layer.data.tolist() == [[0, 10, 40], [5, 20, 80]]
        assert [str(unit) for unit in layer.units] == ["nanometer"] * 3
        assert list(layer.features["id"]) == [1, 2]

    @pytest.mark.parametrize("names", ["z;y;x", "z_nm;y_nm;x_nm"])
    @pytest.mark.parametrize("separator", [";", "\t"])
    def test_text_of_any_separator_and_encoding_opens_as_in_a_terminal(
        self, names: str, separator: str, tmp_path: Path
    ) -> None:
        path, comma = tmp_path / "t.csv", "," if separator == ";" else "."
        rows = [f"{names};note;code", f"1{comma}5;2;3;5 µm;00012", f"4;5{comma}25;6;NA;2E10"]
        text = "\n".join(rows).replace(";", separator)
        path.write_text(text, encoding="latin-1")
        assert get_reader(str(path))
        [(points, keywords, _)] = read_points(str(path))
        assert points.tolist() == [[1.5, 2, 3], [4, 5.25, 6]]
        assert keywords["features"]["note"].tolist() == ["5 µm", "NA"]
        assert keywords["features"]["code"].tolist() == ["00012", "2E10"]

    @pytest.mark.parametrize("suffix", ["csv", "tsv", "xlsx", "parquet"])
    def test_tables_of_anything_else_are_left_alone(self, tmp_path: Path, suffix: str) -> None:
        prices = pd.DataFrame({"item": ["a"], "price": [1.0]})
        assert get_reader(str(write_plain(prices, tmp_path / f"t.{suffix}"))) is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"voxel_size": [10, 8]},
            {"voxel_size": [10, 8, 0]},
            {"voxel_size": "small"},
            {"geometry": {"scale": [1, 2, None]}},
            {"geometry": [1, 2, 3]},
        ],
    )
    def test_a_record_with_a_place_that_is_none_is_said(
        self, table: pd.DataFrame, tmp_path: Path, wrong: dict[str, Any]
    ) -> None:
        write_table(table, tmp_path / "t.csv", wrong)
        with pytest.raises(InputError, match=r"^The record of the feature table .* is damaged"):
            read_points(str(tmp_path / "t.csv"))


class TestSaving:
    def test_a_layer_that_was_saved_opens_as_it_was(
        self, viewer: napari.Viewer, path: Path
    ) -> None:
        before = viewer.add_layer(layer_with_everything())
        assert before.save(str(path), plugin=PLUGIN) == [
            str(path),
            str(path.with_suffix(".json")),
        ]
        after = open_alone(viewer, path)
        np.testing.assert_array_equal(after.data, before.data)
        pd.testing.assert_frame_equal(after.features, before.features)
        assert after.units == before.units
        assert after.axis_labels == before.axis_labels
        for name in ("scale", "translate", "rotate", "shear"):
            np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-12)
        for point in before.data:
            np.testing.assert_allclose(after.data_to_world(point), before.data_to_world(point))
        assert after.metadata == {
            "napari_synapse_cl": {"L20_mean": RECORD, "file": "a"},
        }

    def test_the_voxel_size_of_the_record_is_in_nanometres(self, path: Path) -> None:
        data, meta, _ = layer_with_everything().as_layer_data_tuple()
        write_points(str(path), data, meta)
        record = read_table(path)[1]
        np.testing.assert_allclose(record["voxel_size"], [4, 500, 250])

    def test_features_named_as_naparis_axes_and_integers_beside_blanks_come_back(
        self, viewer: napari.Viewer, path: Path
    ) -> None:
        ids = [720575940623374833, None, 2**63 + 1]
        features = pd.DataFrame(
            {
                "axis-0": [7, 8, 9],
                "axis-1": ["a", "b", "c"],
                "axis-2": [0.5, 1.5, 2.5],
                "id": pd.array(ids, dtype="UInt64"),
                "count": pd.array([None, -1, 5], dtype="Int32"),
                "seen": pd.array([True, None, False], dtype="boolean"),
            }
        )
        before = viewer.add_points(np.arange(9).reshape(3, 3) + 0.5, features=features)
        before.save(str(path), plugin=PLUGIN)
        after = open_alone(viewer, path)
        np.testing.assert_array_equal(after.data, before.data)
        assert list(after.features) == list(features)
        for name, column in features.items():
            found = after.features[name]
            assert found.isna().tolist() == column.isna().tolist()
            assert found.dropna().tolist() == column.dropna().tolist()

    def test_a_layer_without_units_of_length_has_no_voxel_size(self, tmp_path: Path) -> None:
        data, meta, _ = Points(np.ones((1, 3)), scale=(2, 1, 1)).as_layer_data_tuple()
        write_points(str(tmp_path / "t.csv"), data, meta)
        assert "voxel_size" not in read_table(tmp_path / "t.csv")[1]
        [(_, keywords, _)] = read_points(str(tmp_path / "t.csv"))
        assert keywords["scale"].tolist() == [2, 1, 1]
        assert keywords["units"] == ("pixel",) * 3

    def test_the_positions_win_over_features_of_their_names(self, tmp_path: Path) -> None:
        layer = Points(np.ones((1, 3)), features={"z": [9], "a": [1]})
        data, meta, _ = layer.as_layer_data_tuple()
        write_points(str(tmp_path / "t.csv"), data, meta)
        assert read_table(tmp_path / "t.csv")[0].to_numpy().tolist() == [[1, 1, 1, 1]]

    def test_features_whose_names_differ_from_an_axis_by_blanks_or_case_stay_beside_it(
        self, path: Path
    ) -> None:
        features = {" x": [9], "Y": [8], "z ": [7]}
        data, meta, _ = Points([[1, 2, 3]], features=features).as_layer_data_tuple()
        write_points(str(path), data, meta)
        [(points, keywords, _)] = read_points(str(path))
        assert points.tolist() == [[1, 2, 3]]
        assert keywords["features"].to_dict("list") == features

    def test_a_name_without_a_suffix_becomes_csv(self, tmp_path: Path) -> None:
        data, meta, _ = layer_with_everything().as_layer_data_tuple()
        assert write_points(str(tmp_path / "t"), data, meta)[0] == str(tmp_path / "t.csv")
        assert len(read_table(tmp_path / "t.csv")[0]) == 2

    def test_csv_without_a_choice_of_plugin_stays_that_of_napari(
        self, viewer: napari.Viewer, tmp_path: Path
    ) -> None:
        viewer.add_points(np.ones((1, 3))).save(str(tmp_path / "t.csv"))
        assert "axis-0" in (tmp_path / "t.csv").read_text()

    @pytest.mark.parametrize("is_ours_found_first", [True, False])
    def test_the_suffix_of_napari_stays_its_own_in_whatever_order_plugins_are_found(
        self, is_ours_found_first: bool
    ) -> None:
        found = [PluginManifest.from_distribution(name) for name in (PLUGIN, "napari")]
        plugins = PluginManager()
        # Some versions find plugins by themselves.
        for manifest in list(plugins.iter_manifests()):
            plugins.unregister(manifest.name)
        for manifest in found if is_ours_found_first else found[::-1]:
            plugins.register(manifest)

        def writer(name: str, plugin: str | None = None) -> str:
            chosen, _ = plugins.get_writer(name, ["points"], plugin)
            assert chosen is not None
            return chosen.command

        assert writer("t.csv") == writer("t.csv", "napari") == "napari.write_points"
        assert writer("t.csv", PLUGIN) == writer("t.parquet") == f"{PLUGIN}.write_table"

    def test_several_layers_are_refused(self, viewer: napari.Viewer, tmp_path: Path) -> None:
        viewer.add_points(np.ones((1, 3)))
        viewer.add_surface((np.eye(3), np.array([[0, 1, 2]])))
        with pytest.raises(JobError, match="holds one Points layer: select that alone"):
            viewer.layers.save(str(tmp_path / "t.parquet"), plugin=PLUGIN)

    @pytest.mark.parametrize(
        ("points", "name", "words"),
        [
            (np.ones((2, 2)), "t.csv", "^The layer Mine holds 2D points; a feature table takes 3D"),
            (np.ones((0, 3)), "t.csv", r"^The layer Mine holds no points\.$"),
            (np.ones((2, 3)), "t.txt", r"is no feature table: the names of these end in \.csv"),
            (np.ones((2, 3)), "none/t.csv", "^Cannot write the feature table .*: No such file"),
        ],
    )
    def test_what_cannot_be_saved_is_said(
        self, tmp_path: Path, points: np.ndarray, name: str, words: str
    ) -> None:
        data, meta, _ = Points(points, name="Mine", ndim=points.shape[1]).as_layer_data_tuple()
        with pytest.raises(JobError, match=words):
            write_points(str(tmp_path / name), data, meta)
        assert not list(tmp_path.iterdir())

    def test_a_file_of_something_else_is_not_overwritten_by_the_record(
        self, tmp_path: Path
    ) -> None:
        data, meta, _ = layer_with_everything().as_layer_data_tuple()
        (tmp_path / "t.json").write_text('["mine"]')
        with pytest.raises(JobError, match=r"t\.json, which holds something else"):
            write_points(str(tmp_path / "t.csv"), data, meta)
        assert [p.read_text() for p in tmp_path.iterdir()] == ['["mine"]']

    def test_napari_passes_on_what_is_said(self, viewer: napari.Viewer, tmp_path: Path) -> None:
        layer = viewer.add_points(np.ones((2, 2)), name="Mine")
        with pytest.raises(JobError, match="The layer Mine holds 2D points"):
            layer.save(str(tmp_path / "t.csv"), plugin=PLUGIN)


class TestDamagedFiles:
    def test_a_chosen_reader_says_what_is_wrong(
        self, viewer: napari.Viewer, table: pd.DataFrame, tmp_path: Path
    ) -> None:
        path = tmp_path / "t.npz"
        write_table(table, path, RECORD)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(InputError) as caught:
            viewer.open(path, plugin=PLUGIN)
        shown = Notification.from_exception(caught.value).message
        assert shown.startswith(f"The feature table {path} is damaged")
        assert not viewer.layers

    @pytest.mark.parametrize("suffix", ["parquet", "h5ad"])
    def test_a_file_that_was_dropped_shows_a_person_what_is_wrong(
        self, viewer: napari.Viewer, tmp_path: Path, suffix: str
    ) -> None:
        path = tmp_path / f"t.{suffix}"
        path.write_bytes(b"cut off")
        with pytest.raises(ReaderPluginError) as caught:
            viewer.window._qt_viewer._qt_open([str(path)], stack=False)
        shown = Notification.from_exception(caught.value).message
        assert f"The feature table {path} is damaged" in shown


def test_napari_lists_the_files_and_offers_to_save_them(viewer: napari.Viewer) -> None:
    from napari.plugins import _npe2

    assert all(PLUGIN in _npe2.get_readers(f"t.{name}") for name in FORMATS)
    offered, _ = _npe2.file_extensions_string_for_layers([Points(np.ones((1, 3)))])
    assert "feature table (*.csv *.parquet *.npz *.h5ad)" in str(offered)


def test_layers_and_files_keep_records_under_the_same_key() -> None:
    assert METADATA_KEY == KEY


def test_the_record_of_a_saved_layer_is_plain_json(tmp_path: Path) -> None:
    data, meta, _ = layer_with_everything().as_layer_data_tuple()
    write_points(str(tmp_path / "t.npz"), data, meta)
    beside = json.loads((tmp_path / "t.json").read_text())
    assert beside["records"]["L20_mean"] == RECORD
    assert set(beside["geometry"]) >= {"scale", "units", "translate", "rotate", "shear", "affine"}
