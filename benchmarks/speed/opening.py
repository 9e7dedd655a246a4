"""How soon there is something to see: imports, the docks in napari, and a new pair of views.

Everything is timed in new processes. The docks need a display: ``xvfb-run -a python
benchmarks/speed opening``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from measuring import Row, Section, Target, interleaved

PACKAGE = "napari_synapse_cl"
PLUGIN = "napari-synapse-cl"
BARE = "Python alone"
HEAVY = ("torch", "napari", "pydantic", "numpy", "pandas")
"""Libraries that importing the package must not load."""
WINDOW = (1280, 800)
CALM_SECONDS = 1.5
"""So long after its window is there napari still has work of its own to do."""
LIMIT_SECONDS = 120
IMPORT_MS, DOCK_MS, PAIR_MS = 50, 300, 150
CACHED = "Byte code is cached, as after any earlier start."


def measure(options: argparse.Namespace) -> Iterator[Section]:
    """Time the imports, the docks and the pairs."""
    imports = _imports(repeats=2 if options.quick else 9)
    if not _has_display():
        imports.notes.append("Docks and pairs need a display: `xvfb-run -a` brings one.")
        yield imports
        return
    yield imports
    names = _dock_names()
    yield _docks(names[:1] if options.quick else names, repeats=1 if options.quick else 5)
    yield _pairs(pairs=2 if options.quick else 60, size=24 if options.quick else 80)


def _imports(repeats: int) -> Section:
    codes = {
        BARE: ["-c", "pass"],
        f"import {PACKAGE}": ["-c", f"import {PACKAGE}"],
        f"import {PACKAGE}.cli": ["-c", f"import {PACKAGE}.cli"],
        f"python -m {PACKAGE} --help": ["-m", PACKAGE, "--help"],
    }
    rows = interleaved(
        {name: lambda code=code: _python(*code) and None for name, code in codes.items()}, repeats
    )
    own = max(0.0, 1000 * (rows[1].median - rows[0].median))
    loaded = _python("-c", f"import sys, {PACKAGE}; print(len({{*{HEAVY}}} & set(sys.modules)))")
    targets = [
        Target(f"ms to import {PACKAGE}, without Python's own start", own, IMPORT_MS, False),
        Target(f"of {', '.join(HEAVY)} loaded with it", float(loaded), 0, False),
    ]
    return Section("Start of a process", rows, BARE, "imports", targets, [CACHED])


def _docks(names: Sequence[str], repeats: int) -> Section:
    rows = interleaved(
        {name: lambda name=name: float(_python(__file__, name)) for name in names},
        repeats,
        warm_up=min(1, repeats - 1),
    )
    targets = [
        Target(f"ms until “{row.name}” is painted", 1000 * row.median, DOCK_MS, False)
        for row in rows
    ]
    notes = [
        "From the click in the menu until the dock is painted, with nothing of the plugin imported "
        f"before and no layers. {CACHED}"
    ]
    title = "First opening of a dock in a running napari"
    return Section(title, rows, rows[0].name, "openings", targets, notes)


def _pairs(pairs: int, size: int) -> Section:
    program = Path(__file__).parents[1] / "preview.py"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "preview.json"
        _python(str(program), f"--pairs={pairs}", f"--size={size}", f"--json={file}")
        found = json.loads(file.read_text(encoding="utf-8"))["milliseconds"]
    rows = [
        Row(f"volume {volume}, {stage.removeprefix('end to end, ')}", [times["median"] / 1000])
        for volume, stages in found.items()
        for stage, times in stages.items()
        if stage.startswith("end to end")
    ]
    targets = [
        Target(f"ms until a pair is painted: {row.name}", 1000 * row.median, PAIR_MS, False)
        for row in rows
    ]
    title = f"A new pair of views of {size}³ voxels, from the move of a slider until it is painted"
    notes = [f"Medians of {pairs} pairs; `benchmarks/preview.py` has the stages."]
    return Section(title, rows, rows[0].name, "pairs", targets, notes)


def _dock_names() -> list[str]:
    """Return the titles of the plugin's docks as its manifest says them."""
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution(distribution(PLUGIN).name)
    return [widget.display_name for widget in manifest.contributions.widgets or ()]


def _has_display() -> bool:
    return sys.platform != "linux" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _python(*arguments: str) -> str:
    """Return what a new process of Python prints at last."""
    # Modules would be compiled each time, as nobody has it who has installed them.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def _open_dock(name: str) -> float:
    """Return the seconds in which a dock is opened and painted in a new napari."""
    import napari
    from qtpy.QtCore import QEvent, QObject
    from qtpy.QtWidgets import QApplication

    class Paint(QObject):
        seen = False

        def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
            self.seen |= event.type() == QEvent.Type.Paint
            return False

    viewer: Any = napari.Viewer()
    viewer.window.resize(*WINDOW)
    calm = time.monotonic() + CALM_SECONDS
    while time.monotonic() < calm:
        QApplication.processEvents()
    paint = Paint()
    start = time.perf_counter()
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    widget.installEventFilter(paint)
    while not paint.seen:
        QApplication.processEvents()
    return time.perf_counter() - start


if __name__ == "__main__":
    print(_open_dock(sys.argv[1]), flush=True)
    # At once, so that nothing of this is kept as a person's settings.
    os._exit(0)
