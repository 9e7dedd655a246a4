"""All settings of one run, where they are read from, and recipes of them."""

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, field_serializer, model_validator

from napari_synapse_cl.config.data_sections import AugmentationConfig, CropConfig, DataConfig
from napari_synapse_cl.config.fields import Section, absolute
from napari_synapse_cl.config.sections import (
    ExploreConfig,
    ExtractionConfig,
    ModelConfig,
    RunConfig,
    ShardsConfig,
)
from napari_synapse_cl.config.training_sections import DeviceConfig, TrainingConfig
from napari_synapse_cl.errors import InputError, SettingError, reason
from napari_synapse_cl.system.files import read_json
from napari_synapse_cl.system.words import shown


class Config(
    DataConfig,
    CropConfig,
    AugmentationConfig,
    ModelConfig,
    TrainingConfig,
    DeviceConfig,
    ExtractionConfig,
    ShardsConfig,
    ExploreConfig,
    RunConfig,
):
    """All settings of one run."""

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        self._check_data()
        if self.train_only and self.extract_only:
            raise ValueError("train_only and extract_only exclude each other")
        self._check_extraction()
        self._check_export()
        self._check_exploring()
        if self.resume and (self.output is None or self.extract_only or self.export_only):
            raise ValueError("resume needs the output folder of a training")
        if self.freeze_backbone and self.stage_to_finetune != -1:
            raise ValueError("freeze_backbone trains no stage, so stage_to_finetune must be -1")
        if self.freeze_backbone and self.unfreezing_fraction:
            raise ValueError("freeze_backbone trains no stage, so unfreezing_fraction must be 0")
        if self.stage_to_finetune == 0 or self.stage_to_finetune > len(self.n_convolutions):
            raise ValueError(
                f"stage_to_finetune must be -1 or a stage from 1 to {len(self.n_convolutions)}, "
                f"not {self.stage_to_finetune}"
            )
        if any(not 1 <= n <= 16 for n in self.n_convolutions):
            raise ValueError("n_convolutions: each stage has 1 to 16 convolutions")
        return self

    def _check_data(self) -> None:
        if self.image is not None and self.crops is not None:
            raise ValueError("image and crops exclude each other")
        if self.position_columns is not None and len(self.position_columns) == 2:
            raise ValueError("position_columns are three, for z, y and x, or one for all")
        if self.position_columns and len(set(self.position_columns)) < len(self.position_columns):
            raise ValueError("position_columns are different columns")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError("percentiles must rise and lie between 0 and 100")
        if self.dataset is not None:
            self._check_dataset()
            return
        if self.dense and (self.crops is not None or self.synapses is not None):
            raise ValueError("dense works on the image alone: leave crops and synapses out")
        # The positions of a report are those of the feature table.
        if self.dense or self.report:
            return
        source = "image" if self.crops is None else "crops"
        if (getattr(self, source) is None) != (self.synapses is None):
            missing = "synapses" if self.synapses is None else source
            raise ValueError(f"{source} and synapses belong together: {missing} is missing")

    def _check_dataset(self) -> None:
        for name in ("image", "synapses", "crops", "labels", "segmentation"):
            if getattr(self, name) is not None:
                raise ValueError(f"dataset names the volumes: leave {name} out")
        if self.dense:
            raise ValueError("dense works on one image: name it in place of a dataset")

    def _check_extraction(self) -> None:
        reading = self.extract_only or self.export_only
        is_by_hand = self.extract_only and self.descriptors and not self.layer_num
        if reading and self.checkpoint is None and not is_by_hand:
            name = "extract_only" if self.extract_only else "export_only"
            raise ValueError(f"{name} needs a checkpoint")
        if self.checkpoint is not None and not reading:
            raise ValueError(
                "checkpoint is for extract_only and export_only; to start a training from a file "
                "name it as pretrained"
            )
        for name in ("dense", "compare_layers"):
            if getattr(self, name) and not self.extract_only:
                raise ValueError(f"{name} needs extract_only and a checkpoint")
        if self.network != "trained" and not reading:
            raise ValueError(
                "network is for extract_only and export_only: it chooses among those of a run"
            )
        if self.dense and self.compare_layers:
            raise ValueError("dense and compare_layers exclude each other")
        if self.dense and self.pooling != "mean":
            raise ValueError("pooling is for synapses: leave it out with dense")
        if self.dense and self.intensity in ("crop", "z-score"):
            raise ValueError(
                f"intensity {self.intensity} is for synapses: with dense choose range or "
                "percentiles"
            )
        if self.region is not None and not self.dense:
            raise ValueError("region is for dense: it says where the map is extracted")
        if self.compare_layers and self.pooling == "none":
            raise ValueError("compare_layers compares vectors: choose another pooling than none")
        self._check_layers()

    def _check_exploring(self) -> None:
        if self.explore is None and not self.report:
            if self.features is not None:
                kinds = "cluster, similar, predict or outliers"
                raise ValueError(f"features is for explore: say whether to {kinds}, or to report")
            return
        if self.explore is not None and self.report:
            raise ValueError("explore and report exclude each other")
        job, where, others = "explore", "a feature table alone", ["image", "dataset"]
        if self.report:
            job, where = "report", "a feature table, and on an image or a dataset for its crops"
            others = ["synapses", "crops"]
        for name in ("train_only", "extract_only", "export_only", "resume", *others):
            if getattr(self, name):
                raise ValueError(f"{job} works on {where}: leave {name} out")
        if self.features is None:
            raise ValueError(f"{job} needs a feature table: name it as features")
        if self.explore == "similar" and not self.like:
            raise ValueError("explore similar needs rows to compare with: name them as like")

    def _check_layers(self) -> None:
        needs_layers = next((n for n in ("dense", "compare_layers") if getattr(self, n)), None)
        if "onnx" in self.export:
            needs_layers = "export onnx"
        if not self.layer_num and needs_layers:
            raise ValueError(f"{needs_layers} needs layers: name them as layer_num")
        if not self.layer_num and not self.descriptors:
            raise ValueError("layer_num can be none with descriptors alone: name a layer")
        if self.descriptors and self.layer_num and self.pooling == "none":
            raise ValueError(
                "descriptors are columns beside vectors: choose another pooling than none, or "
                "layer_num none"
            )

    def _check_export(self) -> None:
        if not self.export_only:
            return
        if self.train_only or self.extract_only:
            other = "train_only" if self.train_only else "extract_only"
            raise ValueError(f"export_only and {other} exclude each other")
        if not self.export:
            raise ValueError("export_only needs a format: name it with export")

    @field_serializer(
        "synapses", "dataset", "crops", "cache_dir", "features", "classifier", "output"
    )
    def _absolute_path(self, path: Path | None) -> str | None:
        return None if path is None else str(path.absolute())

    @field_serializer("image", "labels", "segmentation", "pretrained", "checkpoint")
    def _absolute_location(self, location: str | None) -> str | None:
        return None if location is None else absolute(location)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """Make a configuration from plain values, as flags, forms and files give them.

        Raises
        ------
        InputError
            If a setting is unknown or out of bounds, with its name, value and bounds.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            # One value can be wrong in several ways that read the same.
            problems = dict.fromkeys(_in_words(problem) for problem in error.errors())
            raise SettingError("; ".join(problems), _names_in(error)) from None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a configuration that :meth:`as_json` wrote; see :func:`read_settings`."""
        return cls.from_values(read_settings(path))

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON types, with absolute paths."""
        return self.model_dump(mode="json")


SECTIONS: tuple[type[Section], ...] = tuple(
    base for base in Config.__bases__ if issubclass(base, Section)
)
"""The sections of :class:`Config`, in the order in which people meet them."""

ABOUT = "about"
"""Beside the settings in the ``config.json`` of a run: what else decides it, and is no setting."""
TITLE = "title"
"""Beside the settings of a recipe: what the window calls it."""


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings named in a JSON file, unchecked, without what a run tells beside them.

    Raises
    ------
    InputError
        If there is no such file, or it does not hold a JSON object.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise InputError(f"cannot read the settings in {path}: {reason(error)}") from None
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file of settings: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON file of settings: it holds no object")
    content.pop(ABOUT, None)
    return content


def possible_value(name: str, value: Any) -> Any:
    """Return a value as the setting holds it, whatever the other settings are.

    Raises
    ------
    InputError
        If there is no such setting, or it cannot have this value.
    """
    section = next((section for section in SECTIONS if name in section.model_fields), Section)
    try:
        return getattr(section.model_validate({name: value}), name)
    except ValidationError as error:
        raise SettingError(_in_words(error.errors()[0]), [name]) from None


def _names_in(error: ValidationError) -> list[str]:
    """Return the settings that an error is about; those at odds are named in its message."""
    found = []
    for problem in error.errors():
        words = [str(problem["loc"][0])] if problem["loc"] else re.findall(r"\w+", problem["msg"])
        found += [word for word in words if word in Config.model_fields]
    return found


def _in_words(problem: Any) -> str:
    """Say in one clause what is wrong with a setting."""
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return f"there is no setting called {name}"
    return f"{name} cannot be {shown(problem['input'])}: {_demand(problem, message)}"


_DEMANDS = {
    "greater_than": "it must be greater than {gt}",
    "greater_than_equal": "it must be at least {ge}",
    "less_than": "it must be less than {lt}",
    "less_than_equal": "it must be at most {le}",
    "literal_error": "it must be {expected}",
    "missing": "there are too few values",
    "too_short": "there are too few values",
    "too_long": "there are too many values",
    "string_too_short": "it must not be empty",
    "string_pattern_mismatch": "it must be one that is named in its description",
}
"""What pydantic demands of a value, in our words, by the kind of its error."""


def _demand(problem: Any, message: str) -> str:
    """Say what a value of a setting must be."""
    kind = problem["type"]
    if kind in _DEMANDS:
        return _DEMANDS[kind].format(**problem.get("ctx", {}))
    if kind.startswith("int_"):
        return "it must be a whole number"
    if kind.startswith(("float_", "finite_")):
        return "it must be a number"
    return (message[0].lower() + message[1:]).replace("input should be", "it must be")


_FOLDER = files("napari_synapse_cl.config") / "recipes"

RECIPES: tuple[str, ...] = ("quick", "normal", "thorough", "tissue", "specification")
"""Their names, in the order in which they are offered; each has a file of its own."""
_OF_PLACE_OR_LUCK = {"cell_column", "seed", "grey_spread"}
"""Settings of the sections below that say what is trained on, or are drawn."""


def read_recipe(name: str) -> dict[str, Any]:
    """Return the settings of a recipe, by name; those that it does not name have their defaults.

    Raises
    ------
    InputError
        If there is no such recipe.
    """
    return {key: value for key, value in _content(name).items() if key not in (ABOUT, TITLE)}


def about_recipe(name: str) -> str:
    """Say in a sentence or two what a recipe is for."""
    return str(_content(name)[ABOUT])


def presets() -> dict[str, str]:
    """Return what the window calls the recipes that it offers, by their names."""
    return {name: content[TITLE] for name in RECIPES if TITLE in (content := _content(name))}


def recipe_settings() -> list[str]:
    """Return the names of the settings that decide how is learnt, in their order.

    Recipes say no others, but for which layers are read after it.
    """
    sections = (AugmentationConfig, ModelConfig, TrainingConfig)
    deciding = {"crop_size", *(name for s in sections for name in s.model_fields)}
    return [name for name in Config.model_fields if name in deciding - _OF_PLACE_OR_LUCK]


@cache
def recipe_values(name: str) -> dict[str, Any]:
    """Return the values of all :func:`recipe_settings` under a recipe."""
    config = Config.from_values(read_recipe(name))
    return {setting: getattr(config, setting) for setting in recipe_settings()}


@cache
def _content(name: str) -> dict[str, Any]:
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name}; there are {', '.join(RECIPES)}")
    content: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content
