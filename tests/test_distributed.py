"""Several processes that train and extract together do what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import SMALL, Files
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.system.distributed import ALONE, Ranks
from napari_synapse_cl.training.schedule import Schedule
from test_full_batch import OBJECTIVES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo is slow to start there")


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run something in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [*command, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )


TOGETHER = """
import json
import sys
from pathlib import Path
import numpy as np
import torch
from napari_synapse_cl.system.distributed import ALONE, joined
from test_full_batch import BATCH, OBJECTIVES, Made, fixed_statistics, largest_difference

def gradients(ranks, objective, micro_batch_size):
    made = Made(objective=objective, queue_size=10)
    made.batch._ranks = ranks
    made.batch.micro_batch_size = micro_batch_size
    with fixed_statistics(made.model, made.objective):
        return made.backward()

def n_threads():
    names = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
    return sum("gloo" in name for name in names)

errors = {}
with joined() as ranks:
    for objective in OBJECTIVES:
        expected_loss, expected = gradients(ALONE, objective, len(BATCH))
        for micro_batch_size in (len(BATCH), 2):
            loss, found = gradients(ranks, objective, micro_batch_size)
            difference = largest_difference(found, expected)
            errors[f"{objective} {micro_batch_size}"] = abs(loss - expected_loss), difference
    rows = torch.arange(5.0)[:, None]
    assert torch.equal(ranks.gather(rows[ranks.share_of(np.arange(5))]), rows)
    assert ranks.everyones(ranks.rank) == [0, 1]
    assert ranks.agree(f"of {ranks.rank}") == "of 0"
    torch.optim.AdamW(torch.nn.Linear(1, 1).parameters())
    ranks.wait()
    during = n_threads()
with open(f"{sys.argv[1]}/{ranks.rank}.json", "w") as file:
    json.dump({"errors": errors, "threads": [during, n_threads()]}, file)
"""


@pytest.fixture(scope="module")
def told_by_each(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes find when they compute together, which take long to start."""
    folder = tmp_path_factory.mktemp("together")
    script = folder / "together.py"
    script.write_text(TOGETHER)
    job = torchrun(str(script), str(folder))
    assert job.returncode == 0, job.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_have_loss_and_gradients_of_one_with_fixed_statistics(
    told_by_each: list[dict[str, Any]],
) -> None:
    for told in told_by_each:
        assert len(told["errors"]) == 2 * len(OBJECTIVES)
        assert np.array(list(told["errors"].values())).max() < 1e-12, told


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads from /proc")
def test_no_thread_of_the_group_outlives_it(told_by_each: list[dict[str, Any]]) -> None:
    for told in told_by_each:
        during, after = told["threads"]
        if not during:
            pytest.skip("this PyTorch calls the threads of a group otherwise")
        assert after == 0


def settings(tmp_path: Path, files: Files, **more: Any) -> Path:
    image, synapses = files
    path = tmp_path / "settings.json"
    values = {**SMALL, "image": str(image), "synapses": str(synapses), "figures": False, **more}
    path.write_text(json.dumps(values))
    return path


def test_two_processes_train_and_extract_by_the_command_line(
    sample_files: Files, tmp_path: Path
) -> None:
    config = settings(tmp_path, sample_files, batch_size=5, num_epochs=2)
    run, alone = tmp_path / "run", tmp_path / "alone"
    job = torchrun("-m", "napari_synapse_cl", "--config", str(config), "--output", str(run))
    assert job.returncode == 0, job.stderr
    assert "2 processes train together" in job.stderr
    # One process reports and writes, and a batch is what both can share evenly.
    assert job.stdout.count("Results:") == 1
    steps = read_metrics(run / "steps.csv")
    assert steps["step"].tolist() == list(range(1, len(steps["step"]) + 1))
    assert json.loads((run / "status.json").read_text())["batch_size"] == 4
    # The features are those that one process extracts.
    checkpoint = run / "checkpoints" / "last.pt"
    arguments = ["--extract_only", "--checkpoint", str(checkpoint), "--config", str(config)]
    assert main([*arguments, "--output", str(alone)]) == 0
    found, expected = (pd.read_csv(folder / "features_L20_mean.csv") for folder in (run, alone))
    assert list(found) == list(expected)
    np.testing.assert_allclose(
        found.filter(like="L20_mean").to_numpy(),
        expected.filter(like="L20_mean").to_numpy(),
        rtol=1e-4,
        atol=1e-6,
    )


def test_ranks_take_shards_and_wait_for_nobody(sample_files: Files, tmp_path: Path) -> None:
    config = settings(tmp_path, sample_files, crop_size=16, layer_num=3, shard_size=8)
    assert main(["--config", str(config), "--train_only", "--output", str(tmp_path / "run")]) == 0
    told = ["--extract_only", "--checkpoint", str(tmp_path / "run"), "--config", str(config)]
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    ranks = ["-m", "napari_synapse_cl", *told, "--shard", "array", "--output", str(shared)]
    job = torchrun(*ranks)
    assert job.returncode == 0, job.stderr
    assert main([*told, "--workers", "1", "--output", str(alone)]) == 0
    found, expected = (
        [file.read_bytes() for file in sorted((folder / "features").glob("part-*"))]
        for folder in (shared, alone)
    )
    assert found == expected


class TestAlone:
    def test_a_process_that_is_alone_has_everything(self) -> None:
        assert ALONE.is_main
        assert ALONE.share_of(np.arange(3)).tolist() == [0, 1, 2]
        assert ALONE.everyones("mine") == ["mine"]

    def test_shares_are_runs_that_differ_by_one_at_most(self) -> None:
        shares = [Ranks(rank, 3).share_of(np.arange(8)) for rank in range(3)]
        assert [len(share) for share in shares] == [3, 3, 2]
        assert np.concatenate(shares).tolist() == list(range(8))

    def test_a_batch_is_lowered_to_what_all_share_evenly(self) -> None:
        config = Config.from_values({"batch_size": 10})
        assert Schedule.plan(config, 100, n_processes=4).batch_size == 8

    def test_more_processes_than_synapses_in_a_batch_are_refused(self) -> None:
        config = Config.from_values({"batch_size": 3})
        with pytest.raises(InputError, match="4 processes cannot share batches of 3 synapses"):
            Schedule.plan(config, 100, n_processes=4)
