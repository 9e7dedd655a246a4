"""What is built and installed holds the manifest, and the manifest holds."""

import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from npe2 import PluginManifest

ROOT = Path(__file__).parents[1]
MANIFEST = "napari_synapse_cl/napari.yaml"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_the_wheel_holds_the_manifest_and_its_entry_point(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert MANIFEST in archive.namelist()
        assert "napari_synapse_cl/networks/fibsem-10nm.safetensors" in archive.namelist()
        assert "napari_synapse_cl/networks/fibsem-10nm.json" in archive.namelist()
        assert "napari_synapse_cl/config/recipes/tissue.json" in archive.namelist()
        for name in ("page.html", "page.css", "page.js"):
            assert f"napari_synapse_cl/pipeline/report/{name}" in archive.namelist()
        [entry_points] = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        text = archive.read(entry_points).decode()
    assert "napari-synapse-cl = napari_synapse_cl:napari.yaml" in text
    assert "synapse-cl = napari_synapse_cl.cli:run" in text


def test_the_sdist_holds_the_manifest_tests_and_docs(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{MANIFEST}", "napari.yaml", "tests/test_package.py", "docs/index.md"} <= names


def test_the_installed_manifest_is_valid_and_offers_what_the_menus_show() -> None:
    manifest = PluginManifest.from_distribution("napari-synapse-cl")
    manifest.validate_imports()
    contributions = manifest.contributions
    assert [widget.display_name for widget in contributions.widgets or []] == [
        "Open data",
        "Train contrastive",
        "Augmentation preview",
        "Extract features",
        "Explore features",
        "Runs",
    ]
    assert contributions.sample_data


def test_the_top_level_manifest_is_the_one_in_the_package() -> None:
    link = ROOT / "napari.yaml"
    # Git makes a file of a link where the system has none.
    leads_to = link.readlink() if link.is_symlink() else link.read_text("utf-8").strip()
    assert (ROOT / leads_to).resolve() == (ROOT / "src" / MANIFEST).resolve()


def test_no_qt_binding_is_among_the_dependencies() -> None:
    required = distribution("napari-synapse-cl").requires or []
    always = [requirement for requirement in required if "extra ==" not in requirement]
    assert not [r for r in always if r.lower().startswith(("pyqt5", "pyqt6", "pyside", "napari["))]
