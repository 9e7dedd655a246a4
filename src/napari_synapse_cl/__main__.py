"""``python -m napari_synapse_cl``."""

from napari_synapse_cl.cli import run

run()
