"""Train on real tissue: all sites of a FIB-SEM volume and as many random positions again.

    python benchmarks/fine_tuning.py FOLDER --output RUN [--epochs 12] [further flags of synapse-cl]

FOLDER holds ``validation_z000-259.tif``, FIB-SEM of the *Drosophila* medulla at 10 nm (lower half
of the 520³ sample of janelia-flyem/neuroproof_examples), and ``validation_z000-259_sites.csv`` with
columns z, y, x and class. The classes are derived by a detector of dark blobs and screened by eye;
they only judge what was learnt, by nearest neighbours in each epoch. Shown are the metrics of each
epoch; the loss curve is ``loss.png`` in the run folder.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from napari_synapse_cl.cli import main as synapse_cl

VOLUME = "validation_z000-259"
SHAPE = (260, 520, 520)
N_RANDOM = 300
MARGIN = 24
"""Distance of random positions from the faces, in voxels."""
SETTINGS = {
    "voxel_size": 10,
    "crop_size": 32,
    "fmaps": 12,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "temperature": 0.2,
    "label_column": "class",
}


def positions(sites: Path) -> pd.DataFrame:
    """Return the sites, and random positions under the class "random"."""
    table = pd.read_csv(sites)[["z", "y", "x", "class"]]
    inner = np.array(SHAPE) - MARGIN
    random = np.random.default_rng(0).integers(MARGIN, inner, (N_RANDOM, 3))
    others = pd.DataFrame(random, columns=["z", "y", "x"]).assign(**{"class": "random"})
    return pd.concat([table, others], ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    options, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        table, config = Path(folder) / "positions.csv", Path(folder) / "settings.json"
        positions(options.folder / f"{VOLUME}_sites.csv").to_csv(table, index=False)
        image = str(options.folder / f"{VOLUME}.tif")
        named = {"image": image, "synapses": str(table), "num_epochs": options.epochs}
        config.write_text(json.dumps({**SETTINGS, **named}))
        arguments = ["--config", str(config), "--output", str(options.output), *more]
        if synapse_cl(arguments):
            sys.exit(1)
    epochs = pd.read_csv(options.output / "epochs.csv")
    print(epochs.drop(columns="step").round(3).to_string(index=False))


if __name__ == "__main__":
    main()
