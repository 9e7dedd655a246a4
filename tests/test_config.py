"""Settings: the specification's defaults, bounds and messages, and one source for all uses."""

import json
import runpy
from pathlib import Path

import pytest

from napari_synapse_cl.cli import make_config, make_parser
from napari_synapse_cl.config import SECTIONS, Config, read_settings
from napari_synapse_cl.errors import InputError

SPECIFIED = {
    "batch_size": 32,
    "num_epochs": 100,
    "learning_rate": 1e-4,
    "weight_decay": 1e-4,
    "temperature": 0.07,
    "proj_dim": 128,
    "rotation_range": 15,
    "flip_prob": 0.5,
    "noise_level": 0.05,
    "contrast_range": 0.2,
    "brightness_range": 0.2,
    "gaussian_blur_sigma": 1.0,
    "freeze_backbone": False,
    "stage_to_finetune": -1,
    "layer_num": (20,),
    "crop_size": (80, 80, 80),
}


def parse(*arguments: str) -> Config:
    options = vars(make_parser().parse_args(arguments))
    del options["events"]
    return make_config(options)


@pytest.mark.parametrize("name", SPECIFIED)
def test_defaults_are_those_of_the_specification(name: str) -> None:
    assert getattr(Config(), name) == SPECIFIED[name]


def test_every_setting_has_a_description_and_a_flag_in_both_spellings() -> None:
    actions = {a.dest: a for a in make_parser()._actions}
    for section in SECTIONS:
        for name, field in section.model_fields.items():
            assert field.description
            assert {f"--{name}", f"--{name.replace('_', '-')}"} <= set(actions[name].option_strings)
            assert field.description.split(".")[0] in (actions[name].help or "")


def test_every_number_has_bounds() -> None:
    for section in SECTIONS:
        schema = section.model_json_schema()
        for name, field in schema["properties"].items():
            if field.get("type") in ("integer", "number"):
                lower = {"minimum", "exclusiveMinimum"} & set(field)
                assert lower, f"{name} has no lower bound"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0}, "temperature cannot be 0: it must be greater than 0"),
        ({"batch_size": 1}, "batch_size cannot be 1"),
        ({"learning_rate": float("nan")}, "learning_rate cannot be nan"),
        ({"batchsize": 4}, "there is no setting called batchsize"),
        ({"stage_to_finetune": 0}, "stage_to_finetune must be -1 or a stage from 1 to 4"),
        ({"freeze_backbone": True, "stage_to_finetune": 2}, "freeze_backbone trains no stage"),
        ({"image": "a.tif"}, "synapses is missing"),
        ({"synapses": "a.csv"}, "image is missing"),
        ({"train_only": True, "extract_only": True}, "exclude each other"),
        ({"extract_only": True}, "needs a checkpoint"),
        ({"checkpoint": "a.pt"}, "pretrained"),
        ({"resume": True}, "needs the output folder"),
        ({"voxel_size": (10, 10)}, "voxel_size"),
        ({"device": "gpu"}, "device cannot be 'gpu'"),
        ({"crop_size": (80, 80)}, "crop_size"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_in_words(values: dict, message: str) -> None:
    with pytest.raises(InputError) as refused:
        Config.from_values(values)
    assert message in str(refused.value)


def test_one_number_stands_for_a_cube() -> None:
    assert Config.from_values({"crop_size": 32}).crop_size == (32, 32, 32)
    assert Config.from_values({"voxel_size": "8"}).voxel_size == (8, 8, 8)


def test_flags_read_as_the_specification_spells_them() -> None:
    config = parse(
        *"--batch_size 16 --learning-rate 0.001 --voxel_size 40 4 4 --crop_size 16 160 160".split(),
        *"--n_convolutions 2 2 2 2 --freeze_backbone --no-train_only".split(),
    )
    assert config.batch_size == 16
    assert config.learning_rate == 0.001
    assert config.voxel_size == (40, 4, 4)
    assert config.crop_size == (16, 160, 160)
    assert config.n_convolutions == (2, 2, 2, 2)
    assert config.freeze_backbone
    assert not config.train_only


def test_settings_survive_a_file_and_flags_override_it(tmp_path: Path) -> None:
    config = Config.from_values({"batch_size": 8, "output": tmp_path, "seed": 5})
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config.as_json()))
    assert Config.from_file(file) == config
    assert parse("--config", str(file), "--seed", "6") == config.model_copy(update={"seed": 6})


@pytest.mark.parametrize("content", ["", "[1]", "{", None])
def test_a_file_that_holds_no_settings_is_refused(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match="settings"):
        read_settings(file)


def test_the_documented_table_of_settings_is_up_to_date() -> None:
    root = Path(__file__).parents[1]
    page = runpy.run_path(str(root / "tools" / "settings_table.py"))["settings_page"]()
    assert (root / "docs" / "settings.md").read_text(encoding="utf-8") == page
