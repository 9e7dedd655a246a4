"""What is told of the project outside: addresses, versions, names of dependencies, workflows."""

import importlib.util
import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import napari_synapse_cl

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS = "https://host.example/owner/name"
OTHER_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "napari": "napari-base"}
"""On conda-forge, which has them without a Qt binding."""


@pytest.fixture(scope="module")
def metadata() -> ModuleType:
    spec = importlib.util.spec_from_file_location("metadata", ROOT / "tools" / "build_metadata.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filled_in(metadata: ModuleType, **settings: str) -> dict[str, Any]:
    given = {"repository": "", "documentation": "", **settings}
    found: dict[str, Any] = {"version": "1.2.3"}
    metadata.CustomMetadataHook(str(ROOT), given).update(found)
    return found


class TestAddresses:
    def test_while_the_owner_names_none_there_are_none(self, metadata: ModuleType) -> None:
        found = filled_in(metadata)
        assert found["urls"] == {}
        assert found["readme"]["text"] == (ROOT / "README.md").read_text(encoding="utf-8")

    def test_one_setting_makes_all_of_them(self, metadata: ModuleType) -> None:
        found = filled_in(metadata, repository=f"{ADDRESS}/", documentation="https://site.example")
        assert found["urls"] == {
            "Documentation": "https://site.example",
            "Repository": ADDRESS,
            "Issues": f"{ADDRESS}/issues",
            "Changelog": f"{ADDRESS}/blob/main/CHANGELOG.md",
        }

    def test_links_and_pictures_of_the_readme_lead_to_files_of_the_release(
        self, metadata: ModuleType
    ) -> None:
        text = filled_in(metadata, repository=ADDRESS)["readme"]["text"]
        links = re.findall(r"\]\(([^)]+)\)", text)
        assert all(link.startswith("https://") for link in links)
        own = [link.removeprefix(f"{ADDRESS}/") for link in links if link.startswith(ADDRESS)]
        assert "raw/v1.2.3/docs/images/train.png" in own
        assert "blob/v1.2.3/docs/napari.md" in own
        for place in own:
            assert (ROOT / place.split("/", 2)[2].partition("#")[0]).is_file()

    def test_a_place_in_the_page_and_an_address_stay(self, metadata: ModuleType) -> None:
        text = "[a](#try-it) [b](https://napari.org) [c](mailto:x@y.example)"
        assert metadata.with_addresses(text, ADDRESS, "main") == text

    def test_a_version_between_releases_leads_to_the_main_branch(
        self, metadata: ModuleType
    ) -> None:
        found = filled_in(metadata, repository=ADDRESS)
        hook = metadata.CustomMetadataHook(str(ROOT), {"repository": ADDRESS, "documentation": ""})
        found["version"] = "1.2.4.dev7"
        hook.update(found)
        assert f"{ADDRESS}/blob/main/docs/napari.md" in found["readme"]["text"]


def test_the_version_is_that_of_the_distribution() -> None:
    assert distribution("napari-synapse-cl").version == napari_synapse_cl.__version__
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = napari_synapse_cl.other


def test_every_dependency_has_a_lowest_version_and_stands_in_the_recipe_for_conda() -> None:
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    there = set(recipe["requirements"]["run"]) - {"python >=${{ python_min }}"}
    expected = set()
    for requirement in PROJECT["project"]["dependencies"]:
        name, lowest = requirement.split(">=")
        expected.add(f"{OTHER_NAMES.get(name, name)} >={lowest}")
    assert there == expected
    assert recipe["context"]["python_min"] == PROJECT["project"]["requires-python"][2:]
    scripts = PROJECT["project"]["scripts"]
    assert recipe["build"]["python"]["entry_points"] == [f"{k} = {v}" for k, v in scripts.items()]


def test_workflows_call_environments_of_tox_that_there_are() -> None:
    known = set(re.findall(r"^\[testenv:(.+)\]$", (ROOT / "tox.ini").read_text(), re.MULTILINE))
    called = set()
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        jobs = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values()
        # A job may be another workflow.
        assert all((ROOT / job["uses"]).is_file() for job in jobs if "uses" in job)
        commands = [s.get("run", "") for job in jobs for s in job.get("steps", [])]
        called |= {name for c in commands for name in re.findall(r"tox run -e (\S+)", c)}
    assert called == {"coverage", "newest", "lowest", "docs", "package"}
    assert called <= known


def test_the_same_versions_of_python_are_tested_and_promised() -> None:
    promised = {
        classifier.rpartition(" ")[2]
        for classifier in PROJECT["project"]["classifiers"]
        if "Python :: 3." in classifier
    }
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert set(yaml.safe_load(text)["jobs"]["tests"]["strategy"]["matrix"]["python"]) == promised
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    assert all(f"py{version.replace('.', '')}" in tox for version in promised)
