"""The monitors of the embeddings, against slow formulas and known values."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_synapse_cl.features.embeddings import (
    alignment,
    effective_rank,
    feature_rank,
    measure,
    retrieval,
    uniformity,
)


def embeddings(n: int, k: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two views of n synapses: alike, but not the same, and not of unit length."""
    generator = torch.Generator().manual_seed(seed)
    z1 = torch.randn(n, k, generator=generator) + 0.5
    return 3 * z1, z1 + 0.8 * torch.randn(n, k, generator=generator)


def unit(z: Tensor) -> np.ndarray:
    array = z.double().numpy()
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def slow_alignment(z1: Tensor, z2: Tensor) -> float:
    return float(np.mean([((a - b) ** 2).sum() for a, b in zip(unit(z1), unit(z2), strict=True)]))


def slow_uniformity(z: Tensor) -> float:
    points = unit(z)
    pairs = [(i, j) for i in range(len(points)) for j in range(i)]
    return float(
        np.log(np.mean([np.exp(-2 * ((points[i] - points[j]) ** 2).sum()) for i, j in pairs]))
    )


def slow_retrieval(z1: Tensor, z2: Tensor) -> float:
    points, n = np.concatenate([unit(z1), unit(z2)]), len(z1)
    found = 0
    for i, point in enumerate(points):
        others = [j for j in range(2 * n) if j != i]
        nearest = max(others, key=lambda j: float(points[j] @ point))
        found += nearest == (i + n) % (2 * n)
    return found / (2 * n)


def slow_rank(z: np.ndarray) -> float:
    values = np.linalg.svd(z, compute_uv=False)
    shares = values[values > 1e-12] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


@pytest.fixture(params=[2**23, 100, 1], ids=["whole", "in parts", "row by row"])
def _any_chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_synapse_cl.features.embeddings.CHUNK_ELEMENTS", request.param)


@pytest.mark.usefixtures("_any_chunk")
@pytest.mark.parametrize(("n", "k"), [(2, 3), (37, 8), (20, 64)])
class TestAgainstSlowFormulas:
    def test_alignment(self, n: int, k: int) -> None:
        assert alignment(*embeddings(n, k)) == pytest.approx(slow_alignment(*embeddings(n, k)))

    def test_uniformity(self, n: int, k: int) -> None:
        z, _ = embeddings(n, k)
        assert uniformity(z) == pytest.approx(slow_uniformity(z), rel=1e-5)

    def test_retrieval(self, n: int, k: int) -> None:
        assert retrieval(*embeddings(n, k)) == slow_retrieval(*embeddings(n, k))

    def test_effective_rank(self, n: int, k: int) -> None:
        z, _ = embeddings(n, k)
        assert effective_rank(z) == pytest.approx(slow_rank(unit(z)), rel=1e-5)

    def test_feature_rank(self, n: int, k: int) -> None:
        features, _ = embeddings(n, k)
        expected = slow_rank(features.double().numpy())
        assert feature_rank(features) == pytest.approx(expected, rel=1e-5)


def test_the_slow_retrieval_is_neither_all_nor_nothing() -> None:
    assert 0.2 < slow_retrieval(*embeddings(37, 8)) < 0.95


class TestKnownValues:
    def test_partners_that_agree_are_aligned_and_found(self) -> None:
        z, _ = embeddings(50, 8)
        assert alignment(z, 2 * z) == pytest.approx(0, abs=1e-6)
        assert retrieval(z, 2 * z) == 1

    def test_opposite_partners_are_as_far_apart_as_can_be(self) -> None:
        z, _ = embeddings(50, 8)
        assert alignment(z, -z) == pytest.approx(4)
        assert retrieval(z, -z) == 0

    def test_after_a_collapse_to_a_point_nothing_is_spread_or_found(self) -> None:
        z = torch.full((40, 16), 3.0)
        assert uniformity(z) == pytest.approx(0, abs=1e-6)
        assert effective_rank(z) == pytest.approx(1, abs=1e-4)
        assert retrieval(z, z) == 0

    def test_a_line_has_rank_one(self) -> None:
        z = torch.linspace(-1, 1, 40)[:, None] * torch.arange(1.0, 9.0)
        assert effective_rank(z) == pytest.approx(1, abs=1e-4)

    @pytest.mark.parametrize("k", [2, 16, 100])
    def test_orthonormal_embeddings_have_full_rank(self, k: int) -> None:
        assert effective_rank(torch.eye(k)) == pytest.approx(k)
        assert effective_rank(torch.eye(k).repeat(3, 1)) == pytest.approx(k)

    def test_orthonormal_embeddings_are_spread_to_minus_four(self) -> None:
        assert uniformity(torch.eye(30)) == pytest.approx(-4)


@pytest.mark.parametrize("measured", [uniformity, effective_rank, feature_rank])
def test_coarse_embeddings_are_taken_in_float32(measured: Callable[[Tensor], float]) -> None:
    coarse = embeddings(30, 8)[0].bfloat16()
    assert measured(coarse) == measured(coarse.float())


def test_uniformity_is_that_of_each_view_so_that_partners_do_not_count() -> None:
    z = torch.eye(4)
    assert measure(z, z).uniformity == pytest.approx(-4)
    z1, z2 = embeddings(20, 8)
    assert measure(z1, z2).uniformity == pytest.approx((uniformity(z1) + uniformity(z2)) / 2)


def test_memory_is_bounded_for_many_synapses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_synapse_cl.features.embeddings.CHUNK_ELEMENTS", 2**16)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = function(*arguments, **(keywords or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    z1, z2 = embeddings(4000, 4)
    with Watch():
        measure(z1, z2)
    assert 2**15 < largest <= 2**16
