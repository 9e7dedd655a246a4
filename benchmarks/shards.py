"""Extraction in shards under failures, and what it costs beside an extraction at once.

    python benchmarks/shards.py [failures] [cost] [engine] [alone]
        [--synapses 20000] [--rows 1000 10000 100000] [--workers 0 1 2 3] [--rounds 3]
        [--folder FOLDER]

`failures` extracts the features of some thousand synapses by one process, and by a local Dask
cluster of three workers to which everything happens: the process that drives it, with the
scheduler, is killed and the same command given again; then one worker is killed, one is stopped for
longer than the limit of a shard, and one can have no more memory. It says whether the parts are the
same to the bit, and how often each shard was done.

`cost` extracts 1,000 to 100,000 synapses at once (`--workers 0`) and in shards by one to three
workers, one job
after the other and that for some rounds, so that what else the machine does falls on all of them:
seconds of the CPU of all processes, as medians, and to those at once as the median of the rounds'
ratios; of the seconds of the first process those before and after the extraction; and the most
memory of the first process and of the largest of the others.

`engine` extracts 2,000 crops of 32³ at once and as one shard, in turn and in one process that has
imported everything: seconds of the CPU from the settings to the finished result, planning and
writing included.

`alone` tells what planning and finishing, which one process does for all, take of the CPU a row,
for tables of 96 features with their components.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

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
SHARD = 2000


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


class Watch:
    """The most memory and the CPU seconds of a process and those that it starts."""

    def __init__(self, pid: int) -> None:
        self.first = self.worker = 0
        self._seconds: dict[int, float] = {}
        self._process = psutil.Process(pid)
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        while True:
            try:
                self.first = max(self.first, self._look(self._process))
                for child in self._process.children(recursive=True):
                    self.worker = max(self.worker, self._look(child))
                if self._process.status() == psutil.STATUS_ZOMBIE:
                    return
            except psutil.Error:
                if not self._process.is_running():
                    return
            time.sleep(0.05)

    def _look(self, process: psutil.Process) -> int:
        times = process.cpu_times()
        self._seconds[process.pid] = times.user + times.system
        return int(process.memory_info().rss)

    def of_first(self) -> float:
        """Return the seconds of the CPU that the first process has taken so far."""
        return self._seconds.get(self._process.pid, 0.0)

    @property
    def seconds(self) -> float:
        """Return the seconds of the CPU of all, when the process has ended."""
        self._thread.join()
        return sum(self._seconds.values())


class Cost(NamedTuple):
    """What a job took."""

    seconds: float
    """Of the CPU."""
    planning: float
    """Those of the first process before it began to extract, and after all was extracted."""
    finishing: float
    first: float
    """MiB of the first process at most."""
    worker: float
    """MiB of the largest that it started, 0 without any."""


def measured(settings: dict[str, Any]) -> Cost:
    shutil.rmtree(settings["output"], ignore_errors=True)
    job = start(settings)
    watch = Watch(job.pid)
    assert job.stdout is not None
    planned = extracted = None
    for line in job.stdout:
        event = from_line(line)
        if isinstance(event, ShardsDone):
            planned = watch.of_first() if planned is None else planned
            extracted = watch.of_first()
    assert job.wait() == 0
    seconds = watch.seconds
    ended = watch.of_first()
    planning, finishing = planned or 0.0, ended - (ended if extracted is None else extracted)
    return Cost(seconds, planning, finishing, watch.first / MIB, watch.worker / MIB)


WAYS = ("at once", "1 process", "2 workers", "3 workers")
"""Jobs to compare; each begins with how many workers it has, but for the first."""


def compared(jobs: dict[str, dict[str, Any]], rounds: int) -> dict[str, list[Cost]]:
    """Measure some jobs in turn, round after round."""
    found: dict[str, list[Cost]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, settings in jobs.items():
            found[name].append(measured(settings))
    return found


def cost(folder: Path, rows: list[int], workers: list[int], rounds: int) -> None:
    print("\n| Synapses | how | CPU to the first | CPU s | planning | finishing | first | worker |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for n in rows:
        settings = settings_of(folder, n, 8, 2, 3)
        jobs = {
            WAYS[number]: {**settings, "workers": number, "output": folder / f"rows{n}-{number}"}
            for number in workers
        }
        found = compared(jobs, rounds)
        first = next(iter(found))
        for name, costs in found.items():
            ratios = [a.seconds / b.seconds for a, b in zip(costs, found[first], strict=True)]
            middle = Cost(*(median(values) for values in zip(*costs, strict=True)))
            cells = [f"{n:,}" if name == first else "", name, f"{median(ratios):.2f}"]
            cells += [f"{value:.1f}" for value in middle[:3]]
            cells += [f"{value:,.0f}" for value in middle[3:]]
            print(f"| {' | '.join(cells)} |", flush=True)


def phases(settings: dict[str, Any], output: Path) -> tuple[float, float, float]:
    """Extract in this process; return seconds of the CPU until it plans, extracts and finishes."""
    from napari_synapse_cl.pipeline import run

    torch.set_num_threads(1)
    shutil.rmtree(output, ignore_errors=True)
    config = Config.from_values(
        {**settings, "output": output, "extract_only": True, "figures": False}
    )
    times = [time.process_time()] * 3
    for event in run(config):
        if isinstance(event, ShardsDone):
            times[1] = times[1] if times[1] > times[0] else time.process_time()
            times[2] = time.process_time()
    planned, extracted = times[1] - times[0], times[2] - times[1]
    return planned, extracted, time.process_time() - times[2]


def engine(folder: Path, rounds: int) -> None:
    """Tell what a shard takes beside the same crops at once, in this process, which has begun."""
    output = folder / "engine"

    def seconds(n: int, workers: int) -> float:
        return sum(phases({**settings_of(folder, n, 32, 8, 10), "workers": workers}, output))

    for workers in (0, 1):
        # What is imported, compiled and measured once is none of a shard's.
        seconds(64, workers)
    print(f"\n| Round | {SHARD:,} crops of 32³ at once, CPU s | as a shard | to at once |")
    print("| ---: | ---: | ---: | ---: |")
    ratios = []
    for number in range(1, rounds + 1):
        at_once, shard = seconds(SHARD, 0), seconds(SHARD, 1)
        ratios.append(shard / at_once)
        print(f"| {number} | {at_once:.2f} | {shard:.2f} | {ratios[-1]:.3f} |", flush=True)
    print(f"\nMedian {median(ratios):.3f}")


def alone(folder: Path) -> None:
    """Tell what of a job one process does alone, for tables of 96 features."""
    # The first is not counted: what is imported and measured once is none of a row's.
    sizes = (64, 2 * SHARD, 12 * SHARD)
    _, of_few, of_many = (
        phases(
            {**settings_of(folder, n, 8, 24, 12), "pooling": "mean+max", "workers": 1},
            folder / "alone_by_one",
        )
        for n in sizes
    )
    print()
    names = ("planning", "extracting", "finishing")
    for name, few, many in zip(names, of_few, of_many, strict=True):
        a_row = (many - few) / (sizes[2] - sizes[1]) * 1e6
        seconds = f"{few:.2f} s for {sizes[1]:,} rows, {many:.2f} s for {sizes[2]:,}"
        print(f"- {name}: {a_row:.0f} µs of the CPU a row ({seconds})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["failures", "cost", "engine", "alone"])
    parser.add_argument("--synapses", type=int, default=20_000)
    parser.add_argument("--rows", type=int, nargs="+", default=[10**3, 10**4, 10**5])
    parser.add_argument("--workers", type=int, nargs="+", choices=range(4), default=[0, 1, 2, 3])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where data are written; for a real disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write_data(Path(folder))
        if "failures" in options.what:
            failures(Path(folder), options.synapses)
        if "cost" in options.what:
            cost(Path(folder), options.rows, options.workers, options.rounds)
        if "engine" in options.what:
            engine(Path(folder), options.rounds)
        if "alone" in options.what:
            alone(Path(folder))


if __name__ == "__main__":
    main()
