"""Volumes that are folders of chunks: Zarr, OME-Zarr, N5 and neuroglancer precomputed."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from napari_synapse_cl.data.arrays import ReadArray
from napari_synapse_cl.data.formats.locations import METADATA, Location
from napari_synapse_cl.data.formats.multiscale import Level, chosen, factor_of, offset_of
from napari_synapse_cl.data.formats.nodes import N5Node, Node, PrecomputedNode, ZarrNode
from napari_synapse_cl.data.formats.places import UNIT_FACTOR, Found, Messages, listed
from napari_synapse_cl.data.formats.stores import Store
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import VoxelSize

ZARR_2 = (".zarray", ".zgroup", ".zattrs")
LISTED = 11
"""Arrays that are looked for in a group: those that are shown, and one that stands for more."""

MOST_FOLDERS = 10_000
"""In a group that is looked through for its arrays."""


def open_chunked(location: Location, wanted: Sequence[float] | None) -> Found | None:
    """Open an array, the level that fits of a multiscale volume, or the one array of a group.

    Parameters
    ----------
    wanted
        Voxel size along z, y, x in nm that a level is wanted for.

    Returns
    -------
    Found or None
        None if it is of none of these formats.

    Raises
    ------
    InputError
        If it cannot be opened, or a group holds several arrays.
    """
    store = Store(location)
    node = _node(store)
    if node is None:
        around = _around(location, PrecomputedNode)
        return None if around is None else _open_level(*around, location.name)
    if node.is_array:
        around = _around(location, type(node))
        if around is not None:
            return _open_level(*around, location.name)
        level = node.own_level()
        return _found(*node.open(None, location.name), location, level, UNIT_FACTOR)
    if node.levels:
        return _open_level(node, chosen(node.levels, wanted), location.name)
    names = node.names_inside()
    if not names and not location.is_remote:
        names = list(islice(_volumes_in(node, "", {_inode(store)}), LISTED))
    if len(names) == 1:
        return open_chunked(location.inside(names[0]), wanted)
    example = location.inside(names[0] if names else "NAME").text
    if names:
        raise InputError(f"{location.text} holds {listed(names)}; name one, as in {example}")
    if location.is_remote:
        raise InputError(f"{location.text} is a group; name the array in it, as in {example}")
    raise InputError(f"{location.text} holds no array with three axes")


def _node(store: Store) -> Node | None:
    """Return what is in a folder, or None if it is of none of these formats."""
    documents, expected = store.read(METADATA), store.location.format
    if expected in (None, "zarr", "zarr3") and "zarr.json" in documents:
        return ZarrNode(store, {"zarr.json": documents["zarr.json"]})
    if expected in (None, "zarr", "zarr2") and any(name in documents for name in ZARR_2):
        return ZarrNode(store, {name: documents[name] for name in ZARR_2 if name in documents})
    folders = store.location.base.lower().replace("\\", "/").split("/")
    is_named_n5 = expected == "n5" or any(name.endswith(".n5") for name in folders)
    if expected in (None, "n5") and ("attributes.json" in documents or is_named_n5):
        node = N5Node(store, documents)
        # On a server a name alone may be that of nothing.
        is_there = "attributes.json" in documents or node.levels or not store.location.is_remote
        return node if is_there else None
    if expected in (None, "precomputed") and "info" in documents:
        return PrecomputedNode(store, documents)
    return None


def _around(location: Location, kind: type[Node]) -> tuple[Node, Level] | None:
    """Return the multiscale volume around an array, and the level that the array is of it."""
    for folder, path in location.enclosing():
        try:
            node = _node(Store(folder))
            levels = node.levels if isinstance(node, kind) else []
        except (InputError, ValueError, TypeError, KeyError, AttributeError):
            # What lies around a volume may be anything.
            continue
        for level in levels:
            if node is not None and level.path == path:
                return node, level
    return None


def _open_level(node: Node, level: Level, name: str) -> Found:
    place, factor = node.store.location.inside(level.path), factor_of(level, node.levels)
    return _found(*node.open(level, name), place, level, factor)


def _found(
    array: ReadArray, messages: Messages, location: Location, level: Level, factor: VoxelSize
) -> Found:
    if level.note:
        messages = (*messages, (f"{location.name} {level.note}", "info"))
    offset = offset_of(level, factor)
    return Found(array, location.text, level.voxel_size, offset, factor, messages)


def _volumes_in(group: Node, path: str, entered: set[tuple[int, int]]) -> Iterator[str]:
    """Yield the paths of arrays with three axes or more in a group, multiscale ones as one.

    Each folder is entered once, whatever links lead to it.
    """
    for name, folder in group.store.folders():
        if _inode(folder) in entered:
            continue
        entered.add(_inode(folder))
        if len(entered) > MOST_FOLDERS:
            raise InputError(
                f"{group.store.location.base} is in a group of more than {MOST_FOLDERS:,} folders; "
                "name the array in it, as in GROUP/NAME"
            )
        inner = f"{path}/{name}" if path else name
        # Groups of N5, and of some versions of Zarr, need no metadata.
        node = _node(folder) or type(group)(folder, {})
        if node.levels or (node.is_array and node.n_axes >= 3):
            yield inner
        elif not node.is_array:
            yield from _volumes_in(node, inner, entered)


def _inode(folder: Store) -> tuple[int, int]:
    stat = Path(folder.location.base).stat()
    return (stat.st_dev, stat.st_ino)
