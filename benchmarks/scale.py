"""What a synapse costs where there are very many: seconds, memory and disk against their number.

    python benchmarks/scale.py [--synapses 1000 10000 100000 1000000] [--results FILE]
        [--plot FILE]

The command line trains for one epoch on N random positions, reading every crop from the volume, and
extracts the features of all of them with what came of it: two child processes for each N, with a
network and crops so small that what remains is what the program itself does for a synapse. The
volume is a TIFF stack of 16,384 slices that share the voxels of 16: 256 GiB in a quarter of one.

For each: how long every stage took, by the events that the child tells; the most memory that it
held, as in ``extraction_memory.py``; and what it left on the disk. A child with 64 synapses first
shows what the start takes. The exponent is the slope of the logarithm of the seconds beyond that
against the logarithm of N: 1 is linear. What larger crops take is told by ``projection.py``.

``--results`` keeps what was measured, so that further runs add to it and measure nothing twice.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from extraction_memory import MIB, Peaks

from napari_synapse_cl.runs.events import EpochDone, Event, Progress, StepDone, Wrote, from_line

N_SLICES, HEIGHT, WIDTH = 16_384, 16_384, 1024
N_DISTINCT = 16
FEWEST = 64
"""Synapses of the child that shows what the start takes."""
TELLING_SECONDS = 0.3
MARGIN = 8
LAYER = 3
SMALL = {
    "crop_size": 8,
    "rotation_range": 0,
    "fmaps": 2,
    "n_convolutions": (1, 1),
    "batch_size": 256,
    "proj_dim": 16,
    "proj_hidden_dim": 32,
    "num_epochs": 1,
    "validation_fraction": 0.01,
    "layer_num": LAYER,
    "cache_limit": 0,
}
ALWAYS = {"events": "jsonl", "device": "cpu", "precision": "float32"}
JOBS = ("training", "extraction")
STAGES = {
    "training": ("opening", "checking crops", "steps", "validation", "rest"),
    "extraction": ("opening", "extracting", "writing", "rest"),
}

Result = dict[str, Any]


def write_volume(path: Path) -> None:
    """Write a TIFF file whose slices are all among a few."""
    texture = np.random.default_rng(0).integers(0, 255, N_DISTINCT * HEIGHT * WIDTH, dtype=np.uint8)
    start = 8
    # Tag, type (3: 16 bits, 4: 32 bits), number of values, value: as the format has them.
    entry = np.dtype([("tag", "<u2"), ("type", "<u2"), ("count", "<u4"), ("value", "<u4")])
    page = np.dtype([("n", "<u2"), ("entries", entry, 9), ("next", "<u4")])
    tags = {
        256: WIDTH,
        257: HEIGHT,
        258: 8,
        259: 1,
        262: 1,
        273: 0,
        277: 1,
        278: HEIGHT,
        279: HEIGHT * WIDTH,
    }
    pages = np.zeros(N_SLICES, page)
    pages["n"] = len(tags)
    pages["entries"]["tag"] = list(tags)
    pages["entries"]["type"] = 4
    pages["entries"]["count"] = 1
    pages["entries"]["value"] = list(tags.values())
    slices = np.arange(N_SLICES) % N_DISTINCT
    pages["entries"]["value"][:, list(tags).index(273)] = start + slices * HEIGHT * WIDTH
    first = start + texture.size
    pages["next"][:-1] = first + page.itemsize * np.arange(1, N_SLICES)
    with path.open("wb") as file:
        file.write(b"II*\0" + int(first).to_bytes(4, "little"))
        file.write(texture.tobytes())
        file.write(pages.tobytes())


def write_positions(path: Path, n: int) -> None:
    shape = np.array([N_SLICES, HEIGHT, WIDTH])
    positions = np.random.default_rng(1).integers(MARGIN, shape - MARGIN, (n, 3))
    pd.DataFrame(positions, columns=["z", "y", "x"]).to_parquet(path)


def stage_of(event: Event) -> str | None:
    """Return which stage a child was in before it told an event, where the event says so."""
    match event:
        case Progress(task):
            return "extracting" if task.startswith("extracting") and event.done else task
        case StepDone():
            return "steps"
        case EpochDone():
            return "validation"
        case Wrote("features"):
            return "writing"
    return None


def flags_of(settings: dict[str, Any]) -> list[str]:
    flags = []
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        flags += [f"--{name}"] if value is True else [f"--{name}", *map(str, values)]
    return flags


def run(settings: dict[str, Any], stages: Sequence[str]) -> tuple[Peaks, Counter[str]]:
    """Run a job; return its peaks, and the seconds of each stage."""
    seconds: Counter[str] = Counter()
    with tempfile.TemporaryFile("w+") as errors:
        before = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, "-m", "napari_synapse_cl", "--no-figures", *flags_of(settings)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        peaks = Peaks()
        follower = threading.Thread(target=peaks.follow, args=(psutil.Process(child.pid),))
        follower.start()
        assert child.stdout is not None
        has_begun = False
        for line in child.stdout:
            stage = stage_of(from_line(line))
            has_begun = has_begun or stage in stages
            now = time.perf_counter()
            if stage not in stages:
                stage = stages[-1] if has_begun else stages[0]
            seconds[stage] += now - before
            before = now
        follower.join()
        seconds[stages[-1]] += time.perf_counter() - before
        if child.wait():
            errors.seek(0)
            raise RuntimeError(errors.read())
    return peaks, seconds


def measure(n: int, volume: Path, folder: Path) -> list[Result]:
    """Train on n synapses and extract their features; return what each took."""
    table, trained, features = folder / "table.parquet", folder / "trained", folder / "features"
    write_positions(table, n)
    data = {"image": volume, "synapses": table, **ALWAYS}
    jobs = {
        "training": {**data, **SMALL, "train_only": True, "output": trained},
        "extraction": {
            **data,
            "extract_only": True,
            "checkpoint": trained / "checkpoints" / "last.pt",
            "layer_num": LAYER,
            "feature_format": "parquet",
            "cache_limit": 0,
            "output": features,
        },
    }
    results = []
    for job, output in zip(JOBS, (trained, features), strict=True):
        peaks, seconds = run(jobs[job], STAGES[job])
        written = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
        results.append(
            {
                "job": job,
                "n": n,
                "seconds": dict(seconds),
                "rss": peaks.rss,
                "anonymous": peaks.anonymous,
                "written": written,
            }
        )
    return results


def measured(options: argparse.Namespace) -> list[Result]:
    """Return all results, those of earlier runs among them."""
    results: list[Result] = []
    if options.results is not None and options.results.exists():
        results = json.loads(options.results.read_text(encoding="utf-8"))
    missing = [n for n in (FEWEST, *options.synapses) if n not in {r["n"] for r in results}]
    if missing:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            volume = Path(folder) / "volume.tif"
            write_volume(volume)
            for n in missing:
                with tempfile.TemporaryDirectory(dir=folder) as inner:
                    results += measure(n, volume, Path(inner))
                print(f"{n:,} synapses done", file=sys.stderr, flush=True)
                if options.results is not None:
                    options.results.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return sorted(results, key=lambda result: result["n"])


def total(result: Result) -> float:
    return float(sum(result["seconds"].values()))


def beyond_start(results: Sequence[Result]) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of synapses, and the seconds that they took beyond those of the fewest.

    Those are left out whose seconds are lost in how differently long a start takes.
    """
    n = np.array([r["n"] for r in results])
    seconds = np.array([total(r) for r in results]) - total(results[0])
    told = seconds > TELLING_SECONDS
    return n[told], seconds[told]


def exponent(results: Sequence[Result]) -> float:
    """Return the slope of log seconds against log N; NaN where too few N are told."""
    n, seconds = beyond_start(results)
    return float(np.polyfit(np.log(n), np.log(seconds), 1)[0]) if len(n) > 1 else float("nan")


def bytes_per_synapse(results: Sequence[Result], what: str) -> float:
    """Return by how much something grows with N at last, where batches are full."""
    first, last = results[-2], results[-1]
    return float(last[what] - first[what]) / (last["n"] - first["n"])


def show(results: Sequence[Result]) -> None:
    """Print tables in Markdown."""
    for job in JOBS:
        own = [r for r in results if r["job"] == job]
        stages = STAGES[job]
        print(f"### {job.capitalize()}\n")
        print(f"| Synapses | {' | '.join(stages)} | seconds | ms each | RSS | anonymous | disk |")
        print("| ---: " * (len(stages) + 6) + "|")
        start = total(own[0])
        for r in own:
            times = [f"{r['seconds'].get(stage, 0):,.1f}" for stage in stages]
            beyond = total(r) - start
            each = f"{1000 * beyond / r['n']:.2f}" if beyond > TELLING_SECONDS else ""
            memory = [
                "?" if r[what] is None else f"{r[what] / MIB:,.0f}" for what in ("rss", "anonymous")
            ]
            cells = [f"{r['n']:,}", *times, f"{total(r):,.1f}", each, *memory]
            print(f"| {' | '.join(cells)} | {r['written'] / MIB:,.1f} |")
        print(
            f"\nSeconds, MiB; ms each without the start. Exponent {exponent(own):.2f}; "
            f"{bytes_per_synapse(own, 'rss'):,.0f} bytes of memory and "
            f"{bytes_per_synapse(own, 'written'):,.0f} of disk a synapse.\n"
        )


def draw(results: Sequence[Result], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for job, colour in zip(JOBS, ("tab:blue", "tab:orange"), strict=True):
        own = [r for r in results if r["job"] == job]
        n, seconds = beyond_start(own)
        label = f"{job}, exponent {exponent(own):.2f}"
        left.plot(n, seconds, "o-", color=colour, label=label)
        linear = seconds[-1] * n / n[-1]
        left.plot(n, linear, ":", color=colour, linewidth=1)
        more = [r for r in own if r["n"] > FEWEST]
        for what, style in (("rss", "o-"), ("anonymous", "s--")):
            known = [(r["n"], r[what] / MIB) for r in more if r[what] is not None]
            if known:
                name = {"rss": "RSS", "anonymous": "anonymous"}[what]
                right.plot(*zip(*known, strict=True), style, color=colour, label=f"{job}, {name}")
    left.set(xlabel="synapses", ylabel="seconds without the start", title="Time (dotted: linear)")
    right.set(xlabel="synapses", ylabel="MiB at most", title="Memory", ylim=(100, 10_000))
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--synapses", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--results", type=Path, help="JSON file of what was measured, to add to")
    parser.add_argument("--plot", type=Path, help="where the curves are drawn")
    parser.add_argument("--folder", type=Path, help="where the volume is made; for a real disk")
    options = parser.parse_args()
    results = measured(options)
    show(results)
    if options.plot is not None:
        draw(results, options.plot)


if __name__ == "__main__":
    main()
