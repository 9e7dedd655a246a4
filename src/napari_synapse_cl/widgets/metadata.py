"""Where a layer's metadata say where it, or its features, come from."""

METADATA_KEY = "napari_synapse_cl"
"""The same key that files keep their record under."""
