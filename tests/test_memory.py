"""Memory that runs out: what a step takes, and what to lower."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Files
from napari_synapse_cl.config import Config
from napari_synapse_cl.free_memory import Memory
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.memory import saved_bytes_per_view
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.training import shortage
from napari_synapse_cl.training.metrics import read_metrics
from napari_synapse_cl.training.shortage import advice, is_shortage

CPU = torch.device("cpu")
MIB = 2**20


def model(**settings: object) -> ContrastiveModel:
    config = Config.from_values(settings)
    return ContrastiveModel.from_seed(Architecture.from_config(config), config, 0).train()


class TestSavedBytes:
    @pytest.mark.parametrize(("precision", "mebibytes"), [("float32", 462), ("bfloat16", 301)])
    def test_of_the_default_network(self, precision: str, mebibytes: int) -> None:
        saved = saved_bytes_per_view(model(), (80, 80, 80), CPU, precision)
        assert saved / MIB == pytest.approx(mebibytes, rel=0.02)

    def test_they_are_those_of_a_forward_pass_at_full_size(self) -> None:
        network = model(fmaps=4, downsampling="anisotropic")
        views = torch.zeros(2, 1, 16, 64, 48)
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            kept = network(views)
        assert kept.requires_grad
        weights = {w.untyped_storage().data_ptr() for w in network.parameters()}
        expected = sum(size for address, size in sizes.items() if address not in weights) / 2
        found = saved_bytes_per_view(network, (16, 64, 48), CPU, "float32")
        assert found == pytest.approx(expected, rel=0.02)

    def test_a_frozen_backbone_saves_nearly_nothing(self) -> None:
        frozen = saved_bytes_per_view(model(freeze_backbone=True), (80, 80, 80), CPU, "float32")
        assert frozen < 462 * MIB / 20

    def test_a_stage_that_is_trained_alone_saves_less_than_all(self) -> None:
        crop = (80, 80, 80)
        stage = saved_bytes_per_view(model(stage_to_finetune=3), crop, CPU, "float32")
        frozen = saved_bytes_per_view(model(freeze_backbone=True), crop, CPU, "float32")
        assert frozen < stage < 0.2 * 462 * MIB

    def test_the_model_stays_as_it_is(self) -> None:
        network = model(fmaps=2)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        saved_bytes_per_view(network, (32, 32, 32), CPU, "float32")
        assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
        assert all(weight.grad is None for weight in network.parameters())
        assert network.training


class TestAdvice:
    def advise(self, monkeypatch: pytest.MonkeyPatch, free_mib: float, batch_size: int = 64) -> str:
        free = Memory(int(free_mib * MIB), 2**40)
        monkeypatch.setattr(shortage, "memory_of", lambda _: free)
        config = Config.from_values({"batch_size": batch_size})
        return advice(model(), config, batch_size, CPU, "float32", more_bytes=0)

    def test_the_largest_batch_that_fits_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A pair takes 2 · (462 + 94) MiB and a reserve.
        assert "from 64 to 7" in self.advise(monkeypatch, 10_000)
        assert "go on with --resume --batch_size 7" in self.advise(monkeypatch, 10_000)

    def test_a_batch_that_failed_is_not_advised_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "from 64 to 51" in self.advise(monkeypatch, 1e9)

    def test_where_not_even_two_pairs_fit_a_crop_size_is_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = self.advise(monkeypatch, 800)
        assert "too little for 2 pairs: start a new run with crop_size 48 48 48" in text

    def test_where_nothing_fits_that_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "end other programs" in self.advise(monkeypatch, 1)

    def test_crops_keep_their_proportions(self) -> None:
        sizes = list(shortage._smaller((32, 160, 160), (2, 16, 16)))
        assert sizes[0] == (28, 144, 144) or sizes[0][1:] == (144, 144)
        assert all(z % 2 == 0 and y % 16 == 0 for z, y, _ in sizes)


@pytest.mark.parametrize(
    ("fail", "expected"),
    [
        (lambda: torch.empty(2**60, dtype=torch.uint8), True),
        (lambda: np.empty(2**60, np.uint8), True),
        (lambda: torch.ones(2) @ torch.ones(3), False),
        (lambda: {}["missing"], False),
    ],
    ids=["PyTorch", "NumPy", "another RuntimeError", "another error"],
)
def test_a_shortage_is_told_from_other_errors(fail: Callable[[], object], expected: bool) -> None:
    with pytest.raises(Exception, match=r".+") as caught:
        fail()
    assert is_shortage(caught.value) == expected


TRAIN_IN_LITTLE_MEMORY = """
import re, resource, sys
import psutil, torch
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.events import StepDone
from napari_synapse_cl.pipeline import run

torch.set_num_threads(1)
image, synapses, output = sys.argv[1:]
settings = dict(
    image=image, synapses=synapses, output=output, crop_size=48, fmaps=8, batch_size=10,
    proj_hidden_dim=16, proj_dim=8, num_epochs=2, device="cpu", precision="float32",
    train_only=True,
)
try:
    for event in run(Config.from_values(settings)):
        if isinstance(event, StepDone):
            limit = psutil.Process().memory_info().vms + 250 * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
except JobError as error:
    print(error)
    lowered = int(re.search(r"from 10 to (\\d+)", str(error))[1])
# In the same little memory:
for event in run(Config.from_values({**settings, "resume": True, "batch_size": lowered})):
    pass
print("completed")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_training_that_runs_out_of_memory_goes_on_as_it_advises(
    sample_files: Files, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    job = subprocess.run(
        [sys.executable, "-c", TRAIN_IN_LITTLE_MEMORY, *map(str, sample_files), str(run)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert job.returncode == 0, job.stderr
    failed, completed = job.stdout.splitlines()
    assert "memory ran out on cpu in step 2, with 10 pairs of 48 × 48 × 48 voxels" in failed
    assert completed == "completed"
    # An epoch with all 10 synapses, which are one step, and one of smaller batches.
    epochs = read_metrics(run / "steps.csv")["epoch"].tolist()
    assert epochs.count(1) == 1
    assert epochs.count(2) > 1
