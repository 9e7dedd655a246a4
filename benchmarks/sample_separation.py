"""How much better fine-tuned features separate the sample's classes than an untrained network's.

    python benchmarks/sample_separation.py [--seeds 3] [--config tools/demo.json] [flags …]

For each seed of the training: balanced accuracy of the 5 nearest neighbours, each slab of the
volume predicted from the others, for an intensity histogram of the crop, for the layer's features
of the untrained network and for those of the trained one; and the validation loss after the first
and the last epoch.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
import torch

from napari_synapse_cl.augmentations.resampling import centre_crop
from napari_synapse_cl.cli import make_config, make_parser
from napari_synapse_cl.features.analysis import balanced_accuracy, histogram_features
from napari_synapse_cl.features.extraction import extract_features
from napari_synapse_cl.features.readout import Readout
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.pipeline.training_preparation import TrainingJob, prepare_training
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.metrics import read_metrics


def untrained_features(job: TrainingJob) -> np.ndarray:
    [layer] = job.config.layer_num
    readout = Readout(
        job.model.backbone,
        job.model.architecture,
        [layer],
        job.config.crop_size,
        pooling=job.config.pooling,
        device=job.device,
        precision=job.plan.precision,
    )
    batches = [batch.result for batch in extract_features(readout, job.source)]
    return np.concatenate([found[layer] for found in batches if found is not None])


def crop_histograms(job: TrainingJob) -> np.ndarray:
    crops = torch.from_numpy(job.source.read(range(len(job.source))))
    return histogram_features(centre_crop(crops, job.config.crop_size).numpy())


def measure(flags: list[str], seed: int, folder: Path) -> dict[str, float]:
    options = vars(make_parser().parse_args([*flags, "--seed", str(seed), "--output", str(folder)]))
    del options["events"]
    config = make_config(options)
    job = prepare_training(config)
    labels = job.dataset.table["class"].to_numpy(str)
    positions = job.dataset.positions.voxels
    before = untrained_features(job)
    for _ in run(config):
        pass
    table = pd.read_csv(RunFolder(folder).features_file(config))
    after = table.filter(regex=r"^L\d+_\w+_\d{3}$").to_numpy()
    losses = read_metrics(folder / "epochs.csv")["validation_loss"]
    return {
        "histogram": balanced_accuracy(crop_histograms(job), labels, positions),
        "untrained": balanced_accuracy(before, labels, positions),
        "trained": balanced_accuracy(after, labels, positions),
        "first loss": losses[0],
        "last loss": losses[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options, flags = parser.parse_known_args()
    if "--config" not in flags:
        flags = ["--config", str(Path(__file__).parents[1] / "tools" / "demo.json"), *flags]
    rows = []
    with tempfile.TemporaryDirectory() as parent:
        for seed in range(options.seeds):
            rows.append(measure(flags, seed, Path(parent) / str(seed)))
            if seed == 0:
                print("seed  " + "  ".join(f"{name:>10}" for name in rows[0]))
            print(f"{seed:4}  " + "  ".join(f"{v:10.3f}" for v in rows[-1].values()), flush=True)
    means = [mean(row[name] for row in rows) for name in rows[0]]
    print("mean  " + "  ".join(f"{value:10.3f}" for value in means))


if __name__ == "__main__":
    sys.exit(main())
