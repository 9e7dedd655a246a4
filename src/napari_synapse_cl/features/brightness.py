"""Whether near vectors are alike in more than brightness, and tell labels better than chance.

No PyTorch in here, and scikit-learn is imported late.
"""

from dataclasses import dataclass

import numpy as np

from napari_synapse_cl.features.layer_report import BASELINE_NAME
from napari_synapse_cl.features.neighbours import Metric, Space, find_neighbours, finished
from napari_synapse_cl.features.prediction import Ground, comparison_in_words
from napari_synapse_cl.features.vectors import BY_HAND, Scaling, VectorTable

MOST_FOLDED = 5000
"""Labelled rows by which neighbours are judged."""
OVERLAP_SAMPLE = 5000
"""Rows among which neighbours by two kinds of vectors are compared."""
ALIKE = 0.5
"""Share of neighbours in common with those of the histogram from which brightness is what they
reflect."""


@dataclass(frozen=True)
class Judgement:
    """What neighbours reflect, as far as could be seen."""

    text: str
    measured: dict[str, float]
    is_doubtful: bool
    """Whether it is no more than brightness, or nothing that labels tell."""


def judge(
    vectors: VectorTable, k: int, metric: Metric, labels: np.ndarray | None = None, seed: int = 0
) -> Judgement | None:
    """Judge whether neighbours by the vectors of a table reflect brightness alone.

    Parameters
    ----------
    k
        Neighbours.
    labels
        ``(M,)`` strings of all rows, empty where there is none; None without labels.
    seed
        Of samples and resamples.

    Returns
    -------
    Judgement
        None where the table has no histograms, or its vectors are made from them.
    """
    rows = vectors.rows
    histogram = vectors.histogram[rows]
    some = np.isfinite(histogram).all(axis=1)
    if is_by_hand(vectors) or not histogram.shape[1] or some.sum() < 2:
        return None
    ground = None
    if labels is not None:
        known = np.where(vectors.placed[rows], labels[rows], "")
        ground = Ground(known[some], vectors.places[rows][some], vectors.extent, seed)
    return judge_brightness(vectors.scaled()[some], histogram[some], k, metric, ground)


def is_by_hand(vectors: VectorTable) -> bool:
    """Whether no network made any of the vectors."""
    return all(name.startswith(BY_HAND) for name in vectors.names)


def judge_brightness(
    scaled: np.ndarray, histogram: np.ndarray, k: int, metric: Metric, ground: Ground | None
) -> Judgement:
    """Judge whether neighbours reflect brightness alone.

    With labels in space by whether the neighbours of the intensity histogram predict these as
    well; else by how many neighbours are the histogram's too.

    Parameters
    ----------
    scaled
        ``(N, C)`` float32 vectors on one scale.
    histogram
        ``(N, B)`` float32, finite.
    k
        Neighbours.
    ground
        Of all N rows, whose labels may be empty; None without labels.
    """
    seed = 0 if ground is None else ground.seed
    if ground is not None:
        found = _by_labels(scaled, histogram, ground)
        if found is not None:
            return found
    on_one_scale = Scaling.of(histogram, [histogram.shape[1]]).apply(histogram)
    share, chance, n = shared_neighbours(scaled, on_one_scale, k, metric, seed)
    told = f"{share:.0%} of {k} neighbours are those of the intensity histogram (by chance "
    told += f"{chance:.1%}; among {n:,} rows)"
    measured = {"shared": share, "chance": chance}
    if share >= ALIKE:
        text = f"neighbours reflect brightness before all else: {told}"
        return Judgement(text, measured, is_doubtful=True)
    text = f"neighbours reflect more than brightness, or something else: {told}"
    return Judgement(text, measured, is_doubtful=False)


def shared_neighbours(
    values: np.ndarray, others: np.ndarray, k: int, metric: Metric, seed: int
) -> tuple[float, float, int]:
    """Return how far two kinds of vectors have the same neighbours.

    Parameters
    ----------
    values, others
        ``(N, C)`` and ``(N, K)`` float32 of the same things, each on its own scale.
    seed
        Of the sample that is looked at where there are many.

    Returns
    -------
    share, chance, n
        Mean share of the k nearest that are the same, what it would be by chance, and among how
        many things they were looked for.
    """
    sample = np.arange(len(values))
    if len(sample) > OVERLAP_SAMPLE:
        sample = np.random.default_rng(seed).choice(sample, OVERLAP_SAMPLE, replace=False)
    found = [
        finished(find_neighbours(Space(some[sample], metric), k)).numbers
        for some in (values, others)
    ]
    k = found[0].shape[1]
    same = [len(np.intersect1d(a, b)) for a, b in zip(*found, strict=True)]
    return float(np.mean(same)) / k, k / (len(sample) - 1), len(sample)


def _by_labels(scaled: np.ndarray, histogram: np.ndarray, ground: Ground) -> Judgement | None:
    from napari_synapse_cl.features.analysis import probe_predictions
    from napari_synapse_cl.features.probes import interval

    known = np.flatnonzero(ground.labels != "")
    if len(known) > MOST_FOLDED:
        generator = np.random.default_rng(ground.seed)
        known = np.sort(generator.choice(known, MOST_FOLDED, replace=False))
    labelled = Ground(ground.labels[known], ground.places[known], ground.extent, ground.seed)
    try:
        folds = labelled.folds()
    except ValueError:
        return None
    right = [
        probe_predictions([some[known][:, None]], labelled.labels, folds, "knn")[:, 0]
        == labelled.labels
        for some in (scaled, histogram)
    ]
    name = "the neighbours"
    found = labelled.compare(right[0], right[1], name, f"{BASELINE_NAME}'s")
    chance = 1 / len(np.unique(labelled.labels))
    measured = {"knn": found.value, "histogram": found.other, "chance": chance}
    measured |= {"low": found.low, "high": found.high}
    text, is_doubtful = comparison_in_words(found), True
    values, n_blocks = labelled.resampled(right[0])
    if interval(values, n_blocks)[0] <= chance:
        text = f"neighbours tell labels no better than chance, as far as can be seen: {text}"
    elif found.outcome != "better":
        text = f"neighbours may reflect brightness only, as far as labels tell: {text}"
    else:
        is_doubtful = False
    return Judgement(f"{text}; chance is {chance:.2f}", measured, is_doubtful)
