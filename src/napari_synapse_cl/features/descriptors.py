"""Descriptors of crops that no network is needed for: histograms of grey values, and texture.

What features have learnt shows beside these, and the two can be joined. No PyTorch in here.

Each describes a crop by what does not change when it is mirrored, nor when it is turned by quarter
turns between axes of the same voxel size: shares of grey values, and the distribution of

gradient
    Length of the gradient.
laplacian
    Laplacian, bright blobs below and dark ones above 0.
major, middle, minor
    Square roots of the eigenvalues of the structure tensor, the largest first.
planarity, linearity
    Its coherence: (λ₁ - λ₂) / λ₁, near 1 in a membrane, and (λ₂ - λ₃) / λ₁, near 1 in a tubule.

at three scales, over the whole crop and over its central half along each axis. Derivatives are
multiplied by their scale, so all are grey values that scales can be compared by.

References
----------
Lindeberg: Feature Detection with Automatic Scale Selection, 1998 (derivatives at a scale).
https://doi.org/10.1023/A:1008045108935
Weickert: Coherence-Enhancing Diffusion Filtering, 1999 (structure tensor and coherence).
https://doi.org/10.1023/A:1008009714131
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import correlate1d, gaussian_filter

SCALES_NM = (10.0, 20.0, 40.0)
"""Standard deviations of the Gaussians under which derivatives are taken, numbered from 1."""
INTEGRATION = 1.5
"""Over how many scales the structure tensor is averaged."""
TRUNCATION = 3.0
"""Where Gaussians end, in standard deviations."""
N_BINS = 32
QUANTITIES = ("gradient", "laplacian", "major", "middle", "minor", "planarity", "linearity")
QUANTILES = (0.1, 0.5, 0.9)
STATISTICS = ("mean", "std", *(f"q{100 * quantile:.0f}" for quantile in QUANTILES))
REGIONS = ("", "centre_")
"""The whole crop, and its central half along each axis."""
FLAT = 1e-12
"""Largest eigenvalue of a structure tensor below which there is no direction."""


def descriptor_columns() -> list[str]:
    """Return the names of all descriptors, in their order.

    ``hand_hist_00`` and so on for the shares of 32 equal ranges of grey values from black to white,
    ``hand_gradient_1_mean`` and so on for texture; ``hand_centre_hist_00``,
    ``hand_centre_gradient_1_mean`` and so on for the central half.
    """
    histograms = [f"{region}hist_{bin:02d}" for region in REGIONS for bin in range(N_BINS)]
    textures = [
        f"{region}{quantity}_{scale}_{statistic}"
        for scale in range(1, len(SCALES_NM) + 1)
        for region in REGIONS
        for quantity in QUANTITIES
        for statistic in STATISTICS
    ]
    return [f"hand_{name}" for name in (*histograms, *textures)]


def descriptor_record() -> dict[str, Any]:
    """Return what decides the descriptors beside the crops, in plain types."""
    return {
        "bins": N_BINS,
        "scales_nm": list(SCALES_NM),
        "integration": INTEGRATION,
        "truncation": TRUNCATION,
        "quantities": list(QUANTITIES),
        "quantiles": list(QUANTILES),
    }


def describe(
    crops: np.ndarray, voxel_size: Sequence[float] | None, n_threads: int = 1
) -> np.ndarray:
    """Return the ``(B, K)`` float32 descriptors of crops, in the order of `descriptor_columns`.

    Parameters
    ----------
    crops
        ``(B, D, H, W)`` in [0, 1], at least 2 voxels along each axis.
    voxel_size
        Along z, y, x in nm. None takes a voxel for a cube as large as the first scale.
    n_threads
        Crops that are described at a time.
    """
    size = np.full(3, SCALES_NM[0]) if voxel_size is None else np.asarray(voxel_size, float)
    if n_threads == 1:
        rows = [_describe(crop, size) for crop in crops]
    else:
        # SciPy's filters let other threads run.
        with ThreadPoolExecutor(n_threads) as pool:
            rows = list(pool.map(_describe, crops, [size] * len(crops)))
    return np.array(rows, np.float32).reshape(len(crops), len(descriptor_columns()))


def _describe(crop: np.ndarray, voxel_size: np.ndarray) -> np.ndarray:
    """Return the ``(K,)`` float64 descriptors of one ``(D, H, W)`` crop."""
    grey = crop.astype(np.float64)
    centre = tuple(slice((n - n // 2) // 2, (n - n // 2) // 2 + n // 2) for n in grey.shape)
    parts = [_histogram(grey), _histogram(grey[centre])]
    for scale in SCALES_NM:
        maps = texture_maps(grey, scale, voxel_size)
        parts += [_statistics(maps), _statistics(maps[:, *centre])]
    return np.concatenate(parts)


def texture_maps(crop: np.ndarray, scale: float, voxel_size: ArrayLike) -> np.ndarray:
    """Return ``(7, D, H, W)`` float64, what the quantities of texture are at one scale.

    Parameters
    ----------
    crop
        ``(D, H, W)`` float64. Beyond its faces it is taken as mirrored.
    scale
        Standard deviation of the Gaussian in nm.
    voxel_size
        Along z, y, x in nm.
    """
    steps = scale / np.asarray(voxel_size, float)
    smooth = gaussian_filter(crop, steps, truncate=TRUNCATION)
    slopes = [correlate1d(smooth, [-0.5 * s, 0, 0.5 * s], axis=i) for i, s in enumerate(steps)]
    curvatures = [correlate1d(smooth, [s**2, -2 * s**2, s**2], axis=i) for i, s in enumerate(steps)]
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    products = [slopes[i] * slopes[j] for i, j in pairs]
    tensor = [gaussian_filter(p, INTEGRATION * steps, truncate=TRUNCATION) for p in products]
    first, second, third = _eigenvalues(*tensor)
    directed = np.maximum(first, FLAT)
    return np.stack(
        [
            np.sqrt(sum(products[:3])),
            sum(curvatures),
            *(np.sqrt(value) for value in (first, second, third)),
            (first - second) / directed,
            (second - third) / directed,
        ]
    )


def _eigenvalues(
    zz: np.ndarray, yy: np.ndarray, xx: np.ndarray, zy: np.ndarray, zx: np.ndarray, yx: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the eigenvalues of symmetric tensors without negative ones, the largest first.

    In closed form, twenty times faster than LAPACK one by one.

    References
    ----------
    Smith: Eigenvalues of a Symmetric 3 × 3 Matrix, 1961. https://doi.org/10.1145/355578.366316
    """
    mean = (zz + yy + xx) / 3
    a, b, c = zz - mean, yy - mean, xx - mean
    spread = np.sqrt((a * a + b * b + c * c + 2 * (zy * zy + zx * zx + yx * yx)) / 6)
    determinant = a * (b * c - yx * yx) - zy * (zy * c - yx * zx) + zx * (zy * yx - b * zx)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(spread > 0, determinant / (2 * spread**3), 0)
    angle = np.arccos(np.clip(np.nan_to_num(cosine), -1, 1)) / 3
    first = mean + 2 * spread * np.cos(angle)
    third = mean + 2 * spread * np.cos(angle + 2 * np.pi / 3)
    # Rounding can take a zero below it.
    first, third = np.maximum(first, 0), np.maximum(third, 0)
    second = np.clip(3 * mean - first - third, third, np.maximum(first, third))
    return first, second, third


def _histogram(grey: np.ndarray) -> np.ndarray:
    return np.histogram(grey, bins=N_BINS, range=(0, 1))[0] / grey.size


def _statistics(maps: np.ndarray) -> np.ndarray:
    """Return the statistics of each of ``(7, D, H, W)`` maps, ``(7 * 5,)``."""
    flat = maps.reshape(len(maps), -1)
    quantiles = np.quantile(flat, QUANTILES, axis=1)
    return np.stack([flat.mean(axis=1), flat.std(axis=1), *quantiles], axis=1).ravel()
