"""Classifiers taught by labels in the window: taught, kept, applied and measured, in a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_synapse_cl import __version__
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import counted, listing

if TYPE_CHECKING:
    from napari_synapse_cl.features.classifiers import Classifier
    from napari_synapse_cl.features.prediction import Evaluation, Ground
    from napari_synapse_cl.features.vectors import VectorTable
    from napari_synapse_cl.widgets.explore.state import Exploration


KINDS = {"logistic": "a logistic regression", "gaussian_process": "a Gaussian process"}


@dataclass(frozen=True, eq=False)
class Lesson:
    """Labels of some rows, from which those of the others are to be told."""

    vectors: VectorTable
    labels: np.ndarray
    """``(n,)`` objects, None where there is none."""
    reject_below: float = 0.0
    """Probability below which no label is told."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is told of the rows without a label."""

    lesson: Lesson
    predicted: np.ndarray
    """``(n,)`` objects, None where nothing is told."""
    probability: np.ndarray
    uncertainty: np.ndarray
    """``(n,)`` float64, NaN of rows that have a label or no vector."""
    words: tuple[str, ...]


def predict(lesson: Lesson) -> Prediction:
    """Teach a classifier, and have it tell the labels of all other rows.

    Raises
    ------
    InputError
        If there are too few labels to learn from.
    """
    classifier, taught, remarks = _taught(lesson)
    return _told(lesson, classifier, taught, remarks)


def keep(lesson: Lesson, column: str, layer: str, path: Path) -> str:
    """Teach a classifier, and write it to a file; return what was done, in words.

    Parameters
    ----------
    column, layer
        Where its labels stand.

    Raises
    ------
    InputError
        If there are too few labels to learn from.
    JobError
        If it cannot be written.
    """
    from napari_synapse_cl.features.classifiers import identity_of, save

    classifier, taught, remarks = _taught(lesson)
    labels = Counter(label for label in lesson.labels.tolist() if label is not None)
    about = {
        "napari-synapse-cl": __version__,
        "explored": {"layer": layer},
        "identity": identity_of(lesson.vectors),
        "labels": dict(sorted(labels.items())),
        "label_column": column,
    }
    save(classifier, about, path)
    return "; ".join([f"{taught}, and is saved as {path}", *remarks])


def apply(lesson: Lesson, layer: str, path: Path) -> Prediction:
    """Have a classifier of a file tell the labels of all rows that have none.

    Parameters
    ----------
    layer
        How to call the rows in messages.

    Raises
    ------
    InputError
        If the file holds no classifier, or one that was taught on vectors that mean something else.
    """
    from napari_synapse_cl.features.classifiers import check_identity, load, unknown_in_words

    classifier, about = load(path)
    vectors, identity = lesson.vectors, about["identity"]
    if list(vectors.names) != identity["vectors"]:
        raise InputError(
            f"{path} was taught on {listing(identity['vectors'])}, and what is explored is "
            f"{listing(vectors.names)}"
        )
    unknown = check_identity(identity, vectors, layer, path)
    taught = f"{KINDS[classifier.kind]} has been read from {path.name}"
    remarks = [unknown_in_words(unknown)] if unknown else []
    return _told(lesson, classifier, taught, remarks)


def _taught(lesson: Lesson) -> tuple[Classifier, str, list[str]]:
    """Return a classifier, how it came about in words, and what to know of it."""
    from napari_synapse_cl.features.prediction import taught_on

    vectors = lesson.vectors
    known, ground = _ground(lesson)
    kind = _kind(len(known))
    classifier, remarks = taught_on(vectors.values[known], vectors.sizes, ground, kind)
    return classifier, f"{KINDS[kind]} has learnt from {counted(len(known), 'label')}", remarks


def _told(lesson: Lesson, classifier: Classifier, taught: str, remarks: list[str]) -> Prediction:
    from napari_synapse_cl.features.classifiers import from_probabilities

    vectors, labels = lesson.vectors, lesson.labels
    rows = vectors.rows
    asked = rows[[label is None for label in labels[rows]]]
    n = len(labels)
    predicted = np.full(n, None, object)
    probability, uncertainty = np.full(n, np.nan), np.full(n, np.nan)
    if len(asked):
        told = classifier.probabilities(vectors.values[asked])
        best, probability[asked], uncertainty[asked] = from_probabilities(told)
        names = np.array(classifier.classes, object)[best]
        names[probability[asked] < lesson.reject_below] = None
        predicted[asked] = names
    shares = ", ".join(f"{name} {np.sum(predicted == name):,}" for name in classifier.classes)
    n_told = int(sum(one is not None for one in predicted))
    words = [f"{taught} and tells the labels of {n_told:,} rows ({shares})", *remarks]
    n_none = len(asked) - n_told
    if n_none:
        below = f"all probabilities are below {lesson.reject_below:g}"
        words.append(f"{counted(n_none, 'row')} get none: {below}")
    return Prediction(lesson, predicted, probability, uncertainty, tuple(words))


def measure(lesson: Lesson) -> Evaluation:
    """Measure how well labels in parts of the volume are told from the others, beside baselines.

    Raises
    ------
    InputError
        If there are too few labels to learn from.
    """
    from napari_synapse_cl.features.layer_report import BASELINE_NAME, HAND_NAME
    from napari_synapse_cl.features.neighbours import finished
    from napari_synapse_cl.features.prediction import VECTORS, evaluate
    from napari_synapse_cl.features.vectors import BY_HAND

    vectors = lesson.vectors
    known, ground = _ground(lesson)
    sets: dict[str, tuple[np.ndarray, Sequence[int]]] = {
        VECTORS: (vectors.values[known], vectors.sizes)
    }
    simple = {BASELINE_NAME: vectors.histogram}
    if vectors.by_hand.shape[1] > vectors.histogram.shape[1]:
        simple[HAND_NAME] = vectors.by_hand
    is_by_hand = all(name.startswith(BY_HAND) for name in vectors.names)
    for name, values in simple.items():
        some: Any = values[known]
        if some.shape[1] and not is_by_hand and np.isfinite(some).all():
            sets[name] = (some, [some.shape[1]])
    return finished(evaluate(sets, ground, _kind(len(known))))


def ask(
    state: Exploration, lesson: Lesson, uncertainty: np.ndarray | None
) -> tuple[VectorTable, np.ndarray, str]:
    """Return the rows that are worth a label, and why in words."""
    from napari_synapse_cl.features.asking import ask_next

    vectors = lesson.vectors
    rows = vectors.rows
    known = np.flatnonzero([label is not None for label in lesson.labels[rows]])
    some = None if uncertainty is None else uncertainty[rows]
    found = ask_next(state.space("cosine", vectors), known, some)
    return vectors, rows[found.numbers], found.in_words()


def _kind(n_labels: int) -> Any:
    from napari_synapse_cl.features.classifiers import FEW

    return "gaussian_process" if n_labels < FEW else "logistic"


def _ground(lesson: Lesson) -> tuple[np.ndarray, Ground]:
    """Return the rows that teach, and their labels in space."""
    from napari_synapse_cl.features.prediction import Ground

    vectors = lesson.vectors
    rows = vectors.rows[vectors.placed[vectors.rows]]
    known = rows[[label is not None for label in lesson.labels[rows]]]
    labels = lesson.labels[known].astype(str)
    classes = np.unique(labels)
    if len(classes) < 2:
        found = f"all are {classes[0]}" if len(classes) else "there are none"
        raise InputError(f"predicting needs labels of two classes on points with features: {found}")
    return known, Ground(labels, vectors.places[known], vectors.extent)
