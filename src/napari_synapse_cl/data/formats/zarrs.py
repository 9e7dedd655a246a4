"""Zarr of versions 2 and 3, and OME-Zarr in either."""

from functools import cached_property
from typing import Any

from napari_synapse_cl.data.arrays import ReadArray
from napari_synapse_cl.data.formats.multiscale import (
    Level,
    axis_names,
    ome_levels,
    ome_multiscales,
    transformed,
)
from napari_synapse_cl.data.formats.places import Messages, three_numbers, told_size
from napari_synapse_cl.data.formats.stores import Documents, Store


class ZarrNode:
    """An array or a group.

    Parameters
    ----------
    store
        Its folder.
    documents
        Those of its metadata that are there.
    """

    def __init__(self, store: Store, documents: Documents) -> None:
        self.store = store
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

    def open_level(self, level: Level, name: str) -> tuple[ReadArray, Messages]:
        """Open a level of a multiscale volume."""
        assert self._multiscales is not None
        names = axis_names(self._multiscales)
        return self.store.inside(level.path).open_array(self._driver, lambda _: names, name)

    def open_own(self, name: str) -> tuple[ReadArray, Messages]:
        """Open an array by itself."""
        return self.store.open_array(self._driver, self._names, name)

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

    @property
    def _driver(self) -> dict[str, Any]:
        return {"driver": "zarr3" if self._is_v3 else "zarr"}

    def _names(self, _: Any) -> list[str | None]:
        """Return the names of axes, as Zarr 3, funlib or xarray keep them."""
        found = self._node.get("dimension_names") or self._attributes.get(
            "axis_names", self._attributes.get("_ARRAY_DIMENSIONS")
        )
        # funlib marks axes that are not of space with a ^.
        return [str(name).removesuffix("^") for name in found] if isinstance(found, list) else []
