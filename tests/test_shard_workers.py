"""Shards that several processes do, some of which are killed, stopped or run out of memory."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import zarr

from conftest import as_flags
from napari_synapse_cl.config import Config
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.pipeline.networks import make_model
from napari_synapse_cl.runs.events import Message, ShardsDone
from napari_synapse_cl.system.files import write_json

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")

N = 240


NETWORK = {"fmaps": 8, "n_convolutions": (2, 2), "crop_size": 16}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    zarr.create_array(folder / "v.zarr", data=random.integers(0, 255, (64, 64, 64), dtype=np.uint8))
    table = pd.DataFrame(random.integers(8, 56, (N, 3)), columns=["z", "y", "x"])
    table.to_parquet(folder / "t.parquet")
    torch.save(make_model(Config.from_values(NETWORK)).backbone.state_dict(), folder / "n.pt")
    return {
        "extract_only": True,
        "checkpoint": folder / "n.pt",
        "image": folder / "v.zarr",
        "synapses": folder / "t.parquet",
        "voxel_size": 10,
        "crop_size": 16,
        "layer_num": 10,
        "device": "cpu",
        "precision": "float32",
        "shard_size": 10,
    }


@pytest.fixture(scope="module")
def alone(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The parts that one process leaves."""
    output = tmp_path_factory.mktemp("alone")
    list(run(Config.from_values({**settings, "workers": 1, "output": output})))
    return part_files(output)


def part_files(output: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((output / "features").glob("part-*"))]


def times_done(output: Path) -> Counter[int]:
    lines = (output / "shards" / "done.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["shard"] for line in lines)


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait until something has happened in processes, several of which import PyTorch at once."""
    deadline = time.monotonic() + 240
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def n_done(output: Path) -> int:
    file = output / "shards" / "done.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def pids_in(output: Path) -> set[int]:
    lines = (output / "shards" / "done.jsonl").read_text().splitlines()
    return {json.loads(line)["pid"] for line in lines}


def start(settings: dict[str, Any], output: Path, **more: Any) -> subprocess.Popen[str]:
    flags = as_flags({**settings, "output": output, **more})
    flags.remove("True")
    return subprocess.Popen(
        [sys.executable, "-m", "napari_synapse_cl", *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen[str]]]:
    jobs: list[subprocess.Popen[str]] = []
    yield jobs
    for job in jobs:
        job.kill()
        job.wait()


def test_jobs_of_an_array_in_disorder_one_twice_and_one_killed_leave_what_one_process_does(
    settings: dict[str, Any], alone: list[bytes], ended: list[Any], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    ended += [start(settings, output, shard=f"{i}/2") for i in (2, 1, 2)]
    wait_for(lambda: n_done(output) > 0)
    killed = ended[1]
    killed.kill()
    ended.append(start(settings, output, shard="1/2"))
    told = [job.communicate(timeout=200)[0] for job in ended]
    assert [job.returncode for job in ended if job is not killed] == [0] * 3, told
    assert part_files(output) == alone
    assert (output / "features.json").exists()
    assert max(times_done(output).values()) < 3


def workers_of(driver: psutil.Process) -> list[psutil.Process]:
    """The processes that Dask has started to work."""
    found = [child for child in driver.children(recursive=True) if "spawn_main" in line_of(child)]
    return sorted(found, key=lambda process: process.pid)


def line_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_a_cluster_gets_over_deaths_stops_and_the_end_of_its_scheduler(
    settings: dict[str, Any],
    alone: list[bytes],
    ended: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("distributed")
    from napari_synapse_cl.pipeline.shards import fleet

    # One that is stopped between two shards is ended after so long.
    monkeypatch.setattr(fleet, "OPENING_SECONDS", 20)
    output = tmp_path / "out"
    driver = start(settings, output, workers=2)
    ended.append(driver)
    wait_for(lambda: n_done(output) > 1)
    orphans = workers_of(psutil.Process(driver.pid))
    assert len(orphans) == 2
    driver.kill()
    wait_for(lambda: not any(map(psutil.Process.is_running, orphans)))
    before = n_done(output)
    again = {**settings, "workers": 2, "shard_minutes": 0.1, "output": output}
    happened, stopped = [], None
    for event in run(Config.from_values(again)):
        happened.append(event)
        if stopped is None and isinstance(event, ShardsDone) and event.done > before:
            # One that has done a shard is at the next.
            at_work = workers_of(psutil.Process())
            begun = [process for process in at_work if process.pid in pids_in(output)]
            # On a busy computer one may have been ended that was slow to begin.
            if begun and len(at_work) == 2:
                stopped = begun[0]
                [dead] = (process for process in at_work if process != stopped)
                stopped.send_signal(signal.SIGSTOP)
                dead.send_signal(signal.SIGKILL)
    assert stopped is not None
    assert not stopped.is_running()
    progress = [event for event in happened if isinstance(event, ShardsDone)]
    assert progress[0].done == before
    assert progress[-1].done == progress[-1].total == N // 10
    told = "\n".join(event.text for event in happened if isinstance(event, Message))
    assert "is ended" in told, told
    assert part_files(output) == alone
    assert max(times_done(output).values()) < 3


def test_a_scheduler_that_is_running_gives_out_shards(
    settings: dict[str, Any], alone: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    from napari_synapse_cl.pipeline.shards import cluster as clusters

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        output = tmp_path / "out"
        there = {**settings, "scheduler": cluster.scheduler_address, "output": output}
        list(run(Config.from_values(there)))
        maps = maps_of_a_long_volume(settings, tmp_path)
        list(run(Config.from_values({**maps, "scheduler": cluster.scheduler_address})))
        # Random weights are read in float32 there too, whatever is fastest for these workers.
        asked: list[str] = []

        def ask(_client: Any, _device: str, precision: str) -> tuple[str, str]:
            asked.append(precision)
            return "cpu", "float32"

        monkeypatch.setattr(clusters, "device_of_workers", ask)
        (begun := tmp_path / "run").mkdir()
        write_json(begun / "config.json", Config.from_values(NETWORK).as_json())
        write_json(begun / "run.json", {})
        for of in ({}, {"checkpoint": begun, "network": "start"}):
            output = tmp_path / f"precise {len(of)}"
            list(run(Config.from_values({**there, **of, "precision": "auto", "output": output})))
        assert asked == ["auto", "float32"]
    assert part_files(there["output"]) == alone
    assert len(times_done(maps["output"])) == 2
    list(run(Config.from_values({**maps, "output": tmp_path / "at_once"})))
    there, at_once = (
        zarr.open_array(folder / "maps_L10.zarr" / "L10")[:]
        for folder in (maps["output"], tmp_path / "at_once")
    )
    np.testing.assert_array_equal(there, at_once)


def maps_of_a_long_volume(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Settings of maps that are two blocks."""
    voxels = np.random.default_rng(1).integers(0, 255, (270, 16, 16), dtype=np.uint8)
    zarr.create_array(folder / "long.zarr", data=voxels)
    names = ("extract_only", "checkpoint", "voxel_size", "layer_num", "device", "precision")
    kept = {name: settings[name] for name in names}
    return {**kept, "dense": True, "image": folder / "long.zarr", "output": folder / "maps"}


def test_where_there_is_no_scheduler_nothing_is_written(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    from napari_synapse_cl.errors import InputError
    from napari_synapse_cl.pipeline.shards import cluster

    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    nowhere = {**settings, "scheduler": "tcp://127.0.0.1:9", "output": tmp_path / "out"}
    began = time.monotonic()
    with pytest.raises(InputError, match="there is no scheduler at"):
        list(run(Config.from_values(nowhere)))
    assert time.monotonic() - began < 30
    assert not (tmp_path / "out").exists()
