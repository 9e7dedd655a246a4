"""A run that version 0.1 made before its modules were moved: it opens, goes on and is read."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_synapse_cl.cli import main
from napari_synapse_cl.runs.events import Control, Finished, Started
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.following import MetricsRead, follow

KEPT = Path(__file__).parent / "data" / "run_of_0.1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder with the run, its volume and its table, at a place of their own."""
    here = tmp_path / "kept"
    shutil.copytree(KEPT, here)
    for file in (here / "run").glob("*.json"):
        file.write_text(file.read_text().replace("@HERE@", here.as_posix()))
    return here


def test_it_can_be_looked_at(old: Path) -> None:
    events = list(follow(RunFolder(old / "run"), Control()))
    assert isinstance(events[0], Started)
    assert events[0].total_steps == 4
    read = [event for event in events if isinstance(event, MetricsRead)]
    assert np.concatenate([r.steps["loss"] for r in read]).size == 4
    assert isinstance(events[-1], Finished)
    assert events[-1].outcome == "completed"


def test_training_goes_on_from_its_checkpoint(old: Path) -> None:
    run = str(old / "run")
    main(["--config", f"{run}/config.json", "--output", run, "--resume", "--num_epochs", "3"])
    assert pd.read_csv(old / "run" / "epochs.csv").epoch.tolist() == [1, 2, 3]


def test_its_network_puts_out_the_same_features(old: Path, tmp_path: Path) -> None:
    before = pd.read_csv(old / "run" / "features_L3_mean.csv")
    main(
        f"--extract_only --checkpoint {old}/run --layer_num 3 --crop_size 8 --voxel_size 10 10 10 "
        f"--image {old}/volume.npy --synapses {old}/synapses.csv --device cpu "
        f"--precision float32 --output {tmp_path}/features".split()
    )
    after = pd.read_csv(tmp_path / "features" / "features_L3_mean.csv")
    pd.testing.assert_frame_equal(after, before, rtol=1e-5, atol=1e-5)
