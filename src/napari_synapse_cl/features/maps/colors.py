"""Feature maps in colours: their three leading principal components. Without PyTorch."""

from collections.abc import Iterator
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zarr
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from napari_synapse_cl.features.maps.store import array_name, color_name, compressors, writing

SAMPLE = 50_000
"""Elements that the components are fitted to."""
STRETCH = (1, 99)
"""Percentiles of each component in the sample that become 0 and 255."""
GREY = 128
"""Where a component does not vary: black stands for what is not written."""
SMALLEST_SHARE = 1e-10
"""Of the variance: a component with less is rounding."""


class Coloring(NamedTuple):
    """How features become colours: ``(features - mean) @ weights + bias``."""

    mean: np.ndarray
    """``(C,)`` float32."""
    weights: np.ndarray
    """``(C, 3)`` float32."""
    bias: np.ndarray
    """``(3,)`` float32."""
    shares: tuple[float, ...]
    """Share of the variance of each component; 0 for one that does not vary."""


def principal_rgb(folder: Path, layer: int) -> Iterator[tuple[int, int]]:
    """Write a layer's map in colours, ``L20_rgb`` beside ``L20``; yield blocks done and in all.

    Red, green and blue are the first three principal components of the standardised features, each
    stretched from its 1st to its 99th percentile. Components that do not vary, as those of maps
    with less than three channels, are grey. Elements that are not finite, as those not written yet,
    are black.

    Parameters
    ----------
    folder
        The folder of the maps, as of a :class:`~napari_synapse_cl.features.maps.store.MapStore`,
        whether they are whole or not. Colours that are there are replaced.

    Yields
    ------
    tuple of int
        Blocks done and blocks in all.

    Raises
    ------
    JobError
        If the disk is full, or can't be written to any more.
    """
    group = zarr.open_group(folder, mode="r+")
    features = group[array_name(layer)]
    coloring = fit_coloring(sample_elements(features))
    size, chunk = features.shape[1:], features.chunks[1:]
    with writing(folder.parent):
        colors = group.create_array(
            color_name(layer),
            shape=(*size, 3),
            chunks=(*chunk, 3),
            dtype="uint8",
            compressors=compressors(),
            dimension_names=("z", "y", "x", "c"),
            attributes={
                **features.attrs.asdict(),
                "axes": ["z", "y", "x", "c"],
                "variance_shares": list(coloring.shares),
            },
            overwrite=True,
        )
    starts = list(product(*(range(0, n, c) for n, c in zip(size, chunk, strict=True))))
    for done, start in enumerate(starts, start=1):
        block = tuple(slice(low, low + c) for low, c in zip(start, chunk, strict=True))
        painted = colored(features[(slice(None), *block)], coloring)
        with writing(folder.parent):
            colors[block] = painted
        yield done, len(starts)


def sample_elements(features: zarr.Array, most: int = SAMPLE) -> np.ndarray:
    """Return ``(N, C)`` float64 of at most so many finite elements, evenly spread over a map."""
    size = features.shape[1:]
    step = 1
    while prod(ceil(n / step) for n in size) > most:
        step += 1
    sample = features[:, ::step, ::step, ::step]
    rows = sample.reshape(len(sample), -1).T.astype(np.float64)
    return rows[np.isfinite(rows).all(axis=1)]


def fit_coloring(sample: np.ndarray) -> Coloring:
    """Find the colours of features.

    Each component points to where its largest weight is positive, so that the same features always
    have the same colours.

    Parameters
    ----------
    sample
        ``(N, C)``, all finite.
    """
    n_channels = sample.shape[1]
    mean, weights = np.zeros(n_channels), np.zeros((n_channels, 3))
    bias, shares = np.full(3, float(GREY)), np.zeros(3)
    # PCA divides by the variance.
    if len(np.unique(sample, axis=0)) > 1:
        scaler = StandardScaler().fit(sample)
        mean = scaler.mean_
        scaled = scaler.transform(sample)
        pca = PCA(min(3, *sample.shape), svd_solver="full").fit(scaled)
        for i, direction in enumerate(pca.components_):
            component = direction * np.sign(direction[np.abs(direction).argmax()])
            low, high = np.percentile(scaled @ component, STRETCH)
            if pca.explained_variance_ratio_[i] > SMALLEST_SHARE and low < high:
                weights[:, i] = component / scaler.scale_ * 255 / (high - low)
                bias[i] = -255 * low / (high - low)
                shares[i] = pca.explained_variance_ratio_[i]
    return Coloring(
        mean.astype(np.float32),
        weights.astype(np.float32),
        bias.astype(np.float32),
        tuple(shares.tolist()),
    )


def colored(features: np.ndarray, coloring: Coloring) -> np.ndarray:
    """Return a block of a map in colours, ``(d, h, w, 3)`` uint8.

    Parameters
    ----------
    features
        ``(C, d, h, w)`` float32.
    """
    rows = features.reshape(len(features), -1).T
    finite = np.isfinite(rows).all(axis=1)
    colors = np.zeros((len(rows), 3), np.uint8)
    values = (rows[finite] - coloring.mean) @ coloring.weights + coloring.bias
    colors[finite] = values.round().clip(0, 255)
    return colors.reshape(*features.shape[1:], 3)
