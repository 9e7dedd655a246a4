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
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.system.memory import Memory, is_shortage
from napari_synapse_cl.training.memory import shortage
from napari_synapse_cl.training.memory.measure import (
    _block_inputs,
    saved_bytes_per_view,
    step_memory,
)
from napari_synapse_cl.training.memory.plan import (
    SAFETY,
    StepMemory,
    StepPlan,
    fastest_plan,
    in_words,
    smaller_plan,
)
from napari_synapse_cl.training.memory.shortage import advice

CPU = torch.device("cpu")
MIB = 2**20


def model(**settings: object) -> ContrastiveModel:
    config = Config.from_values(settings)
    return ContrastiveModel.from_seed(Architecture.from_config(config), config, 0).train()


class TestSavedBytes:
    @pytest.mark.parametrize(("precision", "mebibytes"), [("float32", 462), ("bfloat16", 270)])
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


class TestStepsMemory:
    def test_checkpointing_keeps_the_inputs_of_blocks_alone(self) -> None:
        network = model(fmaps=8)
        network.checkpointing = True
        kept: list[int] = []
        views = torch.zeros(1, 1, 32, 32, 32).contiguous(memory_format=torch.channels_last_3d)
        for block in network.backbone.blocks():
            block.register_forward_pre_hook(lambda _, args: kept.append(args[0].nbytes))
            views = block(views)
        assert _block_inputs(network, (32, 32, 32), "float32") == sum(kept)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_a_step_takes_less_with_checkpointing(self, precision: str) -> None:
        memory = step_memory(model(), (80, 80, 80), (118, 118, 118), CPU)
        assert memory.pair[precision, True] < 0.9 * memory.pair[precision, False]

    def test_moments_that_are_there_are_not_to_come(self) -> None:
        network = model(fmaps=2)
        weights = sum(p.nbytes for p in network.parameters())
        first, later = (
            step_memory(network, (16,) * 3, (16,) * 3, CPU, has_moments=has).fixed
            for has in (False, True)
        )
        assert (first, later) == (3 * weights, weights)


class TestPlans:
    """Which way to compute a step is chosen."""

    MEMORY = StepMemory(
        fixed=100,
        pair={
            ("float32", False): 1000,
            ("float32", True): 500,
            ("bfloat16", False): 600,
            ("bfloat16", True): 300,
        },
    )

    def plan(self, limit: float, batch_size: int = 32, **settings: object) -> StepPlan:
        config = Config.from_values(settings)
        precisions = (
            ["float32"] if settings.get("precision") == "float32" else ["bfloat16", "float32"]
        )
        free = 100 + round(SAFETY * limit) + 1
        return fastest_plan(self.MEMORY, config, batch_size, precisions, free)

    @pytest.mark.parametrize(
        ("limit", "expected"),
        [
            (32 * 600, StepPlan("bfloat16", False, 32)),
            # Checkpointing comes first: batch norms go on seeing the whole batch.
            (32 * 300, StepPlan("bfloat16", True, 32)),
            # Of the two ways that cost one more pass no one fits whole: parts of 15 would, and 3
            # equal ones are of 11.
            (15 * 600, StepPlan("bfloat16", False, 11)),
            # Parts too small for batch norms are avoided.
            (5 * 600, StepPlan("bfloat16", True, 8)),
            (300, StepPlan("bfloat16", True, 1)),
        ],
    )
    def test_the_fastest_that_fits_is_chosen(self, limit: float, expected: StepPlan) -> None:
        assert self.plan(limit) == expected

    def test_what_is_asked_for_is_done(self) -> None:
        assert self.plan(1e9, activation_checkpointing="on").checkpointing
        assert not self.plan(5000, activation_checkpointing="off").checkpointing
        assert self.plan(1e9, micro_batch_size=4).micro_batch_size == 4
        assert self.plan(1e9, precision="float32").precision == "float32"

    def test_where_nothing_fits_the_smallest_is_tried(self) -> None:
        assert self.plan(10) == StepPlan("bfloat16", True, 1)

    def test_after_a_shortage_there_is_a_plan_that_takes_less(self) -> None:
        config, failed = Config(), StepPlan("bfloat16", False, 32)
        plan = smaller_plan(self.MEMORY, config, 32, failed, free=10**9)
        assert plan is not None
        assert self.MEMORY.bytes_of(plan) <= 0.7 * self.MEMORY.bytes_of(failed)
        smallest = StepPlan("bfloat16", True, 1)
        assert smaller_plan(self.MEMORY, config, 32, smallest, free=10**9) is None

    def test_what_is_done_is_said(self) -> None:
        assert in_words(StepPlan("float32", False, 32), 32) == ""
        assert in_words(StepPlan("float32", True, 8), 32) == (
            "activations are computed again in the backward pass (checkpointing), and 8 of 32 "
            "pairs go through the network at once, with the loss of all (gradient caching)"
        )


class TestAdvice:
    def advise(self, monkeypatch: pytest.MonkeyPatch, free_mib: float, **settings: object) -> str:
        free = Memory(int(free_mib * MIB), 2**40)
        monkeypatch.setattr(shortage, "memory_of", lambda _: free)
        config = Config.from_values(settings)
        return advice(model(), config, CPU, "float32", (1.0, 1.0, 1.0), has_moments=True)

    def test_what_the_settings_forbid_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        forbidden = {"micro_batch_size": 4, "activation_checkpointing": "off"}
        assert (
            "go on with --resume --micro_batch_size 0 --activation_checkpointing auto"
            in self.advise(monkeypatch, 1000, **forbidden)
        )

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
import resource, sys
import psutil, torch
from napari_synapse_cl.config import Config
from napari_synapse_cl.runs.events import Message, StepDone
from napari_synapse_cl.pipeline import run

torch.set_num_threads(1)
image, synapses, output = sys.argv[1:]
settings = dict(
    image=image, synapses=synapses, output=output, crop_size=48, fmaps=8, batch_size=10,
    proj_hidden_dim=16, proj_dim=8, num_epochs=3, device="cpu", precision="float32",
    train_only=True, rotation_range=0, validation_fraction=0,
)
for event in run(Config.from_values(settings)):
    if isinstance(event, StepDone) and event.step == 1:
        limit = psutil.Process().memory_info().vms + 300 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if isinstance(event, Message) and "ran out" in event.text:
        print(event.text)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_training_that_runs_out_of_memory_goes_on_with_less_and_the_same_batch(
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
    (told,) = job.stdout.splitlines()
    assert "memory ran out on cpu in step 2, with 10 pairs of 48 × 48 × 48 voxels" in told
    assert "from here on" in told
    # One step an epoch, of all synapses.
    assert read_metrics(run / "steps.csv")["epoch"].tolist() == [1, 2, 3]
