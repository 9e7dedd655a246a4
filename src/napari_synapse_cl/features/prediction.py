"""What vectors tell of labels in parts of the volume that were held out, beside what is simpler.

No PyTorch in here, and scikit-learn is imported late.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from napari_synapse_cl.features.classifiers import Classifier, Fold, Kind, teach
from napari_synapse_cl.features.layer_report import Comparison
from napari_synapse_cl.features.neighbours import Step
from napari_synapse_cl.system.words import counted

VECTORS = "the vectors"


@dataclass(frozen=True)
class Ground:
    """Labelled rows in space: what is held out, and what may be learnt from then."""

    labels: np.ndarray
    """``(n,)`` strings; empty ones are in no fold, and are not resampled."""
    places: np.ndarray
    """``(n, 3)`` int64, z, y, x in voxels."""
    extent: tuple[int, ...] | None
    """Size of a crop along z, y, x in voxels; None where that is not known."""
    seed: int = 0
    """Of the resamples."""

    def folds(self, some: np.ndarray | None = None) -> list[Fold]:
        """Return parts of the volume, each to be predicted from others that share no voxel with it.

        Parameters
        ----------
        some
            Numbers of the rows that take part; the folds are numbers among these.

        Raises
        ------
        ValueError
            If no division leaves enough to learn from, saying what is missing.
        """
        from napari_synapse_cl.features.analysis import probe_folds

        some = np.arange(len(self.labels)) if some is None else some
        return probe_folds(self.labels[some], self.places[some], self.extent)

    def resampled(self, right: np.ndarray) -> tuple[np.ndarray, int]:
        """Return ``(1 + R,)`` balanced accuracies on resampled blocks of space, and their number.

        Parameters
        ----------
        right
            ``(n,)``, which are told right.
        """
        from napari_synapse_cl.features.probes import balanced_accuracies, block_weights, blocks_of

        # Where crops are of unknown size, a tenth of the volume is taken for apart.
        size = self.extent or np.maximum(np.ptp(self.places, axis=0) // 10, 1).tolist()
        blocks = blocks_of(self.places, size)
        n_blocks = int(blocks.max()) + 1
        weights = block_weights(n_blocks, self.seed)
        return balanced_accuracies(right.astype(float), self.labels, blocks, weights), n_blocks

    def compare(self, right: np.ndarray, other: np.ndarray, name: str, baseline: str) -> Comparison:
        """Return how much more of the labels is told right, with its interval.

        Parameters
        ----------
        right, other
            ``(n,)``, which labels are told right by either.
        """
        from napari_synapse_cl.features.probes import interval

        (one, n_blocks), (two, _) = self.resampled(right), self.resampled(other)
        low, high = interval(one - two, n_blocks)
        return Comparison(name, baseline, float(one[0]), float(two[0]), low, high)


@dataclass(frozen=True)
class Accuracy:
    """How well labels that were held out are told."""

    name: str
    """By what."""
    accuracy: float
    """Share of the rows that are told right."""
    balanced: float
    low: float
    high: float
    """Mean over classes of that share, and between what it lies with 95 % confidence."""
    f1: dict[str, float]
    """Of each class."""
    confusion: list[list[int]]
    """Rows of each class, in the order of `f1`, by the class that was told."""
    confidence: float
    """Mean of the probabilities of what was told; that of calibrated ones is near the accuracy."""

    def as_json(self) -> dict[str, Any]:
        """Return it in plain types."""
        return asdict(self)


@dataclass(frozen=True)
class Evaluation:
    """What was measured on parts of the volume, each predicted from the others."""

    scores: tuple[Accuracy, ...] = ()
    """Of the vectors, then of the intensity histogram and of all descriptors where there are
    any."""
    comparisons: tuple[Comparison, ...] = ()
    """Of the vectors with each of these."""
    majority: float = 0.0
    """Share of the most frequent class, which is told right by telling nothing else."""
    n_folds: int = 0
    problem: str | None = None
    """Why nothing could be measured."""

    def in_words(self) -> Iterator[str]:
        """Say how well labels are told, beside chance and what is simpler."""
        if self.problem is not None:
            yield f"how often the predictions are right cannot be measured: {self.problem}"
            return
        own = self.scores[0]
        chance = 1 / len(own.f1)
        beside = f"by chance {chance:.2f}"
        if own.low <= chance:
            beside += ", from which it cannot be told apart"
        yield (
            f"in {self.n_folds} parts of the volume, each predicted from the others, the balanced "
            f"accuracy is {own.balanced:.2f} ({own.low:.2f} to {own.high:.2f} with 95 % "
            f"confidence; {beside})"
        )
        scores = ", ".join(f"{name} {value:.2f}" for name, value in own.f1.items())
        yield (
            f"{own.accuracy:.0%} are told right, where the most frequent class makes up "
            f"{self.majority:.0%}, with a mean probability of {own.confidence:.0%}; F1 of each "
            f"class: {scores}"
        )
        for one in self.comparisons:
            yield comparison_in_words(one)


def comparison_in_words(one: Comparison) -> str:
    """Say how much more is told by vectors than by what is simpler."""
    words = {"better": "tell more than", "alike": "do not clearly tell more than"}
    verb = words.get(one.outcome, "tell less than")
    low, high = (f"{value:z.2f}".replace("-", "−") for value in (one.low, one.high))
    text = f"{one.name} {verb} the {one.baseline} ({one.value:.2f} against {one.other:.2f}"
    return f"{text}, a difference of {low} to {high} with 95 % confidence)"


def calibration_folds(ground: Ground, some: np.ndarray | None = None) -> list[Fold]:
    """Return folds by which probabilities are calibrated; none where space leaves none."""
    try:
        return ground.folds(some)
    except ValueError:
        return []


def evaluate(
    sets: dict[str, tuple[np.ndarray, Sequence[int]]], ground: Ground, kind: Kind
) -> Generator[Step, None, Evaluation]:
    """Measure how well labels in parts of the volume are told from the others.

    The classifier is taught and calibrated anew for each part, without it.

    Parameters
    ----------
    sets
        By name, the first `VECTORS`: ``(n, C)`` float32 vectors of the labelled rows, and the
        channels of each that are joined.
    """
    try:
        folds = ground.folds()
    except ValueError as error:
        return Evaluation(problem=str(error))
    classes, counts = np.unique(ground.labels, return_counts=True)
    n_steps = len(sets) * len(folds)
    scores, right = [], {}
    for number, (name, (values, sizes)) in enumerate(sets.items()):
        told = np.zeros((len(values), len(classes)))
        for fold, (training, held_out) in enumerate(folds):
            yield "holding out parts", number * len(folds) + fold, n_steps, "part"
            inner = calibration_folds(ground, training)
            labels = ground.labels[training]
            taught = teach(values[training], labels, sizes, kind=kind, folds=inner)
            told[held_out] = taught.probabilities(values[held_out])
        right[name] = classes[told.argmax(axis=1)] == ground.labels
        scores.append(_accuracy(name, told, right[name], ground))
    yield "holding out parts", n_steps, n_steps, "part"
    others = [name for name in sets if name != VECTORS]
    compared = [ground.compare(right[VECTORS], right[o], VECTORS, o) for o in others]
    majority = float(counts.max() / counts.sum())
    return Evaluation(tuple(scores), tuple(compared), majority, len(folds))


def _accuracy(name: str, told: np.ndarray, right: np.ndarray, ground: Ground) -> Accuracy:
    from sklearn.metrics import confusion_matrix, f1_score

    from napari_synapse_cl.features.probes import interval

    classes = np.unique(ground.labels)
    best = classes[told.argmax(axis=1)]
    values, n_blocks = ground.resampled(right)
    low, high = interval(values, n_blocks)
    f1 = f1_score(ground.labels, best, labels=classes, average=None, zero_division=0.0)
    return Accuracy(
        name=name,
        accuracy=float(right.mean()),
        balanced=float(values[0]),
        low=low,
        high=high,
        f1=dict(zip(classes.tolist(), f1.tolist(), strict=True)),
        confusion=confusion_matrix(ground.labels, best, labels=classes).tolist(),
        confidence=float(told.max(axis=1).mean()),
    )


def taught_on(
    values: np.ndarray, sizes: Sequence[int], ground: Ground, kind: Kind
) -> tuple[Classifier, list[str]]:
    """Return a classifier taught on all labelled rows, and what to know of its probabilities."""
    found = teach(values, ground.labels, sizes, kind=kind, folds=calibration_folds(ground))
    if kind == "logistic" and not found.is_calibrated:
        rarest = min(np.unique(ground.labels, return_counts=True)[1])
        return found, [f"a class has {counted(rarest, 'label')}: probabilities are not calibrated"]
    return found, []
