"""``python -m napari_synapse_cl``."""

from napari_synapse_cl.cli import main

raise SystemExit(main())
