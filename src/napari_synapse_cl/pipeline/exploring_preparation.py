"""What is looked at before a table of features is explored, and how results are kept."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from napari_synapse_cl.config import Config, ExploreConfig
from napari_synapse_cl.data.tables.columns import as_text
from napari_synapse_cl.data.tables.folders import hash_of_table
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.classifiers import (
    Classifier,
    check_identity,
    load,
    unknown_in_words,
)
from napari_synapse_cl.features.clusters import check_clusters
from napari_synapse_cl.features.neighbours import Step
from napari_synapse_cl.features.tables import check_format, is_parquet, write_table
from napari_synapse_cl.features.vectors import VectorTable, check_classes, open_vectors
from napari_synapse_cl.pipeline.extraction_preparation import DEFAULT_LABEL_COLUMN
from napari_synapse_cl.pipeline.provenance import make_record
from napari_synapse_cl.pipeline.steps import check_absent
from napari_synapse_cl.runs.events import Control, Event, Level, Message, Progress, Wrote
from napari_synapse_cl.runs.folder import RunFolder, default_folder
from napari_synapse_cl.system.words import counted, listing

NAMES = {
    "cluster": "clusters",
    "similar": "similar",
    "predict": "predictions",
    "outliers": "outliers",
}
"""What the table with the results is called."""
CLASSIFIER = "classifier.npz"
MOST_OF_PROCESS = 2000
"""Labels that a Gaussian process can learn: it compares all with all."""
Result = TypeVar("Result")


class StoppedError(Exception):
    """The job was told to end."""


@dataclass
class Exploration:
    """An exploration that can begin, and what comes of it."""

    config: Config
    control: Control
    target: Path
    """The table that is written."""
    vectors: VectorTable
    label_column: str | None
    labels: np.ndarray
    """``(M,)`` strings, empty where there is none."""
    classifier: Classifier | None = None
    notes: list[tuple[str, Level]] = field(default_factory=list)
    """What to tell before it begins, and how much it matters."""
    rows: np.ndarray | None = None
    """Which rows are written, in their order; None for all."""
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """What is written beside what the table has, by name."""
    found: dict[str, Any] = field(default_factory=dict)
    """What is written into the record, in plain types."""

    def add(self, name: str, values: np.ndarray) -> Iterator[Event]:
        """Add a column of M values, and tell if it cannot be called by its name."""
        free = self.vectors.free_name(name)
        if free != name:
            yield Message(f"the table has a column {name} already: the new one is {free}")
        self.columns[free] = values

    def tell(self, *sentences: str) -> Iterator[Event]:
        """Tell what was found, and keep it for the record."""
        for sentence in sentences:
            self.found.setdefault("told", []).append(sentence)
            yield Message(sentence)

    def follow(self, steps: Generator[Step, None, Result]) -> Generator[Event, None, Result]:
        """Tell how far a task is, and return what comes of it."""
        while True:
            try:
                yield Progress(*next(steps))
            except StopIteration as end:
                result: Result = end.value
                return result
            yield from self.control.pauses()
            if self.control.stopping:
                raise StoppedError


def prepare(config: Config, control: Control) -> Exploration:
    """Check the settings of an exploration, and open its table.

    Raises
    ------
    InputError
        If something that was given cannot be used.
    """
    assert config.features is not None
    assert config.explore is not None
    folder = RunFolder(config.output or default_folder()).path
    is_named = "feature_format" in config.model_fields_set
    own = ".parquet" if is_parquet(config.features) else config.features.suffix.lower()
    suffix = f".{config.feature_format}" if is_named else own
    target = folder / f"{NAMES[config.explore]}{suffix}"
    is_applied = config.explore == "predict"
    loaded = load(config.classifier) if config.classifier and is_applied else None
    results = [target, target.with_suffix(".json")]
    if config.explore == "predict" and loaded is None:
        results.append(folder / CLASSIFIER)
    check_absent(results, config)
    if config.features.absolute() in [path.absolute() for path in results]:
        raise InputError(f"{target} is the table that is explored: name another output folder")
    names = config.vectors if loaded is None else loaded[1]["identity"]["vectors"]
    job = opened(config, control, target, names, descriptors=config.explore == "predict")
    check_format(suffix.removeprefix("."), job.vectors.table)
    if loaded is not None:
        _take_classifier(job, *loaded)
    checks: dict[str, Callable[[Exploration], None]] = {
        "similar": _check_similar,
        "cluster": check_clustering,
        "predict": check_labels,
    }
    if config.explore in checks:
        checks[config.explore](job)
    return job


def opened(
    config: Config, control: Control, target: Path, names: Sequence[str], *, descriptors: bool
) -> Exploration:
    """Open the table that is explored, with its labels.

    Parameters
    ----------
    target
        The file that is written.
    names, descriptors
        Which vectors are read, as :func:`open_vectors` takes them.

    Raises
    ------
    InputError
        If it cannot be read, or has no rows to compare.
    """
    assert config.features is not None
    found = open_vectors(config.features, names, descriptors=descriptors)
    column = config.label_column
    if column is None and DEFAULT_LABEL_COLUMN in found.table.columns:
        column = DEFAULT_LABEL_COLUMN
    cells = found.labels(column) if column else np.full(len(found.table), None)
    labels = np.array(["" if cell is None else as_text(cell) for cell in cells], dtype=str)
    job = Exploration(config, control, target, found, column or None, labels)
    _check_rows(job)
    return job


def _check_rows(job: Exploration) -> None:
    """Refuse a table with nothing to compare, and note which of its rows get blanks."""
    vectors, named = job.vectors, listing(job.vectors.names)
    if len(vectors.rows) < 2:
        raise InputError(
            f"{job.config.features} has {counted(len(vectors.rows), 'row')} with features of "
            f"{named}, and at least 2 are needed"
        )
    if vectors.n_blank:
        then = "they get blanks" if job.config.explore else "nothing is told of them"
        text = (
            f"{vectors.n_blank:,} of {counted(len(vectors.table), 'row')} have no features of "
            f"{named}, or some that are not finite: {then}"
        )
        job.notes.append((text, "warning"))


def _take_classifier(job: Exploration, classifier: Classifier, about: dict[str, Any]) -> None:
    """Take a classifier that was taught on vectors that mean the same as these."""
    features, file = job.config.features, job.config.classifier
    assert features is not None
    assert file is not None
    unknown = check_identity(about["identity"], job.vectors, features, file)
    if unknown:
        job.notes.append((unknown_in_words(unknown), "warning"))
    job.classifier = classifier


def _check_similar(job: Exploration) -> None:
    numbers_of(job, job.config.like)
    numbers_of(job, job.config.unlike)


def check_clustering(job: Exploration) -> None:
    """Refuse a table whose rows can form no clusters.

    Raises
    ------
    InputError
        If they are too few, or all the same.
    """
    check_clusters(job.vectors.scaled(), job.config.n_clusters)


def check_labels(job: Exploration) -> None:
    """Refuse a table whose labels teach nothing.

    Raises
    ------
    InputError
        If there are none, of one class alone, or too many classes.
    """
    if job.classifier is not None:
        return
    column = job.label_column
    if column is None:
        raise InputError(
            "predicting needs labels of some rows: name their column with --label_column, or a "
            "classifier with --classifier"
        )
    known = labelled_rows(job)
    classes = np.unique(job.labels[known])
    if len(classes) < 2:
        found = f"all are {classes[0]}" if len(classes) else "no row with features has one"
        raise InputError(f"predicting needs labels of two classes in the column {column}: {found}")
    check_classes(job.labels[known], column)
    if job.config.probe == "gaussian_process" and len(known) > MOST_OF_PROCESS:
        raise InputError(
            f"a Gaussian process is for few labels, and there are {len(known):,}: choose probe "
            "logistic"
        )


def labelled_rows(job: Exploration) -> np.ndarray:
    """Return the rows that teach: with a label, a vector and a position."""
    rows = job.vectors.rows
    return rows[(job.labels[rows] != "") & job.vectors.placed[rows]]


def numbers_of(job: Exploration, wanted: tuple[str, ...]) -> np.ndarray:
    """Return which of the rows with vectors are meant, as numbers among these."""
    table, found = job.vectors.table, []
    for one in wanted:
        column, sign, value = one.partition("=")
        if not sign:
            if not one.isdigit() or int(one) >= len(table):
                raise InputError(
                    f"{one} is no row of {job.config.features}: rows are counted from 0 to "
                    f"{len(table) - 1}, or named by a column and a value, as in id=17"
                )
            rows = np.array([int(one)])
        else:
            cells = job.vectors.labels(column)
            rows = np.flatnonzero([cell is not None and as_text(cell) == value for cell in cells])
            if not len(rows):
                raise InputError(f"no row of {job.config.features} has {value} as {column}")
        blank = np.setdiff1d(rows, job.vectors.rows, assume_unique=True)
        if len(blank):
            raise InputError(f"row {blank[0]} ({one}) has no features to compare with")
        found.append(np.searchsorted(job.vectors.rows, rows))
    return np.unique(np.concatenate([np.empty(0, np.int64), *found]))


def source_of(job: Exploration) -> dict[str, Any]:
    """Return what is explored, and how, in plain types."""
    config, vectors = job.config, job.vectors
    assert config.features is not None
    record = make_record(None, (), config, ExploreConfig)
    record["settings"] |= {"label_column": job.label_column, "seed": config.seed}
    # By these the window finds places and networks again.
    kept: dict[str, Any] = {
        n: vectors.record[n] for n in ("voxel_size", "geometry") if n in vectors.record
    }
    return {
        **record,
        "explored": {
            "features": str(config.features.absolute()),
            "sha256": hash_of_table(config.features),
            "rows": len(vectors.table),
            "rows_with_features": len(vectors.rows),
            "vectors": dict(zip(vectors.names, vectors.sizes, strict=True)),
        },
        **kept,
        "records": {name: vectors.record_of(name) for name in vectors.names},
    }


def write(job: Exploration) -> Iterator[Event]:
    """Write what was found beside what the table has, with its record."""
    table = pd.concat(
        [job.vectors.table, pd.DataFrame(job.columns, index=job.vectors.table.index)], axis=1
    )
    if job.rows is not None:
        table = table.iloc[job.rows].reset_index(drop=True)
    with RunFolder(job.target.parent).being_written():
        write_table(table, job.target, {**source_of(job), "found": job.found})
    yield Wrote("table", str(job.target))
