"""Feature maps as Image layers, at the place in the volume that they describe."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Image

from napari_synapse_cl.widgets.geometry import geometry_within, with_channels
from napari_synapse_cl.widgets.map_arrays import MapArray
from napari_synapse_cl.widgets.metadata import METADATA_KEY


class MapLayers:
    """The layers of one extraction, which follow its maps as they grow.

    Parameters
    ----------
    viewer
        Where they are shown.
    image
        The volume; its transforms, units and axis labels are taken over.
    """

    def __init__(self, viewer: Any, image: Image) -> None:
        self._viewer = viewer
        self._image = image
        self._layers: dict[tuple[int, bool], Image] = {}
        self._contrasts: dict[Image, tuple[float, float]] = {}

    def show(self, maps: Sequence[MapArray], corner: Sequence[int]) -> list[Image]:
        """Show maps, new ones in new layers; return all layers that are still there.

        Parameters
        ----------
        maps
            The maps as they are now.
        corner
            Voxel of the image, along z, y, x, from which they count.
        """
        selected = set(self._viewer.layers.selection)
        for one in maps:
            layer = self._layers.get((one.layer, one.is_rgb))
            if layer is None:
                self._add(one, corner)
            elif layer in self._viewer.layers:
                self._update(layer, one, corner)
        # napari selects what is added, and the next extraction is for what is selected.
        if selected:
            self._viewer.layers.selection = selected
        return [layer for layer in self._layers.values() if layer in self._viewer.layers]

    def remove(self) -> None:
        """Take the layers away."""
        for layer in self._layers.values():
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _add(self, one: MapArray, corner: Sequence[int]) -> None:
        origin = np.asarray(one.origin) + np.asarray(corner)
        geometry = geometry_within(self._image, origin, one.stride)
        shared = {"metadata": self._metadata(one, corner), "blending": "translucent"}
        name = f"{self._image.name} · L{one.layer}"
        if one.is_rgb:
            layer = Image(one.data, rgb=True, name=f"{name} colours", **shared, **geometry)
        else:
            layer = Image(
                one.data,
                rgb=False,
                name=name,
                contrast_limits=one.contrast,
                colormap="viridis",
                **shared,
                **with_channels(geometry),
            )
        self._layers[one.layer, one.is_rgb] = layer
        self._contrasts[layer] = one.contrast
        layers = self._viewer.layers
        # Above the image, and below the points and shapes on it.
        below = [n for n in (self._image, *self._layers.values()) if n in layers]
        layers.insert(max((layers.index(n) for n in below), default=len(layers) - 1) + 1, layer)

    def _update(self, layer: Image, one: MapArray, corner: Sequence[int]) -> None:
        layer.data = one.data
        layer.metadata = self._metadata(one, corner)
        # What the person has chosen stays.
        if not one.is_rgb and tuple(layer.contrast_limits) == self._contrasts[layer]:
            layer.contrast_limits = self._contrasts[layer] = one.contrast

    def _metadata(self, one: MapArray, corner: Sequence[int]) -> dict[str, Any]:
        # Of a copy of a part of the image, the record knows the part alone.
        region = (np.reshape(one.record["region"], (2, 3)) + corner).flatten().tolist()
        record = {**one.record, "region": region, "image": self._image.name}
        return {METADATA_KEY: {**record, "complete": one.is_complete}}
