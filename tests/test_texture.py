"""The second task of a training: to tell grey values and texture from the features of a view."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from conftest import as_flags
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.system.distributed import ALONE
from napari_synapse_cl.training.objectives import Objective, chance_loss, make_objective
from napari_synapse_cl.training.objectives.base import N_LEVELS, TextureTask, describe
from napari_synapse_cl.training.step import FullBatch

CPU = torch.device("cpu")


def views(n: int = 3, size: int = 16) -> torch.Tensor:
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((n, size, size, size)), 1)
    return torch.from_numpy(smooth.astype(np.float32))[:, None]


def slow_description(view: np.ndarray) -> list[float]:
    """The same statistics from their definitions, by NumPy and SciPy in float64."""
    n = len(view)
    centre = (slice(n // 4, n - n // 4),) * 3
    found = [
        float((region < level / (N_LEVELS + 1)).mean())
        for region in (view, view[centre])
        for level in range(1, N_LEVELS + 1)
    ]
    for scale in (1, 2):
        blocks = view.reshape(n // scale, scale, n // scale, scale, n // scale, scale)
        maps = blocks.mean(axis=(1, 3, 5))
        inner = (slice(1, -1),) * 3
        slopes = np.stack([ndimage.correlate1d(maps, [-0.5, 0, 0.5], axis=a) for a in range(3)])
        bent = sum(ndimage.correlate1d(maps, [1.0, -2, 1], axis=a) for a in range(3))[inner]
        slopes = slopes[:, *inner]
        m = len(bent)
        half = (slice(m // 4, m - m // 4),) * 3
        for steep, curved in ((slopes, bent), (slopes[:, *half], bent[half])):
            length = np.sqrt((steep**2).sum(axis=0))
            found += [
                f(x) for x in (length, curved) for f in (np.mean, lambda x: np.std(x, ddof=1))
            ]
            flat = steep.reshape(3, -1)
            found += np.log(np.linalg.eigvalsh(flat @ flat.T / flat.shape[1])).tolist()
    return found


def test_the_statistics_are_those_of_their_definitions() -> None:
    made = views()
    expected = [slow_description(view.astype(np.float64)) for view in made[:, 0].numpy()]
    np.testing.assert_allclose(describe(made), expected, rtol=2e-3, atol=2e-5)


def test_they_are_the_same_of_mirror_images_and_turned_views() -> None:
    made = views()
    torch.testing.assert_close(describe(made.flip(2)), describe(made), rtol=1e-4, atol=1e-5)
    turned = made.transpose(2, 4)
    torch.testing.assert_close(describe(turned), describe(made), rtol=1e-4, atol=1e-5)


def test_features_that_tell_nothing_have_a_loss_of_one_and_those_that_tell_it_less() -> None:
    described = torch.randn(64, 2, 90, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        task = TextureTask(90, (32, 32, 32))
    for parameter in task.predictor.parameters():
        torch.nn.init.zeros_(parameter)
    assert task(torch.zeros(64, 2, 90), described).item() == pytest.approx(1, abs=0.02)
    assert task(described, torch.full_like(described, 0.3)).item() == pytest.approx(0, abs=1e-3)
    torch.manual_seed(0)
    task = TextureTask(90, (32, 32, 32))
    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    for _ in range(60):
        loss = task(described, described)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3


class Made:
    """A small network with its second task, and a batch."""

    def __init__(self, micro_batch_size: int, **settings: Any) -> None:
        small = {"fmaps": 2, "proj_dim": 8, "proj_hidden_dim": 12, "crop_size": 16}
        config = Config.from_values({**small, "texture_weight": 0.5, **settings})
        self.model = ContrastiveModel.from_seed(Architecture.from_config(config), config, 0)
        self.objective: Objective = make_objective(self.model, config)
        # Statistics of parts differ, so those of the backbone are fixed here.
        self.model.eval()
        self.objective.train()
        self.batch = FullBatch(self.model, self.objective, self.views, CPU, ALONE)
        self.batch.micro_batch_size = micro_batch_size

    def views(self, synapses: np.ndarray, epoch: int) -> torch.Tensor:
        both = views(12)
        return torch.cat([both[synapses], both[synapses + 6]])

    def gradients(self) -> tuple[float, dict[str, torch.Tensor]]:
        loss, _ = self.batch.backward(np.arange(6), 1)
        named = [*self.model.named_parameters(), *self.objective.named_parameters()]
        return loss, {name: p.grad for name, p in named if p.grad is not None}


def test_its_gradients_reach_the_backbone_and_do_not_depend_on_how_a_batch_is_divided() -> None:
    whole, expected = Made(6).gradients()
    parts, found = Made(2).gradients()
    without, plain = Made(6, texture_weight=0).gradients()
    assert parts == pytest.approx(whole, rel=1e-5)
    assert whole > without
    assert found.keys() == expected.keys()
    assert any("predictor" in name for name in found)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)
    convolution = "backbone.features.30.weight"
    assert expected[convolution].any()
    assert not torch.allclose(plain[convolution], expected[convolution], rtol=1e-2)


def test_chance_counts_it() -> None:
    plain, kept = Config(), Config(texture_weight=0.5)
    of_pairs = chance_loss(plain, 8)
    assert of_pairs is not None
    assert chance_loss(kept, 8) == pytest.approx(of_pairs + 0.5)
    assert chance_loss(Config(texture_weight=0.5, objective="byol"), 8) is None


def test_a_training_keeps_it_in_its_checkpoint_and_goes_on_with_it(
    flags: list[str], tmp_path: Path
) -> None:
    flags = [*flags, "--train_only", "--texture_weight", "1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*flags, *as_flags({"num_epochs": 3, "output": whole})]) == 0
    assert main([*flags, *as_flags({"num_epochs": 2, "output": parts})]) == 0
    assert main(["--resume", "--output", str(parts), "--num_epochs", "3"]) == 0
    kept = load_checkpoint(whole / "checkpoints" / "last.pt")["objective_state_dict"]
    assert any(name.startswith("texture.predictor") for name in kept)
    logs = [read_metrics(run / "steps.csv")["loss"] for run in (whole, parts)]
    assert len(logs[0]) == len(logs[1])
    assert np.isfinite(np.concatenate(logs)).all()
