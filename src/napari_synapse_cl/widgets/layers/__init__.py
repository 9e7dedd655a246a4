"""Layers of napari: which belong together, where they lie, and the files they come from."""
