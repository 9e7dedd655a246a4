"""Look into a table of features: clusters, similar rows, predictions and outliers."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.features.brightness import is_by_hand, judge
from napari_synapse_cl.features.classifiers import (
    FEW,
    Classifier,
    Kind,
    from_probabilities,
    identity_of,
    save,
)
from napari_synapse_cl.features.clusters import Clusters, find_clusters
from napari_synapse_cl.features.layer_report import BASELINE_NAME, HAND_NAME
from napari_synapse_cl.features.neighbours import Space, disagreement, find_neighbours, oddness
from napari_synapse_cl.features.prediction import (
    VECTORS,
    Evaluation,
    Ground,
    evaluate,
    taught_on,
)
from napari_synapse_cl.pipeline.exploring_preparation import (
    CLASSIFIER,
    Exploration,
    StoppedError,
    labelled_rows,
    numbers_of,
    prepare,
    source_of,
    write,
)
from napari_synapse_cl.runs.events import Control, Event, Message, Progress, Wrote
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.system.words import counted

N_NAMED = 5
"""Outliers that are named."""


def explore(config: Config, control: Control) -> Iterator[Event]:
    """Look into a table of features, and write what is found as a table with its record."""
    job = prepare(config, control)
    for text, level in job.notes:
        yield Message(text, level)
    jobs: dict[str | None, Callable[[Exploration], Iterator[Event]]] = {
        "cluster": cluster,
        "similar": _similar,
        "predict": _predict,
        "outliers": find_outliers,
    }
    try:
        yield from jobs[config.explore](job)
        if config.explore != "predict":
            yield from judge_neighbours(job)
    except StoppedError:
        yield Message("this was ended before it was complete, so nothing is kept")
        return
    yield from write(job)


def _similar(job: Exploration) -> Iterator[Event]:
    space = Space(job.vectors.scaled(), job.config.distance)
    like, unlike = numbers_of(job, job.config.like), numbers_of(job, job.config.unlike)
    numbers, scores = space.similar(
        space.points[like],
        space.points[unlike],
        job.config.n_similar,
        np.union1d(like, unlike).tolist(),
    )
    job.rows = job.vectors.rows[numbers]
    for name, values in {
        "rank": np.arange(1, len(numbers) + 1),
        "similarity": scores,
        "row": job.rows,
    }.items():
        whole = np.zeros(len(job.vectors.table), values.dtype)
        whole[job.rows] = values
        yield from job.add(name, whole)
    job.found["like"], job.found["unlike"] = (
        job.vectors.rows[some].tolist() for some in (like, unlike)
    )
    text = f"{counted(len(numbers), 'row')} similar to {counted(len(like), 'row')}"
    if len(numbers):
        text += f", with scores from {scores[0]:.2f} to {scores[-1]:.2f}"
    yield from job.tell(text)


def cluster(job: Exploration) -> Generator[Event, None, Clusters]:
    """Find clusters of the rows with vectors, and tell whether to rely on them."""
    config, rows = job.config, job.vectors.rows
    found = yield from job.follow(
        find_clusters(
            Space(job.vectors.scaled(), config.distance).points,
            config.clustering,
            config.n_clusters,
            most=config.most_clusters,
            min_size=config.min_cluster_size,
            seed=config.seed,
        )
    )
    if found.n_fitted < len(rows):
        yield Message(
            f"the clusters are made from {found.n_fitted:,} of {len(rows):,} rows, drawn with seed "
            f"{config.seed}; the others join them"
        )
    yield from job.add("cluster", job.vectors.spread(found.labels))
    yield from job.tell(*found.in_words())
    shown = {"typical": found.typical, "borderline": found.borderline}
    job.found |= {
        "silhouettes": found.silhouettes,
        "rand_index_of_seeds": found.seeds,
        "rand_index_of_halves": found.halves,
        "made_from": found.n_fitted,
        "clusters": [
            {
                "cluster": number,
                "rows": found.counts[number],
                **{what: rows[some[number]].tolist() for what, some in shown.items()},
            }
            for number in range(1, found.n + 1)
        ],
    }
    return found


def find_outliers(
    job: Exploration,
) -> Generator[Event, None, tuple[np.ndarray, np.ndarray | None]]:
    """Tell which rows are far from their neighbours, or have another label than these.

    Returns
    -------
    distances
        ``(N,)`` of the rows with vectors, the mean distance of their neighbours.
    differs
        ``(N,)`` share of their labelled neighbours with another label, NaN where that is not
        known; None without labels.
    """
    rows, config = job.vectors.rows, job.config
    space = Space(job.vectors.scaled(), config.distance)
    neighbours = yield from job.follow(find_neighbours(space, config.n_neighbors))
    distances, ranks = oddness(neighbours)
    yield from job.add("outlier_distance", job.vectors.spread(distances))
    yield from job.add("outlier_rank", job.vectors.spread(ranks))
    farthest = rows[np.argsort(ranks)[:N_NAMED]].tolist()
    named = ", ".join(map(str, farthest))
    yield from job.tell(f"farthest from their neighbours are the rows {named}")
    job.found["farthest"] = farthest
    differs = None
    if job.label_column is not None and (job.labels[rows] != "").any():
        differs = disagreement(neighbours, job.labels[rows])
        yield from job.add("label_disagreement", job.vectors.spread(differs))
        n_known, n_against = np.isfinite(differs).sum(), (differs > 1 / 2).sum()
        doubtful = rows[np.argsort(-np.nan_to_num(differs), kind="stable")[:N_NAMED]]
        job.found["doubtful"] = doubtful[: int(n_against)].tolist()
        text = (
            f"of {counted(int(n_known), 'row')} with a label in {job.label_column}, {n_against} "
            "have more neighbours with another label than with their own"
        )
        if n_against:
            text += f", first of all the rows {', '.join(map(str, job.found['doubtful']))}"
        yield from job.tell(text)
    return distances, differs


def _predict(job: Exploration) -> Iterator[Event]:
    vectors, cells = job.vectors, {}
    classifier, asked = job.classifier, vectors.rows
    if classifier is None:
        assert job.label_column is not None
        known = labelled_rows(job)
        n_lost = int((job.labels != "").sum()) - len(known)
        if n_lost:
            lost = f"{counted(n_lost, 'label')} of rows without features or position"
            yield Message(f"{lost} {'teaches' if n_lost == 1 else 'teach'} nothing", "warning")
        classifier = yield from _taught(job, known)
        asked = np.setdiff1d(vectors.rows, np.flatnonzero(job.labels != ""))
        # Labels come out as what they went in as, numbers too.
        kept = vectors.labels(job.label_column)
        cells = {job.labels[row]: kept[row] for row in known[::-1]}
    best, probability, uncertainty = from_probabilities(
        classifier.probabilities(vectors.values[asked])
    )
    names = [cells.get(name, name) for name in classifier.classes]
    told = np.full(len(vectors.table), None)
    is_told = probability >= job.config.reject_below
    told[asked] = [names[n] if ok else None for n, ok in zip(best, is_told, strict=True)]
    yield from job.add("predicted", told)
    for name, values in {"probability": probability, "uncertainty": uncertainty}.items():
        whole = np.full(len(told), np.nan)
        whole[asked] = values
        yield from job.add(name, whole)
    counts = np.bincount(best[is_told], minlength=len(names)).tolist()
    job.found["predicted"] = dict(zip(classifier.classes, counts, strict=True))
    if not len(asked):
        yield from job.tell("all rows with features have a label: none is left to predict")
        return
    shares = ", ".join(f"{name} {count:,}" for name, count in job.found["predicted"].items())
    text = f"{int(is_told.sum()):,} rows get a label that is predicted ({shares})"
    if not is_told.all():
        below = job.config.reject_below
        text += f", and {int((~is_told).sum()):,} none: all probabilities are below {below:g}"
    yield from job.tell(text)


def _taught(job: Exploration, known: np.ndarray) -> Generator[Event, None, Classifier]:
    """Teach a classifier, say how often it is right, and keep it in a file."""
    lesson = lesson_of(job, known)
    found = yield from measure(job, lesson)
    kind = lesson.kind
    yield Progress("teaching", 0, 1, "classifier")
    classifier, remarks = taught_on(*lesson.sets[VECTORS], lesson.ground, kind)
    yield Progress("teaching", 1, 1, "classifier")
    words = {"logistic": "a logistic regression", "gaussian_process": "a Gaussian process"}
    taught = lesson.counts
    held = ", ".join(f"{n:,} {name}" for name, n in taught.items())
    yield from job.tell(f"{words[kind]} has learnt from {len(known):,} labels: {held}")
    yield from job.tell(*remarks, *found.in_words())
    measured = {
        "held_out": [score.as_json() for score in found.scores],
        "majority": found.majority,
        "parts": found.n_folds,
    }
    job.found |= {"labels": taught, "kind": kind, **measured}
    about = {
        **source_of(job),
        "identity": identity_of(job.vectors),
        "labels": taught,
        "label_column": job.label_column,
        **measured,
    }
    path = job.target.with_name(CLASSIFIER)
    with RunFolder(path.parent).being_written():
        save(classifier, about, path)
    yield Wrote("classifier", str(path))
    return classifier


@dataclass(frozen=True)
class Lesson:
    """What labels are predicted from, and by what."""

    sets: dict[str, tuple[np.ndarray, Sequence[int]]]
    """Vectors of the labelled rows, and what is simpler, as :func:`evaluate` takes them."""
    ground: Ground
    kind: Kind

    @property
    def counts(self) -> dict[str, int]:
        """How many labels there are of each class."""
        named, counts = np.unique(self.ground.labels, return_counts=True)
        return dict(zip(named.tolist(), counts.tolist(), strict=True))


def lesson_of(job: Exploration, known: np.ndarray) -> Lesson:
    """Return what rows that have labels teach."""
    vectors, labels = job.vectors, job.labels[known]
    ground = Ground(labels, vectors.places[known], vectors.extent, job.config.seed)
    kind: Kind = "gaussian_process"
    if job.config.probe == "logistic" or (job.config.probe == "auto" and len(known) >= FEW):
        kind = "logistic"
    sets: dict[str, tuple[np.ndarray, Sequence[int]]] = {}
    sets[VECTORS] = (vectors.values[known], vectors.sizes)
    simple = {BASELINE_NAME: vectors.histogram}
    if vectors.by_hand.shape[1] > vectors.histogram.shape[1]:
        simple[HAND_NAME] = vectors.by_hand
    for name, values in simple.items():
        some = values[known]
        if some.shape[1] and not is_by_hand(vectors) and np.isfinite(some).all():
            sets[name] = (some, [some.shape[1]])
    return Lesson(sets, ground, kind)


def measure(job: Exploration, lesson: Lesson) -> Generator[Event, None, Evaluation]:
    """Measure how often predictions are right in parts of the volume that were held out."""
    if job.vectors.extent is None:
        yield Message(
            "the table does not say how large crops are: parts of the volume that are predicted "
            "from each other may share voxels",
            "warning",
        )
    found: Evaluation = yield from job.follow(evaluate(lesson.sets, lesson.ground, lesson.kind))
    return found


def judge_neighbours(job: Exploration) -> Iterator[Event]:
    """Say whether neighbours reflect brightness alone, where the table has its histograms."""
    config = job.config
    labels = None if job.label_column is None else job.labels
    found = judge(job.vectors, config.n_neighbors, config.distance, labels, config.seed)
    if found is not None:
        yield from job.tell(found.text)
        job.found["brightness"] = found.measured
