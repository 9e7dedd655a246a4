"""What a training step takes, of memory and of time, with each way to save memory.

    python benchmarks/training_step.py memory [--pairs 32] [--crop_size 80] [--fmaps 24]
        [--micro_batch_size 8] [--device auto] [--keep]
    python benchmarks/training_step.py speed [--pairs 4] [--crop_size 48] [--fmaps 24]
        [--micro_batch_size 2] [--repeats 5] [--device auto] [--json FILE]

``memory`` takes one step in a process of its own for each row, and shows the most memory that it
held beyond what it held before the step: on a GPU what PyTorch allocated, else the process's
resident memory. "Estimated" is what a training plans by; a step that by it does not fit into the
memory that is free is not taken. With ``--keep`` what is freed is kept, as the command line does
where there is room: a step needs less than it holds then. ``speed`` takes steps of all ways in turn
and shows medians as ratios to the plain step in float32; what is freed is kept.

Crops are random bytes with the context that augmentations need, and in memory; a step is all that a
training does in one: reading, augmentation, both passes, loss and optimiser.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from speed.random_crops import RandomCrops

from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.config import Config
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.system.devices import choose_device, device_name, memory_of, to_device
from napari_synapse_cl.system.distributed import ALONE
from napari_synapse_cl.system.memory import GIB, keep_freed_memory
from napari_synapse_cl.training.memory.measure import step_memory
from napari_synapse_cl.training.memory.plan import StepPlan
from napari_synapse_cl.training.objectives import KINDS, make_objective
from napari_synapse_cl.training.step import FullBatch, Optimization
from napari_synapse_cl.training.views import Views

CUBES = (1.0, 1.0, 1.0)
SAMPLING_SECONDS = 0.005
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Way:
    """How a step is computed."""

    precision: str
    checkpointing: bool
    caching: bool

    @property
    def name(self) -> str:
        """What the tables call it."""
        parts = [
            *(["checkpointing"] if self.checkpointing else []),
            *(["caching"] if self.caching else []),
        ]
        return f"{self.precision}, {' and '.join(parts) or 'plain'}"


WAYS = [
    Way(precision, checkpointing, caching)
    for precision in PRECISIONS
    for checkpointing in (False, True)
    for caching in (False, True)
]


class Stepper:
    """Takes steps of one training in any way."""

    def __init__(self, options: argparse.Namespace, objective: str = "nt_xent") -> None:
        self.config = Config.from_values(
            {
                "objective": objective,
                "crop_size": options.crop_size,
                "fmaps": options.fmaps,
                "batch_size": options.pairs,
                "device": options.device,
            }
        )
        self.device = choose_device(self.config.device)
        architecture = Architecture.from_config(self.config)
        self.model = ContrastiveModel.from_seed(architecture, self.config, 0)
        to_device(self.model, self.device)
        self.context = context_shape(self.config.crop_size, self.config, CUBES)
        self._objective = make_objective(self.model, self.config)
        to_device(self._objective, self.device)
        views = Views(RandomCrops(options.pairs, self.context), self.config, self.device, CUBES)
        self._optimization = Optimization(self.model, self._objective, self.config, 1000)
        self._batch = FullBatch(self.model, self._objective, views.augmented, self.device, ALONE)
        self._synapses = np.arange(options.pairs)
        self._micro_batch_size = options.micro_batch_size
        self.memory = step_memory(self.model, self.config, CUBES, self.device, PRECISIONS)

    def plan(self, way: Way) -> StepPlan:
        """Return the way with its micro-batch."""
        size = self._micro_batch_size if way.caching else len(self._synapses)
        return StepPlan(way.precision, way.checkpointing, size)

    def step(self, way: Way) -> float:
        """Take a step, and return its seconds."""
        start, plan = time.perf_counter(), self.plan(way)
        self._batch.precision = plan.precision
        self._batch.micro_batch_size = plan.micro_batch_size
        self._batch.part_bytes = self.memory.bytes_of(plan)
        self.model.checkpointing = plan.checkpointing
        self._optimization.prepare(0)
        self.model.train()
        _, targets = self._batch.backward(self._synapses, 1)
        self._optimization.take_step()
        self._objective.after_step(self.model, targets, torch.from_numpy(self._synapses), 0.5)
        # Reading a value waits for the device.
        next(self.model.parameters()).flatten()[0].item()
        return time.perf_counter() - start


class PeakMemory:
    """The most memory that this process or its GPU holds beyond what it holds at first."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._start = self._held()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device) - self._start

    def _held(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device)
        return psutil.Process().memory_info().rss

    def _watch(self) -> None:
        while not self._done.wait(SAMPLING_SECONDS):
            self.bytes = max(self.bytes, self._held() - self._start)


def measure_memory(options: argparse.Namespace, way: Way) -> dict[str, float]:
    """Take one step in this process, if it fits."""
    stepper = Stepper(options)
    estimated, free = stepper.memory.bytes_of(stepper.plan(way)), memory_of(stepper.device).free
    row = {"estimated_gib": estimated / GIB, "free_gib": free / GIB}
    if estimated > free:
        return row
    with PeakMemory(stepper.device) as peak:
        seconds = stepper.step(way)
    return {**row, "measured_gib": peak.bytes / GIB, "seconds": seconds}


def show_memory(options: argparse.Namespace) -> Iterator[str]:
    print_header(options)
    yield "| way | measured GiB | estimated GiB | seconds |"
    yield "|---|---|---|---|"
    for way in WAYS if options.way is None else [WAYS[options.way]]:
        command = [sys.executable, __file__, *sys.argv[1:], "--child", str(WAYS.index(way))]
        job = subprocess.run(command, capture_output=True, text=True)
        if job.returncode:
            # Killed, or it said so itself.
            reason = (job.stderr.strip() or "killed").splitlines()[-1][:80]
            yield f"| {way.name} | did not fit ({reason}) | | |"
            continue
        row = json.loads(job.stdout)
        estimated = f"{row['estimated_gib']:.2f}"
        if "measured_gib" not in row:
            yield f"| {way.name} | not tried, {row['free_gib']:.1f} are free | {estimated} | |"
            continue
        yield f"| {way.name} | {row['measured_gib']:.2f} | {estimated} | {row['seconds']:.1f} |"


def show_speed(options: argparse.Namespace) -> Iterator[str]:
    print_header(options)
    stepper = Stepper(options)
    cases = {way.name: (stepper, way) for way in WAYS}
    for objective in KINDS:
        cases[f"{WAYS[0].name}, {objective}"] = (Stepper(options, objective), WAYS[0])
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(options.repeats + 1):
        for name, (stepper, way) in cases.items():
            taken = stepper.step(way)
            # The first step of each is slow.
            if repeat:
                seconds[name].append(taken)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    plain = medians[WAYS[0].name]
    yield "| way | steps/s | ratio to the plain step in float32 |"
    yield "|---|---|---|"
    for name, median in medians.items():
        yield f"| {name} | {1 / median:.3f} | {plain / median:.2f} |"
    if options.json is not None:
        options.json.write_text(json.dumps(seconds, indent=2) + "\n")


def print_header(options: argparse.Namespace) -> None:
    device = choose_device(options.device)
    print(
        f"{options.pairs} pairs of {options.crop_size}³, {options.fmaps} feature maps, "
        f"micro-batches of {options.micro_batch_size} pairs with caching; device "
        f"{device}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, "
        f"{device_name(device)}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["memory", "speed"])
    parser.add_argument("--pairs", type=int, default=None)
    parser.add_argument("--crop_size", type=int, default=None)
    parser.add_argument("--fmaps", type=int, default=24)
    parser.add_argument("--micro_batch_size", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--way", type=int, default=None, help="only this row, counted from 0")
    parser.add_argument("--keep", action="store_true", help="memory that is freed")
    parser.add_argument("--child", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    defaults = {"memory": (32, 80, 8), "speed": (4, 48, 2)}[options.what]
    for name, value in zip(("pairs", "crop_size", "micro_batch_size"), defaults, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.keep or options.what == "speed":
        keep_freed_memory()
    if options.child is not None:
        print(json.dumps(measure_memory(options, WAYS[options.child])))
        return
    for line in show_memory(options) if options.what == "memory" else show_speed(options):
        print(line, flush=True)


if __name__ == "__main__":
    main()
