"""What features tell of places that the probe has not seen: predictions, one a place.

They are kept as they are; what they are worth, and how sure that is, :mod:`summary` says.
"""

import numpy as np
import pandas as pd
from geometry import DIRECTIONS, TARGETS
from positions import AXES, LARGE, apart
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

N_NEIGHBORS = 15
"""More than draws of one site."""
STRENGTH = 0.01
"""Inverse of the weight of the penalty of the logistic regression."""
PENALTIES = np.logspace(0, 5, 6)
"""Of the ridge regression, from which folds of blocks within what is learnt from choose."""
INNER_FOLDS = 3

Predictions = dict[str, np.ndarray]


def measure(
    features: np.ndarray, positions: pd.DataFrame, pairs: pd.DataFrame, crop: int, jitter: int
) -> Predictions:
    """Return the predictions of every probe.

    Parameters
    ----------
    features
        ``(N, C)``.
    positions, pairs
        As :func:`positions.prepare` wrote them.
    crop, jitter
        Side of the crops, and by how much centres are moved, in voxels.

    Returns
    -------
    dict
        ``knn`` and ``linear``, ``(N,)`` names of classes, empty where there is none: within the
        large volume by folds, elsewhere from all of it. ``TARGETS`` and ``DIRECTIONS``, ``(N,)``
        float, NaN where nothing is known. ``pairs``, the cosine of each pair.
    """
    features = features.astype(np.float64)
    return {
        **_classes(features, positions, crop + 2 * jitter),
        **_regressed(features, positions, TARGETS, crop),
        **_regressed(features, positions, DIRECTIONS, crop),
        "pairs": _cosines(features, positions, pairs),
    }


def _classes(features: np.ndarray, positions: pd.DataFrame, distance: int) -> Predictions:
    labels = positions["class"].to_numpy(str)
    labelled = labels != ""
    in_large = labelled & (positions["volume"] == LARGE).to_numpy()
    carried = labelled & ~in_large
    sites = positions[[f"site_{axis}" for axis in AXES]].to_numpy()
    found = {name: np.full(len(labels), "", dtype=labels.dtype) for name in ("knn", "linear")}
    for training, held_out in [*_folds(in_large, positions, sites, distance), (in_large, carried)]:
        for name, values in found.items():
            probe = make_pipeline(
                StandardScaler(),
                KNeighborsClassifier(N_NEIGHBORS, weights="distance")
                if name == "knn"
                else LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=10_000),
            )
            probe.fit(features[training], labels[training])
            values[held_out] = probe.predict(features[held_out])
    return found


def _regressed(
    features: np.ndarray, positions: pd.DataFrame, names: tuple[str, ...], distance: int
) -> Predictions:
    truth = positions[list(names)].to_numpy()
    known = np.isfinite(truth).all(axis=1)
    blocks = positions["block"].to_numpy()
    places = positions[AXES].to_numpy()
    predicted = np.full(truth.shape, np.nan)
    for training, held_out in _folds(known, positions, places, distance):
        scaler = StandardScaler().fit(truth[training])
        wanted = scaler.transform(truth[training])
        guessed = ridge(features[training], wanted, features[held_out], blocks[training])
        predicted[held_out] = scaler.inverse_transform(guessed)
    return dict(zip(names, predicted.T, strict=True))


def ridge(
    features: np.ndarray, truth: np.ndarray, others: np.ndarray, blocks: np.ndarray
) -> np.ndarray:
    """Return what ridge regression predicts; folds of blocks choose one penalty for all targets.

    One decomposition serves all penalties and targets.

    Parameters
    ----------
    features, truth
        ``(N, C)`` and ``(N, T)`` to learn from.
    others
        ``(M, C)`` to predict for.
    blocks
        ``(N,)``, which are not divided between folds.

    Returns
    -------
    numpy.ndarray
        ``(M, T)``.
    """
    errors = np.zeros(len(PENALTIES))
    for training, held_out in GroupKFold(INNER_FOLDS).split(features, groups=blocks):
        guesses = _all_penalties(features[training], truth[training], features[held_out])
        errors += ((guesses - truth[held_out]) ** 2).sum(axis=(1, 2))
    return _all_penalties(features, truth, others)[errors.argmin()]


def _all_penalties(features: np.ndarray, truth: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the predictions of each penalty, ``(P, M, T)``; features are standardised here."""
    scaler = StandardScaler().fit(features)
    left, singular, right = np.linalg.svd(scaler.transform(features), full_matrices=False)
    mean = truth.mean(axis=0)
    along = left.T @ (truth - mean)
    shrunk = singular / (singular**2 + PENALTIES[:, None])
    return mean + scaler.transform(others) @ right.T @ (shrunk[:, :, None] * along)


def _folds(
    some: np.ndarray, positions: pd.DataFrame, places: np.ndarray, distance: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return masks of what is learnt from and of what is held out; their crops share no voxel."""
    folds = positions["fold"].to_numpy()
    found = []
    for fold in np.unique(folds[some]):
        held_out = some & (folds == fold)
        training = some & (folds != fold)
        training[training] = apart(places[training], places[held_out], distance)
        found.append((training, held_out))
    return found


def _cosines(features: np.ndarray, positions: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Return the cosines of standardised features of both places of each pair."""
    known = positions[TARGETS[0]].notna().to_numpy()
    scaled = StandardScaler().fit(features[known]).transform(features)
    scaled /= np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    return (scaled[pairs["first"]] * scaled[pairs["second"]]).sum(axis=1)
