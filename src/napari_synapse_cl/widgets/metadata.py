"""Where a layer's metadata say where it, or its features, come from."""

from napari_synapse_cl.features.table_formats import KEY

METADATA_KEY = KEY
"""The same key that files keep their record under."""
