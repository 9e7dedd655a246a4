"""Feature tables keep what is in them, and where it comes from, in files that others read too."""

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from conftest import full_disk
from napari_synapse_cl.data.tables.columns import FEATURE_COLUMN
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.tables import (
    FORMATS,
    check_format,
    check_place,
    component_columns,
    feature_columns,
    feature_table,
    read_table,
    storable,
    table_columns,
    write_table,
)

RECORD = {
    "checkpoint": "last.pt",
    "layers": [{"index": 20, "name": "conv"}],
    "pooling": "mean",
    "voxel_size": [10.0, 8.0, 8.0],
    "note": "µ",
}
FEATURES = feature_columns(20, "mean", 3)
COMPONENTS = component_columns(20, "mean", 2)


@pytest.fixture
def table() -> pd.DataFrame:
    """Four synapses, one of them without features, and a column of each kind."""
    rng = np.random.default_rng(0)
    synapses = pd.DataFrame(
        {
            "id": [7, 8, 9, 10],
            "z": [0.1, 2.0, 3.25, 4.0],
            "y": [5.0, 6.0, 7.0, 8.0],
            "x": [9.0, 10.0, 11.0, 1 / 3],
            "note": ["a", None, "c, “d”", "a"],
            "checked": [True, False, True, True],
            "class": pd.Categorical(["b", "a", "b", "b"]),
            "pre/post": [1.5, np.nan, 2.5, 3.5],
        }
    )
    rows = np.array([0, 1, 3])
    joined = feature_table(synapses, rows, rng.normal(size=(3, 3)).astype(np.float32), FEATURES)
    joined = feature_table(joined, rows, rng.normal(size=(3, 2)).astype(np.float32), COMPONENTS)
    return joined.assign(last=[0, 1, 0, 1])


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"features.{request.param}"


def write_cells(path: Path, columns: list[str]) -> None:
    """Write what another program of single cells might, with these columns of numbers."""
    index, genes = pd.Index(["c1", "c2"], dtype=object), pd.Index(["gene"], dtype=object)
    obs = pd.DataFrame(1.0, columns=columns, index=index)
    cells = anndata.AnnData(np.ones((2, 1)), obs=obs, var=pd.DataFrame(index=genes))
    cells.write_h5ad(path)


class TestNames:
    def test_columns_are_named_by_layer_pooling_and_channel(self) -> None:
        columns = feature_columns(20, "mean", 96)
        assert (columns[0], columns[-1], len(columns)) == ("L20_mean_000", "L20_mean_095", 96)

    @pytest.mark.parametrize(
        ("name", "groups"),
        [
            ("L20_mean_000", ("20", "mean", None, "000", None)),
            ("L3_centre_1023", ("3", "centre", None, "1023", None)),
            ("L20_std_v2_007", ("20", "std", "2", "007", None)),
            ("L20_mean_PC1", ("20", "mean", None, None, "1")),
            ("L20_mean_v12_PC10", ("20", "mean", "12", None, "10")),
            ("L20_mean+max_PC1", ("20", "mean+max", None, None, "1")),
            ("L20_mean+max_v2_PC1", ("20", "mean+max", "2", None, "1")),
        ],
    )
    def test_a_name_tells_its_parts(self, name: str, groups: tuple[str | None, ...]) -> None:
        match = FEATURE_COLUMN.fullmatch(name)
        assert match
        assert match.group("layer", "pooling", "version", "channel", "component") == groups

    @pytest.mark.parametrize(
        "name",
        [
            "L20_mean_00",
            "L20_sum_000",
            "L20_mean+max_000",
            "L20_mean",
            "xL20_mean_000",
            "L_mean_000",
        ],
    )
    def test_other_columns_are_told_apart(self, name: str) -> None:
        assert not FEATURE_COLUMN.fullmatch(name)

    def test_names_that_are_made_are_recognised(self) -> None:
        made = [*feature_columns(1, "max", 2), *component_columns(1, "mean+max", 2)]
        assert all(FEATURE_COLUMN.fullmatch(name) for name in made)


class TestJoining:
    def test_columns_and_rows_stay_and_rows_without_features_have_none(
        self, positions_table: pd.DataFrame
    ) -> None:
        joined = feature_table(positions_table, np.array([1]), np.array([[1.5, 2.5]]), ["a", "b"])
        assert list(joined.columns) == ["z", "y", "x", "note", "a", "b"]
        assert joined["a"].isna().tolist() == [True, False]
        assert joined.loc[1, ["a", "b"]].tolist() == [1.5, 2.5]
        pd.testing.assert_frame_equal(joined[positions_table.columns], positions_table)

    def test_features_of_the_same_name_are_replaced(self, positions_table: pd.DataFrame) -> None:
        rows = np.array([0, 1])
        once = feature_table(positions_table, rows, np.zeros((2, 1)), ["a"])
        twice = feature_table(once, rows, np.ones((2, 1)), ["a"])
        assert list(twice.columns) == list(once.columns)
        assert twice["a"].tolist() == [1, 1]


class TestRoundTrip:
    def test_the_table_comes_back_with_its_types_order_and_record(
        self, table: pd.DataFrame, path: Path
    ) -> None:
        before = table.copy()
        write_table(table, path, RECORD)
        back, record = read_table(path)
        # Categories are kept where the format has them.
        expected = table.astype({} if path.suffix in (".parquet", ".h5ad") else {"class": "str"})
        pd.testing.assert_frame_equal(back, expected)
        assert record == RECORD
        assert {"z", "y", "x"} <= set(table_columns(path))
        pd.testing.assert_frame_equal(table, before)

    def test_it_is_said_beside_the_file_where_the_features_come_from(
        self, table: pd.DataFrame, path: Path
    ) -> None:
        write_table(table, path, RECORD)
        beside = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert RECORD.items() <= beside.items()
        assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, "features.json"])

    def test_a_table_without_features_keeps_its_rows(
        self, positions_table: pd.DataFrame, path: Path
    ) -> None:
        write_table(positions_table, path, {})
        back, record = read_table(path)
        pd.testing.assert_frame_equal(back, positions_table)
        assert record == {}

    def test_a_column_without_any_value_stays_without(
        self, positions_table: pd.DataFrame, path: Path
    ) -> None:
        write_table(positions_table.assign(note=None), path, {})
        assert read_table(path)[0]["note"].isna().all()

    def test_names_that_mean_something_to_a_format_come_back(
        self, positions_table: pd.DataFrame, path: Path
    ) -> None:
        names = ["a/b", "a_b", "_index", "features", "record", "columns"]
        table = positions_table.assign(**{name: [i, i + 1] for i, name in enumerate(names)})
        write_table(table, path, RECORD)
        pd.testing.assert_frame_equal(read_table(path)[0], table)

    @pytest.mark.parametrize("suffix", ["parquet", "npz", "h5ad"])
    def test_an_empty_text_and_a_missing_one_are_told_apart(
        self, positions_table: pd.DataFrame, suffix: str, tmp_path: Path
    ) -> None:
        path = tmp_path / f"t.{suffix}"
        write_table(positions_table.assign(note=["", None]), path, {})
        assert read_table(path)[0]["note"].isna().tolist() == [False, True]

    def test_a_written_table_can_be_written_anew(self, table: pd.DataFrame, path: Path) -> None:
        write_table(table, path, RECORD)
        write_table(table[:2], path, {**RECORD, "checkpoint": "other.pt"})
        back, record = read_table(path)
        assert (len(back), record["checkpoint"]) == (2, "other.pt")

    def test_columns_of_the_same_name_are_refused(
        self, positions_table: pd.DataFrame, path: Path
    ) -> None:
        double = pd.concat([positions_table, positions_table[["note"]]], axis=1)
        with pytest.raises(InputError, match=r"two columns of features\.\w+ would be named note"):
            write_table(double, path, {})


def test_columns_that_can_be_kept_are_not_copied() -> None:
    table = pd.DataFrame({"z": np.arange(5.0), "x": np.arange(5), "kind": list("abcde")})
    kept = storable(table)
    assert all(np.shares_memory(kept[axis], table[axis]) for axis in "zx")
    pd.testing.assert_frame_equal(kept, table)


class TestOtherPrograms:
    def test_numpy_reads_npz(self, table: pd.DataFrame, tmp_path: Path) -> None:
        write_table(table, tmp_path / "t.npz", RECORD)
        with np.load(tmp_path / "t.npz", allow_pickle=False) as file:
            assert file["features"].dtype == np.float32
            np.testing.assert_array_equal(file["features"], table[FEATURES])
            assert file["feature_names"].tolist() == FEATURES
            np.testing.assert_array_equal(file["column/L20_mean_PC1"], table["L20_mean_PC1"])
            assert file["column/note"].tolist() == ["a", "", "c, “d”", "a"]
            assert json.loads(str(file["record"])) == RECORD

    def test_arrow_reads_parquet(self, table: pd.DataFrame, tmp_path: Path) -> None:
        write_table(table, tmp_path / "t.parquet", RECORD)
        found = pyarrow.parquet.read_table(tmp_path / "t.parquet")
        assert found.column_names == list(table.columns)
        assert found["note"].to_pylist() == ["a", None, "c, “d”", "a"]
        attributes = json.loads(found.schema.metadata[b"PANDAS_ATTRS"])
        assert attributes == {"napari_synapse_cl": RECORD}

    def test_anndata_reads_h5ad(self, table: pd.DataFrame, tmp_path: Path) -> None:
        second = feature_columns(20, "max", 1)
        table = feature_table(table, np.arange(4), np.ones((4, 1)), second)
        write_table(table, tmp_path / "t.h5ad", RECORD)
        found = anndata.read_h5ad(tmp_path / "t.h5ad")
        assert found.X.dtype == np.float32
        np.testing.assert_array_equal(found.X, table[[*FEATURES, *second]])
        assert found.var_names.tolist() == [*FEATURES, *second]
        assert found.var["pooling"].tolist() == ["mean"] * 3 + ["max"]
        assert found.var[["layer", "channel"]].to_numpy().tolist()[2:] == [[20, 2], [20, 0]]
        np.testing.assert_array_equal(found.obsm["spatial"], table[["x", "y", "z"]])
        np.testing.assert_array_equal(found.obsm["X_pca"], table[COMPONENTS])
        np.testing.assert_array_equal(found.obsm["L20_mean_PC"], table[COMPONENTS])
        assert found.obs["class"].tolist() == table["class"].tolist()
        assert "L20_mean_PC1" not in found.obs
        assert json.loads(found.uns["napari_synapse_cl"]) == RECORD

    def test_each_set_of_components_has_its_own_array(
        self, table: pd.DataFrame, tmp_path: Path
    ) -> None:
        names = component_columns(30, "mean+max", 1)
        table = feature_table(table, np.arange(4), np.ones((4, 1)), names)
        write_table(table, tmp_path / "t.h5ad", RECORD)
        found = anndata.read_h5ad(tmp_path / "t.h5ad")
        assert found.obsm["L30_mean+max_PC"].tolist() == [[1.0]] * 4
        assert found.obsm["X_pca"].shape == (4, 2)
        pd.testing.assert_frame_equal(read_table(tmp_path / "t.h5ad")[0], table)

    def test_a_table_of_pandas_is_read_without_a_record(
        self, positions_table: pd.DataFrame, tmp_path: Path
    ) -> None:
        positions_table.to_csv(tmp_path / "t.csv", index=False)
        positions_table.to_parquet(tmp_path / "t.parquet", index=False)
        for name in ("t.csv", "t.parquet"):
            back, record = read_table(tmp_path / name)
            pd.testing.assert_frame_equal(back, positions_table)
            assert record == {}

    def test_an_h5ad_file_with_positions_is_read_without_a_record(self, tmp_path: Path) -> None:
        write_cells(tmp_path / "t.h5ad", ["z", "y", "x"])
        back, record = read_table(tmp_path / "t.h5ad")
        assert list(back.columns) == ["z", "y", "x", "gene"]
        assert record == {}


class TestDamage:
    @pytest.mark.parametrize("kept", [0, 0.5, 0.97])
    def test_a_file_that_was_cut_off_is_said(
        self, table: pd.DataFrame, path: Path, kept: float
    ) -> None:
        write_table(table, path, RECORD)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(
            InputError, match=rf"the feature table .*{path.name} is (damaged|empty)"
        ):
            read_table(path)

    @pytest.mark.parametrize(
        "content", [b"\xff\xfe\x00 something else \x00\x80" * 9, pickle.dumps(print), b"PK\x03\x04"]
    )
    def test_a_file_of_another_kind_is_said(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"is damaged, or no|is no feature table"):
            read_table(path)

    @pytest.mark.parametrize("suffix", ["parquet", "npz"])
    def test_a_flipped_bit_in_a_feature_is_said(
        self, table: pd.DataFrame, suffix: str, tmp_path: Path
    ) -> None:
        path = tmp_path / f"t.{suffix}"
        write_table(table, path, RECORD)
        content = bytearray(path.read_bytes())
        content[content.index(table[FEATURES[0]].to_numpy()[:1].tobytes())] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{path.name} is damaged"):
            read_table(path)

    def test_a_sound_file_without_positions_is_told_apart(self, path: Path) -> None:
        {
            ".csv": lambda: path.write_text("a,b\n1,2\n"),
            ".parquet": lambda: pd.DataFrame({"a": [1]}).to_parquet(path),
            ".npz": lambda: np.savez(path, a=np.ones(3)),
            ".h5ad": lambda: write_cells(path, ["a"]),
        }[path.suffix]()
        with pytest.raises(InputError, match="is no feature table: it has no column"):
            read_table(path)

    def test_nothing_is_unpickled(self, tmp_path: Path) -> None:
        np.savez(
            tmp_path / "t.npz",
            **{name: np.array([print], dtype=object) for name in ("columns", "features")},
            **{name: np.array([print], dtype=object) for name in ("feature_names", "record")},
        )
        with pytest.raises(InputError, match="Object arrays cannot be loaded"):
            read_table(tmp_path / "t.npz")

    def test_nobody_is_told_to_unpickle_what_is_no_archive(self, tmp_path: Path) -> None:
        (tmp_path / "t.npz").write_text("notes")
        with pytest.raises(InputError, match="it holds no arrays of NumPy") as told:
            read_table(tmp_path / "t.npz")
        assert "unsafely" not in str(told.value)

    def test_features_that_are_text_are_said(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("z,y,x,L20_mean_000\n1,2,3,high\n")
        with pytest.raises(InputError, match="such as L20_mean_000, holds something"):
            read_table(tmp_path / "t.csv")

    def test_a_file_that_is_not_there_and_one_of_another_suffix_are_said(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match="there is no feature table"):
            read_table(tmp_path / "t.csv")
        with pytest.raises(InputError, match=r"end in \.csv, \.parquet, \.npz, \.h5ad"):
            read_table(tmp_path / "t.txt")


class TestRecordBeside:
    def test_no_old_record_lies_beside_a_new_table(
        self, table: pd.DataFrame, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_table(table, path, RECORD)
        seen: list[Any] = []
        replace = os.replace

        def watch(source: str, target: str) -> None:
            replace(source, target)
            beside = path.with_suffix(".json")
            seen.append(
                (Path(target).name, json.loads(beside.read_text()) if beside.exists() else 0)
            )

        monkeypatch.setattr("napari_synapse_cl.system.files.os.replace", watch)
        write_table(table, path, {"checkpoint": "new.pt"})
        (first, beside), (second, last) = seen
        assert (first, beside, second) == (path.name, 0, "features.json")
        assert last["checkpoint"] == "new.pt"

    def test_the_record_of_another_format_is_not_that_of_a_csv_table(
        self, table: pd.DataFrame, tmp_path: Path
    ) -> None:
        write_table(table, tmp_path / "t.csv", RECORD)
        write_table(table, tmp_path / "t.npz", {"checkpoint": "other.pt"})
        assert read_table(tmp_path / "t.csv")[1] == {}

    def test_the_record_of_a_first_version_is_read(
        self, positions_table: pd.DataFrame, tmp_path: Path
    ) -> None:
        positions_table.to_csv(tmp_path / "t.csv", index=False)
        (tmp_path / "t.json").write_text(json.dumps(RECORD))
        assert read_table(tmp_path / "t.csv")[1] == RECORD

    @pytest.mark.parametrize("content", ['["mine"]', '{"name": "mine"}'])
    def test_another_json_file_is_no_record(
        self, positions_table: pd.DataFrame, tmp_path: Path, content: str
    ) -> None:
        table = tmp_path / "t.csv"
        positions_table.to_csv(table, index=False)
        check_place(table)
        (tmp_path / "t.json").write_text(content)
        with pytest.raises(InputError, match=r"t\.json, which holds something else"):
            check_place(table)
        assert read_table(table)[1] == {}
        write_table(positions_table, table, {})
        check_place(table)

    def test_a_damaged_record_is_said(self, table: pd.DataFrame, tmp_path: Path) -> None:
        write_table(table, tmp_path / "t.csv", RECORD)
        (tmp_path / "t.json").write_text('{"checkpoint":')
        with pytest.raises(InputError, match=r"t\.json, where the record .* cannot be read"):
            read_table(tmp_path / "t.csv")


class TestFullDisk:
    def test_a_full_disk_leaves_what_was_there(self, table: pd.DataFrame, path: Path) -> None:
        write_table(table, path, RECORD)
        before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
        noise = np.random.default_rng(0).normal(size=(4000, 20)).astype(np.float32)
        places = pd.DataFrame(np.ones((4000, 3)), columns=["z", "y", "x"])
        large = feature_table(places, np.arange(4000), noise, feature_columns(0, "mean", 20))
        words = r"^cannot write the feature table .*features\.\w+: File too large$"
        with full_disk(100_000), pytest.raises(JobError, match=words):
            write_table(large, path, RECORD)
        assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before
        write_table(large, path, RECORD)
        assert len(read_table(path)[0]) == 4000

    def test_a_full_disk_is_one_error_wherever_it_comes(
        self, table: pd.DataFrame, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unheard: list[object] = []
        monkeypatch.setattr(sys, "unraisablehook", unheard.append)
        write_table(table, path, RECORD)
        size = path.stat().st_size
        for free in range(0, size, size // 8 + 1):
            with full_disk(free), pytest.raises(JobError, match="File too large"):
                write_table(table, path, RECORD)
        assert not unheard

    def test_a_folder_that_is_not_there_is_said(
        self, positions_table: pd.DataFrame, tmp_path: Path
    ) -> None:
        with pytest.raises(JobError, match=r"cannot write the feature table .*: No such file"):
            write_table(positions_table, tmp_path / "none" / "table.csv", {})


class TestWithoutAnnData:
    @pytest.fixture(autouse=True)
    def not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("napari_synapse_cl.features.tables.find_spec", lambda name: None)

    def test_it_is_said_before_a_job_begins(self) -> None:
        with pytest.raises(InputError, match=r'pip install "napari-synapse-cl\[anndata\]"'):
            check_format("h5ad")
        for name in ("csv", "parquet", "npz"):
            check_format(name)

    def test_neither_writing_nor_reading_is_tried(
        self, positions_table: pd.DataFrame, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match="AnnData, which is not installed"):
            write_table(positions_table, tmp_path / "t.h5ad", {})
        assert not list(tmp_path.iterdir())
        (tmp_path / "t.h5ad").write_bytes(b"x")
        with pytest.raises(InputError, match="AnnData, which is not installed"):
            read_table(tmp_path / "t.h5ad")
