"""What goes into a table comes out of it: digits, words, blanks and types."""

import gzip
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from conftest import Bomb, deflated_zeros
from napari_synapse_cl.data.tables import interpret, open_table, read_table, text
from napari_synapse_cl.data.tables.columns import numbers_said
from napari_synapse_cl.data.tables.conventions import by_name, column_named
from napari_synapse_cl.data.tables.typed import joined, settled
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features import tables
from napari_synapse_cl.features.analysis import label_names
from napari_synapse_cl.models.checkpoints import load_checkpoint

ID = 720575940623374833
AXES_OF_NAPARI = ["axis-0", "axis-1", "axis-2"]


def zyx(n: int) -> dict[str, Any]:
    """Positions of n synapses."""
    return {axis: list(range(n)) for axis in "zyx"}


def csv_of(cells: list[str], path: Path) -> Path:
    rows = [f"{i},{i},{i},{cell}" for i, cell in enumerate(cells)]
    path.write_text("\n".join(["z,y,x,given", *rows, ""]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([str(ID), ""], "Int64"),
        ([str(ID), "-5"], "int64"),
        ([str(2**63 + 1), ""], "UInt64"),
        ([str(2**64), "1"], "text"),
        (["True", ""], "boolean"),
        (["True", "False"], "bool"),
        (["0.5", "1e-05"], "float64"),
        (["0.1", ""], "float64"),
        *(([cell, "7"], "text") for cell in ("00012", "+5", "1_000", "0x10", "-0", "1e5", "NA")),
        *(([cell, "1.5"], "text") for cell in ("0.50", "2E10", "1", "nan", "None", "n/a", "null")),
        *(([cell, "1.5"], "text") for cell in ("2E20", "1e16", "1E-05", "1e-5", "1e400")),
        (["2024-01-01", " 5"], "text"),
        (["NA", "ACh"], "text"),
    ],
)
def test_cells_of_text_come_out_as_they_went_in(
    cells: list[str], kind: str, tmp_path: Path
) -> None:
    table = read_table(csv_of(cells, tmp_path / "in.csv"))
    assert str(table["given"].dtype).replace("str", "text").replace("object", "text") == kind
    tables.write_table(table, tmp_path / "out.csv", {})
    assert (tmp_path / "out.csv").read_text() == (tmp_path / "in.csv").read_text()


@pytest.mark.parametrize("suffix", tables.FORMATS)
def test_every_format_keeps_ids_beside_blanks(suffix: str, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            **zyx(3),
            "id": pd.array([ID, None, ID + 2], dtype="Int64"),
            "big": pd.array([2**63 + 1, None, 3], dtype="UInt64"),
            "good": pd.array([True, None, False], dtype="boolean"),
            "held": pd.Series([ID, np.nan, ID + 2], dtype=object),
        }
    )
    tables.write_table(table, tmp_path / f"t.{suffix}", {})
    back, _ = tables.read_table(tmp_path / f"t.{suffix}")
    for name in ("id", "big", "good", "held"):
        assert back[name].isna().tolist() == [False, True, False]
        assert back[name].dropna().tolist() == table[name].dropna().tolist()
        pd.testing.assert_series_equal(settled(back[name]), settled(table[name]), check_names=False)


@pytest.mark.parametrize("suffix", tables.FORMATS)
def test_objects_that_say_numbers_are_written_as_numbers(suffix: str, tmp_path: Path) -> None:
    """As napari holds columns with blanks, and as a read table has them."""
    given = {"score": [5, 0.25, None], "big": [2**63 + 1, None, 3], "huge": [2**64, None, 3]}
    table = pd.DataFrame({**zyx(3), **given}, dtype=object)
    tables.check_format(suffix, table)
    tables.write_table(table, tmp_path / f"t.{suffix}", {})
    back = tables.read_table(tmp_path / f"t.{suffix}")[0]
    assert back["score"].dtype == np.float64
    np.testing.assert_array_equal(back["score"], [5, 0.25, np.nan])
    assert back["big"].dropna().tolist() == [2**63 + 1, 3]
    assert back["huge"].dropna().tolist() == [str(2**64), "3"]


@pytest.mark.parametrize("suffix", ["parquet", "feather", "arrow"])
def test_nulls_leave_ids_whole_in_files_that_pandas_has_not_written(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"t.{suffix}"
    ids = {"id": [ID, None, ID + 2], "big": pa.array([2**63 + 1, None, 3], pa.uint64())}
    arrow = pa.table({**zyx(3), **ids, "good": [True, None, False]})
    write = pyarrow.parquet.write_table if suffix == "parquet" else pyarrow.feather.write_feather
    write(arrow, path)
    found = [read_table(path)]
    if suffix in tables.FORMATS:
        found.append(tables.read_table(path)[0])
    for table in found:
        for name in ("id", "big", "good"):
            assert table[name].isna().tolist() == [False, True, False]
            assert table[name].dropna().tolist() == [arrow[name][0].as_py(), arrow[name][2].as_py()]


def test_words_and_codes_beside_a_row_that_is_short_stay(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"z,y,x,word,code,id\n1,2,3,NA,00012,{ID}\n4,5,6,null,7\n7,8,9,nan,2E10,\n")
    for table in (read_table(path), tables.read_table(path)[0]):
        assert table["word"].tolist() == ["NA", "null", "nan"]
        assert table["code"].tolist() == ["00012", "7", "2E10"]
        assert table["id"].dropna().tolist() == [ID]


def test_numbers_with_commas_come_out_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("z;y;x;score;name\n1,5;2;3,50;0,25;a,b\n4;5,5;6;1,5;c\n")
    found = open_table(path)
    assert found.positions.tolist() == [[1.5, 2, 3.5], [4, 5.5, 6]]
    assert found.table["score"].tolist() == [0.25, 1.5]
    assert found.table["name"].tolist() == ["a,b", "c"]


def test_words_for_nothing_are_no_position(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("z,y,x\n1,2,3\nNA,nan,None\n")
    found = open_table(path)
    assert found.n_missing == 1
    path.write_text("z,y,x\n1,2,3\nsoon,2,3\n")
    with pytest.raises(InputError, match="z in data row 2 is not a number: soon"):
        open_table(path)


def test_excel_keeps_text_integers_and_blanks_apart(tmp_path: Path) -> None:
    given = {"text": [str(ID), None, "NA"], "whole": [5, None, 7], "good": [True, None, False]}
    codes = {"code": ["00012", "7", "2E10"], "root": [str(ID), str(ID + 2), str(ID + 4)]}
    written = pd.DataFrame({**zyx(3), **given, **codes}).astype(object)
    written.to_excel(tmp_path / "t.xlsx", index=False)
    table = read_table(tmp_path / "t.xlsx")
    assert table[list(codes)].to_dict("list") == codes
    for name, cells in given.items():
        assert table[name].isna().tolist() == [False, True, False]
        assert table[name].dropna().tolist() == [cells[0], cells[2]]
    assert (table["whole"].dtype, table["good"].dtype) == ("Int64", "boolean")


def test_annotations_some_of_which_lack_an_id_keep_its_digits(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    points = [{"type": "point", "point": [1, 2, 3], **more} for more in ({"root": ID}, {})]
    path.write_text(json.dumps(points))
    assert read_table(path)["root"].dropna().tolist() == [ID]


def test_tables_that_are_joined_keep_what_each_holds() -> None:
    first = pd.DataFrame({"id": [ID, ID + 2], "code": ["00012", "x"], "n": [1, 2]})
    second = pd.DataFrame({"code": [7], "n": [0.5], "good": [True]})
    table = joined([first, second])
    assert table["id"].dropna().tolist() == [ID, ID + 2]
    assert table["code"].tolist() == ["00012", "x", "7"]
    assert table["n"].tolist() == ["1", "2", "0.5"]
    assert table["good"].dropna().tolist() == [True]


def test_text_that_says_numbers_can_be_used_as_such() -> None:
    said = numbers_said(pd.Series(["0.50", "NA", None, "1"]))
    np.testing.assert_array_equal(said, [0.5, np.nan, np.nan, 1])
    assert numbers_said(pd.Series(["0.50", "ACh"])) is None
    assert numbers_said(pd.Series(["NA", "NA"])) is None


@pytest.mark.parametrize("names", [["x", " x"], [" x", "x"], ["X", "x", "x "]])
def test_an_exact_name_wins(names: list[str]) -> None:
    assert by_name(names)["x"] == "x"
    assert column_named(names, "x") == "x"
    table = pd.DataFrame({"z": [1], "y": [2], **{n: [3 if n == "x" else 9] for n in names}})
    assert interpret(table, "t").positions.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("names", [["X", " x"], ["x ", "X"], [" X", "x "]])
def test_a_name_that_needs_trimming_alone_wins_over_one_of_another_case(names: list[str]) -> None:
    trimmed = next(name for name in names if name.strip() == "x")
    assert by_name(names)["x"] == column_named(names, "x") == trimmed


def test_a_name_is_found_through_blanks_and_another_case() -> None:
    table = pd.DataFrame({" Z ": [1], "Y": [2], "x ": [3]})
    assert interpret(table, "t").positions.tolist() == [[1, 2, 3]]
    assert column_named(table.columns, "z") == " Z "


def test_columns_that_stand_first_are_the_positions() -> None:
    own = pd.DataFrame({name: [i] for i, name in enumerate(["z", "y", "x", *AXES_OF_NAPARI])})
    assert interpret(own, "t").positions.tolist() == [[0, 1, 2]]
    napari = own[[*AXES_OF_NAPARI, "z", "y", "x"]]
    assert interpret(napari, "t").positions.tolist() == [[3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [("z;y;x;größe\n1;2;3;µ\n", "latin-1"), ("z\ty\tx\tgröße\n1\t2\t3\tµ", "utf-8")],
)
def test_a_feature_table_is_read_as_any_text_is(
    content: str, encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content, encoding=encoding)
    assert tables.table_columns(path) == ["z", "y", "x", "größe"]
    assert tables.read_table(path)[0]["größe"].tolist() == ["µ"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("suffix", [*tables.FORMATS, "feather", "xlsx"])
def test_a_folder_whose_name_is_no_utf8_holds_tables_of_every_format(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9") / f"t.{suffix}"
    path.parent.mkdir()
    table = pd.DataFrame(zyx(2))
    if suffix in tables.FORMATS:
        tables.write_table(table, path, {})
        assert tables.read_table(path)[0].equals(table)
        assert tables.table_columns(path) == list("zyx")
    else:
        write = {"feather": table.to_feather, "xlsx": partial(table.to_excel, index=False)}
        write[suffix](plain := tmp_path / path.name)
        plain.rename(path)
    if suffix not in ("npz", "h5ad"):
        assert read_table(path).equals(table)


@pytest.mark.parametrize(
    ("values", "suffix"),
    [
        ([1, "a"], "parquet"),
        ([2**64, "a"], "parquet"),
        ([1j, 2j], "parquet"),
        ([1j, 2j], "h5ad"),
    ],
)
def test_a_column_that_cannot_be_written_is_named(
    values: list[Any], suffix: str, tmp_path: Path
) -> None:
    table = pd.DataFrame({**zyx(2), "odd": values})
    with pytest.raises(InputError, match="the column odd holds"):
        tables.write_table(table, tmp_path / f"t.{suffix}", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["parquet", "h5ad"])
def test_a_column_that_cannot_be_written_is_named_before_a_job_begins(name: str) -> None:
    table = pd.DataFrame({**zyx(2), "waves": np.array([1 + 2j, 3])})
    with pytest.raises(InputError, match="the column waves holds complex numbers"):
        tables.check_format(name, table)
    tables.check_format("csv", table)


def test_no_column_of_text_is_a_slice_of_the_table(tmp_path: Path) -> None:
    """Of one, Arrow before 24 gives wrong strings."""
    file = csv_of(["NA", "ACh", "", "NA"], tmp_path / "t.csv")
    _, cells = text._parsed(file.read_bytes(), ",", 4)
    assert [chunk.offset for column in cells for chunk in column.chunks] == [0] * len(cells)


def test_a_class_called_na_is_a_class(tmp_path: Path) -> None:
    table = read_table(csv_of(["NA", "ACh", "", "NA"], tmp_path / "t.csv"))
    assert label_names(table["given"]).tolist() == ["NA", "ACh", "", "NA"]


def test_imaginary_parts_stay_in_npz(tmp_path: Path) -> None:
    table = pd.DataFrame({**zyx(2), "odd": [1j, 2j]})
    tables.write_table(table, tmp_path / "t.npz", {})
    assert tables.read_table(tmp_path / "t.npz")[0]["odd"].tolist() == [1j, 2j]


def test_errors_of_excel_come_out_as_they_are_shown_and_are_no_positions(tmp_path: Path) -> None:
    cells = {"x": [1, 2, "#REF!"], "ratio": [0.5, "#DIV/0!", 2], "class": ["a", "#N/A", None]}
    table = pd.DataFrame({**zyx(3), **cells}, dtype=object)
    # A title with an error, and an empty column between.
    table.insert(3, "", None)
    book = tmp_path / "t.xlsx"
    table.to_excel(book, index=False, startrow=2)
    opened = openpyxl.load_workbook(book)
    opened.active["B1"] = "#NAME?"
    opened.save(book)
    found = open_table(book)
    assert found.n_missing == 1
    assert found.table["ratio"].tolist() == cells["ratio"]
    assert found.table["class"].fillna("").tolist() == ["a", "#N/A", ""]
    np.testing.assert_array_equal(numbers_said(found.table["ratio"]), [0.5, np.nan, 2])
    tables.write_table(found.table.drop(columns="Unnamed: 3"), tmp_path / "out.csv", {})
    assert "1,1,2,#DIV/0!,#N/A" in (tmp_path / "out.csv").read_text().splitlines()


@pytest.mark.parametrize("suffix", tables.FORMATS)
def test_integers_of_excel_beside_fractions_come_out_in_every_format(
    suffix: str, tmp_path: Path
) -> None:
    given = {"score": [5, 0.25, None, -3], "good": [1, 2, 3.5, 4]}
    pd.DataFrame({**zyx(4), **given}, dtype=object).to_excel(tmp_path / "t.xlsx", index=False)
    tables.write_table(read_table(tmp_path / "t.xlsx"), tmp_path / f"t.{suffix}", {})
    back = tables.read_table(tmp_path / f"t.{suffix}")[0]
    np.testing.assert_array_equal(back["score"], [5, 0.25, np.nan, -3])
    assert back["good"].tolist() == given["good"]


def test_ids_that_a_book_holds_whole_keep_their_digits_beside_fractions(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    pd.DataFrame({**zyx(2), "id": [7, 0.5]}, dtype=object).to_excel(path, index=False)
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    # openpyxl itself writes no more digits than Excel keeps; other programs do.
    sheet = parts["xl/worksheets/sheet1.xml"]
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b"<v>7</v>", f"<v>{ID}</v>".encode())
    with zipfile.ZipFile(path, "w") as book:
        for name, content in parts.items():
            book.writestr(name, content)
    table = read_table(path)
    for suffix in ("csv", "npz", "h5ad"):
        tables.write_table(table, tmp_path / f"t.{suffix}", {})
        back = tables.read_table(tmp_path / f"t.{suffix}")[0]
        assert back["id"].map(str).tolist() == [str(ID), "0.5"]
    with pytest.raises(InputError, match="the column id holds"):
        tables.write_table(table, tmp_path / "t.parquet", {})


@pytest.mark.parametrize("kind", ["xlsx", "npz", "pt"])
def test_an_archive_that_unpacks_to_gigabytes_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{kind}"
    parts = ("columns.npy", "features.npy", "feature_names.npy", "record.npy", "a/data.pkl")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in parts:
            archive.writestr(part, bytes(20 * 2**20))
    read: dict[str, Callable[[Path], object]] = {
        "xlsx": read_table,
        "npz": tables.read_table,
        "pt": load_checkpoint,
    }
    with pytest.raises(InputError, match="it unpacks to 100 MiB, more"):
        read[kind](path)


def test_text_that_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_LARGEST_SMALL", 2**20)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"z,y,x\n" + b"1,2,3\n" * 2**20))
    with pytest.raises(InputError, match="it unpacks to more than 100 times its size"):
        read_table(tmp_path / "t.csv.gz")


@pytest.mark.parametrize("repeats", [False, True], ids=["compressed", "said to repeat"])
def test_a_parquet_file_that_unpacks_to_gigabytes_is_refused(repeats: bool, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    n = 4_000_000
    arrow = pa.table({axis: np.zeros(n) for axis in "zyx"})
    pyarrow.parquet.write_table(arrow, path, compression="zstd", use_dictionary=repeats)
    assert path.stat().st_size < 2**18
    for read in (read_table, tables.read_table):
        with pytest.raises(InputError, match=r"it unpacks to 91\.[56] MiB, more than is read"):
            read(path)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("dense", "it unpacks to 381.5 MiB, more than is read"),
        ("sparse", "it unpacks to 381.5 MiB, more than is read"),
        ("chunk", "unpacks to far more than the 8,192 bytes of a chunk"),
        ("elsewhere", "has its voxels in another file"),
        ("link", "which is not in the folder of t.h5ad"),
    ],
)
def test_an_h5ad_file_that_fills_the_memory_or_leads_elsewhere_is_refused(
    what: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.h5ad"
    tables.write_table(pd.DataFrame(zyx(2)), path, {})
    assert len(tables.read_table(path)[0]) == 2
    with h5py.File(path, "r+") as file:
        if what == "dense":
            file.create_dataset("obsm/big", (2, 50_000_000), "f4", chunks=(2, 1000))
        elif what == "sparse":
            file["obsm"].create_group("big").attrs["shape"] = (2, 50_000_000)
        elif what == "chunk":
            packed = deflated_zeros(2**29)
            made = file.create_dataset("obsm/big", (8192,), "f8", chunks=True, compression=4)
            made.id.write_direct_chunk((0,), packed)
        elif what == "elsewhere":
            outside = [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("obsm/big", (4,), "u1", external=outside)
        else:
            file["obsm/big"] = h5py.ExternalLink("/somewhere/else.h5", "/")
    with pytest.raises(InputError, match=message) as refused:
        tables.read_table(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("extension", ["arrow.py_extension_type", "pandas.period"])
def test_nothing_that_a_parquet_file_carries_is_run(extension: str, tmp_path: Path) -> None:
    ran, path = tmp_path / "ran", tmp_path / "t.parquet"
    pickled = pickle.dumps(Bomb(ran))
    names = {b"ARROW:extension:name": extension.encode(), b"ARROW:extension:metadata": pickled}
    fields = [pa.field(axis, pa.int64()) for axis in "zyx"]
    fields.append(pa.field("odd", pa.binary(), metadata=names))
    columns = [*zyx(1).values(), [pickled]]
    arrow = pa.Table.from_arrays([pa.array(c) for c in columns], schema=pa.schema(fields))
    pyarrow.parquet.write_table(arrow, path)
    for read in (read_table, lambda path: tables.read_table(path)[0]):
        # Where pandas has made the type known it finds no JSON in it, and the file is refused.
        with suppress(InputError):
            assert read(path)["odd"].tolist() == [pickled]
    assert not ran.exists()


def test_nothing_that_an_h5ad_file_carries_is_run(tmp_path: Path) -> None:
    ran, path = tmp_path / "ran", tmp_path / "t.h5ad"
    tables.write_table(pd.DataFrame({**zyx(2), "note": ["a", "b"]}), path, {"pooling": "mean"})
    # As PyTables and pandas keep objects, and old versions of AnnData did.
    pickled = np.void(pickle.dumps(Bomb(ran)))
    with h5py.File(path, "r+") as file:
        file["obs"].attrs["pickled"] = pickled
        file["uns"].attrs["FILTERS"] = pickled
    table, _ = tables.read_table(path)
    assert table["note"].tolist() == ["a", "b"]
    with h5py.File(path, "r+") as file:
        del file["uns"]["napari_synapse_cl"]
        file["uns"]["napari_synapse_cl"] = pickled
        file["uns"]["napari_synapse_cl"].attrs["encoding-type"] = "bytes"
    with pytest.raises(InputError, match=r"t\.h5ad is damaged") as refused:
        tables.read_table(path)
    assert "\n" not in str(refused.value)
    assert not ran.exists()


@pytest.mark.parametrize(
    "content",
    [b"z,y,x\n1,2,\0\n", b'z,y,x\n1,2,"3\n4,5,6\n', "z,y,x\n".encode("utf-16"), b"," * 200_000],
)
def test_malformed_text_is_said_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_table(tmp_path / "t.csv")
    assert "\n" not in str(error.value)


def test_annotations_nested_too_deeply_are_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="cannot be read as neuroglancer annotations"):
        read_table(tmp_path / "t.json")
