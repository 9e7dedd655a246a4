"""Dependencies point one way, and what is heavy is imported late."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from house import FLOORS, NAME, PACKAGE, imported_names, imported_rooms, modules, room_of

ROOT = Path(__file__).parents[1]
GUI_LIBRARIES = {"napari", "qtpy", "magicgui", "superqt", "pyqtgraph", "PyQt6", "PySide6", "npe2"}
LONGEST = 350
"""Lines of a module that is read in one sitting."""
LIGHT = {
    "": {"torch", "pydantic", "napari", "numpy"},
    "training.estimates": {"torch", "scipy", "napari", "matplotlib", "sklearn", "zarr", "h5py"},
    "augmentations.transforms": {"torch"},
    "runs.following": {"torch"},
    "runs.shards": {"torch"},
    "data.dataset": {"torch", "zarr", "h5py", "tensorstore", "openpyxl"},
    "data.opening": {"torch", "zarr", "h5py", "tensorstore", "openpyxl"},
    "features.tables": {"torch", "anndata", "h5py", "napari", "matplotlib"},
    "features.layer_report": {"torch", "sklearn"},
    "features.prediction": {"torch", "sklearn"},
    "features.clusters": {"torch", "sklearn"},
    "widgets.layers.files": {"torch", "napari", "qtpy"},
    "widgets.open_data.widget": {"torch", "sklearn", "tensorstore", "h5py", "openpyxl", "zarr"},
    "features.maps.colors": {"torch"},
    "features.maps.grid": {"torch"},
    "features.maps.store": {"torch"},
}
"""What the window imports at once, in an order in which each holds with all above it, and what must
not come with it."""


@pytest.mark.parametrize("module", modules(), ids=str)
def test_a_module_imports_from_its_own_room_and_those_below(module: Path) -> None:
    own = room_of(module)
    for room, name in imported_rooms(module):
        assert room == own or FLOORS[room] < FLOORS[own], f"{module} must not import {name}"


@pytest.mark.parametrize("module", modules(), ids=str)
def test_only_widgets_import_gui_libraries(module: Path) -> None:
    if room_of(module) != "widgets":
        roots = {name.split(".")[0] for name in imported_names(PACKAGE / module)}
        assert not roots & GUI_LIBRARIES


@pytest.mark.parametrize("module", modules(), ids=str)
def test_a_module_is_read_in_one_sitting(module: Path) -> None:
    assert len((PACKAGE / module).read_text(encoding="utf-8").splitlines()) <= LONGEST


PROGRAMS = [
    path for folder in ("benchmarks", "tools") for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_benchmarks_and_tools_import_is_there(program: Path) -> None:
    for node in ast.walk(ast.parse(program.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == NAME:
            assert node.module is not None
            there = defined_in(PACKAGE.parent.joinpath(*node.module.split(".")))
            missing = {alias.name for alias in node.names} - there
            assert not missing, f"{node.module} has no {missing}"


def defined_in(module: Path) -> set[str]:
    """Return the names that can be imported from a module or package, read and not run."""
    names = {path.stem for path in module.iterdir()} if module.is_dir() else set()
    file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def test_what_the_window_needs_at_once_is_imported_without_what_is_slow() -> None:
    code = (
        f"import importlib, sys\nfor name, slow in {LIGHT}.items():\n"
        f"    importlib.import_module('{NAME}.' + name if name else '{NAME}')\n"
        "    print(name, sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"{name} []" for name in LIGHT]
