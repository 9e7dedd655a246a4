"""The example in the documentation runs as it stands, and is kept without what it gives."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOK = DOCS / "examples" / "explore.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def test_it_is_kept_without_outputs(cells: list[dict[str, Any]]) -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_its_page_has_every_cell_in_its_order_with_pictures_that_are_there() -> None:
    """After a change: python tools/example_page.py."""
    page = (DOCS / "example.md").read_text(encoding="utf-8")
    place = 0
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        place = page.index("".join(cell["source"]), place)
    pictures = re.findall(r"!\[.*\]\((.+)\)", page)
    assert pictures
    assert all((DOCS / picture).is_file() for picture in pictures)


def test_every_cell_runs_and_says_what_it_found(
    cells: list[dict[str, Any]], tmp_path: Path
) -> None:
    # In a process of its own, as in a notebook: nothing of the tests is imported there.
    program = tmp_path / "cells.py"
    program.write_text("\n".join("".join(cell["source"]) for cell in cells), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "agg", "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for words in (
        "40 vectors of 48 numbers",
        "2 clusters of",
        "farthest: ",
        "% of 30 are told right",
        "parts of the volume, each predicted from the others, the balanced accuracy is",
        "than the intensity histogram",
    ):
        assert words in done.stdout
