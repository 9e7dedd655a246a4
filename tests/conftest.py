"""What the tests share: small crops, networks and the FIB-SEM volumes for development."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from napari_synapse_cl.data.sample import Sample, make_sample

# On tensors this small, threads take longer to agree than to compute.
torch.set_num_threads(1)

SMALL = {
    "crop_size": 16,
    "fmaps": 2,
    "proj_hidden_dim": 16,
    "proj_dim": 8,
    "batch_size": 4,
    "num_epochs": 2,
    "device": "cpu",
    "precision": "float32",
}
"""Settings of a training that takes a second."""


def as_flags(settings: dict[str, object]) -> list[str]:
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


@pytest.fixture(scope="session")
def sample() -> Sample:
    return make_sample(seed=0, shape=(96, 128, 128), n_synapses=12)


@pytest.fixture(scope="session")
def sample_files(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A volume and its table of synapses on the disk."""
    folder = tmp_path_factory.mktemp("sample")
    image, table = folder / "volume.npy", folder / "synapses.csv"
    np.save(image, sample.image)
    sample.synapses.to_csv(table, index=False)
    return image, table


@pytest.fixture(scope="session")
def medulla() -> Path:
    """The folder of FIB-SEM volumes that the project is developed on, but does not ship."""
    variable = "SYNAPSE_CL_TEST_DATA"
    if variable not in os.environ:
        pytest.skip(f"{variable} does not name the folder of the FIB-SEM volumes")
    folder = Path(os.environ[variable])
    assert folder.is_dir(), f"{variable} names {folder}, which is no folder"
    return folder


@pytest.fixture
def positions_table() -> pd.DataFrame:
    return pd.DataFrame({"z": [5, 6], "y": [5, 7], "x": [5, 8], "note": ["a", "b"]})
