"""Recipes: settings that go together, by name."""

import json
import re
import shlex
from pathlib import Path

import pytest

from conftest import as_flags
from napari_synapse_cl.cli import main, make_config, make_parser
from napari_synapse_cl.config import (
    RECIPES,
    Config,
    about_recipe,
    presets,
    read_recipe,
    recipe_settings,
)
from napari_synapse_cl.errors import InputError

READING = {"layer_num", "averaging"}
"""What a recipe says of reading a network, and not of training it."""


@pytest.mark.parametrize("name", RECIPES)
def test_each_can_be_used_and_says_what_it_is_for(name: str) -> None:
    assert Config.from_values(read_recipe(name))
    assert about_recipe(name).endswith(".")


def test_that_of_the_specification_is_the_defaults() -> None:
    assert Config.from_values(read_recipe("specification")) == Config()


def test_the_window_offers_four() -> None:
    assert list(presets().values()) == ["Quick look", "Normal", "Thorough", "As specified"]


def test_none_says_on_what_or_where() -> None:
    places = {"image", "synapses", "output", "crops", "voxel_size", "device"}
    assert not places & set(recipe_settings())
    for name in RECIPES:
        assert set(read_recipe(name)) <= {*recipe_settings(), *READING}


def test_there_is_no_other() -> None:
    with pytest.raises(InputError, match="there is no recipe tissues; there are quick, normal"):
        read_recipe("tissues")


class TestOnTheCommandLine:
    def options(self, *flags: str) -> dict[str, object]:
        options = vars(make_parser().parse_args(flags))
        options.pop("events")
        return options

    def test_flags_come_before_files_before_the_recipe_before_defaults(
        self, tmp_path: Path
    ) -> None:
        recipe = Config.from_values(read_recipe("tissue"))
        assert recipe.temperature != Config().temperature
        file = tmp_path / "settings.json"
        file.write_text(json.dumps({"temperature": 0.3, "contrast_range": 0.4}))
        flags = ["--recipe", "tissue", "--config", str(file), "--temperature", "0.5"]
        found = make_config(self.options(*flags))
        assert (found.temperature, found.contrast_range) == (0.5, 0.4)
        assert found.learning_rate == recipe.learning_rate
        assert found.batch_size == Config().batch_size

    def test_a_run_writes_down_what_it_says_and_is_not_told_of_what_it_does_not_use(
        self, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        more = {"recipe": "tissue", "num_epochs": 1, "voxel_size": 8}
        assert main([*flags, "--train_only", *as_flags(more)]) == 0
        written = json.loads((tmp_path / "run" / "config.json").read_text())
        plain = Config.from_values(read_recipe("tissue")).as_json()
        for name in {*read_recipe("tissue")} - READING:
            assert written[name] == plain[name], name
        assert "no effect" not in capsys.readouterr().err
        assert written["layer_num"] == list(Config().layer_num)
        extracting = self.options("--recipe", "tissue", "--extract_only", "--checkpoint", "x.pt")
        found = make_config(extracting)
        assert (found.layer_num, found.averaging) == ((20, 30, 32, 33), "flips")
        # A map is read as it is.
        options = extracting | self.options("--dense")
        assert make_config(options).averaging == "none"

    def test_a_run_of_so_many_steps_writes_down_its_epochs_and_goes_on(
        self, flags: list[str], tmp_path: Path
    ) -> None:
        steps = ["--num_steps", "5", "--epoch_steps", "2", "--train_only"]
        assert main([*flags, *steps]) == 0
        config = Config.from_file(tmp_path / "run" / "config.json")
        # In whole epochs of two steps.
        assert (config.num_epochs, config.num_steps, config.epoch_steps) == (3, 0, 2)
        metrics = tmp_path / "run" / "steps.csv"
        assert len(metrics.read_text().splitlines()) == 1 + 6
        more = ["--resume", "--output", str(tmp_path / "run"), "--num_epochs", "4"]
        assert main(more) == 0
        assert len(metrics.read_text().splitlines()) == 1 + 8

    def test_a_run_that_goes_on_is_given_none(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["--resume", "--output", str(tmp_path), "--recipe", "tissue"]) == 2
        assert "keeps its own settings: leave --recipe out" in capsys.readouterr().err


def test_the_commands_on_the_page_of_choices_are_taken() -> None:
    page = (Path(__file__).parents[1] / "docs" / "choosing.md").read_text(encoding="utf-8")
    commands = re.findall(r"```bash\nsynapse-cl (.*?)```", page, re.DOTALL)
    assert len(commands) == 3
    for command in commands:
        options = vars(make_parser().parse_args(shlex.split(command.replace("\\\n", " "))))
        del options["events"]
        assert make_config(options).extract_only == ("--extract_only" in command)
