"""Memory that runs out: what a step takes, and what to lower."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Files
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.system import memory
from napari_synapse_cl.system.memory import is_shortage
from napari_synapse_cl.training.memory.measure import kept_bytes, step_memory, what_to_change
from napari_synapse_cl.training.memory.plan import SAFETY, StepMemory, StepPlan

CPU = torch.device("cpu")
MIB = 2**20


def model(**settings: object) -> ContrastiveModel:
    config = Config.from_values(settings)
    return ContrastiveModel.from_seed(Architecture.from_config(config), config, 0).train()


def kept(network: ContrastiveModel, crop_size: tuple[int, int, int] = (80, 80, 80)) -> float:
    """MiB that a view keeps in float32, where nothing is done to save memory."""
    return kept_bytes(network, crop_size, CPU, "float32", False) / MIB


class TestKeptBytes:
    def test_of_the_default_network(self) -> None:
        assert kept(model()) == pytest.approx(462, rel=0.02)
        less = kept_bytes(model(), (80, 80, 80), CPU, "bfloat16", False) / MIB
        # Where convolutions put out no channels-last maps in bfloat16, norms keep ReLUs' maps too.
        assert less in (pytest.approx(270, rel=0.02), pytest.approx(301, rel=0.02))

    def test_they_are_those_of_a_forward_pass_at_full_size(self) -> None:
        network = model(fmaps=4, downsampling="anisotropic")
        views = torch.zeros(2, 1, 16, 64, 48)
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            held = network(views)
        assert held.requires_grad
        weights = {w.untyped_storage().data_ptr() for w in network.parameters()}
        expected = sum(size for address, size in sizes.items() if address not in weights) / 2
        assert kept(network, (16, 64, 48)) == pytest.approx(expected / MIB, rel=0.02)

    def test_with_checkpointing_they_are_the_inputs_of_blocks_alone(self) -> None:
        network = model(fmaps=8)
        inputs: list[int] = []
        views = torch.zeros(1, 1, 32, 32, 32).contiguous(memory_format=torch.channels_last_3d)
        for block in network.backbone.blocks():
            inputs.append(views.nbytes)
            views = block(views)
        for settings, first in (({}, 0), ({"stage_to_finetune": 3}, 6)):
            network = model(fmaps=8, **settings)
            found = kept_bytes(network, (32, 32, 32), CPU, "float32", True)
            assert found == sum(inputs[first:])

    def test_a_frozen_backbone_keeps_nothing(self) -> None:
        assert kept(model(freeze_backbone=True)) == 0

    def test_a_stage_that_is_trained_alone_keeps_less_than_all(self) -> None:
        assert 0 < kept(model(stage_to_finetune=3)) < 0.2 * 462

    def test_they_do_not_depend_on_how_steps_are_computed_now(self) -> None:
        network = model(fmaps=2)
        before = kept(network)
        network.checkpointing = True
        assert kept(network) == before

    def test_the_model_stays_as_it_is(self) -> None:
        network = model(fmaps=2)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        for checkpointing in (False, True):
            kept_bytes(network, (32, 32, 32), CPU, "float32", checkpointing)
        assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
        assert all(weight.grad is None for weight in network.parameters())
        assert network.training


class TestStepMemory:
    def test_a_step_takes_less_with_checkpointing_and_in_bfloat16(self) -> None:
        precisions = ["bfloat16", "float32"]
        memory = step_memory(model(), Config(), (1.0, 1.0, 1.0), CPU, precisions)
        assert list(memory.pair) == precisions
        (fast, fast_again), (slow, slow_again) = memory.pair.values()
        assert fast_again < 0.9 * fast < fast < slow
        assert slow_again < 0.9 * slow

    def test_gradients_and_moments_come_to_it(self) -> None:
        network = model(fmaps=2, stage_to_finetune=1)
        memory = step_memory(network, Config(), (1.0, 1.0, 1.0), CPU, ["float32"])
        # The first stage has four convolutions.
        trained = [network.head, *network.backbone.blocks()[:4]]
        n = sum(p.numel() for module in trained for p in module.parameters())
        assert memory.fixed == 3 * 4 * n


class TestPlans:
    """Which way to compute a step is chosen."""

    def memory(self, limit: float) -> StepMemory:
        pair = {"bfloat16": (600, 300), "float32": (1000, 500)}
        return StepMemory(fixed=100, pair=pair, free=100 + round(SAFETY * limit) + 1)

    def plan(self, limit: float, batch_size: int = 32, **settings: object) -> StepPlan:
        return self.memory(limit).choose(Config.from_values(settings), batch_size)

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
        assert self.memory(limit).bytes_of(expected) <= self.memory(limit).free

    @pytest.mark.parametrize("batch_size", [2, 7, 32])
    def test_what_is_chosen_never_takes_more_than_is_free(self, batch_size: int) -> None:
        for limit in range(300, 40_000, 77):
            memory = self.memory(limit)
            assert memory.bytes_of(memory.choose(Config(), batch_size)) <= memory.free

    def test_what_is_asked_for_is_done(self) -> None:
        assert self.plan(1e9, activation_checkpointing="on").checkpointing
        assert not self.plan(5000, activation_checkpointing="off").checkpointing
        assert self.plan(1e9, micro_batch_size=4).micro_batch_size == 4

    def test_where_the_first_precision_does_not_fit_the_next_is_tried(self) -> None:
        memory = StepMemory(0, {"float32": (1000, 1000), "bfloat16": (500, 500)}, 600)
        assert memory.choose(Config(), 4) == StepPlan("bfloat16", False, 1)

    def test_where_nothing_fits_the_smallest_is_tried(self) -> None:
        assert self.plan(10) == StepPlan("bfloat16", True, 1)

    def test_what_was_done_before_is_done_again_where_it_can_be(self) -> None:
        before = StepPlan("float32", True, 3)
        assert self.memory(3 * 500).choose(Config(), 32, before) == before
        assert self.memory(2 * 500).choose(Config(), 32, before) != before
        fast_alone = replace(self.memory(3 * 500), pair={"bfloat16": (600, 300)})
        assert fast_alone.choose(Config(), 32, before).precision == "bfloat16"

    def test_after_a_shortage_there_is_a_plan_that_takes_less_until_there_is_none(self) -> None:
        memory, plans = self.memory(1e9), [StepPlan("bfloat16", False, 32)]
        while (plan := memory.smaller(plans[-1], Config(), 32)) is not None:
            assert memory.bytes_of(plan) <= 0.7 * memory.bytes_of(plans[-1])
            plans.append(plan)
        assert plans[1] == StepPlan("bfloat16", True, 32)
        assert plans[-1] == StepPlan("bfloat16", True, 1)

    def test_what_is_done_is_said(self) -> None:
        assert StepPlan("float32", False, 32).saving(32) == ""
        assert StepPlan("float32", True, 8).saving(32) == (
            "activations are computed again in the backward pass (checkpointing), and 8 of 32 "
            "pairs go through the network at once, with the loss of all (gradient caching)"
        )

    @pytest.mark.parametrize(
        ("plan", "free", "told"),
        [
            (StepPlan("float32", False, 4), 100, []),
            (
                StepPlan("float32", True, 2),
                3,
                [
                    (
                        "4 pairs of 8 × 8 × 8 voxels would take about 4.0 GiB at once, and 3.0 GiB "
                        "are free: activations are computed again in the backward pass "
                        "(checkpointing), and 2 of 4 pairs go through the network at once, with "
                        "the loss of all (gradient caching). A step takes about 1.0 GiB",
                        "info",
                    )
                ],
            ),
            (
                StepPlan("float32", True, 4),
                100,
                [
                    (
                        "Activations are computed again in the backward pass (checkpointing)",
                        "info",
                    )
                ],
            ),
        ],
        ids=["nothing", "memory", "settings"],
    )
    def test_why_it_is_done_is_said(
        self, plan: StepPlan, free: int, told: list[tuple[str, str]]
    ) -> None:
        pair = round(2**30 / SAFETY) + 1
        memory = StepMemory(0, {"float32": (pair, pair // 2 + 1)}, free * 2**30)
        assert list(memory.told(plan, 4, (8, 8, 8))) == told

    def test_that_it_may_run_out_is_said(self) -> None:
        memory = StepMemory(2**31, {"float32": (1, 1)}, 2**30)
        ((text, level),) = memory.told(StepPlan("float32", False, 2), 2, (8, 8, 8))
        assert level == "warning"
        assert "would take about 2.0 GiB of memory, and 1.0 GiB are free: it may run out" in text


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (
            {"micro_batch_size": 4, "activation_checkpointing": "off"},
            "go on with --resume --micro_batch_size 0 --activation_checkpointing auto",
        ),
        ({}, "end other programs, or start a new run with a smaller crop_size or fewer fmaps"),
    ],
)
def test_where_nothing_helps_what_to_change_is_said(
    settings: dict[str, object], advice: str
) -> None:
    text = what_to_change(Config.from_values(settings), CPU)
    assert "GiB are free: " in text
    assert text.endswith(advice)


def start_no_thread() -> None:
    """Fail as Python does where a limit leaves no room for the stack of a thread."""
    raise RuntimeError("can't start new thread")


def test_a_limit_in_which_pytorch_cannot_compute_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "_limit_of_process", lambda: 1400 * 2**20)
    assert main(flags) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "1400 MiB of memory (ulimit -v), and PyTorch alone takes 1.5 GiB" in line


@pytest.mark.parametrize(
    ("fail", "expected"),
    [
        (lambda: torch.empty(2**60, dtype=torch.uint8), True),
        (lambda: np.empty(2**60, np.uint8), True),
        (lambda: start_no_thread(), True),
        (lambda: torch.ones(2) @ torch.ones(3), False),
        (lambda: {}["missing"], False),
    ],
    ids=["PyTorch", "NumPy", "a thread", "another RuntimeError", "another error"],
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
