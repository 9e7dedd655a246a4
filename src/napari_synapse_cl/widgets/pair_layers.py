"""A pair of views as image layers at the synapse's place."""

from typing import Any

import numpy as np
from napari.layers import Image

from napari_synapse_cl import __version__
from napari_synapse_cl.widgets.crop_settings import SHARED
from napari_synapse_cl.widgets.geometry import geometry_within
from napari_synapse_cl.widgets.metadata import METADATA_KEY
from napari_synapse_cl.widgets.pairs import Pair


def view_layers(image: Image, pair: Pair) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Return data and keywords of two image layers that line up with the volume.

    Each voxel of a view lies where that voxel of the unaugmented crop lies in the volume.

    Parameters
    ----------
    image
        The layer that the crop was cut from; its transforms, units and axis labels are taken over.
    pair
        The views.
    """
    return [
        (
            view,
            {
                "name": f"View {number} · synapse {pair.request.row} · epoch {pair.request.epoch}",
                "contrast_limits": (0, 1),
                "metadata": {METADATA_KEY: _provenance(image, pair, number)},
                **_geometry(image, pair),
            },
        )
        for number, view in enumerate(pair.views, start=1)
    ]


def _geometry(image: Image, pair: Pair) -> dict[str, Any]:
    """Return the transforms of the image, moved to the first voxel of the crop."""
    before = np.array(pair.crop.shape) // 2 * np.array(pair.stride)
    return geometry_within(image, np.array(pair.voxel) - before, pair.stride)


def _provenance(image: Image, pair: Pair, number: int) -> dict[str, Any]:
    request = pair.request
    return {
        "image": image.name,
        "synapse": request.row,
        "voxel": list(pair.voxel),
        "seed": request.config.seed,
        "epoch": request.epoch,
        "view": number,
        "drawn": pair.drawn[number - 1],
        "settings": request.config.model_dump(mode="json", include=set(SHARED)),
        "napari-synapse-cl": __version__,
    }
