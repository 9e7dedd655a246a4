"""Extraction in shards under failures, and what it costs beside an extraction at once.

    python benchmarks/shards.py [failures] [cost] [--synapses 20000] [--folder FOLDER]

`failures` extracts the features of some thousand synapses by one process, and by a local Dask
cluster of three workers to which everything happens: the process that drives it, with the
scheduler, is killed and the same command given again; then one worker is killed, one is stopped for
longer than the limit of a shard, and one can have no more memory. It says whether the parts are the
same to the bit, and how often each shard was done.

`cost` extracts 1,000 to 100,000 synapses at once and in shards by one to three workers: seconds of
the CPU and of the wall, and the most memory of a process. The seconds of the CPU are those to
compare on a machine that does other things too. Then 2,000 crops of 32³ at once and as one shard.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
import zarr

from napari_synapse_cl.config import Config
from napari_synapse_cl.pipeline.networks import make_model
from napari_synapse_cl.runs.events import Message, ShardsDone, from_line

SHAPE = (128, 512, 512)
MARGIN = 20
MIB = 2**20
LIMIT_MINUTES = 0.5


def write_data(folder: Path) -> None:
    """Write a volume in chunks."""
    voxels = np.random.default_rng(0).integers(0, 255, SHAPE, dtype=np.uint8)
    zarr.create_array(folder / "volume.zarr", data=voxels, chunks=(64, 64, 64))


def settings_of(folder: Path, n: int, crop: int, fmaps: int, layer: int) -> dict[str, Any]:
    """Write table and network, and return the settings of their extraction."""
    random = np.random.default_rng(n)
    positions = random.integers(MARGIN, np.array(SHAPE) - MARGIN, (n, 3))
    table, network = folder / f"table{n}.parquet", folder / f"network{crop}-{fmaps}.pt"
    pd.DataFrame(positions, columns=["z", "y", "x"]).to_parquet(table)
    config = Config.from_values({"fmaps": fmaps, "n_convolutions": (2, 2), "crop_size": crop})
    torch.save(make_model(config).backbone.state_dict(), network)
    return {
        "checkpoint": network,
        "image": folder / "volume.zarr",
        "synapses": table,
        "voxel_size": 10,
        "crop_size": crop,
        "layer_num": layer,
        "device": "cpu",
        "precision": "float32",
        "feature_format": "parquet",
    }


def start(settings: dict[str, Any]) -> subprocess.Popen[str]:
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "napari_synapse_cl", "--extract_only", "--no-figures"]
    return subprocess.Popen(
        [*command, *flags, "--events", "jsonl"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def parts(output: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((output / "features").glob("part-*"))]


def workers_of(driver: int) -> list[psutil.Process]:
    children = psutil.Process(driver).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def failures(folder: Path, n: int) -> None:
    settings = {**settings_of(folder, n, 16, 4, 10), "shard_size": 500}
    alone, output = folder / "alone", folder / "cluster"
    job = start({**settings, "workers": 1, "output": alone})
    job.communicate()
    fleet = {**settings, "workers": 3, "shard_minutes": LIMIT_MINUTES, "output": output}
    driver = start(fleet)
    assert driver.stdout is not None
    for line in driver.stdout:
        event = from_line(line)
        if isinstance(event, ShardsDone) and event.done >= event.total // 4:
            break
    driver.kill()
    driver.wait()
    print(f"- the scheduler and what drives it killed after {event.done} of {event.total} shards")
    driver = start(fleet)
    assert driver.stdout is not None
    has_happened, before = False, None
    for line in driver.stdout:
        event = from_line(line)
        if isinstance(event, Message):
            print(f"  {event.text}")
        if isinstance(event, ShardsDone):
            before = event.done if before is None else before
            if event.done > before + 3 and not has_happened:
                has_happened = True
                killed, stopped, short = workers_of(driver.pid)[:3]
                killed.send_signal(signal.SIGKILL)
                stopped.send_signal(signal.SIGSTOP)
                short.rlimit(psutil.RLIMIT_AS, (MIB, MIB))
                print("- one worker killed, one stopped, one without any more memory")
    code = driver.wait()
    lines = (output / "shards" / "done.jsonl").read_text(encoding="utf-8").splitlines()
    times = Counter(Counter(json.loads(line)["shard"] for line in lines).values())
    print(f"- exit code {code}; the same to the bit: {parts(alone) == parts(output)}")
    print(f"- shards by how often they were done: {dict(times)}")


class Peak:
    """The most memory and the CPU seconds of a process and those that it starts."""

    def __init__(self, pid: int) -> None:
        self.memory = 0
        self._seconds: dict[int, float] = {}
        self._process = psutil.Process(pid)
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        while True:
            try:
                for process in (self._process, *self._process.children(recursive=True)):
                    self.memory = max(self.memory, process.memory_info().rss)
                    times = process.cpu_times()
                    self._seconds[process.pid] = times.user + times.system
                if self._process.status() == psutil.STATUS_ZOMBIE:
                    return
            except psutil.Error:
                if not self._process.is_running():
                    return
            time.sleep(0.05)

    @property
    def seconds(self) -> float:
        """Return the seconds of the CPU, when the process has ended."""
        self._thread.join()
        return sum(self._seconds.values())


def measured(settings: dict[str, Any]) -> tuple[float, float, float]:
    """Return seconds of the CPU and of the wall, and MiB of the largest process."""
    began = time.monotonic()
    job = start(settings)
    peak = Peak(job.pid)
    job.communicate()
    assert job.returncode == 0
    return peak.seconds, time.monotonic() - began, peak.memory / MIB


def cost(folder: Path, rows: list[int]) -> None:
    print("\n| Synapses | how | CPU s | s | MiB of a process | CPU to at once |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for n in rows:
        settings = settings_of(folder, n, 8, 2, 3)
        show(settings, folder / f"rows{n}", n, (0, 1, 2, 3))
    print("\nOne shard of 2,000 crops of 32³:\n")
    show(settings_of(folder, 2000, 32, 8, 10), folder / "shard", 2000, (0, 1))


def show(settings: dict[str, Any], output: Path, n: int, ways: tuple[int, ...]) -> None:
    at_once = None
    for workers in ways:
        job = {**settings, "workers": workers, "output": output / str(workers)}
        seconds, wall, memory = measured(job)
        at_once = at_once or seconds
        how = f"{workers} in shards" if workers else "at once"
        cells = [f"{n:,}", how, f"{seconds:.1f}", f"{wall:.1f}", f"{memory:,.0f}"]
        print(f"| {' | '.join(cells)} | {seconds / at_once:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["failures", "cost"])
    parser.add_argument("--synapses", type=int, default=20_000)
    parser.add_argument("--rows", type=int, nargs="+", default=[10**3, 10**4, 10**5])
    parser.add_argument("--folder", type=Path, help="where data are written; for a real disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write_data(Path(folder))
        if "failures" in options.what:
            failures(Path(folder), options.synapses)
        if "cost" in options.what:
            cost(Path(folder), options.rows)


if __name__ == "__main__":
    main()
