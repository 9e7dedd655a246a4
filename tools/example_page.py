"""Run the notebook of the documentation, and write it as a page with what it prints and draws.

python tools/example_page.py
"""

import io
import json
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOK = DOCS / "examples" / "explore.ipynb"
PAGE = DOCS / "example.md"
NOTE = (
    "This is the notebook [explore.ipynb](examples/explore.ipynb), with what its cells print and\n"
    "draw on the machine where this page was made. Download it to run it."
)


def source_of(cell: dict[str, Any]) -> str:
    """Return a cell as a part of the page, without what it prints."""
    text = "".join(cell["source"])
    return text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"


def run_cell(cell: dict[str, Any], names: dict[str, Any]) -> str:
    """Run a cell; return what it printed, as a part of the page."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)
    return f"```text\n{printed.getvalue().rstrip()}\n```" if printed.getvalue() else ""


def keep_figures(n: int) -> list[str]:
    """Write the figures that are open beside others, and return them as parts of the page."""
    from matplotlib import pyplot

    parts = []
    for number in pyplot.get_fignums():
        file = DOCS / "images" / f"example_{n + len(parts)}.png"
        pyplot.figure(number).savefig(file, dpi=80, bbox_inches="tight")
        parts.append(f"![What the cell draws](images/{file.name})")
    pyplot.close("all")
    return parts


def main() -> None:
    """Run all cells, and write the page."""
    matplotlib.use("agg")
    warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
    parts, names, n = [], {"__name__": "__main__"}, 0
    title, *cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    parts += [source_of(title), NOTE]
    for cell in cells:
        parts.append(source_of(cell))
        if cell["cell_type"] == "code":
            printed, figures = run_cell(cell, names), keep_figures(n)
            parts += [part for part in (printed, *figures) if part]
            n += len(figures)
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
