"""Dependencies point one way, and what is heavy is imported late."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_synapse_cl

PACKAGE = Path(napari_synapse_cl.__file__).parent
NAME = "napari_synapse_cl"
GUI_LIBRARIES = {"napari", "qtpy", "magicgui", "superqt", "pyqtgraph", "PyQt6", "PySide6", "npe2"}

FLOORS = {
    "": 0,
    "errors": 0,
    "environment": 0,
    "streams": 0,
    "documents": 0,
    "files": 0,
    "events": 0,
    "control": 0,
    "words": 0,
    "free_memory": 0,
    "allocation": 0,
    "compiled": 0,
    "holding": 1,
    "probes": 1,
    "downloads": 0,
    "config": 1,
    "devices": 2,
    "distributed": 1,
    "data": 2,
    "context": 2,
    "augmentations": 2,
    "models": 2,
    "estimates": 3,
    "training": 3,
    "features": 3,
    "figures": 3,
    "preparation": 4,
    "resuming": 4,
    "machine": 4,
    "pipeline": 5,
    "reports": 6,
    "cli": 7,
    "__main__": 8,
    "widgets": 8,
}
"""A module may import from its own floor and from those below."""

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imported_names(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(node.module or "")
    return names


def part_of(module: Path) -> str:
    """The part of the package, as in FLOORS, that a file belongs to."""
    return module.parts[0].removesuffix(".py").replace("__init__", "")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_imports_only_its_own_floor_and_those_below(module: Path) -> None:
    own = part_of(module)
    for name in imported_names(PACKAGE / module):
        if name.split(".")[0] == NAME:
            imported = [*name.split("."), ""][1]
            assert FLOORS[imported] <= FLOORS[own], f"{module} must not import {name}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_widgets_import_gui_libraries(module: Path) -> None:
    if part_of(module) != "widgets":
        roots = {name.split(".")[0] for name in imported_names(PACKAGE / module)}
        assert not roots & GUI_LIBRARIES


def test_importing_the_package_loads_neither_torch_nor_pydantic() -> None:
    code = f"import sys, {NAME}; assert not {{'torch', 'pydantic', 'napari'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
