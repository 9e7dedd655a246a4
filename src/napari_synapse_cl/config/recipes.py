"""Recipes: settings that go together, in files of the package.

A recipe says what to train for and how, never on which data or where to. Of its settings each can
be changed: flags and files of settings come before it, and it comes before the defaults.
"""

import json
from importlib.resources import files
from typing import Any

from napari_synapse_cl.config.flat import ABOUT, Config
from napari_synapse_cl.errors import InputError

_FOLDER = files("napari_synapse_cl.config") / "recipes"

RECIPES: tuple[str, ...] = ("specification", "tissue", "quick")
"""Their names, in the order in which they are offered; each has a file of its own."""


def read_recipe(name: str) -> dict[str, Any]:
    """Return the settings of a recipe, by name; those that it does not name have their defaults.

    Raises
    ------
    InputError
        If there is no such recipe.
    """
    content = _content(name)
    content.pop(ABOUT)
    return content


def about_recipe(name: str) -> str:
    """Say in a sentence or two what a recipe is for."""
    return str(_content(name)[ABOUT])


def recipe_settings() -> list[str]:
    """Return the names of all settings that some recipe says, in their order."""
    named = {name for recipe in RECIPES for name in read_recipe(recipe)}
    return [name for name in Config.model_fields if name in named]


def _content(name: str) -> dict[str, Any]:
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name}; there are {', '.join(RECIPES)}")
    content: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content
