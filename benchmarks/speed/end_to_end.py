"""A whole training of a few steps in a process of its own: its time by stage, and its memory.

The sample volume is written as Zarr and trained on through the pipeline that the command line
runs. A stage's time is what the main thread spends there, less what other stages within it take.
Reading is done in another thread; of it, only what a step waits for counts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measuring import Row, Section

from napari_synapse_cl.system.memory import GIB

SAMPLING_SECONDS = 0.01
WHOLE = "whole run"
START = "start of Python, imports"
PREPARATION = "opening and planning"
CUTTING = "cutting the crop cache"
WAITING = "waiting for crops"
AUGMENTATION = "augmentation"
NETWORK = "forward and backward"
OPTIMISER = "optimiser"
VALIDATION = "validation"
CHECKPOINTS = "checkpoints"
FIGURE = "figure of the loss"
REST = "all else"
STAGES = (
    *(START, PREPARATION, CUTTING, WAITING, AUGMENTATION),
    *(NETWORK, OPTIMISER, VALIDATION, CHECKPOINTS, FIGURE, REST),
)


def measure(options: argparse.Namespace) -> Iterator[Section]:
    """Yield a table of the stages for a training from a crop cache, and for one that streams."""
    side, fmaps, shape, n = (16, 4, (96, 128, 128), 12) if options.quick else (80, 24, None, 24)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        _write_sample(folder, shape, n)
        for name, limit in (("with a crop cache", 10), ("streamed", 0)):
            settings = {
                **{"image": str(folder / "volume.zarr"), "synapses": str(folder / "synapses.csv")},
                **{"output": str(folder / name), "cache_limit": limit, "train_only": True},
                **{"crop_size": side, "fmaps": fmaps, "batch_size": 2, "num_epochs": 1},
                **{"device": options.device},
            }
            yield _section(f"A training, {side}³, {fmaps} maps, 2 pairs a step, {name}", settings)


def _write_sample(folder: Path, shape: tuple[int, int, int] | None, n: int) -> None:
    import zarr

    from napari_synapse_cl.data.sample.volume import make_sample

    sample = make_sample(n_synapses=n) if shape is None else make_sample(shape=shape, n_synapses=n)
    zarr.create_array(folder / "volume.zarr", data=sample.image, chunks=(64, 64, 64))
    sample.synapses.to_csv(folder / "synapses.csv", index=False)


def _section(title: str, settings: dict[str, Any]) -> Section:
    command = [sys.executable, __file__, json.dumps(settings), repr(time.time())]
    job = subprocess.run(command, capture_output=True, text=True)
    if job.returncode:
        raise RuntimeError(f"the training ended with {job.stderr.strip().splitlines()[-1]}")
    found = json.loads(job.stdout.splitlines()[-1])
    seconds = found["seconds"]
    rows = [Row(WHOLE, [sum(seconds.values())])]
    rows += [Row(stage, [seconds[stage]]) for stage in STAGES if seconds.get(stage)]
    whole = rows[0].median
    n_crops = found["steps"] * settings["batch_size"]
    in_steps = sum(seconds.get(s, 0) for s in (WAITING, AUGMENTATION, NETWORK, OPTIMISER))
    shares = ", ".join(f"{row.name} {row.median / whole:.1%}" for row in rows[1:])
    notes = [
        f"{found['steps']} steps: {n_crops / whole:.3g} crops/s from end to end, "
        f"{n_crops / in_steps:.3g} crops/s in its steps; at most {found['peak_gib']:.2f} GiB.",
        f"Of the time: {shares}. Reading ahead took {found['reading']:.3f} s in its own thread.",
    ]
    return Section(title, rows, WHOLE, "runs", notes=notes)


class Stages:
    """What the main thread has spent in each stage."""

    def __init__(self, started: float) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.reading = 0.0
        self._within = [REST]
        self._since = time.perf_counter()
        self.seconds[START] = time.time() - started

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens here as a stage; all of a validation is validation."""
        self.turn()
        self._within.append(VALIDATION if VALIDATION in self._within else name)
        try:
            yield
        finally:
            self.turn()
            self._within.pop()

    def turn(self) -> None:
        """Count the time since the last turn."""
        now = time.perf_counter()
        self.seconds[self._within[-1]] += now - self._since
        self._since = now

    def time(self, owner: Any, method: str, name: str) -> None:
        """Count the calls of a function of a class or a module as a stage."""
        function: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            with self.stage(name):
                return function(*arguments, **named)

        setattr(owner, method, timed)

    def time_iteration(self, owner: Any, method: str, name: str) -> None:
        """Count what an iterator does between two items as a stage."""
        function: Callable[..., Iterator[Any]] = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Iterator[Any]:
            iterator = iter(function(*arguments, **named))
            while True:
                with self.stage(name):
                    item = next(iterator, self)
                if item is self:
                    return
                yield item

        setattr(owner, method, timed)

    def time_reading(self, owner: Any, method: str) -> None:
        """Count what other threads read."""
        function: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                if threading.current_thread() is not threading.main_thread():
                    self.reading += time.perf_counter() - start

        setattr(owner, method, timed)


def _train(settings: dict[str, Any], started: float) -> dict[str, Any]:
    """Train in this process, and return what it took."""
    import psutil
    import torch

    from napari_synapse_cl.config import Config
    from napari_synapse_cl.pipeline import run, training
    from napari_synapse_cl.runs.events import StepDone
    from napari_synapse_cl.system.memory import keep_freed_memory
    from napari_synapse_cl.training.step import FullBatch, Optimization
    from napari_synapse_cl.training.training_state import Keeper
    from napari_synapse_cl.training.validation import Validation
    from napari_synapse_cl.training.views import Prefetching, Views

    stages = Stages(started)
    # Before views are made, which keep it.
    stages.time_reading(Views, "_read_to_memory")
    stages.time(training, "prepare_training", PREPARATION)
    stages.time_iteration(training, "fill_cache", CUTTING)
    stages.time(Prefetching, "read", WAITING)
    stages.time(Views, "augmented", AUGMENTATION)
    stages.time(FullBatch, "backward", NETWORK)
    stages.time(Optimization, "take_step", OPTIMISER)
    stages.time(Validation, "measure", VALIDATION)
    stages.time(Keeper, "save", CHECKPOINTS)
    stages.time(training, "_draw_loss", FIGURE)
    process, peak, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLING_SECONDS):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    # As the command line does.
    keep_freed_memory()
    events = run(Config.from_values(settings))
    steps = sum(isinstance(event, StepDone) for event in events)
    stages.turn()
    done.set()
    watcher.join()
    if torch.cuda.is_available():
        peak[0] += torch.cuda.max_memory_reserved()
    return {
        "seconds": stages.seconds,
        "reading": stages.reading,
        "steps": steps,
        "peak_gib": peak[0] / GIB,
    }


if __name__ == "__main__":
    print(json.dumps(_train(json.loads(sys.argv[1]), float(sys.argv[2]))))
