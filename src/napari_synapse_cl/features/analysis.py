"""What features tell: a 2D map of them, and how well they separate labels."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def principal_components(features: np.ndarray, n: int = 2) -> np.ndarray:
    """Return the leading principal components of standardised features.

    Parameters
    ----------
    features
        ``(N, C)``.
    n
        Number of components; those beyond the rank of the data are 0.

    Returns
    -------
    numpy.ndarray
        ``(N, n)`` float32.
    """
    components = np.zeros((len(features), n), np.float32)
    possible = min(n, *features.shape)
    scaled = StandardScaler().fit_transform(features)
    components[:, :possible] = PCA(possible, svd_solver="full").fit_transform(scaled)
    return components


def spatial_groups(positions: np.ndarray, n_groups: int) -> np.ndarray:
    """Divide positions into slabs of equal number, along the axis of their largest extent.

    Parameters
    ----------
    positions
        ``(N, 3)``.
    n_groups
        Number of slabs.

    Returns
    -------
    numpy.ndarray
        ``(N,)`` int, slab of each position.
    """
    axis = int(np.argmax(np.ptp(positions, axis=0)))
    ranks = np.argsort(np.argsort(positions[:, axis], kind="stable"), kind="stable")
    return ranks * n_groups // len(positions)


def knn_balanced_accuracy(
    features: np.ndarray,
    labels: np.ndarray,
    positions: np.ndarray,
    *,
    n_neighbors: int = 5,
    n_groups: int = 5,
) -> float:
    """Return how well the nearest neighbours in other parts of the volume tell the label.

    Each slab of the volume is predicted from the other slabs, so that neither neighbourhood nor
    overlap of crops can help.

    Parameters
    ----------
    features
        ``(N, C)``; they are standardised.
    labels
        ``(N,)``.
    positions
        ``(N, 3)``, z, y, x.
    n_neighbors
        Neighbours that vote.
    n_groups
        Number of slabs.

    Returns
    -------
    float
        Balanced accuracy: 1 is perfect, 1 / number of labels is chance.

    Raises
    ------
    ValueError
        If there are fewer synapses than slabs or, outside a slab, than neighbours.
    """
    groups = spatial_groups(positions, n_groups)
    predicted = np.empty_like(labels)
    for others, slab in GroupKFold(n_groups).split(features, labels, groups):
        classifier = make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors))
        predicted[slab] = classifier.fit(features[others], labels[others]).predict(features[slab])
    return float(balanced_accuracy_score(labels, predicted))


def histogram_features(crops: np.ndarray, n_bins: int = 32) -> np.ndarray:
    """Return each crop's intensity histogram: the baseline that features must beat.

    Parameters
    ----------
    crops
        ``(N, 1, D, H, W)`` in [0, 1].
    n_bins
        Number of bins.

    Returns
    -------
    numpy.ndarray
        ``(N, n_bins)``, shares of the voxels.
    """
    return np.array(
        [np.histogram(crop, bins=n_bins, range=(0, 1))[0] / crop.size for crop in crops]
    )
