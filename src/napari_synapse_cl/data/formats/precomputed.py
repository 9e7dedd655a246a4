"""Neuroglancer's precomputed volumes, which count axes as x, y, z."""

from typing import Any

from napari_synapse_cl.data.arrays import ReadArray
from napari_synapse_cl.data.formats.multiscale import Level
from napari_synapse_cl.data.formats.places import Messages, size_in_nm, three_numbers
from napari_synapse_cl.data.formats.stores import Documents, Store
from napari_synapse_cl.errors import InputError


class PrecomputedNode:
    """A multiscale volume.

    Attributes
    ----------
    levels
        Its levels, in the order of the metadata.

    Parameters
    ----------
    store
        Its folder.
    documents
        Those of its metadata that are there.

    Raises
    ------
    InputError
        If it is a mesh or anything else that is no image.
    """

    def __init__(self, store: Store, documents: Documents) -> None:
        self.store = store
        info = documents.get("info", {})
        scales = info.get("scales")
        if not isinstance(scales, list) or not scales:
            kind = info.get("@type", "something else")
            raise InputError(f"{store.location.text} is no volume: its info describes {kind}")
        self.levels = [_level(scale) for scale in scales if isinstance(scale, dict)]

    def open_level(self, level: Level, name: str) -> tuple[ReadArray, Messages]:
        """Open a level."""
        driver = {
            "driver": "neuroglancer_precomputed",
            "scale_index": self.levels.index(level),
        }
        return self.store.open_array(driver, _names, name)


def _names(_: Any) -> list[str | None]:
    return ["x", "y", "z", "channel"]


def _level(scale: dict[str, Any]) -> Level:
    path = str(scale.get("key", "")).strip("/")
    sizes = three_numbers(reversed(scale.get("resolution", ())))
    corner = three_numbers(reversed(scale.get("voxel_offset", (0, 0, 0))))
    return Level(path, sizes, size_in_nm(sizes, "nm"), corner=corner)
