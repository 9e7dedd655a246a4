"""What a folder of chunks is: Zarr of version 2 or 3, OME-Zarr, N5 or precomputed."""

import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from napari_synapse_cl.data.arrays import ReadArray
from napari_synapse_cl.data.formats.multiscale import (
    Level,
    axis_names,
    level_path,
    ome_levels,
    ome_multiscales,
    transformed,
)
from napari_synapse_cl.data.formats.places import Messages, size_in_nm, three_numbers, told_size
from napari_synapse_cl.data.formats.stores import Documents, Store
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import VoxelSize

MAX_LEVELS = 16
IN_XML = "unit in XML"
"""Marks the attributes of a group that BigDataViewer wrote."""


class Node:
    """An array, or a group of arrays, some of which may be the levels of one volume.

    Parameters
    ----------
    documents
        Those of its metadata that are there.
    """

    is_array = False

    def __init__(self, store: Store, documents: Documents) -> None:
        self.store = store

    @property
    def n_axes(self) -> int:
        """Number of axes of an array."""
        return 0

    @cached_property
    def levels(self) -> list[Level]:
        """The levels of a multiscale volume; none of what is no such."""
        return []

    def own_level(self) -> Level:
        """Return where an array lies by its own attributes."""
        return Level("")

    def open(self, level: Level | None, name: str) -> tuple[ReadArray, Messages]:
        """Open a level of a multiscale volume, or without one the array itself."""
        store = self.store if level is None else self.store.inside(level.path)
        return store.open_array(self._driver(level), lambda array: self._axes(array, level), name)

    def names_inside(self) -> list[str]:
        """Return the arrays in a group that its metadata tell, multiscale ones as one."""
        return []

    def _driver(self, level: Level | None) -> dict[str, Any]:
        """Return what tensorstore needs to know."""
        raise NotImplementedError

    def _axes(self, array: Any, level: Level | None) -> list[str | None]:
        """Return the names of axes of what was opened."""
        raise NotImplementedError


class ZarrNode(Node):
    """Zarr of versions 2 and 3, and OME-Zarr in either."""

    def __init__(self, store: Store, documents: Documents) -> None:
        super().__init__(store, documents)
        self._is_v3 = "zarr.json" in documents
        self._node = documents.get("zarr.json", documents.get(".zarray", {}))
        self.is_array = (
            self._node.get("node_type") == "array" if self._is_v3 else ".zarray" in documents
        )
        attributes = self._node.get("attributes") if self._is_v3 else documents.get(".zattrs")
        self._attributes: dict[str, Any] = attributes if isinstance(attributes, dict) else {}
        self._multiscales = None if self.is_array else ome_multiscales(self._attributes)

    @property
    def n_axes(self) -> int:
        """Number of axes of an array."""
        return len(self._node.get("shape", ()))

    @cached_property
    def levels(self) -> list[Level]:
        """The levels of a multiscale volume; none of what is no such."""
        return [] if self._multiscales is None else ome_levels(self._multiscales)

    def own_level(self) -> Level:
        """Return where an array lies by its own attributes, as funlib writes them."""
        found = self._attributes
        level = transformed("", found.get("transform"))
        if level is not None:
            return level
        scale = three_numbers(found.get("resolution", found.get("voxel_size")))
        if scale is None or min(scale) <= 0:
            return Level("")
        offset = three_numbers(found.get("offset")) or (0.0, 0.0, 0.0)
        corner = [place / size for place, size in zip(offset, scale, strict=True)]
        size, note = told_size(scale, found.get("units", found.get("unit")))
        return Level("", scale, size, corner=corner, note=note)

    def names_inside(self) -> list[str]:
        """Return the arrays in a group that consolidated metadata tells, multiscale ones as one."""
        nodes = self._consolidated()
        names = []
        for path, node in nodes.items():
            around = [path.rsplit("/", n)[0] for n in range(1, path.count("/") + 1)]
            if any(nodes.get(parent, self)._multiscales is not None for parent in around):
                continue
            if node._multiscales is not None or (node.is_array and node.n_axes >= 3):
                names.append(path)
        return sorted(names)

    def _consolidated(self) -> dict[str, "ZarrNode"]:
        """Return the nodes in a group by their paths."""
        by_path: dict[str, Documents] = {}
        if self._is_v3:
            found = (self._node.get("consolidated_metadata") or {}).get("metadata", {})
            by_path = {path: {"zarr.json": node} for path, node in found.items()}
        else:
            found = self.store.read([".zmetadata"]).get(".zmetadata", {}).get("metadata", {})
            for key, document in found.items():
                path, _, name = key.rpartition("/")
                by_path.setdefault(path, {})[name] = document
        return {
            path: ZarrNode(self.store.inside(path), documents)
            for path, documents in by_path.items()
            if path
        }

    def _driver(self, level: Level | None) -> dict[str, Any]:
        return {"driver": "zarr3" if self._is_v3 else "zarr"}

    def _axes(self, array: Any, level: Level | None) -> list[str | None]:
        """Return the names of axes, as OME-Zarr, Zarr 3, funlib or xarray keep them."""
        if level is not None and self._multiscales is not None:
            return axis_names(self._multiscales)
        found = self._node.get("dimension_names") or self._attributes.get(
            "axis_names", self._attributes.get("_ARRAY_DIMENSIONS")
        )
        # funlib marks axes that are not of space with a ^.
        return [str(name).removesuffix("^") for name in found] if isinstance(found, list) else []


class N5Node(Node):
    """N5, whose metadata counts axes as x, y, z."""

    def __init__(self, store: Store, documents: Documents) -> None:
        super().__init__(store, documents)
        self._attributes = documents.get("attributes.json", {})
        self.is_array = "dimensions" in self._attributes

    @property
    def n_axes(self) -> int:
        """Number of axes of an array."""
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
                levels.append(_n5_level(path, own, transform, around, factors))
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
        return _n5_level("", self._attributes, self._attributes.get("transform"), {}, None)

    def _driver(self, level: Level | None) -> dict[str, Any]:
        return {"driver": "n5"}

    def _axes(self, array: Any, level: Level | None) -> list[str | None]:
        return ["x", "y", "z", *(f"axis {i}" for i in range(3, array.ndim))]


def _n5_level(path: str, own: Any, transform: Any, around: Any, factors: Any) -> Level:
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


class PrecomputedNode(Node):
    """Neuroglancer's precomputed volumes, which count axes as x, y, z."""

    def __init__(self, store: Store, documents: Documents) -> None:
        super().__init__(store, documents)
        self._info = documents.get("info", {})

    @cached_property
    def levels(self) -> list[Level]:
        """Its levels, in the order of the metadata.

        Raises
        ------
        InputError
            If it is a mesh or anything else that is no image.
        """
        scales = self._info.get("scales")
        if not isinstance(scales, list) or not scales:
            kind = self._info.get("@type", "something else")
            raise InputError(f"{self.store.location.text} is no volume: its info describes {kind}")
        return [_precomputed_level(scale) for scale in scales if isinstance(scale, dict)]

    def open(self, level: Level | None, name: str) -> tuple[ReadArray, Messages]:
        """Open a level, which is told by its number in the folder of the volume."""
        return self.store.open_array(
            self._driver(level), lambda array: self._axes(array, level), name
        )

    def _driver(self, level: Level | None) -> dict[str, Any]:
        assert level is not None
        return {
            "driver": "neuroglancer_precomputed",
            "scale_index": self.levels.index(level),
        }

    def _axes(self, array: Any, level: Level | None) -> list[str | None]:
        return ["x", "y", "z", "channel"]


def _precomputed_level(scale: dict[str, Any]) -> Level:
    path = str(scale.get("key", "")).strip("/")
    sizes = three_numbers(reversed(scale.get("resolution", ())))
    corner = three_numbers(reversed(scale.get("voxel_offset", (0, 0, 0))))
    return Level(path, sizes, size_in_nm(sizes, "nm"), corner=corner)
