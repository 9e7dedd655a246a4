"""The network that comes with the program, named without a path."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from conftest import Files, as_flags
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config, read_recipe
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.checkpoints import load_backbone
from napari_synapse_cl.models.vgg3d import Vgg3D, to_network_range
from napari_synapse_cl.pipeline import answers
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.system.downloads import is_cached, local_file, packaged

NAME = "fibsem-10nm"
LOCATION = f"package://{NAME}"


def test_it_is_there_and_says_what_it_was_trained_on() -> None:
    assert packaged() == [NAME]
    assert is_cached(LOCATION)
    found = load_backbone(local_file(LOCATION))
    assert found.architecture.fmaps == (12, 24, 48, 96)
    assert found.crop_size == (32, 32, 32)
    assert found.voxel_size == (10, 10, 10)


def test_what_lies_beside_it_is_what_a_process_with_pytorch_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers.main("network", LOCATION, "trained")
    beside = local_file(LOCATION).with_suffix(".json")
    assert json.loads(beside.read_text()) == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("setting", ["pretrained", "checkpoint"])
def test_its_name_is_told_from_a_path_and_kept(setting: str, tmp_path: Path) -> None:
    more = {"extract_only": True} if setting == "checkpoint" else {}
    config = Config.from_values({setting: NAME, **more})
    assert getattr(config, setting) == LOCATION
    assert config.as_json()[setting] == LOCATION
    assert Config.from_values(config.as_json()) == config
    here = Config.from_values({setting: f"./{NAME}", **more})
    assert here.as_json()[setting] == str(Path(NAME).absolute())


def test_other_locations_keep_the_name() -> None:
    config = Config.from_values({"image": NAME, "synapses": "t.csv"})
    assert config.image == NAME


def test_another_name_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=f"no network fibsem-8nm comes .*there is {NAME}"):
        local_file("package://fibsem-8nm")
    assert main(["--pretrained", "package://fibsem-8nm", "--train_only"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_features_are_extracted_with_it_at_its_voxel_size(
    sample_files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, table = sample_files
    named = {"image": image, "synapses": table, "voxel_size": 8, "output": tmp_path / "out"}
    flags = as_flags({**named, "checkpoint": NAME, "layer_num": 32, "device": "cpu"})
    assert main(["--extract_only", "--no-figures", *flags]) == 0
    features = pd.read_csv(tmp_path / "out" / "features_L32_mean.csv")
    assert features.filter(regex=r"L32_mean_\d+").shape == (12, 96)
    record = json.loads((tmp_path / "out" / "features_L32_mean.json").read_text())
    assert record["checkpoint"] == LOCATION
    assert "from voxels of 8 × 8 × 8 nm to 10 × 10 × 10 nm" in capsys.readouterr().err


def test_the_quick_recipe_starts_from_it(flags: list[str], tmp_path: Path) -> None:
    assert read_recipe("quick")["pretrained"] == NAME
    more = ["--recipe", "quick", "--voxel_size", "8", "--num_steps", "2", "--train_only"]
    assert main([*flags, "--crop_size", "32", "--batch_size", "4", *more]) == 0
    started = json.loads((tmp_path / "run" / "config.json").read_text())
    assert started["pretrained"] == LOCATION
    assert np.isfinite(read_metrics(tmp_path / "run" / "steps.csv")["loss"]).all()


def test_it_tells_classes_of_tissue_that_it_has_not_seen_better_than_random_weights(
    medulla: Path,
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    image = tifffile.imread(medulla / "training_sample1.tif")
    sites = pd.read_csv(medulla / "training_sample1_sites.csv")
    draw = np.random.default_rng(0)
    places = sites[["z", "y", "x"]].to_numpy() + draw.integers(-6, 7, (len(sites), 3))
    inside = ((places >= 16) & (places <= np.array(image.shape) - 16)).all(axis=1)
    places, labels = places[inside], sites["class"].to_numpy()[inside]
    crops = np.stack(
        [image[z - 16 : z + 16, y - 16 : y + 16, x - 16 : x + 16] for z, y, x in places]
    )
    views = to_network_range(torch.from_numpy(crops.astype(np.float32) / 255)[:, None])
    trained = load_backbone(local_file(LOCATION))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random = Vgg3D.from_architecture(trained.architecture)
    slabs = np.digitize(places[:, 2], np.quantile(places[:, 2], [0.25, 0.5, 0.75]))
    accuracy: dict[str, Any] = {}
    for name, network in {"trained": trained.network, "random": random}.items():
        network.eval()
        with torch.inference_mode():
            features = network.features[:33](views).mean(dim=(2, 3, 4)).numpy()
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
        )
        guesses = cross_val_predict(
            probe,
            features,
            labels,
            groups=slabs,
            cv=[(np.flatnonzero(slabs != s), np.flatnonzero(slabs == s)) for s in range(4)],
        )
        accuracy[name] = balanced_accuracy_score(labels, guesses)
    assert accuracy["trained"] > accuracy["random"] + 0.05
