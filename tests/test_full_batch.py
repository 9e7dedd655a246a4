"""The gradient of a whole batch, whatever part of it goes through the network at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_synapse_cl.config import Config
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.losses import nt_xent
from napari_synapse_cl.models.norms import statistics_kept, weigh_first_batches
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.system.distributed import ALONE
from napari_synapse_cl.training.objectives import KINDS, make_objective
from napari_synapse_cl.training.step import FullBatch

CPU = torch.device("cpu")
N = 6
BATCH = np.arange(N)


class Made:
    """A small network in double precision, and what computes its gradients."""

    def __init__(self, **settings: Any) -> None:
        values = {"fmaps": 2, "proj_dim": 8, "proj_hidden_dim": 12, "temperature": 0.5, **settings}
        config = Config.from_values(values)
        architecture = Architecture.from_config(config)
        self.model = ContrastiveModel.from_seed(architecture, config, 0).double().train()
        self.objective = make_objective(self.model, config).double().train()
        self.batch = FullBatch(self.model, self.objective, views, CPU, ALONE)
        self.batch.micro_batch_size = N

    def backward(self) -> tuple[float, dict[str, Tensor]]:
        # A float32 loss would hide how exact the gradients are.
        with double_losses():
            loss, _ = self.batch.backward(BATCH, 1)
        parts: dict[str, nn.Module] = {"model": self.model, "objective": self.objective}
        return loss, {
            f"{part}.{name}": p.grad.clone()
            for part, module in parts.items()
            for name, p in module.named_parameters()
            if p.grad is not None
        }


def views(synapses: np.ndarray, epoch: int, side: int = 16) -> Tensor:
    """Two random views of each synapse, always the same."""
    parts = [
        torch.rand(
            2, 1, side, side, side, generator=torch.Generator().manual_seed(int(s) + 100 * epoch)
        )
        for s in synapses
    ]
    pairs = torch.stack(parts).double()
    return torch.cat([pairs[:, 0], pairs[:, 1]])


@contextmanager
def double_losses() -> Iterator[None]:
    """Let losses stay in the precision of the embeddings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", lambda tensor: tensor)
        yield


@contextmanager
def fixed_statistics(*modules: nn.Module) -> Iterator[None]:
    """Let batch norms of backbones normalise by what does not depend on the batch."""
    norms = [n for m in modules for n in m.modules() if isinstance(n, nn.BatchNorm3d)]
    with pytest.MonkeyPatch.context() as patch:
        for norm in norms:
            norm.eval()
            patch.setattr(norm, "train", lambda mode=True: None)
        yield


def largest_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Of gradients, relative to the norm of all."""
    assert found.keys() == expected.keys()
    norm = torch.cat([g.flatten() for g in expected.values()]).norm()
    differences = [(found[name] - expected[name]).norm() / norm for name in expected]
    return float(max(differences))


OBJECTIVES = list(KINDS)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_micro_batches_give_the_gradient_of_the_full_batch_with_fixed_statistics(
    objective: str, size: int
) -> None:
    made = Made(objective=objective, queue_size=10)
    with fixed_statistics(made.model, made.objective):
        loss, expected = made.backward()
        made.batch.micro_batch_size = size
        again, found = made.backward()
    assert again == pytest.approx(loss, rel=1e-12)
    assert largest_difference(found, expected) < 1e-12
    assert not any("encoder" in name for name in found)


def test_the_full_batch_has_the_gradient_that_autograd_finds_in_one_piece() -> None:
    made = Made()
    with double_losses():
        z1, z2 = made.model(views(BATCH, 1)).chunk(2)
        nt_xent(z1, z2, temperature=0.5).backward()
    expected = {
        f"model.{name}": p.grad.clone()
        for name, p in made.model.named_parameters()
        if p.grad is not None
    }
    _, found = made.backward()
    assert largest_difference(found, expected) < 1e-12


def test_with_live_statistics_a_micro_batch_normalises_by_its_own() -> None:
    made = Made()
    loss, expected = made.backward()
    made.batch.micro_batch_size = 2
    again, found = made.backward()
    # The loss has as many negatives, so it is close, and far from that of a smaller batch.
    assert again != loss
    assert again == pytest.approx(loss, rel=0.2)
    assert largest_difference(found, expected) > 1e-3


def test_accumulating_gradients_of_small_batches_would_be_another_loss() -> None:
    made = Made()
    with fixed_statistics(made.model, made.objective):
        _, expected = made.backward()
        total: dict[str, Tensor] = {}
        for part in np.array_split(BATCH, 3):
            made.batch.micro_batch_size = N
            with double_losses():
                made.batch.backward(part, 1)
            for name, p in made.model.named_parameters():
                if p.grad is not None:
                    total[f"model.{name}"] = total.get(f"model.{name}", 0) + p.grad / 3
    assert largest_difference(total, expected) > 0.1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_checkpointing_gives_the_same_gradients_to_the_bit(precision: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        made = Made()
        made.model.float()
        made.batch.precision = precision
        made.model.checkpointing = checkpointing
        # PyTorch's bfloat16 gradients of maps 2 voxels deep, of smaller views, are not its own.
        made.batch._make_views = lambda synapses, epoch: views(synapses, epoch, 32).float()
        made.batch.backward(BATCH, 1)
        gradients.append(
            {n: p.grad for n, p in made.model.named_parameters() if p.grad is not None}
        )
        gradients[-1].update(made.model.named_buffers())
    plain, computed_again = gradients
    assert plain.keys() == computed_again.keys()
    assert all(torch.equal(plain[name], computed_again[name]) for name in plain)


@pytest.mark.parametrize("way", [{"checkpointing": True}, {"micro_batch_size": 2}, {}], ids=str)
def test_running_statistics_take_each_crop_once(way: dict[str, Any]) -> None:
    made = Made()
    made.model.checkpointing = way.get("checkpointing", False)
    made.batch.micro_batch_size = way.get("micro_batch_size", N)
    made.backward()
    seen = {
        int(m.num_batches_tracked)
        for m in made.model.backbone.modules()
        if isinstance(m, nn.BatchNorm3d)
    }
    assert seen == {N // made.batch.micro_batch_size}


def test_embedding_leaves_no_trace() -> None:
    made = Made()
    before = {name: b.clone() for name, b in made.model.backbone.named_buffers()}
    made.batch.embed(BATCH, 1)
    assert all(torch.equal(b, before[name]) for name, b in made.model.backbone.named_buffers())
    assert all(p.grad is None for p in made.model.parameters())


@pytest.mark.parametrize("frozen", [{"freeze_backbone": True}, {"stage_to_finetune": 3}], ids=str)
def test_frozen_parts_get_no_gradients_and_the_others_the_same(frozen: dict[str, Any]) -> None:
    made = Made(**frozen)
    _, expected = made.backward()
    assert {n.split(".")[3] for n in expected if "backbone" in n} == (
        set() if "freeze_backbone" in frozen else {"20", "21", "23", "24"}
    )
    made.batch.micro_batch_size = 3
    with fixed_statistics(made.model, made.objective):
        _, whole = made.backward()
        made.batch.micro_batch_size = N
        _, parts = made.backward()
    assert largest_difference(parts, whole) < 1e-12


class TestStatistics:
    def test_those_kept_stay_while_the_batch_is_normalised_as_ever(self) -> None:
        norm = nn.BatchNorm1d(4).train()
        x = torch.randn(16, 4)
        with statistics_kept(norm):
            inside = norm(x)
        assert torch.equal(norm.running_mean, torch.zeros(4))
        assert int(norm.num_batches_tracked) == 0
        assert norm.momentum == 0.1
        assert torch.equal(norm(x), inside)
        assert int(norm.num_batches_tracked) == 1

    def test_the_first_batches_count_alike(self) -> None:
        norm = nn.BatchNorm1d(3).train()
        batches = torch.randn(5, 16, 3) + 7
        for batch in batches:
            weigh_first_batches(norm)
            norm(batch)
        torch.testing.assert_close(norm.running_mean, batches.mean(dim=(0, 1)))

    def test_later_ones_count_as_usual(self) -> None:
        norm = nn.BatchNorm1d(3).train()
        norm.num_batches_tracked.fill_(500)
        weigh_first_batches(norm)
        assert norm.momentum == 0.1
