"""What was measured on a device once, remembered for the jobs that follow."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_synapse_cl.documents import read_json
from napari_synapse_cl.environment import cache_folder
from napari_synapse_cl.files import write_json

_CACHE = cache_folder()
FILE = None if _CACHE is None else _CACHE / "probes.json"


def remembered(name: str, measure: Callable[[], float | None]) -> float | None:
    """Return what was measured under a name, and measure it if that has not been done yet.

    Parameters
    ----------
    name
        Of the probe and all that its result depends on: the device, versions, the number of
        threads.
    measure
        Measures it. None, for what cannot be measured, is remembered too.
    """
    known = {} if FILE is None else _known(FILE)
    if name not in known:
        known[name] = measure()
        if FILE is not None:
            # Without a folder to write to it is measured again the next time.
            with suppress(OSError):
                FILE.parent.mkdir(parents=True, exist_ok=True)
                write_json(FILE, known)
    value = known[name]
    return value if isinstance(value, float) else None


def _known(file: Path) -> dict[str, Any]:
    try:
        known = read_json(file)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
