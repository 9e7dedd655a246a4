"""The dock widgets that napari shows."""
