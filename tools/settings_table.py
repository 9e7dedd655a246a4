"""Write the table of settings in the documentation from the settings themselves."""

from pathlib import Path
from typing import Any

from napari_synapse_cl.config import SECTIONS, unit_of

TARGET = Path(__file__).parents[1] / "docs" / "settings.md"
HEADER = """\
# Settings

Every setting is a flag of the command line (`--batch_size 16`, or `--batch-size 16`) and a key of
the `config.json` that each run leaves behind; most are fields of the forms in napari. This page is
written by `python tools/settings_table.py`.
"""


def settings_page() -> str:
    """Return the page: one table a section."""
    parts = [HEADER]
    for section in SECTIONS:
        title = (section.__doc__ or "").strip(". \n")
        parts.append(
            f"## {title}\n\n| Setting | Default | Unit | Meaning |\n| --- | --- | --- | --- |"
        )
        for name, field in section.model_fields.items():
            parts[-1] += (
                f"\n| `{name}` | {_shown(field.default)} | {unit_of(field)} | {field.description} |"
            )
        parts[-1] += "\n"
    return "\n".join(parts)


def _shown(default: Any) -> str:
    if default is None or default == ():
        return "–"
    if isinstance(default, tuple):
        return "`" + " ".join(map(str, default)) + "`"
    return f"`{default}`"


if __name__ == "__main__":
    TARGET.write_text(settings_page(), encoding="utf-8")
