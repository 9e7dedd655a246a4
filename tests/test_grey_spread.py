"""Ranges of brightness and noise can count in the spread of the volume's own grey values."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from conftest import SMALL, Files, as_flags
from napari_synapse_cl.augmentations.composition import Drawn, draw, plain_values
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import AugmentationConfig, Config
from napari_synapse_cl.data.crops.cache import CachedCrops, fill_cache
from napari_synapse_cl.data.crops.sources import StreamedCrops
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.grey_spread import measure_spreads, spreads_of, with_grey_spread
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.errors import InputError

KEY: dict[str, Any] = {"seed": 1, "epoch": 1, "synapses": [0, 1], "view": 1}
SPREAD = {"grey_unit": "spread", "crop_size": 16}


def values(made: list[Drawn], name: str) -> list[float]:
    return [plain_values(one)[name] for one in made]


@pytest.fixture
def two_volumes(tmp_path: Path) -> Callable[..., tuple[Config, Dataset]]:
    """Two volumes of noise, the second of half the contrast, with synapses in each."""
    rng, entries = np.random.default_rng(0), []
    table = pd.DataFrame(rng.integers(8, 40, (50, 3)), columns=["z", "y", "x"])
    for name, deviation in (("a", 30), ("b", 15)):
        image = rng.normal(120, deviation, (48, 48, 48)).clip(0, 255).round().astype(np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        entries.append({"name": name, "image": f"{name}.tif", "synapses": f"{name}.csv"})
    (tmp_path / "d.json").write_text(json.dumps({"volumes": entries}))

    def opened(**settings: Any) -> tuple[Config, Dataset]:
        config = Config.from_values(
            {**SPREAD, "dataset": tmp_path / "d.json", "voxel_size": 8, **settings}
        )
        return config, open_dataset(config)

    return opened


def test_brightness_and_noise_are_multiples_of_the_spread_and_all_else_is_as_drawn() -> None:
    absolute = draw(AugmentationConfig(), **KEY)
    counted = draw(AugmentationConfig(grey_unit="spread"), **KEY, spreads=[0.1, 0.25])
    for name in ("brightness", "noise_level"):
        expected = np.array(values(absolute, name)) * [0.1, 0.25]
        assert values(counted, name) == pytest.approx(expected)
    for name in ("angles", "flips", "contrast", "blur_sigma", "noise_seed"):
        assert values(counted, name) == values(absolute, name)


def test_a_spread_that_is_not_known_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="spread of grey values, which is not given"):
        draw(AugmentationConfig(grey_unit="spread"), **KEY)


def test_it_is_measured_on_each_volume_told_and_used_for_its_synapses(
    two_volumes: Callable[..., tuple[Config, Dataset]],
) -> None:
    config, told = with_grey_spread(*two_volumes())
    assert config.grey_spread == pytest.approx((30 / 255, 15 / 255), rel=0.02)
    text, level = told.messages[-1]
    assert level == "info"
    assert f"{config.grey_spread[0]:g} and {config.grey_spread[1]:g}" in text
    of_each = spreads_of(config, told.positions, np.array([49, 50]))
    assert of_each == list(config.grey_spread)


def test_it_is_that_of_all_voxels_of_the_crops_that_were_looked_at(
    two_volumes: Callable[..., tuple[Config, Dataset]],
) -> None:
    config, dataset = two_volumes(intensity="percentiles", percentiles=(20, 80))
    wider = StreamedCrops(
        dataset.parts, dataset.positions, config, (20, 24, 22), dataset.known_voxel_size
    )
    chosen = np.linspace(50, 99, 32).astype(int)
    exact = wider.read(chosen.tolist())[:, 0, 2:18, 4:20, 3:19].astype(float).std()
    spreads = with_grey_spread(config, dataset)[0].grey_spread
    assert spreads[1] == pytest.approx(exact, rel=1e-3)


def test_crops_that_were_cut_already_spread_as_those_of_the_volumes(
    two_volumes: Callable[..., tuple[Config, Dataset]], tmp_path: Path
) -> None:
    config, dataset = two_volumes()
    wider = dataset.streamed(config, (24, 20, 18))
    list(fill_cache(wider, tmp_path / "crops", len(dataset.table)))
    cached = CachedCrops(tmp_path / "crops")
    spreads = measure_spreads(cached, config.crop_size, 2)
    assert spreads == measure_spreads(wider, config.crop_size, 2)


def test_spreads_that_are_given_are_not_measured_and_must_fit_the_volumes(
    two_volumes: Callable[..., tuple[Config, Dataset]],
) -> None:
    config, dataset = two_volumes(grey_spread=0.2)
    same, told = with_grey_spread(config, dataset)
    assert same == config
    assert told.messages[-1][0].endswith("the spread of grey values, 0.2: as the settings say")
    assert spreads_of(config, dataset.positions, np.array([0, 99])) == [0.2, 0.2]
    with pytest.raises(InputError, match="grey_spread has 3 values, and there are 2 volumes"):
        with_grey_spread(*two_volumes(grey_spread=[0.1, 0.2, 0.3]))


def test_a_volume_of_one_grey_where_the_synapses_are_is_refused(tmp_path: Path) -> None:
    image = np.zeros((48, 48, 48), np.uint8)
    image[0] = 200
    tifffile.imwrite(tmp_path / "a.tif", image)
    pd.DataFrame({"z": [30], "y": [20], "x": [20]}).to_csv(tmp_path / "a.csv", index=False)
    config = Config.from_values(
        {**SPREAD, "image": tmp_path / "a.tif", "synapses": tmp_path / "a.csv"}
    )
    with pytest.raises(InputError, match="of 1 crop that were looked at none can be used"):
        with_grey_spread(config, open_dataset(config))


def test_a_run_records_it_and_goes_on_with_it(
    sample_files: Files, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image, table = sample_files
    run = tmp_path / "run"
    named = {"image": image, "synapses": table, "output": run, "grey_unit": "spread"}
    flags = as_flags({**SMALL, **named})
    assert main([*flags, "--train_only", "--no-figures", "--num_epochs", "1"]) == 0
    (spread,) = json.loads((run / "config.json").read_text())["grey_spread"]
    assert f"the spread of grey values, {spread:g}: the standard" in capsys.readouterr().err
    more = ["--output", str(run), "--resume", "--num_epochs", "2"]
    assert main([*more, "--grey_spread", "0.5"]) == 2
    assert "grey_spread was" in capsys.readouterr().err
    assert main(more) == 0
    assert json.loads((run / "config.json").read_text())["grey_spread"] == [spread]
