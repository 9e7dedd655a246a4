"""Feature maps on the disk, as Zarr arrays in one folder. Without PyTorch."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from napari_synapse_cl.errors import InputError, disk_in_words, reason
from napari_synapse_cl.features.maps.blocks import chunk_shape
from napari_synapse_cl.features.maps.grid import MapGrid, MapTile, map_bytes
from napari_synapse_cl.models.architecture import Layer
from napari_synapse_cl.system.words import Triple, storage

CHUNK_ELEMENTS = 2**17
"""Of small maps, several channels make a chunk, so that there are not too many files."""
COLOR_BYTES = 3
_OWN = re.compile(r"L\d+(_rgb)?|zarr\.json")
"""What a folder of maps holds."""


def array_name(layer: int) -> str:
    """Return the name of a layer's map: ``L20``."""
    return f"L{layer}"


def color_name(layer: int) -> str:
    """Return the name of a layer's map in colours: ``L20_rgb``."""
    return f"L{layer}_rgb"


def partial_folder(path: Path) -> Path:
    """Return the folder in which maps are written until they are whole."""
    return path.with_name(f".{path.stem}.partial.zarr")


class MapStore:
    """A Zarr group that takes feature maps tile by tile, one array a layer.

    Used as a context manager: unless :meth:`finish` was called, its folder is removed at the end. A
    map is ``(C, d, h, w)`` float32 and NaN where nothing is written yet. The attributes of the
    arrays say where they lie: ``axes``, ``stride``, ``origin`` (of the first element, in voxels),
    ``first``, ``layer``, ``layer_name``, ``voxel_size`` and ``provenance``; and once it has its
    final name, whether the map is ``complete``.

    Parameters
    ----------
    path
        The folder to be, ``<name>.zarr``. Until it is finished it is ``.<name>.partial.zarr``; what
        an earlier job left there is removed.
    layers
        The layers whose maps are stored.
    grids
        Where their elements lie, by the index of the layer.
    voxel_size
        Along z, y, x, in nm; None if it is not known.
    provenance
        What the maps were made from, in types of JSON.
    overwrite
        Whether maps that are at `path` already are replaced, once the new ones are whole.
    folder
        Where the maps are until they are finished, on the same file system; None for a folder
        beside `path`.

    Attributes
    ----------
    folder
        Where the maps are: the partial folder, and `path` when they are finished.

    Raises
    ------
    InputError
        If there is such a folder already, the disk has no room for the maps, or it can't be written
        to.
    """

    def __init__(
        self,
        path: Path,
        layers: Sequence[Layer],
        grids: Mapping[int, MapGrid],
        *,
        voxel_size: Sequence[float] | None,
        provenance: Mapping[str, Any],
        overwrite: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.path = path
        self.folder = folder or partial_folder(path)
        self._missing = {layer.index: grids[layer.index].n_elements for layer in layers}
        replaced = _replaced_folder(path)
        if replaced.exists() and not path.exists():
            # A job was killed while it replaced them, and these are the only whole ones.
            replaced.rename(path)
        if path.exists() and not overwrite:
            raise InputError(
                f"{path} is there already; replace it with --overwrite, or name another output "
                "folder"
            )
        if path.exists() and not _holds_maps(path):
            raise InputError(
                f"{path} is not replaced: it holds no feature maps of this program; choose another "
                "name"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            _remove_replaced(path)
            check_room(path.parent, layers, grids)
            group = zarr.open_group(self.folder, mode="w")
            common = {
                "voxel_size": None if voxel_size is None else list(voxel_size),
                "provenance": dict(provenance),
            }
            self._arrays = {
                layer.index: _create(
                    group, layer, grids[layer.index], chunk_shape(layer, layers), common
                )
                for layer in layers
            }
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise InputError(
                f"cannot write feature maps to {path.parent}: {reason(error)}"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder != self.path:
            shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, tile: MapTile) -> None:
        """Write the parts of a tile.

        Raises
        ------
        JobError
            If the disk is full, or can't be written to any more.
        """
        with writing(self.path.parent):
            for index, (slices, values) in tile.parts.items():
                write_chunks(self._arrays[index], slices, values)
                self._missing[index] -= values[0].size

    @property
    def is_whole(self) -> bool:
        """Whether every element has been written."""
        return not any(self._missing.values())

    def finish(self) -> None:
        """Give the folder its final name, and note in each map whether it is whole.

        Raises
        ------
        JobError
            If it can't be renamed, or what it replaces can't be removed.
        """
        finish_maps(self.folder, self.path, {i: not n for i, n in self._missing.items()})
        self.folder = self.path


def finish_maps(folder: Path, path: Path, is_complete: Mapping[int, bool]) -> None:
    """Give a folder of maps its final name, and note in each map whether it is whole.

    Parameters
    ----------
    folder, path
        Where the maps are, and where they go: maps that are there are replaced.
    is_complete
        Of each layer, by its index, whether all of its map was written.

    Raises
    ------
    JobError
        If it can't be renamed, or what it replaces can't be removed.
    """
    with writing(path.parent):
        for _, array in zarr.open_group(folder, mode="r+").arrays():
            array.update_attributes({"complete": is_complete[array.attrs["layer"]]})
        if path.exists():
            path.rename(_replaced_folder(path))
        folder.rename(path)
        _remove_replaced(path)


def move_maps(
    folder: Path, corner: Sequence[int], volume: str, intensities: Sequence[float]
) -> None:
    """Have maps that were made of a copy of a part of a volume say where they lie in the whole.

    Parameters
    ----------
    folder
        The folder of the maps.
    corner
        First voxel of the copy in the volume, along z, y, x.
    intensities
        The values of the volume that the network takes for 0 and 1.

    Raises
    ------
    JobError
        If that cannot be written.
    """
    with writing(folder.parent):
        for _, array in zarr.open_group(folder, mode="r+").arrays():
            attributes = array.attrs.asdict()
            record = attributes["provenance"]
            region = [n + corner[i % 3] for i, n in enumerate(record["region"])]
            along = list(zip(corner, attributes["stride"], strict=True))
            moved = {
                "origin": [n + c for n, c in zip(attributes["origin"], corner, strict=True)],
                "first": [n + c // s for n, (c, s) in zip(attributes["first"], along, strict=True)],
                "provenance": {
                    **record,
                    "region": region,
                    "volume": volume,
                    "intensities": list(intensities),
                },
            }
            array.update_attributes(moved)


def check_room(folder: Path, layers: Sequence[Layer], grids: Mapping[int, MapGrid]) -> None:
    """Check that the disk has room for maps and their colours.

    Raises
    ------
    InputError
        If it does not.
    OSError
        If there is no such folder.
    """
    needed = sum(
        map_bytes(layer, grids[layer.index]) + COLOR_BYTES * grids[layer.index].n_elements
        for layer in layers
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the feature maps take {storage(needed)} and {storage(free)} are free in {folder}; "
            "choose a smaller region or fewer layers"
        )


def writing(folder: Path) -> AbstractContextManager[None]:
    """Return the context in which what the disk says becomes a JobError."""
    return disk_in_words(lambda e: f"cannot write the feature maps to {folder}: {reason(e)}")


def compressors() -> tuple[BloscCodec, Crc32cCodec]:
    """Return how chunks are compressed: fast, and least where a chunk reaches beyond the map.

    A check sum follows, so that a damaged chunk is no other map.
    """
    return BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"), Crc32cCodec()


def _replaced_folder(path: Path) -> Path:
    """Return where maps are moved to before those that replace them take their name."""
    return path.with_name(f".{path.stem}.replaced.zarr")


def _holds_maps(path: Path) -> bool:
    """Whether a folder holds maps that this program has written."""
    for file in path.glob("L*/zarr.json"):
        try:
            attributes = json.loads(file.read_text(encoding="utf-8"))["attributes"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if _OWN.fullmatch(file.parent.name) and "provenance" in attributes:
            return True
    return False


def _remove_replaced(path: Path) -> None:
    """Remove maps that others have replaced; what else was among them stays at its place."""
    replaced = _replaced_folder(path)
    if not replaced.exists():
        return
    for part in list(replaced.iterdir()):
        if not _OWN.fullmatch(part.name) and not (path / part.name).exists():
            part.rename(path / part.name)
    shutil.rmtree(replaced)


def _create(
    group: zarr.Group, layer: Layer, grid: MapGrid, chunk: Triple, common: Mapping[str, Any]
) -> zarr.Array:
    """Make the array of a layer's map; `common` are attributes that all maps have."""
    z, y, x = (min(n, most) for n, most in zip(grid.shape, chunk, strict=True))
    channels = max(1, min(layer.channels, CHUNK_ELEMENTS // (z * y * x)))
    return group.create_array(
        array_name(layer.index),
        shape=(layer.channels, *grid.shape),
        chunks=(channels, z, y, x),
        dtype="float32",
        fill_value=np.nan,
        compressors=compressors(),
        dimension_names=("c", "z", "y", "x"),
        attributes={
            "axes": ["c", "z", "y", "x"],
            "stride": list(grid.stride),
            "origin": list(grid.origin),
            "first": list(grid.first),
            "layer": layer.index,
            "layer_name": layer.name,
            **common,
        },
    )


def write_chunks(array: zarr.Array, place: Sequence[slice], values: np.ndarray) -> None:
    """Write part of a map chunk by chunk.

    Zarr writes several chunks at once, and when one fails the others go on behind the error.

    Parameters
    ----------
    place
        Where it belongs, along z, y, x.
    values
        ``(C, d, h, w)`` float32.
    """
    slices = (slice(0, len(values)), *place)
    for pieces in product(*map(_pieces, slices, array.chunks)):
        within = tuple(
            slice(p.start - s.start, p.stop - s.start) for p, s in zip(pieces, slices, strict=True)
        )
        array[pieces] = values[within]


def _pieces(part: slice, chunk: int) -> list[slice]:
    """Cut a slice where chunks meet."""
    inner = range((part.start // chunk + 1) * chunk, part.stop, chunk)
    return [slice(low, high) for low, high in pairwise([part.start, *inner, part.stop])]
