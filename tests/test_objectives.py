"""What objectives keep beside the network: an encoder that follows it, a queue, a predictor."""

from typing import Any, get_args

import pytest
import torch

from napari_synapse_cl.config import Config, TrainingConfig
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.training.objectives import (
    KINDS,
    Objective,
    chance_loss,
    make_objective,
    of_pairs,
)
from napari_synapse_cl.training.objectives.methods import Byol, Moco, byol, info_nce, vicreg

N, K = 4, 8
SYNAPSES = torch.arange(N)[:, None].expand(-1, 2)


def make(**settings: Any) -> tuple[ContrastiveModel, Objective]:
    config = Config.from_values({"fmaps": 2, "proj_dim": K, "proj_hidden_dim": 12, **settings})
    model = ContrastiveModel.from_seed(Architecture.from_config(config), config, 0)
    return model, make_objective(model, config)


def embeddings(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of both views, and targets of them."""
    z, targets = torch.randn(2, N, 2, K, generator=torch.Generator().manual_seed(seed))
    return z, targets


def test_each_that_can_be_chosen_is_there_and_each_that_is_there_can_be_chosen() -> None:
    assert set(KINDS) == set(get_args(TrainingConfig.model_fields["objective"].annotation))


def test_randomness_comes_from_the_seed_alone_and_leaves_no_trace() -> None:
    for objective in KINDS:
        made = []
        for seed in (0, 0, 1):
            model, _ = make(queue_size=4)
            before = torch.get_rng_state()
            config = Config.from_values(
                {"objective": objective, "seed": seed, "proj_dim": K, "queue_size": 4}
            )
            made.append(make_objective(model, config).state_dict())
            assert torch.equal(torch.get_rng_state(), before)
        first, again, other = made
        assert all(torch.equal(first[name], again[name]) for name in first)
        random = [n for n in first if n == "queue" or (n.startswith("predictor") and "weight" in n)]
        assert not any(torch.equal(first[n], other[n]) for n in random if first[n].ndim > 1)


class TestTheEncoder:
    @pytest.mark.parametrize("objective", ["moco", "byol"])
    def test_it_begins_as_the_network_and_takes_no_gradients(self, objective: str) -> None:
        model, made = make(objective=objective)
        assert made.encoder is not None
        own, trained = made.encoder.state_dict(), model.state_dict()
        assert all(torch.equal(own[name], trained[name]) for name in trained)
        assert not any(p.requires_grad for p in made.encoder.parameters())

    @pytest.mark.parametrize("objective", ["moco", "byol"])
    def test_its_embeddings_are_targets_that_are_not_trained(self, objective: str) -> None:
        _, made = make(objective=objective, queue_size=16)
        z, targets = (t.requires_grad_() for t in embeddings())
        for loss in (made.loss(z, targets, SYNAPSES), made.validation_loss(z, targets, SYNAPSES)):
            loss.backward()
        assert z.grad is not None
        assert z.grad.any()
        assert targets.grad is None

    @pytest.mark.parametrize("objective", ["moco", "byol"])
    def test_it_follows_as_a_moving_average(self, objective: str) -> None:
        model, made = make(objective=objective, momentum=0.9, queue_size=16)
        assert made.encoder is not None
        before = [p.clone() for p in made.encoder.parameters()]
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        made.after_step(model, embeddings()[1], SYNAPSES, 0.0)
        for own, old, trained in zip(
            made.encoder.parameters(), before, model.parameters(), strict=True
        ):
            torch.testing.assert_close(own, 0.9 * old + 0.1 * trained)

    def test_the_momentum_of_byol_rises_to_1_along_a_cosine(self) -> None:
        _, made = make(objective="byol", momentum=0.96)
        assert isinstance(made, Byol)
        assert [made.momentum_at(p) for p in (0, 0.5, 1)] == pytest.approx([0.96, 0.98, 1])

    def test_that_of_moco_stays(self) -> None:
        _, made = make(objective="moco", momentum=0.96)
        assert isinstance(made, Moco)
        assert {made.momentum_at(p) for p in (0, 0.5, 1)} == {0.96}


class TestMoco:
    def make(self, **settings: Any) -> tuple[ContrastiveModel, Moco]:
        model, made = make(objective="moco", **settings)
        assert isinstance(made, Moco)
        return model, made

    def test_the_queue_begins_with_random_directions_of_the_seed(self) -> None:
        queues = [self.make(queue_size=6, seed=seed)[1].queue for seed in (0, 0, 1)]
        torch.testing.assert_close(queues[0].norm(dim=1), torch.ones(6))
        assert torch.equal(queues[0], queues[1])
        assert not torch.equal(queues[0], queues[2])

    def test_the_newest_replace_the_oldest(self) -> None:
        model, made = self.make(queue_size=12)
        for seed in range(2):
            made.after_step(model, embeddings(seed)[1], SYNAPSES + 10 * seed, 0.0)
        # 8 came first; of the 8 that followed 4 went to the end, and 4 to the beginning.
        newest = embeddings(1)[1]
        keys = torch.cat([newest[:, 0], newest[:, 1]])
        expected = keys / keys.norm(dim=1, keepdim=True)
        torch.testing.assert_close(made.queue[8:], expected[:4])
        torch.testing.assert_close(made.queue[:4], expected[4:])
        assert made.queued.tolist() == [10, 11, 12, 13, 0, 1, 2, 3, 10, 11, 12, 13]

    def test_a_queue_smaller_than_a_batch_takes_what_fits(self) -> None:
        model, made = self.make(queue_size=3)
        made.after_step(model, embeddings()[1], SYNAPSES, 0.0)
        assert made.queued.tolist() == [0, 1, 2]

    def test_the_loss_is_that_of_both_views_against_the_queue_without_the_own_synapse(self) -> None:
        model, made = self.make(queue_size=10, temperature=0.3)
        made.after_step(model, embeddings(1)[1], SYNAPSES, 0.0)
        z, targets = embeddings()
        masked = SYNAPSES[:, :1] == made.queued
        assert masked.sum(dim=1).tolist() == [2] * N
        both = [
            info_nce(a, b, made.queue, temperature=0.3, masked=masked)
            for a, b in ((z[:, 0], targets[:, 1]), (z[:, 1], targets[:, 0]))
        ]
        torch.testing.assert_close(made.loss(z, targets, SYNAPSES), (both[0] + both[1]) / 2)

    def test_the_validation_loss_does_not_depend_on_the_queue(self) -> None:
        found = []
        for size in (4, 64):
            _, made = self.make(queue_size=size)
            found.append(made.validation_loss(*embeddings(), SYNAPSES))
        assert torch.equal(found[0], found[1])


class TestByol:
    def test_the_loss_compares_predictions_with_the_other_view(self) -> None:
        _, made = make(objective="byol")
        assert isinstance(made, Byol)
        made.eval()
        z, targets = embeddings()
        predicted = of_pairs(made.predictor, z)
        both = [byol(predicted[:, view], targets[:, 1 - view]) for view in (0, 1)]
        torch.testing.assert_close(made.loss(z, targets, SYNAPSES), (both[0] + both[1]) / 2)


@pytest.mark.parametrize("objective", ["nt_xent", "dcl", "moco"])
def test_chance_is_the_loss_of_embeddings_that_are_all_the_same(objective: str) -> None:
    settings = {"objective": objective, "queue_size": 10}
    _, made = make(**settings)
    if isinstance(made, Moco):
        made.queue.fill_(1)
    same = torch.ones(N, 2, K)
    expected = made.loss(same, same, SYNAPSES).item()
    assert chance_loss(Config.from_values(settings), N) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("objective", ["byol", "vicreg"])
def test_without_negatives_there_is_no_chance_level(objective: str) -> None:
    assert chance_loss(Config.from_values({"objective": objective}), N) is None


def test_vicreg_compares_the_first_views_with_the_second() -> None:
    _, made = make(objective="vicreg")
    z, _ = embeddings()
    assert torch.equal(made.loss(z, None, SYNAPSES), vicreg(z[:, 0], z[:, 1]))


def test_an_objective_without_an_encoder_adds_no_weights() -> None:
    for objective in ("nt_xent", "dcl", "vicreg"):
        _, made = make(objective=objective)
        assert made.encoder is None
        assert not made.state_dict()
