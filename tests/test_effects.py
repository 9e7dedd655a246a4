"""Settings that change nothing under others are told."""

from pathlib import Path
from typing import Any

import pytest

from conftest import SMALL, Files, as_flags
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config, settings_without_effect
from napari_synapse_cl.config.effects import conditions_of

DATA: dict[str, Any] = {"image": "v.tif", "synapses": "s.csv"}
EXTRACT: dict[str, Any] = {**DATA, "extract_only": True, "checkpoint": "c.pt"}
EXPORT: dict[str, Any] = {"export_only": True, "checkpoint": "c.pt", "export": "pt"}
DENSE: dict[str, Any] = {"image": "v.tif", "extract_only": True, "checkpoint": "c", "dense": True}
SHARDS: dict[str, Any] = {**EXTRACT, "workers": 2}
COMPARE: dict[str, Any] = {**EXTRACT, "compare_layers": True}
BY_HAND: dict[str, Any] = {
    **DATA, "extract_only": True, "descriptors": True, "layer_num": "none"
}  # fmt: skip
EXPLORE: dict[str, Any] = {"explore": "cluster", "features": "f.csv"}
SIMILAR: dict[str, Any] = {**EXPLORE, "explore": "similar", "like": "3"}
PREDICT: dict[str, Any] = {**EXPLORE, "explore": "predict"}
OUTLIERS: dict[str, Any] = {**EXPLORE, "explore": "outliers"}
REPORT: dict[str, Any] = {"report": True, "features": "f.csv"}
ALWAYS = {
    "output", "train_only", "extract_only", "checkpoint", "network", "resume", "export_only",
    "compare_layers", "dense", "region", "explore", "report", "features",
}  # fmt: skip
"""Have an effect wherever they are not refused."""

IN_VAIN: dict[str, list[dict[str, Any]]] = {
    "momentum": [DATA, {**DATA, "objective": "dcl"}, EXTRACT],
    "queue_size": [DATA, {**DATA, "objective": "byol"}],
    "temperature": [{**DATA, "objective": "byol"}],
    "percentiles": [DATA, {**DATA, "intensity": "crop"}],
    "fmaps": [{**DATA, "pretrained": "p.pt"}, EXTRACT],
    "n_convolutions": [{**DATA, "pretrained": "p.pt"}],
    "downsampling": [{**DATA, "pretrained": "p.pt"}],
    "backbone_lr_factor": [{**DATA, "freeze_backbone": True}],
    "best_metric": [{**DATA, "validation_fraction": 0}],
    "keep_margin": [DATA],
    "keep_nearest": [DATA],
    "background": [DATA],
    "background_alpha": [DATA],
    "labels": [DATA, {}],
    "segmentation": [DATA],
    "roles": [DATA],
    "voxel_size": [{}, EXPORT],
    "position_unit": [{}, DENSE],
    "position_columns": [{}],
    "position_voxel_size": [{}, {**DATA, "position_unit": "nm"}],
    "pooling": [{**DATA, "train_only": True}, BY_HAND],
    "descriptors": [{**DATA, "train_only": True}, COMPARE, DENSE],
    "averaging": [{**DATA, "train_only": True}, EXPORT, BY_HAND],
    "feature_format": [{**DATA, "pooling": "none"}, DENSE, SHARDS],
    "keep_partial": [{**DATA, "train_only": True}, COMPARE, SHARDS],
    "layer_num": [{**DATA, "train_only": True}, EXPORT],
    "label_column": [{**DATA, "train_only": True, "validation_fraction": 0}, DENSE],
    "export": [EXTRACT],
    "tensorboard": [EXTRACT],
    "figures": [DENSE, EXPORT, SHARDS],
    "overwrite": [DATA],
    "cache_dir": [EXTRACT],
    "cache_limit": [DENSE],
    "grey_unit": [{**DATA, "brightness_range": 0, "noise_level": 0}],
    "grey_spread": [DATA],
    "section_blur_sigma": [DATA],
    "slip_range": [DATA],
    "cutout_size": [DATA],
    "cutout_kinds": [DATA],
    "rotation_range": [{**DATA, "uniform_rotation": True}, EXPLORE],
    "vectors": [DATA, {**PREDICT, "classifier": "c.npz"}],
    "distance": [DATA, PREDICT],
    "like": [DATA, EXPLORE],
    "n_similar": [OUTLIERS],
    "n_clusters": [SIMILAR, {**EXPLORE, "clustering": "hdbscan"}],
    "most_clusters": [OUTLIERS, {**EXPLORE, "n_clusters": 3}],
    "min_cluster_size": [EXPLORE],
    "n_neighbors": [DATA, PREDICT],
    "probe": [EXPLORE, {**PREDICT, "classifier": "c.npz"}],
    "reject_below": [OUTLIERS, REPORT],
    "classifier": [SIMILAR],
    "device": [EXPLORE],
    "umap": [DATA, EXPLORE],
    "n_components": [{**DATA, "pooling": "none"}, COMPARE, EXPLORE],
    "shard_size": [DATA, EXTRACT],
    "one_file": [EXTRACT],
}
IN_EXTRACTION = ("ModelConfig", "TrainingConfig", "AugmentationConfig")

OTHER: dict[str, Any] = {
    "image": "other.tif", "synapses": Path("t.csv"), "voxel_size": (4, 4, 4),
    "position_columns": ("a", "b", "c"), "position_unit": "nm", "position_voxel_size": (5, 5, 5),
    "labels": "l.tif", "segmentation": "g.tif", "roles": ("cleft=1",), "keep": "cleft",
    "dataset": Path("d.json"), "crops": Path("crops"), "cache_dir": Path("cache"),
    "crop_size": (32, 32, 32), "network_voxel_size": (8, 8, 8), "borders": "constant",
    "intensity": "crop", "percentiles": (1, 99), "downsampling": "anisotropic",
    "n_convolutions": (2, 2), "pretrained": "p.pt", "objective": "byol", "stage_to_finetune": 1,
    "best_metric": "retrieval", "device": "cpu", "precision": "float32",
    "activation_checkpointing": "on", "layer_num": (3,), "pooling": "max", "averaging": "flips",
    "feature_format": "npz", "label_column": "class", "cell_column": "body",
    "export": ("pt",), "flip_prob": 0.25, "grey_unit": "spread", "grey_spread": (0.1,),
    "cutout_kinds": ("corner",), "vectors": ("hand",), "distance": "euclidean",
    "like": ("1",), "unlike": ("2",), "clustering": "mixture", "probe": "logistic",
    "classifier": Path("c.npz"), "scheduler": "tcp://node:8786", "shard": "1/4",
}  # fmt: skip


def another(name: str) -> Any:
    """A value of the setting that is not its default."""
    default = Config.model_fields[name].default
    if isinstance(default, bool):
        return not default
    return (
        OTHER[name]
        if name in OTHER
        else (default + 1 if type(default) is int else default / 2 or 0.5)
    )


def told(name: str, base: dict[str, Any]) -> list[str]:
    config = Config.model_construct(**{**Config.from_values(base).__dict__, name: another(name)})
    return [text for text in settings_without_effect(config) if name in text.split(" no effect")[0]]


@pytest.mark.parametrize("name", Config.model_fields)
def test_every_setting_says_when_it_has_an_effect(name: str) -> None:
    assert bool(conditions_of(name)) == (name not in ALWAYS)


@pytest.mark.parametrize("name", [name for name in Config.model_fields if name not in ALWAYS])
def test_every_setting_that_can_be_in_vain_is_told_somewhere(name: str) -> None:
    bases = [*IN_VAIN.get(name, []), {**EXTRACT}, {**EXPORT}, {**DENSE}, {**COMPARE}]
    assert any(told(name, base) for base in bases)


@pytest.mark.parametrize(
    ("name", "base"), [(n, base) for n, all in IN_VAIN.items() for base in all]
)
def test_a_setting_in_vain_is_told(name: str, base: dict[str, Any]) -> None:
    assert len(told(name, base)) == 1


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("momentum", {"objective": "moco"}), ("queue_size", {"objective": "moco"}),
        ("momentum", {"objective": "byol"}), ("percentiles", {"intensity": "percentiles"}),
        ("background", {"borders": "constant"}), ("keep_margin", {"keep": "cleft"}),
        ("percentiles", {"extract_only": True, "checkpoint": "c"}), ("seed", {}),
        ("overwrite", {"export": "pt"}),
        ("layer_num", {"export": "onnx", "train_only": True}), ("batch_size", {}), ("figures", {}),
        ("layer_num", {"export": "bioimageio", "train_only": True}),
        ("n_components", BY_HAND), ("descriptors", {}),
        ("label_column", {"train_only": True}), ("position_unit", {}), ("best_metric", {}),
    ],
)  # fmt: skip
def test_a_setting_that_does_something_is_not(name: str, more: dict[str, Any]) -> None:
    # What is left to a checkpoint may be what the setting needs.
    config = Config.from_values({**DATA, **more, name: another(name)})
    assert settings_without_effect(config) == []


@pytest.mark.parametrize(
    ("name", "base"),
    [
        *((name, EXPLORE) for name in ("n_clusters", "clustering", "seed", "feature_format")),
        *((name, SIMILAR) for name in ("unlike", "n_similar", "distance", "vectors", "overwrite")),
        *((name, PREDICT) for name in ("label_column", "probe", "reject_below", "classifier")),
        ("n_neighbors", OUTLIERS), ("label_column", OUTLIERS),
        ("min_cluster_size", {**EXPLORE, "clustering": "hdbscan"}),
        *((n, REPORT) for n in ("n_clusters", "distance", "n_neighbors", "probe", "umap", "seed")),
        *((n, REPORT) for n in ("label_column", "vectors", "overwrite", "image", "crop_size")),
        ("voxel_size", {**REPORT, "image": "v.tif"}), ("invert", {**REPORT, "image": "v.tif"}),
    ],
)  # fmt: skip
def test_a_setting_of_an_exploration_that_does_something_is_not(
    name: str, base: dict[str, Any]
) -> None:
    assert settings_without_effect(Config.from_values({**base, name: another(name)})) == []


def test_defaults_are_told_only_where_they_were_given() -> None:
    assert settings_without_effect(Config()) == []
    text = settings_without_effect(Config(), ["momentum", "queue_size", "seed"])
    assert text == ["momentum and queue_size have no effect with objective nt_xent"]


def test_the_command_line_warns_once_at_the_start(
    sample_files: Files, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image, table = sample_files
    named = {"image": image, "synapses": table, "output": tmp_path / "run"}
    flags = as_flags({**SMALL, **named})
    assert (
        main([*flags, "--train_only", "--no-figures", "--momentum", "0.99", "--num-epochs", "1"])
        == 0
    )
    lines = capsys.readouterr().err.splitlines()
    assert "Warning: momentum has no effect with objective nt_xent" in lines[:4]
    assert sum("no effect with objective" in line for line in lines) == 1
    assert "Warning: --num_epochs is given 2 times, and the last one counts" in lines[:4]
