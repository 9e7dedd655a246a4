"""Losses against independent implementations, slow formulas and known values."""

import math
from collections.abc import Callable

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss, VICRegLoss
from torch import Tensor

from napari_synapse_cl.models.losses import dcl, nt_xent
from napari_synapse_cl.training.objectives.methods import byol, info_nce, vicreg


def pair(n: int, dim: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    z1, z2 = torch.randn(2, n, dim, generator=torch.Generator().manual_seed(seed))
    return z1.requires_grad_(), z2.requires_grad_()


@pytest.mark.parametrize("n", [2, 8, 64])
@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
def test_value_and_gradient_equal_an_independent_implementation(n: int, temperature: float) -> None:
    ours, theirs = pair(n), pair(n)
    loss = nt_xent(*ours, temperature=temperature)
    labels = torch.arange(n).repeat(2)
    reference = NTXentLoss(temperature)(torch.cat(theirs), labels)
    torch.testing.assert_close(loss, reference, rtol=1e-5, atol=1e-6)
    loss.backward()
    reference.backward()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad, rtol=1e-4, atol=1e-6)


def test_value_equals_the_formula_written_out() -> None:
    z1, z2 = pair(3)
    z = [v / v.norm() for v in torch.cat([z1, z2]).detach().double()]
    terms = []
    for i in range(6):
        others = [math.exp(float(z[i] @ z[k]) / 0.3) for k in range(6) if k != i]
        terms.append(-math.log(math.exp(float(z[i] @ z[(i + 3) % 6]) / 0.3) / sum(others)))
    assert nt_xent(z1, z2, temperature=0.3).item() == pytest.approx(sum(terms) / 6, rel=1e-6)


def test_identical_partners_cost_nothing_as_the_temperature_vanishes() -> None:
    z = torch.eye(8)
    assert nt_xent(z, z, temperature=1e-3).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_embeddings_that_are_all_the_same_cost_log_2n_minus_1(n: int) -> None:
    z = torch.ones(n, 4)
    assert nt_xent(z, z, temperature=0.07).item() == pytest.approx(math.log(2 * n - 1), rel=1e-6)


def test_swapping_the_views_changes_nothing() -> None:
    z1, z2 = pair(8)
    torch.testing.assert_close(nt_xent(z1, z2, temperature=0.07), nt_xent(z2, z1, temperature=0.07))


def test_the_length_of_embeddings_does_not_matter() -> None:
    z1, z2 = pair(8)
    torch.testing.assert_close(
        nt_xent(z1, z2, temperature=0.07), nt_xent(z1 * 100, z2 / 100, temperature=0.07)
    )


def test_bfloat16_embeddings_stay_finite_in_value_and_gradient() -> None:
    z1, z2 = (torch.randn(8, 16).bfloat16().mul(1e3).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent(z1, z2, temperature=0.01)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert z1.grad is not None
    assert z1.grad.isfinite().all()


@pytest.mark.parametrize(
    ("shapes", "temperature"), [(((2, 3), (3, 3)), 1.0), (((2,), (2,)), 1.0), (((2, 3), (2, 3)), 0)]
)
def test_arguments_that_make_no_sense_are_refused(shapes: tuple, temperature: float) -> None:
    with pytest.raises(ValueError, match=r"needed|positive"):
        nt_xent(*(torch.ones(shape) for shape in shapes), temperature=temperature)


def assert_same_value_and_gradients(
    loss: Callable[..., Tensor], formula: Callable[..., Tensor], arguments: list[Tensor]
) -> None:
    """Compare a loss with a formula in float64, with respect to all arguments."""
    ours = [z.detach().clone().requires_grad_() for z in arguments]
    theirs = [z.detach().double().requires_grad_() for z in arguments]
    value, expected = loss(*ours), formula(*theirs)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    value.backward()
    expected.backward()
    for our, their in zip(ours, theirs, strict=True):
        assert our.grad is not None
        assert their.grad is not None
        torch.testing.assert_close(our.grad.double(), their.grad, rtol=1e-4, atol=1e-6)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b) / (a @ a).sqrt() / (b @ b).sqrt()


class TestDecoupled:
    @pytest.mark.parametrize("temperature", [0.07, 0.5])
    def test_value_and_gradient_equal_the_formula_written_out(self, temperature: float) -> None:
        def formula(z1: Tensor, z2: Tensor) -> Tensor:
            z, n = [*z1, *z2], len(z1)
            terms = []
            for i in range(2 * n):
                partner = (i + n) % (2 * n)
                others = [
                    (cosine(z[i], z[k]) / temperature).exp()
                    for k in range(2 * n)
                    if k not in (i, partner)
                ]
                terms.append(
                    torch.stack(others).sum().log() - cosine(z[i], z[partner]) / temperature
                )
            return torch.stack(terms).mean()

        assert_same_value_and_gradients(
            lambda *z: dcl(*z, temperature=temperature), formula, list(pair(4))
        )

    def test_it_pulls_partners_as_hard_however_well_they_agree(self) -> None:
        # The gradient at NT-Xent's positive fades as the pair is told from the others.
        pulls = []
        for loss in (nt_xent, dcl):
            z1 = torch.eye(8).requires_grad_()
            loss(z1, torch.eye(8) + 0.01, temperature=0.1).backward()
            assert z1.grad is not None
            pulls.append(z1.grad.norm().item())
        assert pulls[1] > 100 * pulls[0]

    @pytest.mark.parametrize("n", [2, 8])
    def test_embeddings_that_are_all_the_same_cost_log_2n_minus_2(self, n: int) -> None:
        z = torch.ones(n, 4)
        assert dcl(z, z, temperature=0.07).item() == pytest.approx(math.log(2 * n - 2), rel=1e-6)

    def test_a_pair_alone_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no negatives"):
            dcl(torch.ones(1, 4), torch.ones(1, 4), temperature=1.0)


class TestWithAQueue:
    def test_value_and_gradient_equal_the_formula_written_out(self) -> None:
        masked = torch.zeros(3, 5, dtype=torch.bool)
        masked[0, 4] = masked[2, 1] = True

        def formula(queries: Tensor, keys: Tensor, negatives: Tensor) -> Tensor:
            terms = []
            for i, query in enumerate(queries):
                others = [
                    (cosine(query, negative) / 0.2).exp()
                    for j, negative in enumerate(negatives)
                    if not masked[i, j]
                ]
                own = (cosine(query, keys[i]) / 0.2).exp()
                terms.append(-(own / (own + torch.stack(others).sum())).log())
            return torch.stack(terms).mean()

        generator = torch.Generator().manual_seed(1)
        arguments = [torch.randn(n, 6, generator=generator) for n in (3, 3, 5)]
        assert_same_value_and_gradients(
            lambda *z: info_nce(*z, temperature=0.2, masked=masked), formula, arguments
        )

    def test_it_is_the_loss_of_an_independent_implementation(self) -> None:
        # There every key is also a negative of the other queries.
        n = 6
        (queries, keys), labels = pair(n), torch.arange(n)
        masked = torch.eye(n, dtype=torch.bool)
        loss = info_nce(queries, keys, keys, temperature=0.1, masked=masked)
        reference = NTXentLoss(0.1)(queries, labels, ref_emb=keys, ref_labels=labels.clone())
        torch.testing.assert_close(loss, reference, rtol=1e-5, atol=1e-6)


class TestPrediction:
    def test_value_and_gradient_equal_the_squared_distance_of_unit_vectors(self) -> None:
        def formula(predictions: Tensor, targets: Tensor) -> Tensor:
            units = [z / (z * z).sum(dim=1, keepdim=True).sqrt() for z in (predictions, targets)]
            return ((units[0] - units[1]) ** 2).sum(dim=1).mean()

        assert_same_value_and_gradients(byol, formula, list(pair(5)))

    def test_it_reaches_from_0_to_4(self) -> None:
        z = torch.eye(4)
        assert byol(z, 3 * z).item() == pytest.approx(0, abs=1e-6)
        assert byol(z, -z).item() == pytest.approx(4)


class TestSpread:
    @pytest.mark.parametrize("n", [2, 5, 32])
    @pytest.mark.parametrize("length", [0.1, 3.0])
    def test_value_and_gradient_equal_the_formula_written_out(self, n: int, length: float) -> None:
        def formula(z1: Tensor, z2: Tensor) -> Tensor:
            k = z1.shape[1]
            loss = 25 * sum(((a - b) ** 2).sum() for a, b in zip(z1, z2, strict=True)) / (n * k)
            for z in (z1, z2):
                away = z - z.sum(dim=0) / n
                for i in range(k):
                    variance = (away[:, i] ** 2).sum() / (n - 1)
                    loss = loss + 25 / 2 * (1 - (variance + 1e-4) ** 0.5).clamp_min(0) / k
                    for j in set(range(k)) - {i}:
                        loss = loss + ((away[:, i] * away[:, j]).sum() / (n - 1)) ** 2 / k
            return loss

        views = [length * z.detach() for z in pair(n, dim=6)]
        assert_same_value_and_gradients(vicreg, formula, views)

    def test_it_is_the_loss_of_an_independent_implementation(self) -> None:
        z1, z2 = pair(8)
        reference = VICRegLoss()(z1, ref_emb=z2)
        torch.testing.assert_close(vicreg(z1, z2), reference, rtol=1e-5, atol=1e-5)

    def test_embeddings_that_are_all_the_same_have_finite_gradients(self) -> None:
        z = torch.ones(4, 3, requires_grad=True)
        loss = vicreg(z, z)
        loss.backward()
        assert loss.item() == pytest.approx(25 * (1 - 1e-4**0.5), rel=1e-6)
        assert z.grad is not None
        assert torch.isfinite(z.grad).all()

    def test_one_pair_alone_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least 2"):
            vicreg(*pair(1))
