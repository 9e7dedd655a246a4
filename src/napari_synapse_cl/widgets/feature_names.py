"""Which columns of a points layer are features."""

import re

from napari_synapse_cl.data.tables.columns import FEATURE_COLUMN


def feature_match(name: object) -> re.Match[str] | None:
    """Return the parts of a column's name, if it is one that an extraction adds."""
    return FEATURE_COLUMN.fullmatch(str(name))
