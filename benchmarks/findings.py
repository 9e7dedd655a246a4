"""What is found among features of sample volumes that nothing was chosen on.

    python benchmarks/findings.py [--seeds 101 102 …] [--work FOLDER] [flags of the training …]

For each seed a sample volume is drawn, and a network is trained on it with ``--recipe quick``. Of
its layer 32, of the network that it starts from, of one with random weights, of hand-made texture
features and of the intensity histogram alone: the adjusted Rand index of two k-means clusters and
the two classes; the balanced accuracy of what a classifier says that is taught 5 labels of each
class, over 20 draws; and the share of the 10 most similar synapses that have the same class. At
the end the means over the seeds, and 95 % intervals of what the trained network is above each.
What is in FOLDER already is not made again.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from scipy.stats import t
from sklearn.metrics import adjusted_rand_score, balanced_accuracy_score

from napari_synapse_cl.cli import main as synapse_cl
from napari_synapse_cl.data.sample.volume import make_sample
from napari_synapse_cl.features.classifiers import teach
from napari_synapse_cl.features.clusters import find_clusters
from napari_synapse_cl.features.neighbours import Space, find_neighbours, finished
from napari_synapse_cl.features.vectors import Scaling, open_vectors

N_LABELS, N_DRAWS, N_NEAREST = 5, 20, 10
LAYER = ("--layer_num", "32")
MEASURES = ("clusters", "few labels", "similar ones")


def job(*arguments: object) -> None:
    if synapse_cl([str(argument) for argument in arguments]):
        raise SystemExit("a job failed")


def tables(folder: Path, seed: int, flags: list[str]) -> dict[str, Path]:
    """Return the feature table of each network, made where it is not there yet."""
    volume, synapses = folder / "volume.npy", folder / "synapses.csv"
    if not synapses.exists():
        folder.mkdir(parents=True, exist_ok=True)
        sample = make_sample(seed)
        np.save(volume, sample.image)
        sample.synapses.to_csv(synapses, index=False)
    data = ("--image", volume, "--synapses", synapses, "--voxel_size", 10)
    runs: dict[str, tuple[object, ...]] = {
        "trained": ("--recipe", "quick", *flags),
        "random weights": ("--recipe", "tissue", "--crop_size", 32, "--num_steps", 1),
    }
    found = {}
    for name, more in runs.items():
        run = folder / name
        if not (run / "checkpoints" / "best.pt").exists():
            job(*data, *more, "--train_only", "--no-figures", "--output", run)
    sources = {
        "trained": ("--checkpoint", folder / "trained", "--descriptors"),
        "as it came": ("--checkpoint", folder / "trained", "--network", "start"),
        "random weights": ("--checkpoint", folder / "random weights", "--network", "start"),
    }
    for name, source in sources.items():
        output = folder / f"features of {name}"
        if not list(output.glob("features_*.csv")):
            job(*data, "--extract_only", *source, *LAYER, "--no-figures", "--output", output)
        [found[name]] = output.glob("features_*.csv")
    return found


def measure(values: np.ndarray, labels: np.ndarray) -> tuple[float, ...]:
    """Return the three measures of ``(N, C)`` vectors."""
    scaled = Scaling.of(values, [values.shape[1]]).apply(values)
    clusters = finished(find_clusters(scaled, "kmeans", 2)).labels
    classes, numbers = np.unique(labels, return_inverse=True)
    rng = np.random.default_rng(0)
    right = []
    for _ in range(N_DRAWS):
        taught = np.concatenate(
            [rng.choice(np.flatnonzero(labels == one), N_LABELS, replace=False) for one in classes]
        )
        rest = np.setdiff1d(np.arange(len(labels)), taught)
        classifier = teach(values[taught], labels[taught], [values.shape[1]])
        told = np.asarray(classifier.classes)[classifier.probabilities(values[rest]).argmax(axis=1)]
        right.append(balanced_accuracy_score(labels[rest], told))
    nearest = finished(find_neighbours(Space(scaled), N_NEAREST)).numbers
    same = numbers[nearest] == numbers[:, None]
    return adjusted_rand_score(numbers, clusters), mean(right), float(same.mean())


def of_seed(folder: Path, seed: int, flags: list[str]) -> dict[str, tuple[float, ...]]:
    """Return the measures of each set of features on one sample."""
    found = {}
    for name, path in tables(folder, seed, flags).items():
        vectors = open_vectors(path, ["L32_mean"], descriptors=name == "trained")
        labels = vectors.labels("class").astype(str)
        found[name] = measure(vectors.values, labels)
        if name == "trained":
            found["hand-made"] = measure(vectors.by_hand, labels)
            found["histogram"] = measure(vectors.histogram, labels)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(101, 106)))
    parser.add_argument("--work", type=Path)
    options, flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        rows = {}
        for seed in options.seeds:
            rows[seed] = of_seed(work / str(seed), seed, flags)
            for name, values in rows[seed].items():
                print(f"{seed}  {name:15}" + "".join(f"{x:8.3f}" for x in values), flush=True)
    print("\n| features | " + " | ".join(MEASURES) + " |\n| --- |" + " ---: |" * len(MEASURES))
    several = len(rows) > 1
    for name in next(iter(rows.values())):
        cells = []
        for i in range(len(MEASURES)):
            text = f"{mean(row[name][i] for row in rows.values()):.2f}"
            above = [row["trained"][i] - row[name][i] for row in rows.values()]
            if several and name != "trained":
                half = t.ppf(0.975, len(above) - 1) * stdev(above) / len(above) ** 0.5
                text += f" (trained {mean(above):+.2f} ± {half:.2f})"
            cells.append(text)
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
