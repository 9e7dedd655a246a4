"""How well the estimates of memory and time before a training agree with the training.

    python benchmarks/estimates.py [--steps 4] [--device auto] [--repeats 2]

For each case: what :mod:`napari_synapse_cl.pipeline.answers` estimates, in a process of its own,
and what a training on the sample volume then takes, in another: its peak memory (resident on a
CPU, held by PyTorch on a GPU) and its fastest step. Both are repeated, and the fastest of each
counts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.sample.volume import make_sample
from napari_synapse_cl.runs.events import StepDone
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.training.estimates import VIEWS, Machine

CASES: dict[str, dict[str, Any]] = {
    "32³ × 16, 24 maps": {"crop_size": 32, "batch_size": 16},
    "48³ × 8, 12 maps": {"crop_size": 48, "batch_size": 8, "fmaps": 12},
    "80³ × 2, 24 maps": {"crop_size": 80, "batch_size": 2},
    "80³ × 4, 24 maps": {"crop_size": 80, "batch_size": 4},
    "80³ × 2, head alone": {"crop_size": 80, "batch_size": 2, "freeze_backbone": True},
    "80³ × 2, stage 3": {"crop_size": 80, "batch_size": 2, "stage_to_finetune": 3},
    "16×160×160 × 2, 12 maps": {
        "crop_size": [16, 160, 160],
        "batch_size": 2,
        "fmaps": 12,
        "n_convolutions": [2, 2, 2, 2],
        "downsampling": "anisotropic",
    },
}


def run_training(config: Config, n_steps: int) -> dict[str, float]:
    """Take some steps of a training in this process; return its peak memory and fastest step."""
    import torch

    from napari_synapse_cl.pipeline import run

    steps = islice((e for e in run(config) if isinstance(e, StepDone)), n_steps)
    seconds = min(config.batch_size / step.crops_per_second for step in steps)
    if torch.cuda.is_initialized():
        peak = torch.cuda.max_memory_reserved()
    else:
        # POSIX alone knows it.
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"gib": peak / GIB, "seconds": seconds}


def in_process(*command: str) -> str:
    return subprocess.run(
        [sys.executable, *command], check=True, capture_output=True, text=True
    ).stdout.splitlines()[-1]


def write_sample(folder: Path) -> dict[str, str]:
    """Write the sample volume: drawing it in the process of a training would count there."""
    sample = make_sample()
    np.save(folder / "volume.npy", sample.image)
    sample.synapses.to_csv(folder / "synapses.csv", index=False)
    return {"image": str(folder / "volume.npy"), "synapses": str(folder / "synapses.csv")}


def compare(name: str, settings: dict[str, Any], repeats: int, n_steps: int) -> None:
    batch_size = settings["batch_size"]
    machines, measured = [], []
    with tempfile.TemporaryDirectory() as parent:
        for repeat in range(repeats):
            file = Path(parent) / "config.json"
            output = str(Path(parent) / str(repeat))
            file.write_text(json.dumps({**settings, "output": output, "train_only": True}))
            machines.append(
                Machine.from_json(
                    in_process("-m", "napari_synapse_cl.pipeline.answers", "machine", str(file))
                )
            )
            measured.append(
                json.loads(in_process(__file__, "--run", str(file), "--steps", str(n_steps)))
            )
    machine = machines[0]
    gib = max(run["gib"] for run in measured)
    seconds = min(run["seconds"] for run in measured)
    estimated = VIEWS * batch_size * min(m.seconds_per_view for m in machines)
    plan = machine.memory.choose(Config.from_values(settings), batch_size)
    memory = (machine.resident + machine.memory.bytes_of(plan)) / GIB
    print(
        f"{name:24} {plan.precision:9} "
        f"{memory:7.2f} {gib:9.2f} {memory / gib:6.2f} "
        f"{estimated:9.3f} {seconds:9.3f} {estimated / seconds:6.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run_training(Config.from_file(options.run), options.steps)))
        return
    print(
        f"{'case':24} {'precision':9} {'GiB est':>7} {'measured':>9} {'ratio':>6} "
        f"{'s/step':>9} {'measured':>9} {'ratio':>6}"
    )
    with tempfile.TemporaryDirectory() as folder:
        sample = write_sample(Path(folder))
        for name, case in CASES.items():
            for precision in options.precision:
                settings = {**case, **sample, "precision": precision, "device": options.device}
                compare(name, settings, options.repeats, options.steps)


if __name__ == "__main__":
    main()
