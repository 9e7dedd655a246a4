"""How well each layer of a network describes synapses: the numbers, without PyTorch."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import pandas as pd

BASELINE_NAME = "intensity histogram"


@dataclass(frozen=True)
class LayerScore:
    """What one layer's features tell.

    Attributes
    ----------
    layer
        Index of the layer, or None for the intensity histogram.
    name
        What it is, as in "20 · stage 3 conv 1".
    channels
        Number of features.
    recall
        Share of views whose nearest other view, by cosine, is that of the same synapse.
    effective_rank
        Dimensions that the features of the views fill, from 1; 0 if all features are constant.
    knn, linear
        Balanced accuracy with which five nearest neighbours and a logistic regression tell the
        labels of one part of the volume from the others; None if it could not be measured.
    """

    layer: int | None
    name: str
    channels: int
    recall: float
    effective_rank: float
    knn: float | None = None
    linear: float | None = None

    @property
    def accuracy(self) -> float | None:
        """Mean of knn and linear, of those there are."""
        known = [value for value in (self.knn, self.linear) if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Report:
    """The scores of the layers of a network, and what to know before one trusts them.

    Attributes
    ----------
    scores
        Of the layers in order, and of the intensity histogram.
    best
        Index of the best layer.
    n_synapses
        Synapses that were looked at.
    label_column
        Column of the labels, if there is one.
    label_counts
        Synapses of each label.
    n_slabs
        Parts of the volume, each predicted from the others; None without probes.
    remarks
        Sentences.
    """

    scores: tuple[LayerScore, ...]
    best: int
    n_synapses: int
    label_column: str | None
    label_counts: dict[str, int]
    n_slabs: int | None
    remarks: tuple[str, ...]

    @property
    def layers(self) -> tuple[LayerScore, ...]:
        """The scores of the layers alone."""
        return tuple(score for score in self.scores if score.layer is not None)

    @property
    def baseline(self) -> LayerScore | None:
        """The score of the intensity histogram."""
        return next((score for score in self.scores if score.layer is None), None)

    @property
    def best_score(self) -> LayerScore:
        """The score of the best layer."""
        return next(score for score in self.scores if score.layer == self.best)

    @property
    def recall_chance(self) -> float:
        """Recall of features that tell nothing."""
        return 1 / (2 * self.n_synapses - 1)

    @property
    def accuracy_chance(self) -> float | None:
        """Balanced accuracy of features that tell nothing; None without probes."""
        return 1 / len(self.label_counts) if self.n_slabs is not None else None

    def recall_interval(self, recall: float) -> tuple[float, float]:
        """Return between what the recall over many synapses would lie, with 95 % confidence."""
        # The two views of a synapse are found or missed together, more or less.
        return _interval(recall, self.n_synapses)

    def accuracy_interval(self, accuracy: float) -> tuple[float, float]:
        """Return between what the balanced accuracy over many synapses would lie, as for recall."""
        counts = self.label_counts.values()
        return _interval(accuracy, len(counts) ** 2 / sum(1 / count for count in counts))


def best(scores: Collection[LayerScore]) -> LayerScore:
    """Return the best layer's score: that of the highest mean of knn and linear.

    Without these that of the highest recall; ties are settled by recall, then by effective rank,
    then for the lower layer. The intensity histogram is never the best.

    Raises
    ------
    ValueError
        If there is no layer.
    """
    layers = [score for score in scores if score.layer is not None]
    if not layers:
        raise ValueError("there is no layer among the scores")

    def rank(score: LayerScore) -> tuple[float, float, float, int]:
        accuracy = -1.0 if score.accuracy is None else score.accuracy
        return accuracy, score.recall, score.effective_rank, -(score.layer or 0)

    return max(layers, key=rank)


def to_table(report: Report) -> pd.DataFrame:
    """Return one row a score, in the columns of :class:`LayerScore` and "best".

    What is missing is NA: the layer of the intensity histogram, accuracies without labels.
    """
    table = pd.DataFrame([asdict(score) for score in report.scores])
    kinds = {"layer": "Int64", "knn": "Float64", "linear": "Float64"}
    return table.astype(kinds).assign(best=[s.layer == report.best for s in report.scores])


def to_json(report: Report) -> dict[str, Any]:
    """Return a report in plain types."""
    content = asdict(report)
    return {**content, "scores": list(content["scores"]), "remarks": list(report.remarks)}


def from_json(content: Any) -> Report:
    """Return the report that :func:`to_json` described.

    Raises
    ------
    ValueError
        If it is no such description.
    """
    try:
        report = Report(
            **{
                **content,
                "scores": tuple(LayerScore(**score) for score in content["scores"]),
                "remarks": tuple(content["remarks"]),
            }
        )
        best_there = any(score.layer == report.best for score in report.layers)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a report on layers: {error}") from None
    if not best_there:
        raise ValueError("not a report on layers: the best layer is none of them")
    return report


def _interval(share: float, n: float) -> tuple[float, float]:
    """Return the interval of Agresti and Coull, which holds for shares near 0 and 1 too.

    References
    ----------
    Agresti, Coull: Approximate Is Better than "Exact" for Interval Estimation of Binomial
    Proportions, 1998. https://doi.org/10.1080/00031305.1998.10480550
    """
    centre = (share * n + 2) / (n + 4)
    reach = 2 * sqrt(centre * (1 - centre) / (n + 4))
    return max(0.0, centre - reach), min(1.0, centre + reach)
