"""How well each layer of a network describes synapses: the numbers, without PyTorch."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, Literal

import pandas as pd
from pydantic import TypeAdapter, ValidationError

BASELINE_NAME = "intensity histogram"
CENTRE_NAME = "central intensity histogram"
HAND_NAME = "hand-made descriptors"
UNTRAINED_NAME = "untrained networks"
Kind = Literal["layer", "joined", "baseline"]
MEASURED = (
    *("recall", "effective_rank", "knn", "linear"),
    *("difference", "difference_low", "difference_high"),
)
"""Columns that a score may lack."""


@dataclass(frozen=True)
class Comparison:
    """How much more some features tell than others, of the same synapses."""

    name: str
    baseline: str
    """What is compared, and with what."""
    value: float
    other: float
    """Mean balanced accuracy of kNN and the linear probe with each."""
    low: float
    high: float
    """Between what the difference lies, with 95 % confidence."""

    @property
    def difference(self) -> float:
        """By how much the first tell more."""
        return self.value - self.other

    @property
    def outcome(self) -> Literal["better", "alike", "worse"]:
        """What can be told of the first; alike is what cannot be told apart."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "alike"


@dataclass(frozen=True)
class LayerScore:
    """What the features of one layer tell, or those of several together, or a baseline."""

    layer: int | None
    """Index of the layer, None for what is no single one."""
    name: str
    """What it is, as in "20 · stage 3 conv 1"."""
    channels: int | None
    """Number of features; None where several numbers are averaged."""
    recall: float | None = None
    """Share of views whose nearest other view, by cosine, is that of the same synapse; None where
    no views were looked at."""
    effective_rank: float | None = None
    """Dimensions that the features of the views fill, from 1; 0 if all features are constant."""
    knn: float | None = None
    linear: float | None = None
    """Balanced accuracy with which the nearest neighbours and a logistic regression tell the labels
    of one part of the volume from the others; None if it could not be measured."""
    kind: Kind = "layer"
    """A layer, features that are joined, or a baseline."""
    layers: tuple[int, ...] = ()
    """Indices of the layers that are joined."""
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    """By how much the mean of knn and linear is above that of the strongest baseline, and between
    what that lies with 95 % confidence; None for that baseline itself and without labels."""

    @property
    def index(self) -> int:
        """Index of the layer, where it is a single one."""
        assert self.layer is not None
        return self.layer

    @property
    def accuracy(self) -> float | None:
        """Mean of knn and linear, of those there are."""
        known = [value for value in (self.knn, self.linear) if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Report:
    """The scores of the layers of a network, and what to know before one trusts them."""

    scores: tuple[LayerScore, ...]
    """Of the layers in order, of what was joined, and of the baselines."""
    best: int
    """Index of the best layer."""
    n_synapses: int
    """Synapses that were looked at."""
    label_column: str | None
    """Column of the labels, if there is one."""
    label_counts: dict[str, int]
    """Synapses of each label."""
    n_slabs: int | None
    """Parts of the volume, each predicted from the others; None without probes."""
    remarks: tuple[str, ...]
    """Sentences."""
    verdict: tuple[str, ...] = ()
    """Sentences: whether the network earns its keep on these synapses, and what to read."""
    read: tuple[int, ...] = ()
    """Indices of the layers to read, one or two."""
    comparisons: tuple[Comparison, ...] = ()
    """Of the network, its layer chosen in other parts of the volume, with each baseline; then of
    features that were joined with those that are one part of them."""
    centre_jitter: float = 0.0
    """Up to how far from the synapses, in nm, the crops' centres lay that labels were told from."""

    @property
    def layers(self) -> tuple[LayerScore, ...]:
        """The scores of the layers alone."""
        return tuple(score for score in self.scores if score.layer is not None)

    @property
    def baseline(self) -> LayerScore | None:
        """The score of the intensity histogram."""
        return next((score for score in self.scores if score.name == BASELINE_NAME), None)

    @property
    def strongest(self) -> LayerScore | None:
        """The score of the baseline that tells labels best; without labels the histogram's."""
        baselines = [s for s in self.scores if s.kind == "baseline" and s.accuracy is not None]
        return max(baselines, key=lambda s: s.accuracy or 0.0, default=self.baseline)

    def to_beat(self, name: str) -> float | None:
        """Return a score of what layers have to beat.

        Parameters
        ----------
        name
            "recall" or "effective_rank", of the intensity histogram, or "knn" or "linear", of the
            strongest baseline.
        """
        of = self.strongest if name in ("knn", "linear") else self.baseline
        value: float | None = getattr(of, name, None)
        return value

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
    then for the lower layer. What is no layer is never the best.

    Raises
    ------
    ValueError
        If there is no layer.
    """
    layers = [score for score in scores if score.layer is not None]
    if not layers:
        raise ValueError("there is no layer among the scores")

    def order(score: LayerScore) -> tuple[float, float, float, int]:
        accuracy = -1.0 if score.accuracy is None else score.accuracy
        recall, rank = score.recall or 0.0, score.effective_rank or 0.0
        return accuracy, recall, rank, -(score.layer or 0)

    return max(layers, key=order)


def to_table(report: Report) -> pd.DataFrame:
    """Return one row a score, in the columns of :class:`LayerScore` and "best".

    What is missing is NA: the layer of what is none, accuracies without labels. Layers that are
    joined are named with a + between.
    """
    table = pd.DataFrame([asdict(score) for score in report.scores])
    kinds = dict.fromkeys(MEASURED, "Float64") | dict.fromkeys(("layer", "channels"), "Int64")
    joined = ["+".join(map(str, score.layers)) for score in report.scores]
    is_best = [score.layer == report.best for score in report.scores]
    return table.astype(kinds).assign(layers=joined, best=is_best)


def to_json(report: Report) -> dict[str, Any]:
    """Return a report in plain types."""
    plain: dict[str, Any] = TypeAdapter(Report).dump_python(report, mode="json")
    return plain


def from_json(content: Any) -> Report:
    """Return the report that :func:`to_json` described.

    Raises
    ------
    ValueError
        If it is no such description.
    """
    # Reports of older versions, which lack these, tell other accuracies.
    if not isinstance(content, dict) or not {"verdict", "read", "comparisons"} <= content.keys():
        raise ValueError("not a report on layers: it has no verdict")
    try:
        report = TypeAdapter(Report).validate_python(content)
    except ValidationError as error:
        raise ValueError(f"not a report on layers: {error.errors()[0]['msg']}") from None
    if all(score.layer != report.best for score in report.layers):
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
