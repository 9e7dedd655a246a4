"""What was opened lately, and the last session, kept from one start of napari to the next."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_synapse_cl.system.environment import settings_folder
from napari_synapse_cl.system.files import read_json, write_json

_FOLDER = settings_folder()
FILE = None if _FOLDER is None else _FOLDER / "recent.json"
"""Where it is kept; None where there is no place for it."""
MOST = 8
"""Uses of “Open data” that are remembered."""

Use = dict[str, str]
"""What stood in the fields of “Open data”, by their names; empty ones are left out."""


def recent_uses() -> list[Use]:
    """Return what was opened lately, the last first."""
    listed = _read().get("opened")
    return [use for use in (listed if isinstance(listed, list) else []) if _is_use(use)][:MOST]


def remember_use(use: Use) -> None:
    """Put what was opened in the first place; other ways to read the same are no other use."""

    def files(use: Use) -> list[str | None]:
        return [use.get(name) for name in ("image", "synapses")]

    others = [other for other in recent_uses() if files(other) != files(use)]
    _write({"opened": [use, *others][:MOST]})


def last_session() -> Path | None:
    """Return the file of the session that was saved or opened last, if it is there still."""
    named = _read().get("session")
    if not isinstance(named, str):
        return None
    path = Path(named)
    with suppress(OSError):
        return path if path.is_file() else None
    return None


def remember_session(path: Path) -> None:
    """Remember a session that was saved or opened."""
    _write({"session": str(path.absolute())})


def _is_use(use: Any) -> bool:
    return (
        isinstance(use, dict)
        and bool(use.get("image"))
        and all(isinstance(value, str) for value in use.values())
    )


def _read() -> dict[str, Any]:
    """Return what is kept; a damaged file is passed over."""
    with suppress(OSError, ValueError):
        found = {} if FILE is None else read_json(FILE)
        return found if isinstance(found, dict) else {}
    return {}


def _write(changed: dict[str, Any]) -> None:
    if FILE is None:
        return
    # What cannot be remembered is no reason to disturb anyone.
    with suppress(OSError):
        FILE.parent.mkdir(parents=True, exist_ok=True)
        write_json(FILE, {**_read(), **changed})
