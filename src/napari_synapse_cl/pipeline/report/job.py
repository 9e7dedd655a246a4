"""Report on a table of features: what is looked at, in which order, and how it is written."""

from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.clusters import Clusters
from napari_synapse_cl.features.neighbours import Space
from napari_synapse_cl.features.projections import LEAST, check_umap, principal_components
from napari_synapse_cl.pipeline.exploring import (
    cluster,
    find_outliers,
    judge_neighbours,
    lesson_of,
    measure,
)
from napari_synapse_cl.pipeline.exploring_preparation import (
    Exploration,
    StoppedError,
    check_clustering,
    check_labels,
    labelled_rows,
    opened,
)
from napari_synapse_cl.pipeline.report.crops import MOST_CROPS, Crops, cut_strips, open_crops
from napari_synapse_cl.pipeline.report.curves import charts_of
from napari_synapse_cl.pipeline.report.dots import Classes, classes_of, columns_of, umap_positions
from napari_synapse_cl.pipeline.report.origin import (
    command_of,
    facts_of,
    facts_of_run,
    run_behind,
)
from napari_synapse_cl.pipeline.report.page import Findings, Map, render
from napari_synapse_cl.pipeline.steps import check_absent
from napari_synapse_cl.runs.events import Control, Event, Message, Wrote
from napari_synapse_cl.runs.folder import RunFolder, default_folder
from napari_synapse_cl.runs.health import does_it_learn
from napari_synapse_cl.runs.metrics import epoch_events, read_metrics
from napari_synapse_cl.system.files import replacing

NAME = "report.html"
MOST_ROWS = 20_000
"""Rows that a report looks at: as many dots are drawn at once."""
N_ODD = 20


def report(config: Config, control: Control) -> Iterator[Event]:
    """Report on a table of features in a file for browsers."""
    job = _prepare(config, control)
    run = run_behind(job)
    crops, why = open_crops(job, run)
    for text, level in job.notes:
        yield Message(text, level)
    try:
        page = yield from _page(job, run, crops, why)
    except StoppedError:
        yield Message("the report was ended before it was complete, so nothing is kept")
        return
    with RunFolder(job.target.parent).being_written(), replacing(job.target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    yield Wrote("report", str(job.target))


def _prepare(config: Config, control: Control) -> Exploration:
    target = RunFolder(config.output or default_folder()).path / NAME
    check_absent([target], config)
    job = opened(config, control, target, config.vectors, descriptors=True)
    rows, n = job.vectors.rows, len(job.vectors.rows)
    if config.umap:
        check_umap(min(n, MOST_ROWS) if n >= LEAST else n)
    if n <= MOST_ROWS:
        return job
    generator = np.random.default_rng(config.seed)
    # What little is known of many rows is not to be lost.
    known = rows[job.labels[rows] != ""]
    first = known if len(known) <= MOST_ROWS // 2 else rows[:0]
    others = generator.permutation(np.setdiff1d(rows, first, assume_unique=True))
    chosen = np.union1d(first, others[: MOST_ROWS - len(first)])
    job.vectors.values[np.setdiff1d(rows, chosen, assume_unique=True)] = np.nan
    text = f"of {n:,} rows with features {len(chosen):,} are looked at, drawn with seed "
    text += f"{config.seed}"
    if len(first):
        text += f", with all {len(first):,} that have a label among them"
    job.notes.append((text, "warning"))
    return replace(job, vectors=replace(job.vectors))


def _told(job: Exploration) -> list[str]:
    """Return what has been told since it was asked last."""
    return list(job.found.pop("told", []))


def _page(
    job: Exploration, run: RunFolder | None, crops: Crops | None, why: str
) -> Generator[Event, None, str]:
    """Look into the table, and return the page."""
    config, vectors = job.config, job.vectors
    rows = vectors.rows
    notes = [text for text, _ in job.notes]
    yield from judge_neighbours(job)
    honesty = _told(job)
    if not honesty:
        honesty = [
            "whether neighbours reflect more than brightness is not known: the table has no "
            "histograms of grey values (an extraction adds them with descriptors)"
        ]
    clusters = yield from _clusters(job)
    about_clusters = _told(job)
    distances, differs = yield from find_outliers(job)
    about_odd = _told(job)
    evaluation, about_labels = None, []
    try:
        check_labels(job)
    except InputError as error:
        about_labels = ["no labels are predicted: " + _without_flags(job, error)]
    else:
        lesson = lesson_of(job, labelled_rows(job))
        evaluation = yield from measure(job, lesson)
        about_labels = list(evaluation.in_words())
        if evaluation.problem is None and evaluation.n_folds:
            held = ", ".join(f"{n:,} {name}" for name, n in lesson.counts.items())
            about_labels.insert(0, f"labels of the column {job.label_column}: {held}")
    maps = yield from _maps(job)
    order = np.argsort(-distances, kind="stable")[:N_ODD]
    doubtful = np.empty(0, np.int64)
    if differs is not None:
        by_doubt = np.argsort(-np.nan_to_num(differs), kind="stable")[:N_ODD]
        doubtful = by_doubt[np.nan_to_num(differs)[by_doubt] > 1 / 2]
    shown = [] if clusters is None else [*clusters.typical.values(), *clusters.borderline.values()]
    wanted = [number for some in shown for number in some] + order.tolist() + doubtful.tolist()
    strips = yield from _strips(job, crops, rows[wanted].tolist())
    first = _first_columns(job, clusters)
    columns, left_out = columns_of(vectors.table.iloc[rows], first)
    if left_out:
        notes.append(f"dots are not coloured by more columns: {', '.join(left_out)}")
    findings = Findings(
        title=f"Report on {config.features.name if config.features else 'features'}",
        facts=list(facts_of(job)),
        command=command_of(config),
        run=None if run is None else run.name,
        run_facts=[] if run is None else list(facts_of_run(run)),
        charts=[] if run is None else charts_of(run),
        verdict=None if run is None else _verdict(run),
        notes=notes,
        honesty=honesty,
        maps=maps,
        columns=columns,
        clusters=clusters,
        about_clusters=about_clusters,
        about_odd=about_odd,
        farthest=[(int(n), float(distances[n])) for n in order],
        doubtful=[(int(n), float(differs[n])) for n in doubtful] if differs is not None else [],
        evaluation=evaluation,
        about_labels=about_labels,
        about_crops=f"there are no crops: {why}" if crops is None else _about_crops(crops, strips),
        strips=strips,
        slice_shape=(1, 1) if crops is None else crops.shape[1:],
    )
    return render(vectors, job.label_column, findings)


def _without_flags(job: Exploration, error: InputError) -> str:
    return "no column of labels is named" if job.label_column is None else str(error)


def _clusters(job: Exploration) -> Generator[Event, None, Clusters | None]:
    try:
        check_clustering(job)
    except InputError as error:
        yield from job.tell(f"there are no clusters: {error}")
        return None
    found = yield from cluster(job)
    return found if found.n else None


def _maps(job: Exploration) -> Generator[Event, None, list[Map]]:
    scaled = job.vectors.scaled()
    positions, shares = principal_components(scaled)
    text = f"the first two principal components hold {shares.sum():.0%} of the variance"
    maps = [Map("Principal components", positions, text)]
    if job.config.umap:
        points = Space(scaled, job.config.distance).points
        positions = yield from job.follow(umap_positions(points, job.config.seed))
        text = (
            "UMAP keeps neighbours together; distances and sizes of groups in it mean little, and "
            "another seed makes another map"
        )
        maps.append(Map("UMAP", positions, text))
    return maps


def _strips(
    job: Exploration, crops: Crops | None, first: list[int]
) -> Generator[Event, None, dict[int, str]]:
    """Cut the crops that lists show, and those of as many dots as there is room for."""
    if crops is None:
        return {}
    rows = job.vectors.rows
    others = np.random.default_rng(job.config.seed).permutation(rows[crops.numbers[rows] >= 0])
    wanted = [*dict.fromkeys([*first, *others.tolist()])][:MOST_CROPS]
    strips = yield from cut_strips(job, crops, wanted)
    return strips


def _about_crops(crops: Crops, strips: dict[int, str]) -> str:
    return (
        f"{crops.text}; {len(strips):,} rows have one here, shown moving along z with the same "
        "contrast for all"
    )


def _first_columns(job: Exploration, clusters: Clusters | None) -> list[Classes]:
    """Return the classes that are offered first: the labels, then the clusters."""
    table, rows = job.vectors.table, job.vectors.rows
    found = []
    if job.label_column is not None:
        labels = classes_of(job.label_column, table[job.label_column].iloc[rows])
        found += [labels] if labels is not None else []
    if clusters is not None:
        names = ("none", *(f"cluster {n}" for n in range(1, clusters.n + 1)))
        found.append(Classes(job.vectors.free_name("cluster"), names, clusters.labels))
    return found


def _verdict(run: RunFolder) -> str | None:
    """Return in words whether a training has learnt, as far as its last epoch tells."""
    epochs, status = list(epoch_events(read_metrics(run.epochs_file))), run.status()
    if not epochs or status is None:
        return None
    return does_it_learn(epochs[0], epochs[-1], status.n_validation)
