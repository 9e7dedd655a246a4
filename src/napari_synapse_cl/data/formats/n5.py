"""N5, whose metadata counts axes as x, y, z."""

from functools import cached_property
from typing import Any

from napari_synapse_cl.data.arrays import ReadArray
from napari_synapse_cl.data.formats.found import Triple
from napari_synapse_cl.data.formats.lengths import size_in_nm, three_numbers
from napari_synapse_cl.data.formats.multiscale import Level, ome_multiscales
from napari_synapse_cl.data.formats.stores import Documents, Store

MAX_LEVELS = 16


class N5Node:
    """A dataset or a group.

    Parameters
    ----------
    store
        Its folder.
    documents
        Those of its metadata that are there.
    """

    def __init__(self, store: Store, documents: Documents) -> None:
        self.store = store
        self._attributes = documents.get("attributes.json", {})
        self.is_array = "dimensions" in self._attributes

    @property
    def n_axes(self) -> int:
        """Number of axes of a dataset."""
        return len(self._attributes.get("dimensions", ()))

    @cached_property
    def levels(self) -> list[Level]:
        """The levels of a multiscale volume; none of what is no such."""
        if self.is_array:
            return []
        multiscales = ome_multiscales(self._attributes)
        told = (
            {}
            if multiscales is None
            else {str(dataset["path"]).strip("/"): dataset for dataset in multiscales["datasets"]}
        )
        paths = list(told) or [f"s{i}" for i in range(MAX_LEVELS)]
        documents = self.store.read(f"{path}/attributes.json" for path in paths)
        scales = self._attributes.get("scales")
        levels = []
        for i, path in enumerate(paths):
            own = documents.get(f"{path}/attributes.json", {})
            if "dimensions" in own:
                factors = scales[i] if isinstance(scales, list) and i < len(scales) else None
                transform = own.get("transform", told.get(path, {}).get("transform"))
                levels.append(_level(path, own, transform, self._attributes, factors))
        return levels

    def own_level(self) -> Level:
        """Return where a dataset lies by its own attributes."""
        return _level("", self._attributes, self._attributes.get("transform"), {}, None)

    def open_level(self, level: Level, name: str) -> ReadArray:
        """Open a level of a multiscale volume."""
        return self.store.inside(level.path).open_array({"driver": "n5"}, _names, name)

    def open_own(self, name: str) -> ReadArray:
        """Open a dataset by itself."""
        return self.store.open_array({"driver": "n5"}, _names, name)


def _names(array: Any) -> list[str | None]:
    return ["x", "y", "z", *(f"axis {i}" for i in range(3, array.ndim))]


def _level(path: str, own: Any, transform: Any, around: Any, factors: Any) -> Level:
    """Return a level, by the first of the ways that N5 volumes have to tell of it.

    Parameters
    ----------
    path
        Of the dataset in its group.
    own
        Attributes of the dataset.
    transform
        What OpenOrganelle writes, or None.
    around
        Attributes of its group.
    factors
        How the group says it was downsampled, along x, y, z.
    """
    if isinstance(transform, dict):
        level = _transformed(path, transform)
        if level is not None:
            return level
    resolution, unit = _resolution(own)
    if resolution is None:
        resolution, unit = _resolution(around)
    else:
        # It is then of this very level, unless the dataset says how it was downsampled.
        factors = None
    factors = own.get("downsamplingFactors", factors)
    factor = three_numbers(factors) or (1.0, 1.0, 1.0)
    lengths = [a * b for a, b in zip(resolution or (1.0, 1.0, 1.0), factor, strict=True)][::-1]
    offset = three_numbers(own.get("offset"))
    corner = None
    if offset is not None and min(lengths) > 0:
        # In the unit of the voxel size, as funlib and Paintera write it, or without one in voxels.
        sides = (1.0, 1.0, 1.0) if resolution is None else lengths
        corner = [place / side for place, side in zip(offset[::-1], sides, strict=True)]
    if (resolution is None and factors is None) or min(lengths) <= 0:
        return Level(path, corner=corner)
    size = None if resolution is None else size_in_nm(lengths, unit)
    return Level(path, three_numbers(lengths), size, corner=corner)


def _resolution(attributes: Any) -> tuple[Triple | None, Any]:
    """Return the voxel size along x, y, z and its unit."""
    found = attributes.get("pixelResolution")
    if isinstance(found, dict):
        return three_numbers(found.get("dimensions")), found.get("unit")
    if found is not None:
        return three_numbers(found), attributes.get("unit")
    return three_numbers(attributes.get("resolution")), attributes.get("unit", "nm")


def _transformed(path: str, transform: dict[str, Any]) -> Level | None:
    axes = [str(axis).lower() for axis in transform.get("axes", "zyx")]
    if sorted(axes) != ["x", "y", "z"]:
        return None
    order = [axes.index(axis) for axis in "zyx"]
    parts = [three_numbers(transform.get(name)) for name in ("scale", "translate")]
    scale, shift = (None if part is None else [part[i] for i in order] for part in parts)
    if scale is None or min(scale) <= 0:
        return None
    units = transform.get("units")
    if isinstance(units, list) and len(units) == 3:
        units = [units[i] for i in order]
    z, y, x = scale
    centre = [a / b for a, b in zip(shift or (0.0, 0.0, 0.0), scale, strict=True)]
    return Level(path, (z, y, x), size_in_nm(scale, units), centre=centre)
