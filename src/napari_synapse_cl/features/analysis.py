"""What features tell: a 2D map of them, and how well they separate labels."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from napari_synapse_cl.data.split import overlapping
from napari_synapse_cl.system.words import counted

Fold = tuple[np.ndarray, np.ndarray]
"""Indices of the synapses that a probe learns from, and of those it predicts."""
Probe = Literal["knn", "linear"]

N_SLABS = 5
N_NEIGHBORS = 5
LINEAR_C = 5.0
"""Inverse weight of the penalty, on features that are scaled to a mean square norm of 1."""


def principal_components(features: np.ndarray, n: int = 2) -> np.ndarray:
    """Return the leading principal components of standardised features, ``(N, n)`` float32.

    Parameters
    ----------
    features
        ``(N, C)``.
    n
        Number of components; those beyond the rank of the data are 0.
    """
    components = np.zeros((len(features), n), np.float32)
    possible = min(n, *features.shape)
    scaled = StandardScaler().fit_transform(features)
    # PCA divides by the variance.
    if scaled.any():
        components[:, :possible] = PCA(possible, svd_solver="full").fit_transform(scaled)
    return components


N_BINS = 32
"""Of the histogram that features must beat."""


def histogram_features(crops: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Return each crop's intensity histogram, ``(N, n_bins)``, which features must beat.

    Parameters
    ----------
    crops
        ``(N, 1, D, H, W)`` in [0, 1].
    """
    return np.array(
        [np.histogram(crop, bins=n_bins, range=(0, 1))[0] / crop.size for crop in crops]
    )


def label_names(labels: ArrayLike) -> np.ndarray:
    """Return labels as ``(N,)`` strings, empty where one is missing.

    Parameters
    ----------
    labels
        ``(N,)`` of any type; None, NaN and the empty string are missing. Strings that were made
        of NaN are not: turn no column into strings before.
    """
    values = np.asarray(labels, dtype=object)
    return np.where(pd.isna(values), "", values.astype(str))


def spatial_groups(positions: np.ndarray, n_groups: int) -> np.ndarray:
    """Divide positions into slabs of equal number along their largest extent: ``(N,)`` int.

    Parameters
    ----------
    positions
        ``(N, 3)``.
    """
    axis = int(np.argmax(np.ptp(positions, axis=0)))
    ranks = np.argsort(np.argsort(positions[:, axis], kind="stable"), kind="stable")
    return ranks * n_groups // len(positions)


def spatial_folds(
    positions: np.ndarray, n_groups: int, crop_size: Sequence[int] | None = None
) -> Iterator[Fold]:
    """Yield each slab of the volume as what is held out, and the others to learn from.

    Parameters
    ----------
    positions
        ``(N, 3)``, z, y, x in voxels.
    n_groups
        Number of slabs, as in :func:`spatial_groups`.
    crop_size
        z, y, x in voxels. What shares a voxel with a crop that is held out is not learnt from;
        without it, crops at the border of two slabs may overlap.

    Yields
    ------
    training, held_out : numpy.ndarray
        Ascending indices; of the training none are left where the slabs are thinner than crops.

    Raises
    ------
    ValueError
        If there are fewer positions than slabs.
    """
    if len(positions) < n_groups:
        raise ValueError(
            f"{counted(len(positions), 'synapse')} cannot be divided into {n_groups} slabs"
        )
    groups = spatial_groups(positions, n_groups)
    for group in range(n_groups):
        training, held_out = np.flatnonzero(groups != group), np.flatnonzero(groups == group)
        if crop_size is not None:
            training = training[~overlapping(positions[training], positions[held_out], crop_size)]
        yield training, held_out


def probe_folds(
    labels: ArrayLike,
    positions: np.ndarray,
    crop_size: Sequence[int] | None = None,
    n_groups: int = N_SLABS,
    n_neighbors: int = N_NEIGHBORS,
) -> list[Fold]:
    """Return the folds of as many slabs as leave enough of every class to learn from.

    Parameters
    ----------
    labels
        ``(N,)``; synapses without one, as in :func:`label_names`, are in no fold.
    positions
        ``(N, 3)``, z, y, x in voxels.
    crop_size
        As in :func:`spatial_folds`.
    n_groups
        The most slabs. Fewer can leave more to learn from, as they have fewer borders; more could
        too, but one would hardly be apart from the next.
    n_neighbors
        Neighbours that will vote: of every class there must be a majority of them.

    Raises
    ------
    ValueError
        If no number of slabs does, saying what is missing.
    """
    names = label_names(labels)
    known = np.flatnonzero(names != "")
    classes = np.unique(names[known])
    if len(classes) < 2:
        found = f"all labels are {classes[0]}" if len(classes) else "no synapse has a label"
        raise ValueError(f"{found}, and two classes are needed")
    enough = n_neighbors // 2 + 1
    shortages = []
    for n_slabs in range(min(n_groups, len(known)), 1, -1):
        folds = [
            (known[training], known[held_out])
            for training, held_out in spatial_folds(positions[known], n_slabs, crop_size)
        ]
        shortage = _shortage(names, classes, folds, enough)
        if shortage is None:
            return folds
        shortages.append(shortage)
    raise ValueError(shortages[0])


def balanced_accuracy(
    features: np.ndarray,
    labels: ArrayLike,
    positions: np.ndarray,
    *,
    probe: Probe = "knn",
    crop_size: Sequence[int] | None = None,
    n_groups: int = N_SLABS,
    n_neighbors: int = N_NEIGHBORS,
) -> float:
    """Return the balanced accuracy with which a probe tells one part's labels by the others.

    Parameters
    ----------
    features
        ``(N, C)``.
    labels, positions, crop_size, n_groups, n_neighbors
        As in :func:`probe_folds`.
    probe
        As in :func:`probe_predictions`.

    Raises
    ------
    ValueError
        If no division of the volume leaves enough to learn from, saying what is missing.
    """
    names = label_names(labels)
    folds = probe_folds(names, positions, crop_size, n_groups, n_neighbors)
    return probe_accuracy(features, names, folds, probe, n_neighbors)


def probe_accuracy(
    features: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[Fold],
    probe: Probe,
    n_neighbors: int = N_NEIGHBORS,
) -> float:
    """Return the balanced accuracy over what all folds hold out.

    Parameters
    ----------
    features
        ``(N, C)``.
    labels, folds, probe, n_neighbors
        As in :func:`probe_predictions`.
    """
    predicted = probe_predictions([features[:, None]], labels, folds, probe, n_neighbors)[:, 0]
    held = np.concatenate([held_out for _, held_out in folds])
    return float(balanced_accuracy_score(labels[held], predicted[held]))


def probe_predictions(
    parts: Sequence[np.ndarray],
    labels: np.ndarray,
    folds: Sequence[Fold],
    probe: Probe,
    n_neighbors: int = N_NEIGHBORS,
) -> np.ndarray:
    """Return ``(N, J)``, the labels that a probe tells of what folds hold out; else empty.

    Parameters
    ----------
    parts
        Sets of features that are joined, ``(N, J, C)`` each: of J crops of each synapse, all of
        which are learnt from. Each is standardised by what is learnt from and divided by the root
        of its number of channels, so that sets count alike and one penalty suits few channels and
        many.
    labels
        ``(N,)`` strings.
    folds
        From :func:`probe_folds`.
    probe
        "knn": the nearest neighbours vote. "linear": logistic regression with an L2 penalty, where
        every class has the same weight.
    n_neighbors
        Synapses whose crops vote.
    """
    n, n_crops = parts[0].shape[:2]
    predicted = np.full((n, n_crops), "", labels.dtype)
    for training, held_out in folds:
        classifier = (
            KNeighborsClassifier(n_neighbors * n_crops)
            if probe == "knn"
            else LogisticRegression(C=LINEAR_C, class_weight="balanced", max_iter=10_000)
        )
        known, asked = _side_by_side(parts, training, held_out)
        classifier.fit(known, np.repeat(labels[training], n_crops))
        predicted[held_out] = classifier.predict(asked).reshape(-1, n_crops)
    return predicted


def _side_by_side(
    parts: Sequence[np.ndarray], training: np.ndarray, held_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the crops of both as rows, with all parts as columns that are scaled alike."""
    known, asked = [], []
    for part in parts:
        n_channels = part.shape[-1]
        # In float32 the solver of the logistic regression may stop short, with a warning.
        rows, others = (
            part[some].reshape(-1, n_channels).astype(np.float64) for some in (training, held_out)
        )
        scaler = StandardScaler().fit(rows)
        known.append(scaler.transform(rows) / np.sqrt(n_channels))
        asked.append(scaler.transform(others) / np.sqrt(n_channels))
    return np.concatenate(known, axis=1), np.concatenate(asked, axis=1)


def _shortage(
    names: np.ndarray, classes: np.ndarray, folds: Sequence[Fold], enough: int
) -> str | None:
    """Say which class has too few synapses to learn from in one of the folds."""
    for training, held_out in folds:
        for label in classes:
            n_left = int((names[training] == label).sum())
            if n_left < enough and (names[held_out] == label).sum() == (names == label).sum():
                return f"class {label} has synapses in one part of the volume alone"
            if n_left < enough:
                return (
                    f"class {label} has {counted(n_left, 'synapse')} to learn from, with crops "
                    f"apart from those to predict, and {enough} are needed"
                )
    return None
