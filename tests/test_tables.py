"""Tables of positions are read from every format and understood by the names of their columns."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.parts import Positions
from napari_synapse_cl.data.placing import are_inside
from napari_synapse_cl.data.tables import (
    Mapping,
    PositionTable,
    Reading,
    check_reading,
    in_voxels,
    interpret,
    open_table,
    read_table,
)
from napari_synapse_cl.data.volumes import AlignedLabels, Volume
from napari_synapse_cl.errors import InputError

ZYX = np.array([[1.0, 2.0, 3.0], [4.5, 5.0, 60.0], [7.0, 8.0, 9.0]])
XYZ = ZYX[:, ::-1]
NAMED = pd.DataFrame({"kind": ["a", "b", "ü"], "x": XYZ[:, 0], "y": XYZ[:, 1], "z": XYZ[:, 2]})
ROOT_ID = 720575940621039145
"""More than a float holds exactly."""


def columns(values: np.ndarray, *names: str) -> pd.DataFrame:
    return pd.DataFrame(dict(zip(names, values.T, strict=True)))


def n_double(positions: np.ndarray) -> int:
    """How many positions are those of an earlier row."""
    voxels = positions.astype(np.int64)
    return int((~Positions(voxels, np.arange(len(voxels)), 0).is_first).sum())


def found(table: pd.DataFrame, **mapping: Any) -> PositionTable:
    return interpret(table, "t.csv", Mapping(**mapping))


class TestFormats:
    @pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "xlsx", "xlsm", "parquet", "feather"])
    def test_a_table_of_each_format_is_read_as_it_is(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"t.{suffix}"
        table = NAMED.assign(root=[ROOT_ID, 2, 3]) if "xls" not in suffix else NAMED
        write = {
            "csv": lambda: table.to_csv(path, index=False),
            "tsv": lambda: table.to_csv(path, index=False, sep="\t"),
            "txt": lambda: table.to_csv(path, index=False, sep=";"),
            "parquet": lambda: table.to_parquet(path),
            "feather": lambda: table.to_feather(path),
        }
        write.get(suffix, lambda: table.to_excel(path, index=False, engine="openpyxl"))()
        read = open_table(path)
        # Excel knows no whole numbers, so pandas takes those that are whole for such.
        pd.testing.assert_frame_equal(read.table, table, check_dtype="xls" not in suffix)
        np.testing.assert_array_equal(read.positions, ZYX)
        assert read.positions.dtype == np.float64
        assert str(read.reading) == "columns z, y, x in voxels"

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
    def test_csv_of_any_separator_and_encoding(
        self, separator: str, encoding: str, tmp_path: Path
    ) -> None:
        table = NAMED.assign(note=["one, two", "three; four", 'a "b"\tc'])
        table.to_csv(tmp_path / "t.csv", index=False, sep=separator, encoding=encoding)
        pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), table)

    def test_csv_that_is_compressed(self, tmp_path: Path) -> None:
        NAMED.to_csv(tmp_path / "t.csv.gz", index=False)
        np.testing.assert_array_equal(open_table(tmp_path / "t.csv.gz").positions, ZYX)

    def test_points_as_napari_saves_them(self, tmp_path: Path) -> None:
        # Features may have names of axes too, and are not the positions.
        (tmp_path / "p.csv").write_text(
            "index,axis-0,axis-1,axis-2,z\n0.0,1.0,2.0,3.0,9.0\n1.0,4.5,5.0,60.0,9.0\n"
        )
        read = open_table(tmp_path / "p.csv")
        np.testing.assert_array_equal(read.positions, ZYX[:2])
        assert str(read.reading) == "columns axis-0, axis-1, axis-2 as z, y, x in voxels"

    def test_four_dimensional_points_of_napari_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "p.csv").write_text("index,axis-0,axis-1,axis-2,axis-3\n0,1,2,3,4\n")
        with pytest.raises(InputError, match="no column z, y, x"):
            open_table(tmp_path / "p.csv")

    def test_the_first_sheet_with_positions_is_taken_unless_one_is_named(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "book.xlsx"
        with pd.ExcelWriter(path) as book:
            pd.DataFrame().to_excel(book, sheet_name="empty", index=False)
            pd.DataFrame({"remarks": ["none"]}).to_excel(book, sheet_name="notes", index=False)
            NAMED.to_excel(book, sheet_name="first", index=False)
            columns(ZYX + 1, "a", "b", "c").to_excel(book, sheet_name="second", index=False)
        np.testing.assert_array_equal(open_table(path).positions, ZYX)
        given = Mapping(columns=("a", "b", "c"))
        np.testing.assert_array_equal(open_table(path, given).positions, ZYX + 1)
        assert list(read_table(Path(f"{path}#notes")).columns) == ["remarks"]
        assert list(read_table(Path(f"{path}#second")).columns) == ["a", "b", "c"]
        with pytest.raises(InputError, match="no sheet third; it has empty, notes, first, second"):
            read_table(Path(f"{path}#third"))

    def test_a_header_below_a_title(self, tmp_path: Path) -> None:
        with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
            NAMED.to_excel(book, index=False, startrow=2)
            book.sheets["Sheet1"]["A1"] = "Synapses of the second animal"
        read = open_table(tmp_path / "t.xlsx")
        assert list(read.table.columns) == list(NAMED.columns)
        np.testing.assert_array_equal(read.positions, ZYX)

    def test_an_index_with_a_name_is_a_column_as_pandas_keeps_it(self, tmp_path: Path) -> None:
        NAMED.set_index("kind").to_parquet(tmp_path / "t.parquet")
        pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), NAMED)

    @pytest.mark.parametrize("suffix", ["xlsx", "parquet", "feather", "arrow", "json", "csv.gz"])
    @pytest.mark.parametrize("damage", ["cut", "text", "empty"])
    def test_a_damaged_file_is_named_in_one_line(
        self, suffix: str, damage: str, tmp_path: Path
    ) -> None:
        path = tmp_path / f"t.{suffix}"
        if suffix == "xlsx":
            NAMED.to_excel(path, index=False)
        elif suffix == "parquet":
            NAMED.to_parquet(path)
        elif suffix == "json":
            path.write_text(json.dumps([{"type": "point", "point": [1, 2, 3]}]))
        elif suffix == "csv.gz":
            path.write_bytes(gzip.compress(NAMED.to_csv(index=False).encode()))
        else:
            NAMED.to_feather(path)
        whole = path.read_bytes()
        path.write_bytes(
            {"cut": whole[: len(whole) * 2 // 3], "text": b"none", "empty": b""}[damage]
        )
        with pytest.raises(
            InputError, match=rf"t\.{suffix}.* (cannot be read as|is empty)"
        ) as info:
            open_table(path)
        assert "\n" not in str(info.value)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"\n\n", "is empty"),
            (b"z,y,x\n1,2,3\n4,5", "ends in the middle of a row"),
            (b'z,y,x,kind\n1,2,3,"a\n4,5,6,b\n', "cannot be read as a CSV table"),
            (b"z,y,x\n1,2,3\n1,2,3,4\n", "cannot be read as a CSV table"),
            (b"z,y,x\n1,2,3,\n1,2,3,\n", "more values than its header has names"),
            (b"PK\x03\x04\0\0", "it is no text"),
        ],
    )
    def test_damaged_text_is_named_in_one_line(
        self, content: bytes, message: str, tmp_path: Path
    ) -> None:
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(InputError, match=rf"t\.csv.*{message}") as info:
            open_table(tmp_path / "t.csv")
        assert "\n" not in str(info.value)

    @pytest.mark.parametrize("name", ["t.xls", "t.docx", "t"])
    def test_other_formats_are_refused(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_text("z,y,x\n1,2,3\n")
        with pytest.raises(InputError, match=r"no table that can be read: .csv, ") as info:
            read_table(tmp_path / name)
        assert (".xlsx)" in str(info.value)) == (name == "t.xls")

    @pytest.mark.parametrize("name", ["none.csv", "none.json#layer"])
    def test_a_file_that_is_missing(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no synapse table .*none\.(csv|json)$"):
            open_table(tmp_path / name)


def test_half_a_voxel_goes_up_wherever_positions_become_voxels() -> None:
    places = np.array([[-0.5, 19.5, 20.5], [21.5, 22.5, 29.5], [22.499, 20.4999999999, np.nan]])
    expected = [[0, 20, 21], [22, 23, 30], [22, 21, np.nan]]
    np.testing.assert_array_equal(nearest_voxel(places), expected)
    # The last whole voxel is 29: what lies at 29.5 is beyond.
    volume = Volume(np.zeros((30, 30, 30), np.uint8))
    np.testing.assert_array_equal(are_inside(places, volume), [True, False, False])
    assert AlignedLabels(Volume(np.arange(8, dtype=np.uint8).reshape(2, 2, 2))).at([0.5, 0, 0]) == 4


class TestNeuroglancer:
    POINTS = [  # noqa: RUF012
        {"type": "point", "id": "a", "point": [3, 2, 1], "description": "first", "props": [7]},
        {"type": "line", "id": "b", "pointA": [0, 0, 0], "pointB": [20, 10, 4]},
        {"type": "ellipsoid", "id": "c", "center": [9, 8, 7], "radii": [1, 1, 1]},
        {"type": "axis_aligned_bounding_box", "id": "d", "pointA": [0, 0, 0], "pointB": [2, 4, 6]},
        {"type": "polyline", "id": "e", "points": [[0, 0, 0], [1, 1, 1]], "segments": [["1"]]},
    ]
    LAYER = {"type": "annotation", "name": "syn", "annotations": POINTS}  # noqa: RUF012
    NM = {"x": [4e-9, "m"], "y": [4e-9, "m"], "z": [4e-8, "m"]}  # noqa: RUF012

    @staticmethod
    def moved(output: Any, points: Any = ((3, 2, 1),), **transform: Any) -> dict[str, Any]:
        """A layer whose source says how its points lie."""
        return {
            "name": "syn",
            "annotations": [{"type": "point", "point": list(point)} for point in points],
            "source": {
                "url": "local://annotations",
                "transform": {"outputDimensions": output, **transform},
            },
        }

    def open(self, content: Any, folder: Path, part: str = "") -> PositionTable:
        (folder / "s.json").write_text(json.dumps(content))
        return open_table(folder / f"s.json{part}")

    @pytest.mark.parametrize("as_list", [True, False])
    def test_annotations_of_each_type(self, as_list: bool, tmp_path: Path) -> None:
        layer = {**self.LAYER, "annotationProperties": [{"id": "score", "type": "uint8"}]}
        read = self.open(self.POINTS if as_list else layer, tmp_path)
        expected = [[1, 2, 3], [2, 5, 10], [7, 8, 9], [3, 2, 1], [np.nan] * 3]
        np.testing.assert_array_equal(read.positions, expected)
        assert read.n_missing == 1
        assert read.table["id"].tolist() == list("abcde")
        assert read.table["props_0" if as_list else "score"][0] == 7
        assert read.table["radii"][2] == "[1, 1, 1]"
        assert read.reading.voxel_size is None
        nan = [np.nan] * 3
        np.testing.assert_array_equal(read.partners["presynapse"], [nan, [0, 0, 0], nan, nan, nan])
        np.testing.assert_array_equal(
            read.partners["postsynapse"], [nan, [4, 10, 20], nan, nan, nan]
        )

    def test_what_positions_count_in_is_that_of_the_state(self, tmp_path: Path) -> None:
        state = {"dimensions": self.NM, "layers": [{"type": "image", "name": "em"}, self.LAYER]}
        read = self.open(state, tmp_path)
        assert read.reading.voxel_size == (40, 4, 4)
        assert str(read.reading) == "columns z, y, x in voxels of 40 × 4 × 4 nm"
        voxels = in_voxels(read.positions, read.reading, (40, 8, 8), "s.json")
        np.testing.assert_array_equal(voxels[0], [1, 0.75, 1.25])

    def test_the_dimensions_of_the_layer_come_first_in_whatever_order(self, tmp_path: Path) -> None:
        turned = {"z": [30, "nm"], "t": [1, "s"], "y": [5, "nm"], "x": [5e-3, "um"]}
        source = [{"url": "local://annotations", "transform": {"outputDimensions": turned}}]
        point = {"type": "point", "point": [1, 0, 2, 3]}
        layer = {"name": "syn", "annotations": [point], "source": source}
        read = self.open({"dimensions": self.NM, "layers": [layer]}, tmp_path)
        np.testing.assert_array_equal(read.positions, [[1, 2, 3]])
        assert read.reading.voxel_size == (30, 5, 5)

    def test_the_centre_of_a_voxel_is_half_a_voxel_behind_its_corner(self, tmp_path: Path) -> None:
        half = [20.5, 21.5, 22.5]
        items = [
            {"type": "point", "point": half},
            {"type": "ellipsoid", "center": half, "radii": [1, 1, 1]},
            {"type": "line", "pointA": [20.5] * 3, "pointB": [20.5, 22.5, 24.5]},
            {
                "type": "axis_aligned_bounding_box",
                "pointA": [20.5] * 3,
                "pointB": [20.5, 22.5, 24.5],
            },
            {"type": "point", "point": [20, 21, 22]},
            {"type": "point", "point": [20.25, 21.75, 22]},
        ]
        read = self.open(items, tmp_path)
        np.testing.assert_array_equal(read.positions[:5], [[22, 21, 20]] * 5)
        # Wherever a voxel is hit, it is that one.
        np.testing.assert_array_equal(nearest_voxel(read.positions[5]), [22, 21, 20])

    @pytest.mark.parametrize(
        ("voxels", "transform", "expected"),
        [
            (8, {"inputDimensions": {"0": [8e-9, "m"], "1": [8e-9, "m"], "2": [8e-9, "m"]}}, 1),
            (4, {"inputDimensions": {"x": [8, "nm"], "y": [8, "nm"], "z": [8, "nm"]}}, 2),
            (8, {"inputDimensions": {"x": [4, "nm"], "y": [4, "nm"], "z": [4, "nm"]}}, 0.5),
            (8, {"matrix": [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]]}, 2),
        ],
    )
    def test_coordinates_count_in_the_input_dimensions(
        self, voxels: int, transform: Any, expected: float, tmp_path: Path
    ) -> None:
        output = {axis: [voxels * 1e-9, "m"] for axis in "xyz"}
        read = self.open(self.moved(output, [(30.5, 20.5, 10.5)], **transform), tmp_path)
        assert read.reading.voxel_size == (voxels,) * 3
        corner = np.array([[10.5, 20.5, 30.5]]) * expected
        np.testing.assert_allclose(read.positions, corner - 0.5)

    def test_input_dimensions_alone_are_what_coordinates_count_in(self, tmp_path: Path) -> None:
        layer = self.moved(None, [(3.5, 2.5, 1.5)], inputDimensions=self.NM)
        read = self.open(layer, tmp_path)
        assert read.reading.voxel_size == (40, 4, 4)
        np.testing.assert_array_equal(read.positions, [[1, 2, 3]])

    @pytest.mark.parametrize(
        ("matrix", "expected"),
        [
            # x and z exchanged: lengths stay, so 10 nm along z are 2.5 voxels of 4 along x.
            ([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]], [30.5 / 10, 20.5, 10.5 * 10]),
            # A shift counts in output voxels.
            ([[1, 0, 0, 5], [0, 1, 0, -2], [0, 0, 1, 1]], [11.5, 18.5, 35.5]),
            ([[0, -1, 0, 40], [1, 0, 0, 0], [0, 0, 1, 0]], [10.5, 30.5, 19.5]),
        ],
    )
    def test_a_matrix_is_followed(self, matrix: Any, expected: Any, tmp_path: Path) -> None:
        read = self.open(self.moved(self.NM, [(30.5, 20.5, 10.5)], matrix=matrix), tmp_path)
        np.testing.assert_allclose(read.positions, [np.array(expected) - 0.5])

    def test_only_the_source_of_the_annotations_themselves_counts(self, tmp_path: Path) -> None:
        layer = self.moved(self.NM)
        image = {"url": "precomputed://gs://a", "transform": {"outputDimensions": {"a": [1, "m"]}}}
        read = self.open({**layer, "source": [image, layer["source"]]}, tmp_path)
        assert read.reading.voxel_size == (40, 4, 4)

    def test_a_place_of_fewer_dimensions_lies_at_the_origin_of_the_others(
        self, tmp_path: Path
    ) -> None:
        output = {**self.NM, "t": [1, "s"]}
        read = self.open(self.moved(output, [(3.5, 2.5, 1.5)], sourceRank=3), tmp_path)
        np.testing.assert_array_equal(read.positions, [[1, 2, 3]])
        with pytest.raises(InputError, match="a place has 3 coordinates"):
            self.open(self.moved(output, [(3.5, 2.5, 1.5)]), tmp_path)

    def test_a_state_that_is_nested_too_deeply_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "s.json").write_text("[" * 100_000)
        with pytest.raises(InputError, match=r"s\.json cannot be read as neuroglancer"):
            open_table(tmp_path / "s.json")

    def test_a_voxel_size_that_is_given_comes_before_that_of_the_file(self, tmp_path: Path) -> None:
        self.open({"dimensions": self.NM, "layers": [self.LAYER]}, tmp_path)
        read = open_table(tmp_path / "s.json", Mapping(voxel_size=(40, 8, 8)))
        assert read.reading.voxel_size == (40, 8, 8)
        read = open_table(tmp_path / "s.json", Mapping(unit="voxels"))
        assert read.reading.voxel_size is None

    def test_one_of_several_layers_is_named_behind_the_file(self, tmp_path: Path) -> None:
        other = {"name": "my/other", "annotations": [{"type": "point", "point": [6, 5, 4]}]}
        state = {"layers": [self.LAYER, other]}
        with pytest.raises(InputError, match=r"several layers.*: syn, my/other; .*s\.json#syn"):
            self.open(state, tmp_path)
        read = self.open(state, tmp_path, "#my/other")
        np.testing.assert_array_equal(read.positions, [[4, 5, 6]])
        with pytest.raises(InputError, match="no layer of annotations third; it has syn, my/other"):
            self.open(state, tmp_path, "#third")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"a": 1}, "holds no annotations"),
            ([], "holds no annotations"),
            ([1, 2], "holds no annotations"),
            ({"layers": [{"type": "image", "name": "em"}]}, "no layer that holds annotations"),
            ([{"type": "point", "point": [1, 2]}], "cannot be read as neuroglancer annotations"),
            ({"dimensions": {"a": [1, ""], "b": [1, ""]}, "layers": [LAYER]}, "dimensions a, b"),
            (moved(NM, matrix=[[1, 0, 0], [0, 1, 0]]), "is none of 3 × 4 numbers"),
            (moved(NM, matrix=[["a", 0, 0, 0]] * 3), "is none of 3 × 4 numbers"),
            (moved(NM, inputDimensions={**NM, "z": [1, "s"]}), "turns s of inputDimensions into m"),
            (
                moved(NM, inputDimensions={"x": [1, "m"]}),
                "1 inputDimensions and 3 outputDimensions",
            ),
            (moved({**NM, "z": {"coordinates": []}}), "dimensions .* not understood"),
            (moved({**NM, "z": [0, "m"]}), "dimensions .* not understood"),
            ({**LAYER, "source": {"transform": [[1, 0, 0, 0]] * 4}}, "older neuroglancer versions"),
            (
                {"layers": [{**LAYER, "annotations": 0, "source": "precomputed://gs://a"}]},
                "no layer",
            ),
        ],
    )
    def test_what_holds_no_annotations_is_refused(
        self, content: Any, message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=message):
            self.open(content, tmp_path)


class TestConventions:
    @pytest.mark.parametrize(
        ("names", "unit"),
        [
            ("z y x", "voxels"),
            ("Z Y X", "voxels"),
            ("pos_z pos_y pos_x", "voxels"),
            ("z_voxel y_voxel x_voxel", "voxels"),
            ("z_nm y_nm x_nm", "nm"),
            ("z|[nm] y|[nm] x|[nm]", "nm"),
            ("Z_um Y_um X_um", "um"),
            ("z|(µm) y|(µm) x|(µm)", "um"),
        ],
    )
    @pytest.mark.parametrize("is_reversed", [False, True])
    def test_axes_by_name_in_any_order(self, names: str, unit: str, is_reversed: bool) -> None:
        table = columns(ZYX, *(name.replace("|", " ") for name in names.split()))
        read = found(table[table.columns[::-1]] if is_reversed else table)
        np.testing.assert_array_equal(read.positions, ZYX * (1000 if unit == "um" else 1))
        assert read.reading.unit == ("voxels" if unit == "voxels" else "nm")
        assert read.reading.columns == tuple(table.columns)
        assert not read.reading.is_explicit

    def test_numbered_coordinates_with_their_sides(self) -> None:
        names = ("central_coord", "side_1_coord", "side_2_coord")
        parts = [columns(XYZ + i, *(f"{n}_{k}" for k in (1, 2, 3))) for i, n in enumerate(names)]
        read = found(pd.concat([pd.DataFrame({"Var1": [1, 2, 3]}), *parts], axis=1))
        np.testing.assert_array_equal(read.positions, ZYX)
        np.testing.assert_array_equal(read.partners["side_1"], ZYX + 1)
        np.testing.assert_array_equal(read.partners["side_2"], ZYX + 2)
        assert str(read.reading) == (
            "columns central_coord_1, central_coord_2, central_coord_3 as x, y, z in voxels"
        )

    @pytest.mark.parametrize("form", ["lists", "arrays", "numpy text", "list text", "tuple text"])
    def test_arrays_in_one_column(self, form: str) -> None:
        write = {
            "lists": list,
            "arrays": np.array,
            "numpy text": lambda row: str(np.array(row)),
            "list text": str,
            "tuple text": lambda row: str(tuple(row)),
        }[form]
        values = [write(row) for row in XYZ.tolist()]
        read = found(pd.DataFrame({"ctr_pt_position": [values[0], None, *values[1:]]}))
        np.testing.assert_array_equal(read.positions[[0, 2, 3]], ZYX)
        assert np.isnan(read.positions[1]).all()
        assert str(read.reading) == "column ctr_pt_position as x, y, z in voxels"

    def test_arrays_in_parquet_and_as_text_in_csv(self, tmp_path: Path) -> None:
        table = pd.DataFrame({"id": [ROOT_ID] * 3, "ctr_pt_position": list(XYZ)})
        table.to_parquet(tmp_path / "t.parquet")
        table.to_csv(tmp_path / "t.csv", index=False)
        for name in ("t.parquet", "t.csv"):
            read = open_table(tmp_path / name)
            np.testing.assert_array_equal(read.positions, ZYX)
            assert read.table["id"].tolist() == [ROOT_ID] * 3

    @pytest.mark.parametrize("ends", ["xyz", "012"])
    def test_arrays_that_were_split_into_columns(self, ends: str) -> None:
        table = columns(XYZ, *(f"ctr_pt_position_{end}" for end in ends))
        np.testing.assert_array_equal(found(table).positions, ZYX)
        np.testing.assert_array_equal(found(table, columns=("ctr_pt_position",)).positions, ZYX)

    @pytest.mark.parametrize(
        "name", ["pre_{}", "{}_pre", "presyn_{}", "pre_{}_nm", "pre_pt_position_{}"]
    )
    def test_sides_without_a_centre_give_their_midpoint(self, name: str) -> None:
        pre = columns(XYZ, *(name.format(axis) for axis in "xyz"))
        post = columns(XYZ + 2, *(name.replace("pre", "post").format(axis) for axis in "xyz"))
        read = found(pd.concat([pre, post], axis=1))
        np.testing.assert_array_equal(read.positions, ZYX + 1)
        np.testing.assert_array_equal(read.partners["presynapse"], ZYX)
        np.testing.assert_array_equal(read.partners["postsynapse"], ZYX + 2)
        assert str(read.reading).startswith(f"midpoints of columns {name.format('z')}, ")
        np.testing.assert_array_equal(found(pre).positions, ZYX)

    def test_a_side_stands_for_the_position_where_the_other_is_missing(self) -> None:
        table = pd.DataFrame(
            {
                "pre_pt_position": ["[3 2 1]", None, None],
                "post_pt_position": ["[5 2 1]", "[6 5 4]", None],
            }
        )
        read = found(table)
        np.testing.assert_array_equal(read.positions, [[1, 2, 4], [4, 5, 6], [np.nan] * 3])
        assert read.n_missing == 1

    def test_the_centre_comes_before_the_sides(self) -> None:
        sides = {f"{side}_pt_position": list(XYZ + 5) for side in ("pre", "post")}
        read = found(pd.DataFrame({**sides, "ctr_pt_position": list(XYZ)}))
        np.testing.assert_array_equal(read.positions, ZYX)
        assert set(read.partners) == {"presynapse", "postsynapse"}

    def test_sides_in_another_unit_than_the_position_are_left(self) -> None:
        table = NAMED.assign(pre_z_nm=1, pre_y_nm=2, pre_x_nm=3)
        assert found(table).partners == {}

    def test_no_guess_is_made_of_other_names(self) -> None:
        table = columns(ZYX, "location_z", "location_y", "location_x").assign(bodyId=1)
        with pytest.raises(InputError, match=r"no column z, y, x.*--position_columns.*location_z"):
            found(table)

    def test_two_of_three_columns_miss_the_third(self) -> None:
        with pytest.raises(InputError, match=r"has no column x: .*found z, y"):
            found(pd.DataFrame({"z": [1], "y": [2]}))


class TestMapping:
    def test_columns_that_are_given_win(self) -> None:
        table = pd.concat([NAMED, columns(ZYX + 5, "a", "b", "c")], axis=1)
        read = found(table, columns=("a", "b", "c"))
        np.testing.assert_array_equal(read.positions, ZYX + 5)
        assert str(read.reading) == "columns a, b, c as z, y, x in voxels"
        assert read.reading.is_explicit

    def test_swapped_columns_are_read_in_the_order_that_is_given(self) -> None:
        read = found(NAMED, columns=("x", "y", "z"))
        np.testing.assert_array_equal(read.positions, XYZ)

    def test_the_unit_of_names_holds_unless_another_is_given(self) -> None:
        table = columns(ZYX, "z_nm", "y_nm", "x_nm")
        assert found(table, columns=("z_nm", "y_nm", "x_nm")).reading.unit == "nm"
        assert found(table, unit="voxels").reading.unit == "voxels"
        assert found(table, voxel_size=(40, 4, 4)).reading.unit == "voxels"

    def test_micrometres_become_nanometres(self) -> None:
        read = found(NAMED, unit="um")
        np.testing.assert_array_equal(read.positions, ZYX * 1000)
        assert str(read.reading) == "columns z, y, x in nm"

    def test_a_column_of_arrays_can_be_given(self) -> None:
        read = found(pd.DataFrame({"where": list(XYZ)}), columns=("where",), voxel_size=(40, 4, 4))
        np.testing.assert_array_equal(read.positions, ZYX)
        assert str(read.reading) == "column where as x, y, z in voxels of 40 × 4 × 4 nm"

    @pytest.mark.parametrize(
        ("mapping", "message"),
        [
            ({"columns": ("a", "y", "b")}, "no column a, b, which --position_columns names"),
            ({"columns": ("z", "y")}, "takes three names"),
            ({"columns": ("nowhere",)}, "no column nowhere|takes three names"),
            ({"columns": ("kind",)}, "kind in data row 1 .* is not three numbers: a"),
            ({"unit": "nm", "voxel_size": (8, 8, 8)}, "--position_voxel_size"),
        ],
    )
    def test_what_does_not_fit_the_table_is_refused(self, mapping: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            found(NAMED, **mapping)


class TestValues:
    def test_rows_without_a_position_stay_and_are_counted(self) -> None:
        table = pd.DataFrame({"z": ["1", " ", "3"], "y": [1, 2, None], "x": [1, 2, 3]})
        read = found(table)
        np.testing.assert_array_equal(read.positions, [[1, 1, 1], [np.nan] * 3, [np.nan] * 3])
        assert read.n_missing == 2
        pd.testing.assert_frame_equal(read.table, table)

    def test_positions_that_come_again_are_known(self) -> None:
        read = found(pd.concat([NAMED, NAMED, NAMED[:1]]))
        assert n_double(read.positions) == 4
        assert len(read.table) == 7

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([1, "foo", "bar"], r"z in data row 2 \(and 1 more\) is not a number: foo"),
            ([1, np.inf, 3], "z in data row 2 is not a number: inf"),
            (["1", "12,5", "3"], "z in data row 2 is not a number: 12,5"),
            (pd.to_datetime(["2020-01-01", None, None]), "z in data row 1 is not a number: 2020"),
        ],
    )
    def test_what_is_no_number_is_refused(self, values: Any, message: str) -> None:
        with pytest.raises(InputError, match=rf"t\.csv: {message}"):
            found(NAMED.assign(z=values))

    @pytest.mark.parametrize(
        "value", ["[1 2]", "[1 2 3 4]", "abc", [1, 2], [1, 2, np.inf], 5, ["a", 2, 3]]
    )
    def test_what_is_no_array_of_three_numbers_is_refused(self, value: Any) -> None:
        for first in ("[1 2 3]", [1, 2, 3]):
            with pytest.raises(InputError, match="in data row 2 is not three numbers"):
                found(pd.DataFrame({"ctr_pt_position": [first, value]}))

    def test_a_table_without_positions_is_refused(self) -> None:
        with pytest.raises(InputError, match="holds no synapses: it has a header and no rows"):
            found(NAMED[:0])
        with pytest.raises(InputError, match="none of its 3 rows has a position"):
            found(NAMED.assign(x=None))

    def test_two_columns_of_one_name_are_refused(self) -> None:
        with pytest.raises(InputError, match="more than one column z"):
            found(pd.concat([NAMED, NAMED], axis=1)[["z", "y", "x"]])


SIZES = st.tuples(*[st.floats(1, 100)] * 3)


class TestVoxels:
    POSITIONS = arrays(float, (4, 3), elements=st.floats(-1e5, 1e5))

    def reading(self, unit: Any, voxel_size: tuple[float, float, float] | None = None) -> Reading:
        return Reading(("z", "y", "x"), "named", unit, voxel_size, is_explicit=False)

    @settings(max_examples=25, deadline=None)
    @given(POSITIONS, SIZES, SIZES)
    def test_voxels_of_another_size_and_back(self, positions: Any, one: Any, other: Any) -> None:
        there = in_voxels(positions, self.reading("voxels", one), other, "t")
        back = in_voxels(there, self.reading("voxels", other), one, "t")
        np.testing.assert_allclose(back, positions, atol=1e-6)

    @settings(max_examples=25, deadline=None)
    @given(POSITIONS, SIZES)
    def test_nanometres_are_divided_by_the_voxel_size(self, positions: Any, voxel: Any) -> None:
        voxels = in_voxels(positions * np.array(voxel), self.reading("nm"), voxel, "t")
        np.testing.assert_allclose(voxels, positions, atol=1e-6)

    def test_voxels_of_the_volume_stay_as_they_are(self) -> None:
        np.testing.assert_array_equal(in_voxels(ZYX, self.reading("voxels"), None, "t"), ZYX)

    def test_the_faces_of_voxels_of_another_size_coincide(self) -> None:
        # The first two voxels of 4 nm make the first of 8 nm, whose centre is at 0.
        fine = np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, np.nan, np.nan]])
        voxels = in_voxels(fine, self.reading("voxels", (40, 4, 4)), (40, 8, 8), "t")
        expected = [[0, -0.25, -0.25], [0, 0.25, 0.25], [0, np.nan, np.nan]]
        np.testing.assert_array_equal(voxels, expected)

    @pytest.mark.parametrize(("unit", "size"), [("nm", None), ("voxels", (40.0, 4.0, 4.0))])
    def test_a_voxel_size_that_is_needed_and_not_known_is_asked_for(
        self, unit: str, size: Any
    ) -> None:
        with pytest.raises(InputError, match=r"t\.csv are in .*nm.*give it with --voxel_size"):
            in_voxels(ZYX, self.reading(unit, size), None, "t.csv")


def test_a_million_rows() -> None:
    shape = (500, 2000, 3000)
    values = np.random.default_rng(0).integers(0, shape, (1_000_000, 3))
    read = found(columns(values, "z", "y", "x"))
    voxels = in_voxels(read.positions, read.reading, (8.0, 8.0, 8.0), "t.csv")
    np.testing.assert_array_equal(voxels, values)
    assert n_double(voxels) == len(values) - len(np.unique(values @ [6_000_000, 3000, 1]))
    assert check_reading(voxels, shape, read.reading, (8.0,) * 3, len(values), "t.csv") is None
    swapped = voxels[:, ::-1]
    said = check_reading(swapped, shape, read.reading, (8.0,) * 3, 100_000, "t.csv")
    assert said is not None
    assert said.startswith("all 1000000 in t.csv would lie inside when read in the order x, y, z")


def test_commas_are_decimal_where_semicolons_stand_between(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("z;y;x;note\n1,5;2;3,25;a,b\n4;5;6;c\n")
    assert open_table(tmp_path / "t.csv").positions.tolist() == [[1.5, 2, 3.25], [4, 5, 6]]
    (tmp_path / "t.csv").write_text("z;y;x\n1.5;2;3\n")
    assert open_table(tmp_path / "t.csv").positions.tolist() == [[1.5, 2, 3]]
