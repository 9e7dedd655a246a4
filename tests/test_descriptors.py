"""Descriptors of crops without a network, against slow formulas."""

import numpy as np
import pytest

from napari_synapse_cl.data.tables.columns import FEATURE_COLUMN
from napari_synapse_cl.features.descriptors import (
    QUANTITIES,
    SCALES_NM,
    describe,
    descriptor_columns,
    texture_maps,
)

COLUMNS = descriptor_columns()
SHAPE, VOXEL_SIZE = (6, 8, 10), (40.0, 12.0, 8.0)


def crop(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def column(name: str, crops: np.ndarray, voxel_size: tuple[float, ...] = (10, 10, 10)) -> float:
    return float(describe(crops[None], voxel_size)[0, COLUMNS.index(name)])


def gaussian_matrix(n: int, sigma: float) -> np.ndarray:
    """What a Gaussian up to 3 standard deviations does to a line that is mirrored at its ends."""
    reach = int(3 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    mirrored = np.pad(np.arange(n), reach, mode="symmetric")
    matrix = np.zeros((n, n))
    for row in range(n):
        for offset, weight in zip(offsets, weights / weights.sum(), strict=True):
            matrix[row, mirrored[row + reach + offset]] += weight
    return matrix


def smoothed(values: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    a, b, c = (gaussian_matrix(n, s) for n, s in zip(values.shape, sigmas, strict=True))
    return np.einsum("zi,yj,xk,ijk->zyx", a, b, c, values)


def neighbours(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    padded = np.pad(values, [(int(i == axis),) * 2 for i in range(3)], mode="symmetric")
    n = values.shape[axis]
    return padded.take(range(n), axis), padded.take(range(2, n + 2), axis)


@pytest.mark.parametrize("scale", SCALES_NM)
def test_texture_is_that_of_the_formulas(scale: float) -> None:
    grey = crop().astype(np.float64)
    sigmas = scale / np.array(VOXEL_SIZE)
    smooth = smoothed(grey, sigmas)
    sides = [neighbours(smooth, axis) for axis in range(3)]
    # Derivatives by length in nm, times the scale in nm.
    pairs = list(zip(sides, VOXEL_SIZE, strict=True))
    slopes = np.stack([scale * (up - down) / (2 * h) for (down, up), h in pairs])
    laplacian = sum(scale**2 * (up - 2 * smooth + down) / h**2 for (down, up), h in pairs)
    tensor = np.empty((*SHAPE, 3, 3))
    for i in range(3):
        for j in range(3):
            tensor[..., i, j] = smoothed(slopes[i] * slopes[j], 1.5 * sigmas)
    third, second, first = np.moveaxis(np.linalg.eigvalsh(tensor), -1, 0)
    expected = {
        "gradient": np.sqrt((slopes**2).sum(axis=0)),
        "laplacian": laplacian,
        "major": np.sqrt(first),
        "middle": np.sqrt(second),
        "minor": np.sqrt(third),
        "planarity": (first - second) / first,
        "linearity": (second - third) / first,
    }
    found = dict(zip(QUANTITIES, texture_maps(grey, scale, VOXEL_SIZE), strict=True))
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-7, err_msg=name)


def test_columns_hold_what_their_names_say() -> None:
    grey = crop()
    centre = grey[1:4, 2:6, 2:7]
    assert column("hand_hist_31", grey) == pytest.approx(np.mean(grey >= 31 / 32))
    shares = np.mean((centre >= 5 / 32) & (centre < 6 / 32))
    assert column("hand_centre_hist_05", grey) == pytest.approx(shares)
    maps = texture_maps(grey.astype(float), 20, VOXEL_SIZE)
    whole, middle = maps[0].ravel(), maps[6, 1:4, 2:6, 2:7].ravel()
    expected = {
        "hand_gradient_2_mean": whole.mean(),
        "hand_gradient_2_std": whole.std(),
        "hand_gradient_2_q90": np.sort(whole)[int(0.9 * (len(whole) - 1))],
        "hand_centre_linearity_2_mean": middle.mean(),
        "hand_centre_linearity_2_q50": np.median(middle),
    }
    for name, value in expected.items():
        tolerance = 0.01 if name.endswith("q90") else 1e-5
        assert column(name, grey, VOXEL_SIZE) == pytest.approx(value, rel=tolerance), name


def test_names_are_distinct_and_known_as_those_of_features() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS) == describe(crop()[None], None).shape[1] == 274
    matches = [FEATURE_COLUMN.fullmatch(name) for name in COLUMNS]
    assert all(match and match["hand"] and match["channel"] for match in matches)
    for other in ("hand_size", "hand_000", "hand", "L3_mean_hist_00", "hand_median_1_mean"):
        assert not FEATURE_COLUMN.fullmatch(other)


def test_mirror_images_and_quarter_turns_are_described_alike() -> None:
    grey = crop(shape=(8, 8, 8))
    turned = np.stack([grey, grey[::-1, :, ::-1], grey.transpose(2, 0, 1), np.rot90(grey)])
    described = describe(turned, (10, 10, 10))
    np.testing.assert_allclose(described[1:], np.broadcast_to(described[0], (3, 274)), atol=2e-6)
    # Between axes of different voxel size a turn makes another crop of it.
    first, second = describe(np.stack([grey, np.rot90(grey)]), (40, 10, 10))
    assert np.abs(first - second).max() > 1e-3


def test_scales_are_lengths_and_not_voxels() -> None:
    fine, coarse = crop(shape=(16, 16, 16)), crop(shape=(16, 16, 16))
    # A plane wave of 160 nm, seen with voxels of 10 and of 20 nm.
    for values, voxel in ((fine, 10), (coarse, 20)):
        places = voxel * (np.arange(16) + 0.5)
        values[:] = 0.5 + 0.3 * np.sin(2 * np.pi * places / 160)[:, None, None]
    name = "hand_gradient_3_mean"
    same = [column(name, fine, (10,) * 3), column(name, coarse, (20,) * 3)]
    assert same[0] == pytest.approx(same[1], rel=0.1)
    assert column(name, coarse, (10,) * 3) != pytest.approx(same[0], rel=0.3)
    np.testing.assert_array_equal(describe(fine[None], None), describe(fine[None], (10, 10, 10)))


def test_a_plane_is_planar_a_line_is_linear_and_nothing_is_neither() -> None:
    line, plane = np.zeros((2, 16, 16, 16), np.float32)
    line[8, 8], plane[8] = 1, 1
    assert column("hand_planarity_1_q90", plane) > 0.95
    assert column("hand_linearity_1_q90", line) > column("hand_linearity_1_q90", plane) + 0.3
    flat = describe(np.full((1, 8, 8, 8), 0.4, np.float32), (10, 10, 10))
    assert flat[0, COLUMNS.index("hand_hist_12")] == 1
    np.testing.assert_allclose(flat[0, 64:], 0, atol=1e-6)


def test_threads_change_nothing_and_no_crop_is_described_by_no_row() -> None:
    crops = np.stack([crop(seed) for seed in range(4)])
    np.testing.assert_array_equal(describe(crops, VOXEL_SIZE, 2), describe(crops, VOXEL_SIZE))
    assert describe(crops[:0], VOXEL_SIZE).shape == (0, 274)
