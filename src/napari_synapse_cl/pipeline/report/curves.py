"""The curves of a training, as a page draws them: lines in pixels, ticks, and numbers in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.health import chance_of_retrieval
from napari_synapse_cl.runs.metrics import Rows, read_metrics

WIDTH, HEIGHT = 440, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 8, 26
"""Of a chart, in pixels, and around what is drawn."""
MOST_POINTS = 300
"""Of a line; the means of neighbouring ones are drawn of more."""


@dataclass(frozen=True)
class Line:
    """A curve."""

    label: str
    points: str
    """As SVG writes them."""
    style: str
    """Which of the page's styles it is drawn in."""


@dataclass(frozen=True)
class Chart:
    """Curves over the steps of a training."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    """Where they are, in pixels, and what stands there."""
    summary: str
    """What the curves show, for who cannot see them."""


def charts_of(run: RunFolder) -> list[Chart]:
    """Return the charts of a training; none where it left no numbers behind."""
    return list(_charts(run))


def _charts(run: RunFolder) -> Iterator[Chart]:
    steps, epochs, status = read_metrics(run.steps_file), read_metrics(run.epochs_file), None
    status = run.status()
    losses = [
        _series("training, each step", steps, "loss", "faint"),
        _series("training, mean of an epoch", epochs, "training_loss", "first"),
        _series("held out", epochs, "validation_loss", "second"),
    ]
    chance = None if status is None else status.chance_loss
    yield from _chart("Loss", losses, chance)
    n = 0 if status is None else status.n_validation
    share = chance_of_retrieval(n) if n else None
    found = [_series("held out", epochs, "retrieval", "first")]
    yield from _chart("Held-out synapses found again (share)", found, share)
    ranks = [
        _series("features", epochs, "feature_rank", "first"),
        _series("embeddings", epochs, "effective_rank", "second"),
    ]
    yield from _chart("Effective rank", ranks, None)
    labels = [_series("nearest neighbours", epochs, "knn_accuracy", "first")]
    yield from _chart("Labels of held-out synapses told by their neighbours (share)", labels, None)


Series = tuple[str, np.ndarray, np.ndarray, str]


def _series(label: str, rows: Rows, name: str, style: str) -> Series:
    if name not in rows:
        return label, np.empty(0), np.empty(0), style
    is_known = np.isfinite(rows[name])
    return label, rows["step"][is_known], rows[name][is_known], style


def _chart(title: str, several: Sequence[Series], chance: float | None) -> Iterator[Chart]:
    from matplotlib.ticker import MaxNLocator

    several = [one for one in several if len(one[1])]
    if not several:
        return
    words = [_in_words(label, y) for label, _, y, _ in several]
    ends = np.array([(x.min(), x.max()) for _, x, _, _ in several])
    first, last = float(ends.min()), float(ends.max())
    if chance is not None:
        several = [*several, ("by chance", np.array([first, last]), np.full(2, chance), "chance")]
        words.append(f"by chance {chance:.3g}")
    values = np.concatenate([_thinned(y) for _, _, y, _ in several])
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * ((high - low) or abs(high) or 1.0)
    x_range, y_range = (first, max(last, first + 1)), (low - margin, high + margin)

    def across(x: np.ndarray) -> np.ndarray:
        share = (x - x_range[0]) / (x_range[1] - x_range[0])
        return np.asarray(LEFT + share * (WIDTH - LEFT - RIGHT))

    def down(y: np.ndarray) -> np.ndarray:
        share = (y - y_range[0]) / (y_range[1] - y_range[0])
        return np.asarray(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM))

    def ticks(bounds: tuple[float, float], n: int, whole: bool) -> np.ndarray:
        found = np.asarray(MaxNLocator(n, integer=whole).tick_values(*bounds))
        return found[(found >= bounds[0]) & (found <= bounds[1])]

    xs, ys = ticks(x_range, 5, True), ticks(y_range, 5, False)
    yield Chart(
        title=title,
        lines=tuple(
            Line(label, _points(across(_thinned(x)), down(_thinned(y))), style)
            for label, x, y, style in several
        ),
        x_ticks=tuple((float(at), f"{x:,.0f}") for at, x in zip(across(xs), xs, strict=True)),
        y_ticks=tuple((float(at), f"{y:.4g}") for at, y in zip(down(ys), ys, strict=True)),
        summary="; ".join(words),
    )


def _thinned(values: np.ndarray) -> np.ndarray:
    """Return no more values than are drawn: means of neighbours."""
    if len(values) <= MOST_POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, MOST_POINTS)])


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _in_words(label: str, values: np.ndarray) -> str:
    text = f"{label}: {values[0]:.3g} at first, {values[-1]:.3g} at last"
    return f"{text}, between {values.min():.3g} and {values.max():.3g}"
