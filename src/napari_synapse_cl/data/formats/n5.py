"""N5, whose metadata counts axes as x, y, z."""

import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from napari_synapse_cl.data.arrays import ReadArray
from napari_synapse_cl.data.formats.multiscale import (
    Level,
    level_path,
    ome_multiscales,
    transformed,
)
from napari_synapse_cl.data.formats.places import Messages, three_numbers, told_size
from napari_synapse_cl.data.formats.stores import Documents, Store
from napari_synapse_cl.system.words import VoxelSize

MAX_LEVELS = 16
IN_XML = "unit in XML"
"""Marks the attributes of a group that BigDataViewer wrote."""


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
        datasets = [] if multiscales is None else multiscales["datasets"]
        told = {level_path(dataset): dataset for dataset in datasets}
        paths = list(told) or [f"s{i}" for i in range(MAX_LEVELS)]
        documents = self.store.read(f"{path}/attributes.json" for path in paths)
        around = self._around() if documents else {}
        scales = around.get("scales")
        levels = []
        for i, path in enumerate(paths):
            own = documents.get(f"{path}/attributes.json", {})
            if "dimensions" in own:
                factors = scales[i] if isinstance(scales, list) and i < len(scales) else None
                transform = own.get("transform", told.get(path, {}).get("transform"))
                levels.append(_level(path, own, transform, around, factors))
        return levels

    def _around(self) -> dict[str, Any]:
        """Return the attributes of a group, with what that around it says for all groups in it.

        n5-viewer keeps size and scales of all channels so, and BigDataViewer the scales.
        """
        own = dict(self._attributes)
        place = self.store.location
        if not place.is_remote:
            place = replace(place, base=str(Path(place.base).absolute()))
        enclosing = place.enclosing()
        if "scales" not in own and enclosing:
            outer = Store(enclosing[0][0]).read(["attributes.json"]).get("attributes.json", {})
            if _resolution(own)[0] is None and isinstance(outer.get("pixelResolution"), dict):
                own["pixelResolution"] = outer["pixelResolution"]
            factors = own.get("downsamplingFactors", outer.get("downsamplingFactors"))
            own["scales"] = outer.get("scales", factors)
        folder = place.base.partition("?")[0].replace("\\", "/").rstrip("/")
        own[IN_XML] = re.search(r"setup\d+/timepoint\d+$", folder) is not None
        return own

    def own_level(self) -> Level:
        """Return where a dataset lies by its own attributes."""
        return _level("", self._attributes, self._attributes.get("transform"), {}, None)

    def open_level(self, level: Level, name: str) -> tuple[ReadArray, Messages]:
        """Open a level of a multiscale volume."""
        return self.store.inside(level.path).open_array({"driver": "n5"}, _names, name)

    def open_own(self, name: str) -> tuple[ReadArray, Messages]:
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
    level = transformed(path, transform)
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
    offset, is_own = three_numbers(own.get("offset")), True
    if offset is None:
        # Paintera keeps it beside the voxel size of the finest level.
        offset, is_own = three_numbers(around.get("offset")), False
    corner = None
    if offset is not None and min(lengths) > 0:
        # In the unit of the voxel size, as funlib and Paintera write it, or without one in voxels.
        sides = (1.0, 1.0, 1.0) if resolution is None and is_own else lengths
        corner = [place / side for place, side in zip(offset[::-1], sides, strict=True)]
    if (resolution is None and factors is None) or min(lengths) <= 0:
        return Level(path, corner=corner)
    size, note = None, ""
    if resolution is not None and unit is None and around.get(IN_XML):
        note = "keeps the unit of its voxel size in an XML file: give it as voxel_size in nm"
    elif resolution is not None:
        size, note = told_size(lengths, unit)
    return Level(path, three_numbers(lengths), size, corner=corner, note=note)


def _resolution(attributes: Any) -> tuple[VoxelSize | None, Any]:
    """Return the voxel size along x, y, z, and its unit along z, y, x or for all axes.

    Of ``resolution`` it may be None; ``pixelResolution`` is nothing without one.
    """
    found = attributes.get("pixelResolution")
    if isinstance(found, dict):
        return three_numbers(found.get("dimensions")), found.get("unit", "")
    if found is not None:
        return three_numbers(found), attributes.get("unit", "")
    units = attributes.get("unit", attributes.get("units"))
    units = units[::-1] if isinstance(units, list) else units
    return three_numbers(attributes.get("resolution")), units
