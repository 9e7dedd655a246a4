"""NT-Xent against an independent implementation, a slow formula and known values."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from napari_synapse_cl.models.losses import nt_xent


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
