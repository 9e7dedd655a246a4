"""Which columns of a points layer are features."""

import re


def feature_match(name: object) -> re.Match[str] | None:
    """Return the parts of a column's name, if it is one that an extraction adds."""
    # The module of the tables imports pandas, which takes longer than a dock should to open.
    from napari_synapse_cl.features.table_formats import FEATURE_COLUMN

    return FEATURE_COLUMN.fullmatch(str(name))
