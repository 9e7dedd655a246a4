"""Extraction in shards: what it leaves, that it goes on, and what it refuses."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.sources import StreamedCrops
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.analysis import principal_components
from napari_synapse_cl.features.tables import read_table
from napari_synapse_cl.features.vectors import open_vectors
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.pipeline.comparison import draw_compared
from napari_synapse_cl.pipeline.networks import make_model
from napari_synapse_cl.pipeline.shards.components import Components, Moments
from napari_synapse_cl.pipeline.shards.here import share_of
from napari_synapse_cl.pipeline.shards.rows import morton
from napari_synapse_cl.pipeline.shards.trail import BROKEN, Trail
from napari_synapse_cl.runs.events import Control, Event, Message, ShardsDone, Wrote
from napari_synapse_cl.runs.shards import Places, follow_shards

N, OUTSIDE = 60, 17


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a volume in chunks, a table with a row outside, and a network."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    voxels = random.integers(0, 255, (48, 64, 64), dtype=np.uint8)
    volume = zarr.create_array(folder / "v.zarr", data=voxels, chunks=(16, 16, 16))
    assert volume.shape == voxels.shape
    table = pd.DataFrame(random.integers(5, 43, (N, 3)), columns=["z", "y", "x"])
    table["class"] = random.choice(["a", "b"], N)
    table["id"] = pd.array([None if n % 7 == 0 else n for n in range(N)], dtype="Int64")
    table.loc[OUTSIDE, "z"] = 5000
    table.to_parquet(folder / "t.parquet")
    config = Config.from_values({"fmaps": 4, "n_convolutions": (1, 1), "crop_size": 8})
    torch.save(make_model(config).backbone.state_dict(), folder / "n.pt")
    return folder


def settings_for(data: Path) -> dict[str, Any]:
    return {
        "extract_only": True,
        "checkpoint": data / "n.pt",
        "image": data / "v.zarr",
        "synapses": data / "t.parquet",
        "voxel_size": 10,
        "crop_size": 8,
        "layer_num": 3,
        "device": "cpu",
        "precision": "float32",
        "workers": 1,
        "shard_size": 10,
    }


@pytest.fixture
def settings(data: Path, tmp_path: Path) -> dict[str, Any]:
    return {**settings_for(data), "output": tmp_path / "out"}


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an extraction in shards has left."""
    output = tmp_path_factory.mktemp("done")
    list(events({**settings_for(data), "output": output}))
    return output


@pytest.fixture
def extracted(done: Path, tmp_path: Path) -> Path:
    """The same in the folder of the settings."""
    return Path(shutil.copytree(done, tmp_path / "out"))


def events(settings: dict[str, Any], control: Control | None = None) -> Iterator[Event]:
    return run(Config.from_values(settings), control)


def told(happened: list[Event]) -> str:
    return "\n".join(event.text for event in happened if isinstance(event, Message))


def part_files(output: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((output / "features").glob("part-*"))]


def times_done(output: Path) -> Counter[int]:
    lines = (output / "shards" / "done.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["shard"] for line in lines)


class TestResult:
    def test_parts_are_one_table_with_the_features_of_an_extraction_at_once(
        self, extracted: Path, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        at_once = {**settings, "workers": 0, "feature_format": "parquet", "figures": False}
        list(events({**at_once, "output": tmp_path / "at_once"}))
        found, record = read_table(tmp_path / "out" / "features")
        expected, _ = read_table(tmp_path / "at_once" / "features_L3_mean.parquet")
        assert record["shards"] == 7
        assert record["synapses"] == N - 1
        in_order = found.sort_values("row", ignore_index=True)
        assert in_order.pop("row").tolist() == list(range(N))
        pd.testing.assert_frame_equal(in_order, expected, rtol=1e-5, atol=1e-4)

    @pytest.mark.parametrize("kind", ["parquet", "csv", "npz"])
    def test_one_file_is_in_the_order_of_the_table(
        self, extracted: Path, settings: dict[str, Any], kind: str, tmp_path: Path
    ) -> None:
        list(events({**settings, "one_file": True, "feature_format": kind}))
        parts, _ = read_table(tmp_path / "out" / "features")
        in_order = parts.sort_values("row", ignore_index=True).drop(columns="row")
        found, record = read_table(tmp_path / "out" / f"features_L3_mean.{kind}")
        pd.testing.assert_frame_equal(found, in_order, check_dtype=kind == "parquet")
        assert record["shards"] == 7

    def test_one_file_replaces_no_other(
        self, extracted: Path, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        other = tmp_path / "out" / "features_L3_mean.csv"
        other.write_text("mine")
        with pytest.raises(InputError, match="is there already"):
            list(events({**settings, "one_file": True}))
        assert other.read_text() == "mine"

    def test_rows_of_a_shard_lie_together(self, extracted: Path) -> None:
        table = pd.read_parquet(extracted / "features")
        inside = table[table["row"] != OUTSIDE]
        chunks = (inside[["z", "y", "x"]] // 16).apply(tuple, axis=1)
        # Each chunk is a run of rows.
        assert (chunks != chunks.shift()).sum() == chunks.nunique()
        assert table["row"].iloc[-1] == OUTSIDE

    def test_other_programs_read_it_as_one_table(self, extracted: Path) -> None:
        files = str(extracted / "features" / "*.parquet")
        expected = pd.read_parquet(extracted / "features")
        # Beside blanks, pandas would make floats of integers that are not said to be whole.
        assert expected["id"].dtype == "Int64"
        ids = expected.set_index("row")["id"]
        assert ids.isna().equals(ids.index.to_series() % 7 == 0)
        assert (ids.dropna() == ids.dropna().index).all()
        polars = pytest.importorskip("polars")
        assert polars.read_parquet(files).columns == list(expected)
        duckdb = pytest.importorskip("duckdb")
        query = f"select count(*), count(distinct row) from '{files}'"
        assert duckdb.sql(query).fetchall() == [(N, N)]

    def test_what_a_killed_worker_was_writing_is_no_part_of_it(
        self, extracted: Path, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        features = tmp_path / "out" / "features"
        left = features / ".part-00000.1.partial.parquet"
        left.write_bytes((features / "part-00000.parquet").read_bytes())
        assert len(read_table(features)[0]) == N
        list(events(settings))
        assert not left.exists()

    def test_vectors_of_it_are_explored(
        self, extracted: Path, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        features = tmp_path / "out" / "features"
        vectors = open_vectors(features, ["L3_mean"])
        assert (vectors.values.shape, vectors.n_blank) == ((N, 4), 1)
        for job in ({"explore": "similar", "like": "3"}, {"report": True}):
            list(events({**job, "features": features, "output": tmp_path / "explored"}))
        assert len(read_table(tmp_path / "explored" / "similar.parquet")[0]) == N - 2

    def test_descriptors_need_no_network(self, settings: dict[str, Any], tmp_path: Path) -> None:
        by_hand = {**settings, "checkpoint": None, "layer_num": "none", "descriptors": True}
        list(events(by_hand))
        vectors = open_vectors(tmp_path / "out" / "features", ["hand"])
        assert vectors.n_blank == 1

    def test_rows_without_features_are_listed_with_the_reason(
        self, settings: dict[str, Any], data: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "v.zarr"
        volume = zarr.open_array(data / "v.zarr")[:]
        table = pd.read_parquet(data / "t.parquet")
        z, y, x = table.loc[3, ["z", "y", "x"]]
        volume[z - 4 : z + 4, y - 4 : y + 4, x - 4 : x + 4] = 7
        zarr.create_array(copy, data=volume, chunks=(16, 16, 16))
        happened = list(events({**settings, "image": copy}))
        failed = pd.read_csv(tmp_path / "out" / "failed.csv")
        assert failed["row"].tolist() == [3, OUTSIDE]
        assert failed.loc[0, ["z", "y", "x"]].tolist() == [z, y, x]
        assert "constant" in failed["reason"][0]
        assert "outside" in failed["reason"][1]
        assert "2 rows of 60 have no features" in told(happened)


class TestGoingOn:
    def test_what_is_whole_is_not_done_again_and_what_is_damaged_is(
        self, extracted: Path, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        output = tmp_path / "out"
        before = part_files(output)
        damaged, gone = output / "features" / "part-00001.parquet", output / "features"
        content = bytearray(damaged.read_bytes())
        content[len(content) // 3] ^= 1
        damaged.write_bytes(content)
        (gone / "part-00004.parquet").unlink()
        list(events(settings))
        assert part_files(output) == before
        assert times_done(output) == Counter({0: 1, 1: 2, 2: 1, 3: 1, 4: 2, 5: 1, 6: 1})

    def test_the_same_command_goes_on_after_a_stop(
        self, settings: dict[str, Any], done: Path, tmp_path: Path
    ) -> None:
        output, control = tmp_path / "out", Control()
        happened = []
        for event in events(settings, control):
            happened.append(event)
            if isinstance(event, ShardsDone) and event.done == 3:
                control.request("stop")
        assert "ended with 3 of 7 shards done" in told(happened)
        assert not any(isinstance(event, Wrote) for event in happened)
        seen = follow_shards(Places(output), Control(), interval=0)
        assert next(seen).done == 3
        happened = list(events(settings))
        # Another process sees how far it is, and its end.
        *_, last, wrote = seen
        assert (last.done, last.total, last.crops, last.failed) == (7, 7, N, 1)
        assert wrote == happened[-1]
        assert next(e for e in happened if isinstance(e, ShardsDone)).done == 3
        assert set(times_done(output).values()) == {1}
        assert part_files(output) == part_files(done)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"averaging": "flips"}, "averaging was none and is now flips"),
            ({"shard_size": 20}, "shard_size was 10 and is now 20"),
            ({"checkpoint": "other.pt"}, "the network is another"),
            ({"synapses": "other.parquet"}, "the synapses"),
        ],
    )
    def test_other_settings_network_or_data_are_refused(
        self,
        extracted: Path,
        settings: dict[str, Any],
        data: Path,
        tmp_path: Path,
        change: dict[str, Any],
        words: str,
    ) -> None:
        config = Config.from_values({"fmaps": 4, "n_convolutions": (1, 1), "seed": 1})
        torch.save(make_model(config).backbone.state_dict(), tmp_path / "other.pt")
        pd.read_parquet(data / "t.parquet").iloc[:-1].to_parquet(tmp_path / "other.parquet")
        files = ("checkpoint", "synapses")
        changed = {k: tmp_path / v if k in files else v for k, v in change.items()}
        with pytest.raises(InputError, match=words):
            list(events({**settings, **changed}))

    def test_files_that_were_moved_are_the_same_data(
        self, extracted: Path, settings: dict[str, Any], data: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "moved.pt").write_bytes((data / "n.pt").read_bytes())
        list(events({**settings, "checkpoint": tmp_path / "moved.pt"}))
        assert set(times_done(tmp_path / "out").values()) == {1}

    def test_components_can_be_others_later(
        self, extracted: Path, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        list(events({**settings, "n_components": 2}))
        columns = list(pd.read_parquet(tmp_path / "out" / "features"))
        assert "L3_mean_PC2" in columns
        assert "L3_mean_PC3" not in columns
        assert set(times_done(tmp_path / "out").values()) == {1}

    def test_overwrite_begins_anew(
        self, extracted: Path, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        list(events({**settings, "shard_size": 30, "overwrite": True}))
        assert len(part_files(tmp_path / "out")) == 3

    def test_features_of_something_else_are_left_alone(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        other = tmp_path / "out" / "features" / "mine.txt"
        other.parent.mkdir(parents=True)
        other.write_text("mine")
        with pytest.raises(InputError, match="is of no extraction in shards"):
            list(events(settings))
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["features"]


@pytest.fixture
def breaking(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int, Callable[[int], None]], None]:
    """Have something happen when the crop of a row is read with so many others."""
    table = pd.read_parquet(data / "t.parquet")
    read = StreamedCrops.read_usable

    def broken(row: int, happens: Callable[[int], None]) -> None:
        place = table.loc[row, ["z", "y", "x"]].to_numpy()

        def read_usable(self: StreamedCrops, synapses: Any) -> Any:
            if (self.positions.voxels[list(synapses)] == place).all(axis=1).any():
                happens(len(synapses))
            return read(self, synapses)

        monkeypatch.setattr(StreamedCrops, "read_usable", read_usable)

    return broken


class TestFailures:
    """What breaks in the reading of a row, by a stand-in for the volume."""

    @pytest.fixture
    def whole(self, done: Path) -> pd.DataFrame:
        return pd.read_parquet(done / "features")

    def check_rest(self, output: Path, whole: pd.DataFrame, row: int) -> str:
        """The row is listed, and all others are there to the bit; return why."""
        failed = pd.read_csv(output / "failed.csv").set_index("row")["reason"]
        assert set(failed.index) == {row, OUTSIDE}
        found = pd.read_parquet(output / "features")
        channels = [f"L3_mean_00{n}" for n in range(4)]
        assert found.set_index("row").loc[row, channels].isna().all()
        others = found["row"] != row
        pd.testing.assert_frame_equal(found[others][channels], whole[others][channels])
        return str(failed[row])

    def test_a_row_that_cannot_be_read_is_listed_and_the_rest_is_done(
        self, settings: dict[str, Any], whole: pd.DataFrame, breaking: Any, tmp_path: Path
    ) -> None:
        def happens(_: int) -> None:
            raise JobError("v.zarr could not be read: the chunk is damaged")

        breaking(8, happens)
        list(events(settings))
        assert "the chunk is damaged" in self.check_rest(tmp_path / "out", whole, 8)

    def test_a_row_that_takes_its_worker_with_it_is_found_by_those_that_died(
        self,
        settings: dict[str, Any],
        whole: pd.DataFrame,
        breaking: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def happens(_: int) -> None:
            # No `except Exception` stands in its way, as none does in a signal's.
            raise KeyboardInterrupt

        # Batches before that in which it is are done again by each worker.
        monkeypatch.setattr("napari_synapse_cl.pipeline.shards.worker.MOST_AT_ONCE", 4)
        breaking(8, happens)
        deaths = 0
        while True:
            try:
                list(events(settings))
                break
            except KeyboardInterrupt:
                deaths += 1
                assert deaths < 9
        assert deaths == 5
        assert self.check_rest(tmp_path / "out", whole, 8) == BROKEN

    def test_a_batch_that_kills_together_is_done_row_by_row(
        self, settings: dict[str, Any], whole: pd.DataFrame, breaking: Any, tmp_path: Path
    ) -> None:
        def happens(n: int) -> None:
            if n > 1:
                raise KeyboardInterrupt

        breaking(8, happens)
        for _ in range(4):
            with pytest.raises(KeyboardInterrupt):
                list(events(settings))
        assert "in smaller batches" in told(list(events(settings)))
        found = pd.read_parquet(tmp_path / "out" / "features")
        pd.testing.assert_frame_equal(found, whole, rtol=1e-5, atol=1e-4)

    def test_memory_that_runs_out_halves_the_batch(
        self, settings: dict[str, Any], whole: pd.DataFrame, breaking: Any, tmp_path: Path
    ) -> None:
        def happens(n: int) -> None:
            if n > 4:
                raise MemoryError

        breaking(8, happens)
        assert "goes on with" in told(list(events({**settings, "crop_size": 8})))
        found = pd.read_parquet(tmp_path / "out" / "features")
        pd.testing.assert_frame_equal(found, whole, rtol=1e-5, atol=1e-4)


class TestComparison:
    """Layers that are compared on 40 of the synapses, of which five shards are read."""

    @pytest.fixture
    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        more = {"compare_layers": True, "n_compared": 40, "centre_jitter": 10, "figures": False}
        return {**settings, **more, "shard_size": 64}

    def test_it_is_that_of_one_process_on_the_same_synapses_and_goes_on_after_a_stop(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        output, control = tmp_path / "out", Control()
        happened = []
        for event in events(settings, control):
            happened.append(event)
            if isinstance(event, ShardsDone) and event.done == 2:
                control.request("stop")
        assert "compared on 40 of 59 synapses (n_compared), drawn at random" in told(happened)
        assert "ended with 2 of 5 shards done" in told(happened)
        assert not (output / "layers.csv").exists()
        happened = list(events({**settings, "workers": 0, "shard": "1/2"}))
        assert happened[-1] == Wrote("report", str(output / "layers.csv"))
        assert times_done(output) == Counter(range(5))
        *_, wrote = follow_shards(Places(output), Control(), interval=0)
        assert wrote == happened[-1]
        assert "done already" in told(list(events({**settings, "workers": 0, "shard": "2/2"})))
        list(events({**settings, "workers": 0, "output": tmp_path / "at_once"}))
        found, expected = (
            pd.read_csv(folder / "layers.csv") for folder in (output, tmp_path / "at_once")
        )
        assert expected["knn"].notna().all()
        pd.testing.assert_frame_equal(found, expected, atol=0.02)
        with pytest.raises(InputError, match="n_compared was 40 and is now 30"):
            list(events({**settings, "n_compared": 30}))

    def test_those_with_a_label_are_drawn_before_all_others(self) -> None:
        labels = np.where(np.arange(500) % 50 == 7, "a", "")
        config = SimpleNamespace(n_compared=40, seed=3)
        job: Any = SimpleNamespace(crops=range(500), labels=labels, config=config)
        drawn = draw_compared(job)
        assert len(drawn) == len(set(drawn)) == 40
        assert set(np.flatnonzero(labels)) < set(drawn)
        assert drawn.tolist() == sorted(drawn) == draw_compared(job).tolist()
        job.labels = None
        assert set(draw_compared(job)) != set(drawn)
        config.n_compared = 0
        assert len(draw_compared(job)) == 500

    def test_a_synapse_that_cannot_be_read_is_listed_and_left_out(
        self, settings: dict[str, Any], breaking: Any, tmp_path: Path
    ) -> None:
        def happens(n: int) -> None:
            if n > 4:
                raise MemoryError
            raise JobError("v.zarr could not be read: the chunk is damaged")

        breaking(8, happens)
        happened = list(events({**settings, "n_compared": 0, "label_column": ""}))
        failed = pd.read_csv(tmp_path / "out" / "failed.csv")
        assert failed["row"].tolist() == [8]
        assert "the chunk is damaged" in failed["reason"][0]
        assert "in 1 shard crops were computed in smaller batches" in told(happened)
        assert "1 crop of 59 left out, which cannot be used" in told(happened)
        assert pd.read_csv(tmp_path / "out" / "layers.csv")["recall"].notna().all()


def test_a_trail_that_is_cut_off_counts_as_none(tmp_path: Path) -> None:
    file = tmp_path / "trail.json"
    for _ in range(3):
        assert not Trail(file).begin_batch(0)
    assert Trail(file).begin_batch(0)
    file.write_text(file.read_text()[:-4])
    assert not Trail(file).begin_batch(0)


class TestComponents:
    def test_they_are_those_of_all_rows_at_once(self) -> None:
        random = np.random.default_rng(0)
        values = random.normal(size=(500, 6)).astype(np.float32) @ random.normal(size=(6, 6))
        values = (values + 1000).astype(np.float32)
        values[:, 2] = 7
        moments = Moments(6)
        for part in np.array_split(values, 7):
            moments.add(np.concatenate([part, np.full((1, 6), np.nan, np.float32)]))
        found = Components.of(moments, ["a", "b", "c"])
        np.testing.assert_allclose(
            found.apply(values), principal_components(values, 3), rtol=1e-3, atol=2e-4
        )

    def test_beyond_the_rank_they_are_0(self) -> None:
        moments = Moments(2)
        values = np.array([[0, 0], [1, 1]], np.float32)
        moments.add(values)
        found = Components.of(moments, ["a", "b", "c"]).apply(values)
        np.testing.assert_allclose(found[:, 1:], 0, atol=1e-7)


class TestJobsOfAnArray:
    def test_each_begins_at_a_share_of_its_own(self) -> None:
        assert [share_of(f"{i}/4") for i in (1, 2, 3, 4)] == [0, 0.25, 0.5, 0.75]
        with pytest.raises(InputError, match="is no part"):
            share_of("5/4")

    def test_schedulers_tell_the_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LSB_JOBINDEX", "3")
        monkeypatch.setenv("LSB_JOBINDEX_END", "4")
        assert share_of("array") == 0.5
        monkeypatch.delenv("LSB_JOBINDEX")
        monkeypatch.setenv("PBS_ARRAY_INDEX", "2")
        assert 0 <= share_of("array") < 1
        monkeypatch.delenv("PBS_ARRAY_INDEX")
        with pytest.raises(InputError, match="none is set"):
            share_of("array")

    def test_one_job_does_what_no_other_does(
        self, settings: dict[str, Any], done: Path, tmp_path: Path
    ) -> None:
        array = {**settings, "workers": 0, "shard": "3/4"}
        list(events(array))
        assert part_files(tmp_path / "out") == part_files(done)
        assert "done already" in told(list(events({**array, "shard": "1/4"})))
        assert set(times_done(tmp_path / "out").values()) == {1}

    def test_they_need_a_folder_that_all_know(self, settings: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="shard needs the output folder"):
            list(events({**settings, "workers": 0, "shard": "1/2", "output": None}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shard": "1/2"}, "workers and shard are two ways"),
        ({"pooling": "none"}, "choose another pooling"),
        ({"shard": "1/2", "workers": 0, "overwrite": True}, "overwrite would remove"),
    ],
)
def test_what_cannot_be_done_in_shards_is_refused(
    settings: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        list(events({**settings, **change}))
    assert not settings["output"].exists()


def test_neighbours_have_neighbouring_numbers() -> None:
    places = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    in_order = places[np.argsort(morton(places))]
    # Each run of eight is a cube of two along each axis.
    cubes = in_order.reshape(8, 8, 3)
    assert (np.ptp(cubes, axis=1) == 1).all()
