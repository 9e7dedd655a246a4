"""Volumes, synapse tables, crops and the synthetic sample.

pandas and tifffile are imported when something of them is first asked for: pandas alone takes
0.2 s, as long as a dock should take to open, and what opens needs no table or file yet. Where
``pd.DataFrame`` stands in an annotation, annotations must not be evaluated: ``from __future__
import annotations``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import tifffile
else:

    class _Late:
        """Looks everything up in a module that is imported then."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            return getattr(import_module(self._name), name)

    pd, tifffile = _Late("pandas"), _Late("tifffile")
