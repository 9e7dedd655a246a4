"""How fast every stage is: reading, augmentation, training, extraction, the window, and all of it.

    python benchmarks/speed [PART ...] [--quick] [--device auto] [--json FILE] [--markdown FILE]

Parts are the modules beside this one, all of them by default. What is compared is timed in turn in
one run; the tables hold medians, and ratios to the row that their last column names. ``--quick``
takes small sizes and few repeats: it shows that the benchmark works, and its figures mean nothing.

``pip install -e ".[bench]"`` brings what ours is compared with; what is not installed is left out,
and said.
"""

import argparse
import json
from importlib import import_module
from pathlib import Path

from measuring import Section, machine, target_lines

PARTS = ("opening", "reading", "augmentation", "extraction", "training", "end_to_end")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--markdown", type=Path, default=None)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    sections: list[Section] = []
    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    found = machine()
    show(", ".join(f"{name} {value}" for name, value in found.items() if value is not None) + "\n")
    for part in options.parts or PARTS:
        for section in import_module(part).measure(options):
            sections.append(section)
            for line in section.lines():
                show(line)
    for line in target_lines([target for section in sections for target in section.targets]):
        show(line)
    if options.json is not None:
        content = {"machine": found, "sections": [section.as_json() for section in sections]}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if options.markdown is not None:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
