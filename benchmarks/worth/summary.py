"""What predictions are worth: each measure with its interval, and its distance to a baseline."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bootstrap import auc, balanced_accuracy, block_weights, interval, r_squared
from geometry import DIRECTIONS, TARGETS
from positions import LARGE

from napari_synapse_cl.system.files import replacing, write_json

BASELINE = "hand-made"
MEASURES = ("classes", "within", "carried", "geometry", "same cell", "orientation")
MONITORED = ("classes", "geometry", "same cell")
"""What a measure without labels should go with."""
DETAILS = ("knn", "linear", *TARGETS)
"""What is averaged: in the JSON file, and in the table with ``--details``."""


@dataclass(frozen=True)
class Row:
    """One set of features, of one network or several seeds of it.

    Attributes
    ----------
    name
        Of the network or baseline, and of what is read of it.
    seeds
        How many networks are averaged.
    values
        By measure, ``(1 + R,)``: what it is, then what it is on each resample.
    spread
        By measure, from the lowest to the highest seed; 0 of one.
    """

    name: str
    seeds: int
    values: dict[str, np.ndarray]
    spread: dict[str, float]


def save(
    work: Path,
    name: str,
    seed: int,
    predictions: dict[str, dict[str, np.ndarray]],
    about: dict[str, Any],
) -> None:
    """Keep the predictions of all sets of one network, and what it is."""
    target = results_file(work, name, seed)
    target.parent.mkdir(exist_ok=True)
    arrays = {f"{s}|{k}": v for s, values in predictions.items() for k, v in values.items()}
    with replacing(target.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    write_json(target, {"name": name, "seed": seed, "sets": list(predictions), **about})


def stem(name: str) -> str:
    """Return a row's name as that of files."""
    return name.replace(" ", "_").replace("/", "_")


def results_file(work: Path, name: str, seed: int) -> Path:
    """Return where what is known of a network is kept, beside its predictions (``.npz``)."""
    return work / "results" / f"{stem(name)}-{seed}.json"


def read_positions(work: Path) -> pd.DataFrame:
    """Return what is true at each position; the class is empty where none is known."""
    return pd.read_csv(work / "positions.csv").fillna({"class": ""})


def rows(work: Path) -> list[Row]:
    """Return a row a set of features of all that was measured; seeds of one name are averaged."""
    positions = read_positions(work)
    pairs = pd.read_csv(work / "pairs.csv")
    blocks = positions["block"].to_numpy()
    weights = block_weights(blocks, positions["volume"].to_numpy())
    found: dict[str, list[dict[str, np.ndarray]]] = defaultdict(list)
    for file in sorted((work / "results").glob("*.json"), key=_age):
        about = json.loads(file.read_text())
        with np.load(file.with_suffix(".npz"), allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        for name in about["sets"]:
            own = {k.partition("|")[2]: v for k, v in arrays.items() if k.startswith(f"{name}|")}
            title = name if about["name"] == "baselines" else f"{about['name']} {name}"
            found[title].append(statistics(own, positions, pairs, weights))
    return [_averaged(name, several) for name, several in found.items()]


def networks(work: Path) -> pd.DataFrame:
    """Return what needs no label, and what a layer is worth, a row a network and single layer."""
    positions = read_positions(work)
    pairs = pd.read_csv(work / "pairs.csv")
    once = np.ones((1, positions["block"].max() + 1))
    found = {}
    for file in sorted((work / "results").glob("*.json"), key=_age):
        about = json.loads(file.read_text())
        with np.load(file.with_suffix(".npz"), allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        for layer, told in about.get("unlabelled", {}).items():
            own = {k.partition("|")[2]: v for k, v in arrays.items() if k.startswith(f"{layer}|")}
            values = statistics(own, positions, pairs, once)
            worth = {measure: float(values[measure][0]) for measure in MONITORED}
            found[f"{about['name']} {about['seed']} {layer}"] = {**told, **worth}
    return pd.DataFrame.from_dict(found, orient="index")


def statistics(
    predicted: dict[str, np.ndarray],
    positions: pd.DataFrame,
    pairs: pd.DataFrame,
    weights: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return every measure, ``(1 + R,)`` each.

    ``within`` and ``carried`` are means of kNN and the linear probe, in the large volume and over
    the two others; ``classes`` is the mean over the three volumes, ``geometry`` and ``orientation``
    are means of the R² of their targets, and ``same cell`` is an AUC.
    """
    blocks, volumes = positions["block"].to_numpy(), positions["volume"].to_numpy()
    labels = positions["class"].to_numpy(str)
    accuracies: dict[tuple[str, str], np.ndarray] = {}
    for volume in dict.fromkeys(volumes.tolist()):
        some = (volumes == volume) & (labels != "")
        for probe in ("knn", "linear"):
            right = predicted[probe][some]
            accuracies[volume, probe] = balanced_accuracy(
                labels[some], right, blocks[some], weights
            )
    found = {
        probe: _mean([v for (_, name), v in accuracies.items() if name == probe])
        for probe in ("knn", "linear")
    }
    for name in (*TARGETS, *DIRECTIONS):
        true = positions[name].to_numpy()
        known = np.isfinite(predicted[name])
        found[name] = r_squared(true[known], predicted[name][known], blocks[known], weights)
    same = pairs["same"].to_numpy(bool)
    found["same cell"] = auc(same, predicted["pairs"], blocks[pairs["first"]], weights)
    found["classes"] = _mean(list(accuracies.values()))
    found["within"] = _mean([v for (volume, _), v in accuracies.items() if volume == LARGE])
    found["carried"] = _mean([v for (volume, _), v in accuracies.items() if volume != LARGE])
    found["geometry"] = _mean([found[name] for name in TARGETS])
    found["orientation"] = _mean([found[name] for name in DIRECTIONS])
    return found


def lines(
    found: list[Row], measures: tuple[str, ...] = MEASURES, against: str = BASELINE
) -> list[str]:
    """Return the table: each measure, half its interval, and the difference to one of the rows.

    A difference whose interval leaves out 0 has a star.
    """
    base = next((row for row in found if row.name == against), None)
    width = max(len(row.name) for row in found) + 4
    text = ["".join([f"{'':{width}}", *(f"{measure:>24}" for measure in measures)])]
    for row in found:
        cells = []
        for measure in measures:
            values = row.values[measure]
            low, high = interval(values)
            cell = f"{values[0]:.3f} ±{(high - low) / 2:.3f}"
            if base is not None and row is not base:
                difference = values - base.values[measure]
                low, high = interval(difference)
                cell += f" {difference[0]:+.3f}{'*' if low > 0 or high < 0 else ' '}"
            else:
                cell += " " * 8
            cells.append(f"{cell:>24}")
        name = f"{row.name} ×{row.seeds}" if row.seeds > 1 else row.name
        text.append("".join([f"{name:{width}}", *cells]))
    return text


def as_json(found: list[Row]) -> list[dict[str, Any]]:
    """Return every measure of every row with its interval, and that of the difference."""
    base = next((row for row in found if row.name == BASELINE), None)
    content = []
    for row in found:
        measures = {}
        for measure, values in row.values.items():
            told = {"value": float(values[0]), "interval": interval(values)}
            if base is not None:
                difference = values - base.values[measure]
                told |= {"difference": float(difference[0])}
                told |= {"difference_interval": interval(difference)}
            measures[measure] = {**told, "spread_of_seeds": row.spread[measure]}
        content.append({"name": row.name, "seeds": row.seeds, "measures": measures})
    return content


def _averaged(name: str, several: list[dict[str, np.ndarray]]) -> Row:
    first = [{measure: float(values[0]) for measure, values in one.items()} for one in several]
    spread = {m: max(f[m] for f in first) - min(f[m] for f in first) for m in first[0]}
    values = {measure: _mean([one[measure] for one in several]) for measure in several[0]}
    return Row(name, len(several), values, spread)


def _mean(values: list[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean(values, axis=0))


def _age(file: Path) -> tuple[bool, float]:
    """Baselines come first, then what was measured in its order."""
    return not file.name.startswith("baselines"), file.stat().st_mtime
