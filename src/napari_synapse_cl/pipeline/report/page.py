"""The page of a report: what was found, put into the template beside this module.

All of it is escaped: names of columns and cells are other people's. The page fetches nothing, and
no script runs in it but its own, whose hash its policy names.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import numpy as np

from napari_synapse_cl import __version__
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.tables.columns import as_text
from napari_synapse_cl.features.clusters import Clusters
from napari_synapse_cl.features.prediction import Accuracy, Evaluation
from napari_synapse_cl.features.vectors import VectorTable
from napari_synapse_cl.pipeline.report.crops import N_SLICES, slice_size
from napari_synapse_cl.pipeline.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart
from napari_synapse_cl.pipeline.report.dots import Classes, names_of, on_grid, short
from napari_synapse_cl.pipeline.report.origin import Fact
from napari_synapse_cl.system.files import encodable

MOST_CLASSES = 20
"""Of which F1 and a table of confusions are shown."""
MOST_CLUSTERS = 24
"""Whose crops are shown, the largest first."""


@dataclass(frozen=True)
class Map:
    """Where the N rows with vectors lie."""

    name: str
    positions: np.ndarray
    """``(N, 2)`` float32."""
    text: str
    """What it is, in words."""


@dataclass(frozen=True)
class Findings:
    """All that a report tells; rows are numbers among the N that have vectors."""

    title: str
    facts: list[Fact]
    command: str
    run: str | None
    """What the training is called that the features come from."""
    run_facts: list[Fact]
    charts: list[Chart]
    verdict: str | None
    notes: list[str]
    honesty: list[str]
    """Sentences on whether the vectors tell anything."""
    maps: list[Map]
    columns: list[Classes]
    clusters: Clusters | None
    about_clusters: list[str]
    about_odd: list[str]
    farthest: list[tuple[int, float]]
    """Rows and how far their neighbours are."""
    doubtful: list[tuple[int, float]]
    """Rows and the share of their neighbours with another label."""
    evaluation: Evaluation | None
    about_labels: list[str]
    about_crops: str
    strips: dict[int, str]
    """JPEG files in base64, by the row in the table."""
    slice_shape: tuple[int, ...]
    """Of a crop, ``(H, W)``."""


def render(vectors: VectorTable, label_column: str | None, found: Findings) -> str:
    """Return the page, as HTML.

    Parameters
    ----------
    label_column
        Whose cells stand below crops; None for none.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("napari_synapse_cl.pipeline.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sentence"] = as_sentence
    script, style = (
        files("napari_synapse_cl.pipeline.report").joinpath(name).read_text(encoding="utf-8")
        for name in ("page.js", "page.css")
    )
    items = _Items(vectors, label_column, found.strips)
    height, width = slice_size(found.slice_shape)
    page = environment.get_template("page.html").render(
        found=found,
        version=__version__,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        script=script,
        script_hash=_hash(script),
        style=style,
        data=_data(vectors, found),
        n_dots=len(vectors.rows),
        label_column=label_column,
        clusters=_clusters(found.clusters, items),
        n_more_clusters=0 if found.clusters is None else max(0, found.clusters.n - MOST_CLUSTERS),
        farthest=[items.of(number, value) for number, value in found.farthest],
        doubtful=[items.of(number, value) for number, value in found.doubtful],
        scores=_scores(found.evaluation),
        n_slices=N_SLICES,
        ratio=round(width / height, 4),
        chart={
            "width": WIDTH,
            "height": HEIGHT,
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "top": TOP,
            "bottom": HEIGHT - BOTTOM,
        },
    )
    return encodable(page)


def as_sentence(text: str) -> str:
    """Return what was told as a sentence with a capital and a full stop."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


class _Items:
    """Rows as lists show them."""

    def __init__(
        self, vectors: VectorTable, label_column: str | None, strips: dict[int, str]
    ) -> None:
        self._rows, self._table, self._strips = vectors.rows, vectors.table, strips
        self._labels = None if label_column is None else vectors.labels(label_column)

    def of(self, number: int, value: float | None = None) -> dict[str, Any]:
        """Return a row: its number in the table, place, label, crop, and a value of it."""
        row = int(self._rows[number])
        label = None if self._labels is None else self._labels[row]
        return {
            "row": row,
            "place": ", ".join(_as_place(self._table[axis].iloc[row]) for axis in AXES),
            "label": "" if label is None else short(as_text(label)),
            "strip": self._strips.get(row),
            "value": "" if value is None else f"{value:.3f}",
        }


def _as_place(value: Any) -> str:
    text = f"{value:.1f}" if isinstance(value, float | np.floating) else str(value)
    return text.removesuffix(".0")


def _clusters(found: Clusters | None, items: _Items) -> list[dict[str, Any]]:
    if found is None:
        return []
    total = len(found.labels)
    return [
        {
            "number": number,
            "n": found.counts[number],
            "share": found.counts[number] / total,
            "typical": [items.of(one) for one in found.typical[number]],
            "borderline": [items.of(one) for one in found.borderline[number]],
        }
        for number in range(1, min(found.n, MOST_CLUSTERS) + 1)
    ]


def _scores(evaluation: Evaluation | None) -> list[dict[str, Any]]:
    """Return how well labels are told, for the table, the intervals and the confusions."""
    if evaluation is None:
        return []

    def one(score: Accuracy) -> dict[str, Any]:
        classes = list(score.f1)
        return {
            "name": score.name,
            "balanced": score.balanced,
            "low": score.low,
            "high": score.high,
            "chance": 1 / len(classes),
            "accuracy": score.accuracy,
            "confidence": score.confidence,
            "f1": score.f1 if len(classes) <= MOST_CLASSES else {},
            "majority": evaluation.majority,
            "confusion": score.confusion if len(classes) <= MOST_CLASSES else [],
        }

    return [one(score) for score in evaluation.scores]


def _data(vectors: VectorTable, found: Findings) -> dict[str, Any]:
    """Return what the script of the page draws, in plain types."""
    rows = vectors.rows
    table = vectors.table.iloc[rows]
    named = names_of(table)
    places = zip(*(table[axis].tolist() for axis in AXES), strict=True)
    numbers = {int(row): number for number, row in enumerate(rows)}
    return {
        "maps": [
            {"name": one.name, "text": as_sentence(one.text), **on_grid(one.positions)}
            for one in found.maps
        ],
        "columns": [classes.as_json() for classes in found.columns],
        "rows": rows.tolist(),
        "places": [", ".join(map(_as_place, place)) for place in places],
        "names": None if named is None else {"column": named[0], "cells": named[1]},
        "strips": {str(numbers[row]): strip for row, strip in found.strips.items()},
    }
