"""Run the notebooks of the documentation, and write each as a page with what it prints and draws.

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
PAGES = {"train": "example_training", "explore": "example"}
"""Notebooks, and the pages that are made of them."""
NOTE = (
    "This is the notebook [{0}](examples/{0}), with what its cells print and\n"
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
        exec(compile("".join(cell["source"]), "cell", "exec"), names)
    return f"```text\n{printed.getvalue().rstrip()}\n```" if printed.getvalue() else ""


def keep_figures(page: str, n: int) -> list[str]:
    """Write the figures that are open beside others, and return them as parts of the page."""
    from matplotlib import pyplot

    parts = []
    for number in pyplot.get_fignums():
        file = DOCS / "images" / f"{page}_{n + len(parts)}.png"
        pyplot.figure(number).savefig(file, dpi=80, bbox_inches="tight")
        parts.append(f"![What the cell draws](images/{file.name})")
    pyplot.close("all")
    return parts


def write_page(notebook: Path, page: str) -> None:
    """Run all cells of a notebook, and write its page."""
    parts, names, n = [], {"__name__": "__main__"}, 0
    title, *cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts += [source_of(title), NOTE.format(notebook.name)]
    for cell in cells:
        parts.append(source_of(cell))
        if cell["cell_type"] == "code":
            printed, figures = run_cell(cell, names), keep_figures(page, n)
            parts += [part for part in (printed, *figures) if part]
            n += len(figures)
    # A notebook beside this one is a page here.
    for name, other in PAGES.items():
        parts = [part.replace(f"]({name}.ipynb)", f"]({other}.md)") for part in parts]
    (DOCS / f"{page}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    """Write all pages."""
    matplotlib.use("agg")
    warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
    for name, page in PAGES.items():
        write_page(DOCS / "examples" / f"{name}.ipynb", page)


if __name__ == "__main__":
    main()
