"""Pictures that a run leaves behind."""

import re
import textwrap
import warnings
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from napari_synapse_cl.features.layer_report import Report
from napari_synapse_cl.system.files import encodable, replacing
from napari_synapse_cl.system.words import counted

SCORES = {
    "recall": ("recall of the other view", "#0072b2", "o"),
    "knn": ("accuracy, neighbours", "#d55e00", "s"),
    "linear": ("accuracy, linear probe", "#00795a", "D"),
    "effective_rank": ("effective rank", "#a8487f", "^"),
}
"""Label, colour and marker of each score of a layer; the colours are told apart by colour-blind
people too (Okabe and Ito)."""
MOST_NUMBERS = 20
"""Layers that have room for a number each below the axis."""
LONGEST_LINE = 110
"""Characters of a line below a title."""
LONGEST_LABELS = 60
"""Characters that a title has room for."""


# Names of classes, and of whatever else people have, are no formulas.
as_written = rc_context({"text.parse_math": False})


@as_written
def draw_loss(steps: dict[str, np.ndarray], epochs: dict[str, np.ndarray], path: Path) -> None:
    """Draw the training loss per step and the validation loss per epoch.

    Parameters
    ----------
    steps, epochs
        Columns of ``steps.csv`` and ``epochs.csv``.
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss", title="Contrastive training")
    if steps:
        axes.plot(steps["step"], steps["loss"], color="0.7", linewidth=0.8, label="training, step")
    if epochs:
        axes.plot(epochs["step"], epochs["training_loss"], ".-", label="training, epoch mean")
        if np.isfinite(epochs["validation_loss"]).any():
            axes.plot(epochs["step"], epochs["validation_loss"], ".-", label="validation")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)
    _save(figure, path)


@as_written
def draw_feature_map(
    components: np.ndarray, labels: np.ndarray | None, title: str, path: Path
) -> None:
    """Draw synapses as points in two dimensions, coloured by label.

    Parameters
    ----------
    components
        ``(N, 2)``.
    labels
        ``(N,)`` strings, empty where there is none, or None for points of one colour.
    title
        Above the picture.
    """
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axes = figure.add_subplot(
        xlabel="principal component 1", ylabel="principal component 2", title=encodable(title)
    )
    groups = [("synapses", np.ones(len(components), bool))]
    if labels is not None:
        groups = [(str(label) or "no label", labels == label) for label in np.unique(labels)]
    for name, chosen in groups:
        x, y = components[chosen].T
        # Matplotlib leaves out what begins with an underscore.
        label = encodable(f" {name}" if name.startswith("_") else name)
        axes.scatter(x, y, s=18, alpha=0.8, linewidths=0, label=label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    _save(figure, path)


@as_written
def draw_layer_report(report: Report, path: Path) -> None:
    """Draw the scores of each layer, beside those of what they have to beat and chance."""
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    shares, ranks = figure.subplots(2, height_ratios=(3, 1), sharex=True)
    best = report.layers.index(report.best_score)
    for axes in (shares, ranks):
        axes.axvspan(best - 0.4, best + 0.4, color="0.9", linewidth=0)
        axes.spines[["top", "right"]].set_visible(False)
    names = [name for name in ("recall", "knn", "linear") if _draw_score(shares, name, report)]
    for i, name in enumerate(names):
        _draw_interval(shares, best + 0.16 * (i - (len(names) - 1) / 2), name, report)
    _draw_score(ranks, "effective_rank", report)
    _draw_chance(shares, report)
    _mark_stages(shares, ranks, report)
    shares.set(ylim=(-0.02, 1.02), ylabel="recall, balanced accuracy" if names[1:] else "recall")
    ranks.set(ylabel="effective rank", xlabel="layer")
    ranks.set_ylim(bottom=0)
    # A few layers stand in the middle instead of far apart.
    middle, reach = (len(report.layers) - 1) / 2, max(len(report.layers), 6) / 2 + 0.1
    ranks.set_xlim(middle - reach, middle + reach)
    step = -(-len(report.layers) // MOST_NUMBERS)
    ranks.set_xticks(
        range(0, len(report.layers), step), [str(s.layer) for s in report.layers[::step]]
    )
    figure.align_ylabels()
    figure.suptitle(encodable(_report_title(report)), fontsize="medium")
    _explain(figure, shares, report)
    _save(figure, path)


def _draw_score(axes: Any, name: str, report: Report) -> bool:
    """Draw a score of the layers and, dashed, what to beat; return whether there is any."""
    label, color, marker = SCORES[name]
    values = np.array([getattr(score, name) for score in report.layers], float)
    if np.isnan(values).all():
        return False
    axes.plot(values, f"{marker}-", color=color, markersize=5, label=label)
    baseline = report.to_beat(name)
    if baseline is not None:
        axes.axhline(baseline, color=color, linestyle="--", linewidth=1, zorder=1)
    return True


def _draw_interval(axes: Any, x: float, name: str, report: Report) -> None:
    value = getattr(report.best_score, name)
    if value is not None:
        interval = report.recall_interval if name == "recall" else report.accuracy_interval
        below, above = interval(value)
        axes.vlines(x, below, above, color=SCORES[name][1], linewidth=3, alpha=0.4, zorder=1)


def _draw_chance(axes: Any, report: Report) -> None:
    axes.axhline(report.recall_chance, color=SCORES["recall"][1], linestyle=":", linewidth=1)
    if report.accuracy_chance is not None:
        axes.axhline(report.accuracy_chance, color="0.4", linestyle=":", linewidth=1)


def _mark_stages(shares: Any, ranks: Any, report: Report) -> None:
    """Draw lines between the stages of the network and name them, where the layers' names do."""
    found = [re.search(r"stage \d+", score.name) for score in report.layers]
    end = 0
    for stage, layers in groupby(match.group() if match else "" for match in found):
        start, end = end, end + len(list(layers))
        if start > 0:
            for axes in (shares, ranks):
                axes.axvline(start - 0.5, color="0.8", linewidth=0.8, zorder=0)
        shares.annotate(
            stage,
            ((start + end - 1) / 2, 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            color="0.4",
            fontsize="small",
        )


def _report_title(report: Report) -> str:
    text = counted(report.n_synapses, "synapse")
    if report.n_slabs is not None:
        labels = ", ".join(f"{n} {label}" for label, n in report.label_counts.items())
        if len(labels) > LONGEST_LABELS:
            labels = f"{sum(report.label_counts.values())} of {len(report.label_counts)} classes"
        text += f": {labels}"
    verdict = textwrap.fill("".join(report.verdict[:1]), LONGEST_LINE)
    verdict = f"{verdict[:1].upper()}{verdict[1:]}"
    return "\n".join([f"Best layer: {report.best_score.name}", text, verdict])


def _explain(figure: Figure, axes: Any, report: Report) -> None:
    """Put what lines and colours mean below the axes."""
    handles, labels = axes.get_legend_handles_labels()
    # The one that recall has to beat, unless it is the strongest of all.
    beaten = ((SCORES["recall"][1], report.baseline), ("0.4", report.strongest))
    lines = {score.name: (color, "--") for color, score in beaten if score is not None}
    for label, (color, style) in {**lines, "chance": ("0.4", ":")}.items():
        handles.append(Line2D([], [], color=color, linestyle=style, linewidth=1))
        labels.append(label)
    handles.append(Patch(color="0.9", linewidth=0))
    labels.append("best layer, 95 % intervals")
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary, warnings.catch_warnings():
        # The box that stands for a sign no font has says so by itself.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(temporary, dpi=150)
