"""Feature maps on the disk as the viewer shows them: in memory if they are small."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LARGEST_IN_MEMORY = 2**28
"""In bytes; larger maps are read from the disk as they are looked at."""
SAMPLE_STEPS = 16
"""Along each axis, elements from which the contrast follows."""
CONTRAST = (1, 99)
"""Percentiles that become black and white."""


@dataclass(frozen=True)
class MapArray:
    """The map of one layer, or its colours.

    Attributes
    ----------
    layer
        Index of the layer.
    data
        ``(C, d, h, w)`` float32, or ``(d, h, w, 3)`` uint8.
    is_rgb
        Whether these are the colours.
    origin, stride
        Voxel of the first element and voxels from one to the next, along z, y, x.
    contrast
        What becomes black and white; of no use for colours.
    record
        Where the map comes from.
    is_complete
        Whether it is whole.
    """

    layer: int
    data: Any
    is_rgb: bool
    origin: tuple[float, ...]
    stride: tuple[int, ...]
    contrast: tuple[float, float]
    record: dict[str, Any]
    is_complete: bool


def read_maps(folder: Path) -> list[MapArray]:
    """Return all maps in a folder, and their colours as far as they are there.

    Raises
    ------
    OSError, KeyError, ValueError
        If the folder is gone, or holds no maps.
    """
    # Zarr takes longer to import than a dock should to open.
    import zarr

    from napari_synapse_cl.features.map_store import array_name, color_name

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
