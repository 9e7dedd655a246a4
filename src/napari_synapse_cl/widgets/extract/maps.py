"""Feature maps as Image layers, at the place in the volume that they describe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image

from napari_synapse_cl.widgets.layers.features import METADATA_KEY
from napari_synapse_cl.widgets.layers.voxels import geometry_within, with_channels

LARGEST_IN_MEMORY = 2**28
"""In bytes; larger maps are read from the disk as they are looked at."""
SAMPLE_STEPS = 16
"""Along each axis, elements from which the contrast follows."""
CONTRAST = (1, 99)
"""Percentiles that become black and white."""


@dataclass(frozen=True)
class MapArray:
    """The map of one layer, or its colours."""

    layer: int
    """Index of the layer."""
    data: Any
    """``(C, d, h, w)`` float32, or ``(d, h, w, 3)`` uint8."""
    is_rgb: bool
    """Whether these are the colours."""
    origin: tuple[float, ...]
    stride: tuple[int, ...]
    """Voxel of the first element and voxels from one to the next, along z, y, x."""
    contrast: tuple[float, float]
    """What becomes black and white; of no use for colours."""
    record: dict[str, Any]
    """Where the map comes from."""
    is_complete: bool
    """Whether it is whole."""


def read_maps(folder: Path) -> list[MapArray]:
    """Return all maps in a folder, and their colours as far as they are there.

    Raises
    ------
    OSError, KeyError, ValueError
        If the folder is gone, or holds no maps.
    """
    # Zarr takes longer to import than a dock should to open.
    import zarr

    from napari_synapse_cl.features.maps.store import array_name, color_name

    group = zarr.open_group(folder, mode="r")
    layers = sorted(int(array.attrs["layer"]) for name, array in group.arrays() if "_" not in name)
    names = [name for n in layers for name in (array_name(n), color_name(n))]
    return [_read(group[name], is_rgb="_" in name) for name in names if name in group]


def _read(array: Any, *, is_rgb: bool) -> MapArray:
    attributes = array.attrs.asdict()
    data = np.asarray(array[:]) if array.nbytes <= LARGEST_IN_MEMORY else _lazy(array)
    return MapArray(
        layer=int(attributes["layer"]),
        data=data,
        is_rgb=is_rgb,
        origin=tuple(attributes["origin"]),
        stride=tuple(attributes["stride"]),
        contrast=(0.0, 1.0) if is_rgb else _contrast(array),
        record=dict(attributes["provenance"]),
        is_complete=bool(attributes.get("complete", False)),
    )


def _lazy(array: Any) -> Any:
    # It takes longer to import than a widget should to open.
    import dask.array as da

    # Without a name of its own, dask would show what it has read before in place of what is new.
    return da.from_array(array, array.chunks, name=False)


def _contrast(array: Any) -> tuple[float, float]:
    """Return percentiles of some of the elements that are there."""
    sizes = array.shape[1:]
    middle = sizes[0] // 2
    _, y, x = (slice(None, None, max(1, n // SAMPLE_STEPS)) for n in sizes)
    values = np.asarray(array[:, middle, y, x])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, CONTRAST)
    return (float(low), float(high)) if low < high else (float(low), float(low) + 1)


class MapLayers:
    """The layers of one extraction, which follow its maps as they grow.

    Parameters
    ----------
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
