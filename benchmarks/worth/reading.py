"""Features of the positions, made by the command line; and principal components of their voxels."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from positions import AXES, LARGE, VOXEL_NM
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA

from napari_synapse_cl.cli import main as synapse_cl

LAYERS = (20, 30, 32, 33)
COMPONENTS = 48
KEPT = "kept"
"""Folder of the networks of single epochs, in that of their run."""
HAND_SETS = {
    "histogram": r"hand_hist_\d+",
    "centre histogram": r"hand_centre_hist_\d+",
    "texture": r"hand_(?!hist_|centre_hist_).*",
    "hand-made": r"hand_.*",
}
"""Which columns of the descriptors are which baseline."""

SCALES = (1.0, 2.0, 4.0)
AROUND = 4.0
"""Voxels: standard deviations under which gradients are taken, and over which they are averaged."""

Sets = dict[str, np.ndarray]
"""``(N, C)`` features by their name."""


def run(*flags: object) -> None:
    """Run the command line, and end with it where it fails."""
    code = synapse_cl([str(flag) for flag in flags])
    if code:
        raise SystemExit(code)


def run_and_keep(run: Path, epochs: Collection[int], *flags: object) -> None:
    """Run a training on the command line, and keep its network as it is after some epochs."""
    command = [sys.executable, "-m", "napari_synapse_cl", *map(str, flags), "--events", "jsonl"]
    epoch = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        for event in map(json.loads, process.stdout):
            if event["event"] == "EpochDone":
                epoch = event["epoch"]
            elif event["event"] == "CheckpointSaved" and epoch in epochs:
                # The next one replaces the file by its name, so what is copied stays whole.
                kept = kept_epoch(run, epoch)
                kept.parent.mkdir(exist_ok=True)
                shutil.copyfile(run / "checkpoints" / "last.pt", kept)
    if process.returncode:
        raise SystemExit(process.returncode)


def kept_epoch(run: Path, epoch: int) -> Path:
    """Return where the network of an epoch is kept."""
    return run / KEPT / f"{epoch}.pt"


def hand_made(work: Path, crop: int) -> Sets:
    """Return the baselines that no network is needed for, from descriptors extracted once."""
    kept = work / "hand.npz"
    if not kept.exists():
        _extract(work, kept, "--descriptors", "--layer_num", "none", "--crop_size", crop)
    names, values = _read(kept)
    return {
        name: values[:, [bool(re.fullmatch(pattern, column)) for column in names]]
        for name, pattern in HAND_SETS.items()
    }


def layers(work: Path, checkpoint: Path, crop: int, *flags: object) -> Sets:
    """Return the features of each layer of a network, all read in one pass.

    Parameters
    ----------
    work
        Folder of what was prepared.
    checkpoint
        File of a network, or folder of a run.
    crop
        Side of the crops in voxels.
    *flags
        Further ones of the command line; ``--layer_num`` is the layers unless it is among them.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npz"
        chosen = () if "--layer_num" in flags else ("--layer_num", *LAYERS)
        _extract(work, file, "--checkpoint", checkpoint, "--crop_size", crop, *chosen, *flags)
        names, values = _read(file)
    of = np.array([name.partition("_")[0] for name in names])
    return {layer: values[:, of == layer] for layer in dict.fromkeys(of.tolist())}


def voxels(work: Path, crop: int) -> Sets:
    """Return the leading principal components of crops' voxels, those of training crops."""
    volumes = json.loads((work / "dataset.json").read_text())["volumes"]
    images = {entry["name"]: tifffile.imread(entry["image"]) for entry in volumes}
    training = _cut(images[LARGE], pd.read_csv(work / "training.csv"), crop)
    n = min(COMPONENTS, len(training))
    components = PCA(n, svd_solver="randomized", random_state=0).fit(training)
    parts = [
        components.transform(_cut(images[name], pd.read_csv(work / f"{name}.csv"), crop))
        for name in images
    ]
    return {"voxels": np.concatenate(parts)}


def along_axes(work: Path) -> Sets:
    """Return how large a share of the gradient is along each axis, at three scales.

    No other baseline knows directions: this one says that they can be told at all.
    """
    volumes = json.loads((work / "dataset.json").read_text())["volumes"]
    parts = []
    for entry in volumes:
        image = tifffile.imread(entry["image"]).astype(np.float32)
        z, y, x = pd.read_csv(work / entry["synapses"])[AXES].to_numpy().T
        shares = []
        for scale in SCALES:
            slopes = np.gradient(gaussian_filter(image, scale))
            squares = np.stack([gaussian_filter(s**2, AROUND)[z, y, x] for s in slopes], axis=1)
            shares.append(squares / squares.sum(axis=1, keepdims=True))
        parts.append(np.concatenate(shares, axis=1))
    return {"gradient along axes": np.concatenate(parts)}


def _cut(image: np.ndarray, table: pd.DataFrame, crop: int) -> np.ndarray:
    """Return crops as ``(N, crop³)`` float32 in [0, 1], mirrored beyond the faces of the volume."""
    half = crop // 2
    padded = np.pad(image, half, mode="symmetric")
    return np.stack(
        [
            padded[z : z + crop, y : y + crop, x : x + crop].ravel() / np.float32(255)
            for z, y, x in table[AXES].to_numpy().tolist()
        ]
    )


def _extract(work: Path, target: Path, *flags: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(
            *("--extract_only", "--dataset", work / "dataset.json", "--voxel_size", VOXEL_NM),
            *("--feature_format", "npz", "--n_components", 0, "--no-figures"),
            *("--output", Path(folder) / "out", *flags),
        )
        [file] = (Path(folder) / "out").glob("features_*.npz")
        target.write_bytes(file.read_bytes())


def _read(file: Path) -> tuple[list[str], np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        names, values = arrays["feature_names"].tolist(), arrays["features"]
    missing = ~np.isfinite(values).all(axis=1)
    if missing.any():
        raise SystemExit(f"{missing.sum()} positions have no features: the measures need all")
    return names, values
