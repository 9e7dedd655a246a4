"""Print the plan of the package: its rooms, what they import of each other, and how large they are.

``python tools/house.py`` prints it; the tests hold its floors.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

PACKAGE = Path(__file__).parents[1] / "src" / "napari_synapse_cl"
NAME = PACKAGE.name

FLOORS = {
    "__init__": 0,
    "errors": 0,
    "system": 1,
    "config": 2,
    "runs": 3,
    "augmentations": 3,
    "models": 4,
    "data": 5,
    "features": 6,
    "training": 7,
    "pipeline": 8,
    "cli": 9,
    "widgets": 9,
    "__main__": 10,
}
"""The rooms of the package. A module imports from its own room and from those on lower floors."""


def modules() -> list[Path]:
    """Return the files of the package, relative to it."""
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    """Return the room that a file of the package is in."""
    return module.parts[0].removesuffix(".py")


def imported_names(path: Path) -> set[str]:
    """Return the names of the modules that a file imports, at its head or later."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(node.module or "")
    return names


def imported_rooms(module: Path) -> Iterator[tuple[str, str]]:
    """Yield the rooms that a file of the package imports from, with the name of the module."""
    for name in imported_names(PACKAGE / module):
        if name.split(".")[0] == NAME:
            yield [*name.split("."), "__init__"][1], name


def main() -> None:
    """Print rooms from the top floor down, and the sums."""
    lines = {m: len((PACKAGE / m).read_text(encoding="utf-8").splitlines()) for m in modules()}
    arrows = {
        (room_of(module), room)
        for module in lines
        for room, _ in imported_rooms(module)
        if room != room_of(module)
    }
    for room in sorted(FLOORS, key=lambda room: (-FLOORS[room], room)):
        sizes = [n for module, n in lines.items() if room_of(module) == room]
        below = sorted(b for a, b in arrows if a == room)
        print(f"{FLOORS[room]:2} {room:14} {len(sizes):3} modules {sum(sizes):6} lines  {below}")
    back = [f"{a} -> {b}" for a, b in arrows if FLOORS[b] >= FLOORS[a]]
    sizes = [n for module, n in lines.items() if module.name != "__init__.py"]
    print(
        f"{len(FLOORS)} rooms, {len(arrows)} arrows, {len(back)} of them back up {back or ''}\n"
        f"{len(sizes)} modules, {sum(lines.values())} lines, median {median(sizes):.0f}, largest "
        f"{max(sizes)}, {sum(n < 60 for n in sizes)} under 60"
    )


if __name__ == "__main__":
    main()
