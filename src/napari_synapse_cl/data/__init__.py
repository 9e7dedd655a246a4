"""Volumes, synapse tables, crops and the synthetic sample.

pandas is imported when something of it is first asked for: that takes 0.2 s, as long as a dock
should take to open, and what opens needs no table yet. Where ``pd.DataFrame`` stands in an
annotation, annotations must not be evaluated: ``from __future__ import annotations``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
else:

    class _Late:
        """Looks everything up in pandas."""

        def __getattr__(self, name: str) -> Any:
            return getattr(import_module("pandas"), name)

    pd = _Late()
