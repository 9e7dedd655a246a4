"""The notebooks of the documentation run as they stand, and are kept without what they give."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {"train": "example_training.md", "explore": "example.md"}
SAID = {
    "train": (
        "24 synapses",
        "rotated ",
        "completed after step 10",
        "24 rows, 24 columns of features",
    ),
    "explore": (
        "40 vectors of 48 numbers",
        "2 clusters of",
        "farthest: ",
        "% of 30 are told right",
        "parts of the volume, each predicted from the others, the balanced accuracy is",
        "than the intensity histogram",
    ),
}

pytestmark = pytest.mark.parametrize("name", PAGES)


def cells_of(name: str) -> list[dict[str, Any]]:
    content = json.loads((DOCS / "examples" / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    cells: list[dict[str, Any]] = content["cells"]
    return cells


def code_of(name: str) -> list[dict[str, Any]]:
    return [cell for cell in cells_of(name) if cell["cell_type"] == "code"]


def test_it_is_kept_without_outputs(name: str) -> None:
    cells = code_of(name)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_its_page_has_every_cell_in_its_order_with_pictures_that_are_there(name: str) -> None:
    """After a change: python tools/example_page.py."""
    page = (DOCS / PAGES[name]).read_text(encoding="utf-8")
    place = 0
    for cell in cells_of(name):
        source = "".join(cell["source"])
        for other, its_page in PAGES.items():
            source = source.replace(f"]({other}.ipynb)", f"]({its_page})")
        place = page.index(source, place)
    pictures = re.findall(r"!\[.*\]\((.+)\)", page)
    assert pictures
    assert all((DOCS / picture).is_file() for picture in pictures)


def test_every_cell_runs_and_says_what_it_found(name: str, tmp_path: Path) -> None:
    # In a process of its own, as in a notebook: nothing of the tests is imported there.
    program = tmp_path / "cells.py"
    program.write_text(
        "\n".join("".join(cell["source"]) for cell in code_of(name)), encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "agg", "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for words in SAID[name]:
        assert words in done.stdout
