"""A training that is killed at any instant goes on as if nothing had happened."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import SMALL, Files
from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.runs.metrics import read_metrics

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="forks, which start in no time, are of POSIX systems"
)

N_KILLED = 5

KILL_AND_GO_ON = """
import os, random, resource, shutil, signal, sys, time
from pathlib import Path
# All that a training imports, so that it is the training that is killed.
import scipy.spatial
import torch._dynamo
import napari_synapse_cl.pipeline.training
from napari_synapse_cl.augmentations.composition import apply, draw
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import AugmentationConfig

config, folder, n_killed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

# Compiled loops are read when they are first needed. With one thread there is none to be lost.
apply(torch.zeros(1, 1, 24, 24, 24), draw(AugmentationConfig(), 0, 1, [0], 1), (16, 16, 16))

def start(run, *more, largest_file=resource.RLIM_INFINITY):
    process = os.fork()
    if process == 0:
        code = 3
        try:
            out = os.open(folder / f"{run}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
            code = main(["--config", config, "--output", str(folder / run), *more])
        finally:
            os._exit(code)
    return process

def end(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

began = time.monotonic()
assert end(start("whole")) == 0
duration = time.monotonic() - began
for number in range(n_killed):
    run = f"killed{number}"
    last = folder / run / "checkpoints" / "last.pt"
    process = start(run)
    # Every other one while it trains, whatever the machine does beside.
    while number % 2 and not last.exists():
        time.sleep(0.001)
    time.sleep(random.uniform(0, duration / 4 if number % 2 else duration))
    os.kill(process, signal.SIGKILL)
    killed = end(process) == -signal.SIGKILL
    print(killed, last.exists())
    begun = (folder / run / "run.json").exists()
    code = end(start(run, *(["--resume"] if begun else [])))
    assert code == 0, (number, code)
shutil.copytree(folder / "whole", folder / "full")
process = start("full", "--resume", "--num_epochs", "20", largest_file=20_000)
assert end(process) == 1
"""


def settings(tmp_path: Path, files: Files, **more: Any) -> Path:
    image, synapses = files
    path = tmp_path / "settings.json"
    values = {
        **SMALL,
        "image": str(image),
        "synapses": str(synapses),
        "figures": False,
        "train_only": True,
        "num_epochs": 12,
        **more,
    }
    path.write_text(json.dumps(values))
    return path


def what_was_learnt(run: Path) -> dict[str, Any]:
    """All that a checkpoint holds, but for names and places."""
    checkpoint = load_checkpoint(run / "checkpoints" / "last.pt")
    return {name: value for name, value in checkpoint.items() if name != "config"}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_a_training_survives_kills_at_random_instants_and_a_full_disk(
    sample_files: Files, tmp_path: Path
) -> None:
    config = settings(tmp_path, sample_files)
    job = subprocess.run(
        [sys.executable, "-c", KILL_AND_GO_ON, str(config), str(tmp_path), str(N_KILLED)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert job.returncode == 0, job.stderr
    assert "True True" in job.stdout, job.stdout
    whole = tmp_path / "whole"
    expected, losses = what_was_learnt(whole), read_metrics(whole / "steps.csv")["loss"]
    # A disk that takes no more ends a training, and leaves the last checkpoint as it was.
    assert "cannot be written" in (tmp_path / "full.txt").read_text()
    assert same(what_was_learnt(tmp_path / "full"), expected)
    for number in range(N_KILLED):
        run = tmp_path / f"killed{number}"
        assert same(what_was_learnt(run), expected), f"run {number}"
        assert read_metrics(run / "steps.csv")["loss"].tolist() == losses.tolist()
        # Nothing half-written is left behind.
        assert {file.name for file in (run / "checkpoints").iterdir()} <= {"last.pt", "best.pt"}
