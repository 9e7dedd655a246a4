"""A feature table becomes a report: one HTML file that holds all it needs."""

import base64
import json
import shutil
from collections.abc import Generator
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from browser import Browser
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.neighbours import Step
from napari_synapse_cl.features.tables import (
    FORMATS,
    feature_columns,
    feature_table,
    write_table,
)
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.pipeline.report import crops, job
from napari_synapse_cl.pipeline.report.crops import N_SLICES, as_strip
from napari_synapse_cl.pipeline.report.curves import MOST_POINTS, charts_of
from napari_synapse_cl.pipeline.report.dots import BLANK, MOST_CLASSES, classes_of, names_of
from napari_synapse_cl.runs.events import Control, EpochDone, Event, Progress, StepDone
from napari_synapse_cl.runs.folder import RunFolder, RunStatus

N, CHANNELS, SHAPE = 90, 6, (40, 96, 96)
EVIL = "<script>alert(1)</script>"
RECORD: dict[str, Any] = {
    "pooling": "mean",
    "checkpoint": "network.pt",
    "sha256": "ab" * 32,
    "crop_size": [16, 16, 16],
    "extent": [16, 16, 16],
    "voxel_size": [10.0, 10.0, 10.0],
    "made": "2026-01-01T00:00:00+00:00",
    "layers": [{"name": "layer 20", "channels": CHANNELS}],
    "settings": {"keep": "everything", "intensity": "crop"},
}


def make_table() -> pd.DataFrame:
    """Return rows of three kinds that features tell, with other people's columns; one is blank."""
    rng = np.random.default_rng(0)
    kinds = np.arange(N) % 3
    values = rng.normal(size=(N, CHANNELS)) + 5 * np.eye(3, CHANNELS)[kinds]
    values[5, 2] = np.nan
    table = pd.DataFrame(
        {
            "id": 2**60 + np.arange(N),
            **{a: rng.integers(0, n, N) for a, n in zip("zyx", SHAPE, strict=True)},
            "class": np.array([EVIL, "b & c", "d'\""])[kinds],
            EVIL: np.where(np.arange(N) % 2, "</script><img src=x onerror=alert(2)>", "plain"),
            "size": rng.normal(size=N),
        }
    )
    columns = feature_columns(20, "mean", CHANNELS)
    return feature_table(table, np.arange(N), values.astype(np.float32), columns)


@pytest.fixture(scope="module")
def volume_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volume") / "volume.npy"
    np.save(path, np.random.default_rng(1).integers(0, 256, SHAPE, dtype=np.uint8))
    return path


@pytest.fixture(scope="module")
def table_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "features.parquet"
    write_table(make_table(), path, RECORD)
    return path


def report(table: Path, output: Path, *more: object) -> Path:
    flags = ["--report", "--features", table, "--output", output, *more]
    assert main([str(flag) for flag in flags]) == 0
    return output / "report.html"


@pytest.fixture(scope="module")
def page_file(
    table_file: Path, volume_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A report with all that there can be, but a run."""
    folder = tmp_path_factory.mktemp("report")
    return report(table_file, folder, "--image", volume_file, "--n_neighbors", 5)


class Page(HTMLParser):
    """What a browser makes of a page."""

    VOID = frozenset({"meta", "img", "line", "circle", "polyline", "br", "link"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self._open == []
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.texts.setdefault(self._open[-1], []).append(data.strip())

    @property
    def scripts(self) -> list[str]:
        return self.texts["script"]

    @property
    def words(self) -> str:
        shown = (texts for tag, texts in self.texts.items() if tag not in ("script", "style"))
        return " ".join(text for texts in shown for text in texts)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(page_file: Path) -> Page:
    return Page(page_file)


class TestPage:
    def test_it_is_one_file_that_fetches_nothing(self, page: Page, page_file: Path) -> None:
        assert sorted(p.name for p in page_file.parent.iterdir() if p.name[0] != ".") == [
            "report.html"
        ]
        assert page_file.stat().st_size < 20 * 2**20
        for _, attributes in page.tags:
            assert "href" not in attributes or str(attributes["href"]).startswith("#")
            assert "src" not in attributes or str(attributes["src"]).startswith("data:image/jpeg")
        policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
        assert policy is not None
        assert policy.startswith("default-src 'none'; img-src data:;")

    def test_names_and_cells_of_other_people_are_text(self, page: Page) -> None:
        assert page.source.count("<script") == 2
        assert "alert(1)" not in page.scripts[1]
        assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
        assert EVIL in page.words
        names = [one["name"] for one in page.data["columns"]]
        assert names == ["class", "cluster", EVIL, "size"]
        assert EVIL in page.data["columns"][0]["labels"]

    def test_every_row_with_features_is_a_dot_with_its_place_and_all_digits_of_its_id(
        self, page: Page
    ) -> None:
        table, data = make_table(), page.data
        rows = [row for row in range(N) if row != 5]
        assert data["rows"] == rows
        assert data["names"]["cells"] == [str(2**60 + row) for row in rows]
        first = table.iloc[0]
        assert data["places"][0] == f"{first['z']}, {first['y']}, {first['x']}"
        [components] = data["maps"]
        assert len(components["x"]) == len(components["y"]) == N - 1
        assert min(components["x"] + components["y"]) >= 0
        assert max(components["x"] + components["y"]) <= 9999
        assert max(np.ptp(components["x"]), np.ptp(components["y"])) == 9999
        labels = data["columns"][0]
        assert [labels["labels"][code] for code in labels["codes"]] == [
            table["class"][row] for row in rows
        ]

    def test_crops_are_strips_of_slices(self, page: Page) -> None:
        strips = page.data["strips"]
        assert len(strips) == N - 1
        with Image.open(BytesIO(base64.b64decode(strips["0"]))) as strip:
            assert strip.size == (16 * N_SLICES, 16)

    def test_clusters_have_nine_typical_crops_each_and_say_whether_to_rely_on_them(
        self, page: Page
    ) -> None:
        lists = [one for one in page.all("div") if one.get("class") == "crops"]
        assert len(lists) == 2 * 3
        assert len(page.all("figure")) == 2 * 3 * 9
        assert len(page.all("img")) == 2 * 3 * 9 + 20 + 1
        assert "These clusters come again, and can be taken as classes" in page.words

    def test_accuracy_stands_beside_chance_with_its_interval(self, page: Page) -> None:
        assert "95 % confidence; by chance 0.33" in page.words
        assert "the vectors" in page.texts["th"]
        assert f"F1 of {EVIL}" in page.texts["th"]
        assert f"told {EVIL}" in page.texts["th"]

    def test_it_tells_what_was_run_and_how_to_report_again(
        self, page: Page, table_file: Path, volume_file: Path
    ) -> None:
        shape = "16 × 16 × 16 voxels along z, y, x"
        for told in ("ab" * 32, "network.pt", shape, "intensity crop"):
            assert told in page.words
        [command] = page.texts["code"]
        assert command == (
            f"synapse-cl --report --image {volume_file} --features {table_file} --n_neighbors 5 "
            "--output NEW_FOLDER"
        )

    def test_it_says_what_is_not_known(self, page: Page) -> None:
        assert "1 of 90 rows have no features of L20_mean" in page.words
        assert "Whether neighbours reflect more than brightness is not known" in page.words
        assert "No run of a training lies behind these features" in page.words

    def test_what_can_be_pressed_can_be_named(self, page: Page) -> None:
        for tag in ("canvas", "svg"):
            for attributes in page.all(tag):
                assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
        assert all("alt" in attributes for attributes in page.all("img"))
        assert page.all("html") == [{"lang": "en"}]


@pytest.mark.parametrize("suffix", FORMATS)
def test_tables_of_every_format_are_reported_on(
    suffix: str, volume_file: Path, tmp_path: Path
) -> None:
    table = make_table().rename(columns={EVIL: "note"})
    write_table(table, tmp_path / f"f.{suffix}", RECORD)
    page = Page(report(tmp_path / f"f.{suffix}", tmp_path / "out", "--n_clusters", 3))
    assert len(page.data["rows"]) == N - 1
    assert page.data["names"]["cells"][0] == str(2**60)


def test_without_a_volume_and_labels_it_says_so(table_file: Path, tmp_path: Path) -> None:
    page = Page(report(table_file, tmp_path, "--label_column", ""))
    assert "There are no crops: no image is named" in page.words
    assert "No labels are predicted: no column of labels is named." in page.words
    assert page.data["strips"] == {}
    assert [one["src"] for one in page.all("img") if "src" in one] == []


def test_rows_that_are_all_alike_have_no_clusters_and_that_is_told(tmp_path: Path) -> None:
    table = make_table()
    table[feature_columns(20, "mean", CHANNELS)] = np.float32(1)
    write_table(table, tmp_path / "f.csv", RECORD)
    page = Page(report(tmp_path / "f.csv", tmp_path / "out"))
    assert "have the same features" in page.words
    assert len(page.data["rows"]) == N


def test_rows_of_several_volumes_have_their_crops(volume_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "dark.npy", np.tile(np.uint8([[[0, 9]]]), (40, 96, 48)))
    images = {"noise": volume_file, "dark": tmp_path / "dark.npy"}
    volumes = [{"name": n, "image": str(i), "synapses": "s.csv"} for n, i in images.items()]
    (tmp_path / "data.json").write_text(json.dumps({"volumes": volumes}))
    table = make_table().assign(volume=np.where(np.arange(N) < 20, "noise", "dark"))
    record = {**RECORD, "settings": {"keep": "cleft", "intensity": "range"}}
    write_table(table, tmp_path / "f.csv", record)
    page = Page(report(tmp_path / "f.csv", tmp_path / "out", "--dataset", tmp_path / "data.json"))
    assert len(page.data["strips"]) == N - 1
    assert "without masks and not moved" in page.words
    spread = []
    for number in ("0", "80"):
        with Image.open(BytesIO(base64.b64decode(page.data["strips"][number]))) as strip:
            spread.append(np.asarray(strip).std())
    assert spread[0] > 3 * spread[1]


def test_a_map_by_umap_is_there_if_it_is_wanted(
    table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def umap_positions(values: np.ndarray, seed: int) -> Generator[Step, None, np.ndarray]:
        yield "making a map", 1, 1, "epoch"
        return values[:, :2]

    monkeypatch.setattr(job, "umap_positions", umap_positions)
    page = Page(report(table_file, tmp_path, "--umap"))
    assert [one["name"] for one in page.data["maps"]] == ["Principal components", "UMAP"]
    assert page.texts["code"][0].endswith("--umap --output NEW_FOLDER")


def test_of_many_clusters_the_largest_are_shown(
    table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_synapse_cl.pipeline.report.page.MOST_CLUSTERS", 3)
    page = Page(report(table_file, tmp_path, "--n_clusters", 5))
    assert len(page.all("article")) == 3
    assert "2 smaller clusters are not shown." in page.words


def test_of_very_many_rows_some_are_drawn_and_those_with_labels_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "MOST_ROWS", 60)
    table = make_table()
    table["class"] = np.where(np.arange(N) < 12, table["class"], None)
    write_table(table, tmp_path / "f.csv", RECORD)
    page = Page(report(tmp_path / "f.csv", tmp_path / "out"))
    assert len(page.data["rows"]) == 60
    assert set(range(12)) - {5} <= set(page.data["rows"])
    assert "Of 89 rows with features 60 are looked at, drawn with seed 0" in page.words


def test_the_bytes_of_crops_are_bounded(
    table_file: Path, volume_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crops, "MOST_CHARACTERS", 10_000)
    page = Page(report(table_file, tmp_path, "--image", volume_file))
    n = len(page.data["strips"])
    assert 0 < n < 40
    assert f"{n} rows have one here" in page.words


class TestRefused:
    def test_a_report_that_is_there(self, table_file: Path, page_file: Path) -> None:
        with pytest.raises(InputError, match=r"report\.html is there already"):
            list(run(Config(report=True, features=table_file, output=page_file.parent)))

    def test_umap_without_its_package_before_anything_is_written(
        self, table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("napari_synapse_cl.features.projections.LIBRARY", "no_such_package")
        with pytest.raises(InputError, match="UMAP needs the package umap-learn"):
            list(run(Config(report=True, features=table_file, umap=True, output=tmp_path / "o")))

    def test_an_image_in_which_the_rows_do_not_lie(self, tmp_path: Path, table_file: Path) -> None:
        image, output = tmp_path / "small.npy", tmp_path / "out"
        np.save(image, np.zeros((2, 2, 2), np.uint8))
        config = Config(report=True, features=table_file, image=str(image), output=output)
        with pytest.raises(InputError, match="outside"):
            list(run(config))

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            ({"explore": "cluster"}, "explore and report exclude each other"),
            ({"features": None}, "report needs a feature table"),
            ({"synapses": "s.csv", "image": "v.tif"}, "leave synapses out"),
            ({"extract_only": True, "checkpoint": "c.pt"}, "leave extract_only out"),
        ],
    )
    def test_what_does_not_go_together(self, more: dict[str, Any], why: str) -> None:
        with pytest.raises(InputError, match=why):
            Config.from_values({"report": True, "features": "f.csv", **more})


def test_a_report_that_is_ended_early_leaves_nothing(
    table_file: Path, volume_file: Path, tmp_path: Path
) -> None:
    control, told = Control(), list[Event]()
    config = Config(
        report=True, features=table_file, image=str(volume_file), output=tmp_path / "out"
    )
    for event in run(config, control):
        told.append(event)
        if isinstance(event, Progress) and event.task == "cutting crops":
            control.request("stop")
    assert "nothing is kept" in str(told[-1])
    assert not (tmp_path / "out" / "report.html").exists()


class TestRun:
    @pytest.fixture
    def folder(self, volume_file: Path, tmp_path: Path) -> RunFolder:
        """A run whose folder holds the table that it made."""
        table = make_table()
        table[["z", "y", "x", "class"]].to_csv(tmp_path / "synapses.csv", index=False)
        folder = RunFolder(tmp_path / "my run")
        named = {"image": str(volume_file), "synapses": tmp_path / "synapses.csv"}
        folder.create(
            Config.from_values({**named, "crop_size": 16, "voxel_size": (10, 10, 10)}),
            {"versions": {"torch": "2.0"}, "reproduce": "synapse-cl --config c.json"},
        )
        status = RunStatus.of_this_process(
            device="cpu", precision="float32", n_training=80, n_validation=10, batch_size=4,
            steps_per_epoch=200, total_steps=600, step=0, chance_loss=1.9,
        )  # fmt: skip
        folder.write_status(replace(status, state="completed"))
        for step in range(1, 601):
            folder.record(StepDone(1, step, 2 - step / 600, 1e-3, 5.0, 0.1))
        for epoch, retrieval in ((1, 0.1), (2, 0.5), (3, 0.9)):
            measured = {"retrieval": retrieval, "feature_rank": 3.0, "effective_rank": 2.0}
            folder.record(EpochDone(epoch, 200 * epoch, 1.5, 1.4, best=True, **measured))
        write_table(table, folder.path / "features_L20_mean.csv", RECORD)
        return folder

    def test_its_curves_and_crops_are_shown(self, folder: RunFolder, tmp_path: Path) -> None:
        page = Page(report(folder.path / "features_L20_mean.csv", tmp_path / "out"))
        assert len(page.data["strips"]) == N - 1
        assert "Crops are those of the run my run" in page.words
        labels = [str(one["aria-label"]) for one in page.all("svg") if "aria-label" in one]
        assert [label.split(":")[0] for label in labels] == [
            "Loss", "Held-out synapses found again (share)", "Effective rank",
        ]  # fmt: skip
        assert "by chance 1.9" in labels[0]
        assert "held out: 0.1 at first, 0.9 at last" in labels[1]
        assert "by chance 0.0526" in labels[1]
        assert "It learns: it finds 9 of 10 held-out synapses again, by chance 1" in page.words
        assert "synapse-cl --config c.json" in page.words

    def test_curves_of_many_steps_are_thinned_and_stay_in_their_chart(
        self, folder: RunFolder
    ) -> None:
        loss, *_ = charts_of(folder)
        lines = {line.label: line.points.split() for line in loss.lines}
        assert len(lines["training, each step"]) == MOST_POINTS
        assert len(lines["held out"]) == 3
        points = np.array([p.split(",") for some in lines.values() for p in some], float)
        assert points.min() >= 0
        assert (points <= (440, 210)).all()

    def test_of_other_synapses_than_its_own_there_are_no_crops(
        self, folder: RunFolder, tmp_path: Path
    ) -> None:
        write_table(make_table().iloc[:50], folder.path / "features_other.csv", RECORD)
        page = Page(report(folder.path / "features_other.csv", tmp_path / "out"))
        assert page.data["strips"] == {}
        assert "its synapses are others than those of this table" in page.words

    def test_data_that_have_gone_are_told(self, folder: RunFolder, tmp_path: Path) -> None:
        (tmp_path / "synapses.csv").unlink()
        page = Page(report(folder.path / "features_L20_mean.csv", tmp_path / "out"))
        assert "what the run my run was trained on is not to be had" in page.words


class TestClasses:
    def test_numbers_are_ranges_of_as_many_rows(self) -> None:
        found = classes_of("size", pd.Series([*np.arange(100.0), np.nan, np.inf]))
        assert found is not None
        assert found.are_ranges
        assert np.bincount(found.codes[:100]).tolist() == [20] * 5
        assert found.codes[100:].tolist() == [BLANK, BLANK]

    def test_of_many_classes_the_rarest_are_one(self) -> None:
        names = [f"c{i:02d}" for i in range(20) for _ in range(100 - i)]
        found = classes_of("kind", pd.Series(names))
        assert found is not None
        assert len(found.labels) == MOST_CLASSES
        assert found.labels[-1] == "9 others"
        assert found.labels[0] == "c00"

    @pytest.mark.parametrize(
        "cells", [["a"] * 9, [None] * 9, list(range(2**60, 2**60 + 90)), ["", "a", "a"]]
    )
    def test_what_tells_no_classes_is_none(self, cells: list[Any]) -> None:
        assert classes_of("column", pd.Series(cells)) is None

    def test_dates_and_booleans_are_classes(self) -> None:
        for cells in ([True, False] * 9, pd.to_datetime(["2026-01-01", "2026-01-02"] * 9)):
            found = classes_of("column", pd.Series(cells))
            assert found is not None
            assert len(found.labels) == 2

    def test_rows_are_named_by_what_tells_them_apart(self) -> None:
        table = pd.DataFrame({"z": [1, 2], "kind": ["a", "a"], "id": [2**63 - 1, 5]})
        assert names_of(table) == ("id", ["9223372036854775807", "5"])
        assert names_of(table[["z", "kind"]]) is None

    def test_long_cells_are_cut(self) -> None:
        found = names_of(pd.DataFrame({"note": ["a" * 5000, "b"]}))
        assert found == ("note", ["a" * 79 + "…", "b"])


def test_a_strip_goes_through_depth_from_left_to_right() -> None:
    crop = np.linspace(0, 1, 17, dtype=np.float32)[:, None, None] * np.ones((17, 60, 30))
    with Image.open(BytesIO(as_strip(crop, 0, 1))) as strip:
        assert strip.size == (24 * N_SLICES, 48)
        middles = np.asarray(strip)[24, 12::24].astype(float)
    np.testing.assert_allclose(middles, np.linspace(0, 255, N_SLICES), atol=6)


def box_of(browser: Browser, element: str) -> list[float]:
    """Return where an element lies in what is in sight: its left, top, width and height."""
    found: list[float] = browser.ask(
        f"(({{x, y, width, height}}) => [x, y, width, height])({element}.getBoundingClientRect())"
    )
    return found


@pytest.mark.skipif(shutil.which("bash") is None, reason="the browser is started by a shell")
class TestInBrowser:
    def test_pointing_shows_a_crop_and_the_legend_hides_a_class(
        self, page_file: Path, page: Page, tmp_path: Path
    ) -> None:
        with Browser(page_file, tmp_path / "profile") as browser:
            browser.ask("document.getElementById('drawing').scrollIntoView()")
            x, y, width, height = box_of(browser, "document.getElementById('dots')")
            scale = (min(width, height) - 36) / 9999
            dot = page.data["maps"][0]
            # The dot that is farthest right has none beside it.
            number = int(np.argmax(dot["x"]))
            place = (
                x + width / 2 + (dot["x"][number] - 9999 / 2) * scale,
                y + height / 2 + (dot["y"][number] - 9999 / 2) * scale,
            )
            hidden = "document.getElementById('pointed').hidden"
            assert browser.ask(hidden)
            browser.point(*place)
            assert not browser.ask(hidden)
            text = browser.ask("document.getElementById('pointed-text').textContent")
            assert f"row {page.data['rows'][number]} at" in text
            assert page.data["names"]["cells"][number] in text
            shown = browser.ask("document.getElementById('pointed-crop').src")
            assert shown.endswith(page.data["strips"][str(number)])
            moves = "getComputedStyle(document.getElementById('pointed-crop')).animationName"
            assert browser.ask(moves) == "depth"
            browser.prefer("dark", "reduce")
            assert browser.ask(moves) == "none"
            browser.prefer("light")

            # Read from a copy, since a canvas that is read often is drawn otherwise.
            inked = (
                "(() => { const c = document.getElementById('dots'); "
                "const k = Object.assign(document.createElement('canvas'), "
                "{ width: c.width, height: c.height }); "
                "const pen = k.getContext('2d', { willReadFrequently: true }); "
                "pen.drawImage(c, 0, 0); "
                "const p = pen.getImageData(0, 0, c.width, c.height).data; let n = 0; "
                "for (let i = 3; i < p.length; i += 4) n += p[i] > 0; return n; })()"
            )
            browser.point(x + 2, y + 2)
            assert browser.ask(hidden)
            all_dots = browser.ask(inked)
            press = "document.querySelectorAll('#legend button')"
            assert browser.ask(f"{press}.length") == 3
            left, top, across, down = box_of(browser, f"{press}[0]")
            spot = (left + across / 2, top + down / 2)
            browser.click(*spot)
            assert browser.ask(f"{press}[0].getAttribute('aria-pressed')") == "false"
            assert browser.ask(inked) < 0.8 * all_dots
            browser.click(*spot)
            assert browser.ask(inked) == all_dots

            browser.ask("document.getElementById('dots').focus()")
            browser.press("ArrowRight")
            first = browser.ask("document.getElementById('pointed-text').textContent")
            browser.press("ArrowRight")
            browser.press("ArrowDown")
            assert browser.ask("document.getElementById('pointed-text').textContent") != first
            browser.press("Escape")
            assert browser.ask(hidden)
            assert browser.complaints == []
