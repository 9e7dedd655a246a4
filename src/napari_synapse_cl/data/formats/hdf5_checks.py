"""What an HDF5 file that came from elsewhere may lead to and unpack to.

It can name any file of this machine as the place of its voxels. A chunk may unpack to far more than
it is to hold: HDF5 fills the memory with it, and takes the beginning.
"""

import threading
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.system.files import (
    HEAD_BYTES,
    check_swelling,
    inflates_beyond,
    is_harmless,
)

DEFLATE = 1
"""HDF5's number for gzip."""
REMEMBERED = 2**20
"""How many chunks are remembered to be sound."""

SPARSE_BYTES = 4
"""Of an element that is kept only where it is not 0; in memory all are."""

MOST_LINKS = 32
"""From one to the next; more are a circle."""
HOW = "; copy that dataset into one file, as h5repack and h5copy do"


def check_path(file: Any, path: Path, inner: str) -> None:
    """Check where the links on a path in a file lead, before any of them is followed.

    Parameters
    ----------
    file
        The file, or a group of it.

    Raises
    ------
    InputError
        If one leads to a file outside of the folder, or they lead in circles.
    """
    _follow(file, path, inner.split("/"), MOST_LINKS)


def check_storage(dataset: Any, path: Path, n_left: int = MOST_LINKS) -> None:
    """Check that a dataset has its voxels in this file, or in others of the folder that are there.

    HDF5 takes what is missing for the fill value.

    Raises
    ------
    InputError
        If it has not.
    """
    import h5py

    name = f"{path}{dataset.name}"
    if dataset.external:
        raise InputError(
            f"{name} has its voxels in another file, {dataset.external[0][0]}, and may so read any "
            f"file{HOW}"
        )
    if not dataset.is_virtual:
        return
    if not n_left:
        raise InputError(f"{name} is put together of itself")
    for _, file_name, source, _ in dataset.virtual_sources():
        file = path if file_name == "." else _in_folder(path, file_name, name)
        with h5py.File(file, "r", locking=False) as opened:
            check_path(opened, file, source)
            if not isinstance(opened.get(source), h5py.Dataset):
                raise InputError(
                    f"{name} is put together of others, of which {source} in {file} is missing"
                )
            check_storage(opened[source], file, n_left - 1)


def check_whole(path: Path) -> None:
    """Check a file all of which is read at once, such as those of AnnData.

    Raises
    ------
    InputError
        If something in it lies in another file.
    JobError
        If a chunk unpacks to far more than it is to hold.
    ValueError
        If all of it unpacks to many times its size.
    """
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        links: list[tuple[str, Any]] = []
        # What is raised in there comes out as an error of h5py.
        file.visititems_links(lambda name, link: links.append((name, link)))
        sizes = [_size_of(file, path, name, link) for name, link in links]
    check_swelling(sum(sizes), path)


def _size_of(file: Any, path: Path, name: str, link: Any) -> int:
    """Return what something in a file takes in memory; see :func:`check_whole`."""
    import h5py

    if isinstance(link, h5py.ExternalLink):
        _in_folder(path, link.filename, f"{path}, {name}")
    node = file[name] if isinstance(link, h5py.HardLink) else None
    if isinstance(node, h5py.Dataset) and node.shape is not None:
        check_storage(node, path)
        if node.chunks is not None:
            SoundChunks(node).check(tuple(slice(0, n) for n in node.shape))
        return prod(node.shape) * node.dtype.itemsize
    if isinstance(node, h5py.Group) and "shape" in node.attrs:
        return prod(map(int, node.attrs["shape"])) * SPARSE_BYTES
    return 0


def _follow(group: Any, path: Path, parts: list[str], n_left: int) -> None:
    import h5py

    for i, part in enumerate(parts):
        if not part:
            continue
        if not isinstance(group, h5py.Group):
            return
        link = group.get(part, getlink=True)
        rest = parts[i + 1 :]
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink) and not n_left:
            raise InputError(f"{path} has links that lead in a circle, at {group.name}")
        if isinstance(link, h5py.ExternalLink):
            file = _in_folder(path, link.filename, f"{path}, {part}")
            with h5py.File(file, "r", locking=False) as opened:
                _follow(opened, file, [*link.path.split("/"), *rest], n_left - 1)
            return
        if isinstance(link, h5py.SoftLink):
            start = group.file if link.path.startswith("/") else group
            _follow(start, path, [*link.path.split("/"), *rest], n_left - 1)
            return
        if link is None:
            return
        group = group[part]


def _in_folder(path: Path, name: str, what: str) -> Path:
    """Return a file that another one names, if it lies in the folder of that one."""
    folder = path.absolute().parent
    file = (folder / name).resolve()
    if not any(file.is_relative_to(around) for around in (folder.resolve(), path.resolve().parent)):
        raise InputError(
            f"{what} lies in another file, {name}, which is not in the folder of {path.name}: what "
            f"it names could be any file{HOW}"
        )
    if not file.is_file():
        raise InputError(f"{what} lies in another file, {name}, which is missing")
    return file


class SoundChunks:
    """Checks chunks before they are read.

    Parameters
    ----------
    dataset
        Of h5py.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        made = dataset.id.get_create_plist()
        filters = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
        self._is_deflated = filters[-1:] == [DEFLATE]
        self._sound: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()
        self._n_bytes = prod(dataset.chunks or ()) * dataset.dtype.itemsize

    def check(self, key: tuple[Any, ...]) -> None:
        """Check the chunks that a region touches.

        Parameters
        ----------
        key
            Slices and integers along the axes of the dataset.

        Raises
        ------
        JobError
            If one unpacks to far more than it is to hold.
        """
        if not self._is_deflated:
            return
        ranges = []
        for along, step in zip(key, self._dataset.chunks, strict=True):
            start, stop = (
                (along.start, along.stop) if isinstance(along, slice) else (along, along + 1)
            )
            ranges.append(range(start // step * step, stop, step))
        for place in product(*ranges):
            if place not in self._sound:
                self._check_one(place)
                with self._lock:
                    if len(self._sound) < REMEMBERED:
                        self._sound.add(place)

    def _check_one(self, place: tuple[int, ...]) -> None:
        stored = self._dataset.id.get_chunk_info_by_coord(place).size
        if is_harmless(stored, self._n_bytes):
            return
        is_sound = stored <= 2 * self._n_bytes + HEAD_BYTES
        if is_sound:
            mask, packed = self._dataset.id.read_direct_chunk(place)
            is_sound = bool(mask) or not inflates_beyond(packed, self._n_bytes)
        if not is_sound:
            raise JobError(
                f"{self._dataset.file.filename}{self._dataset.name} is damaged: its chunk at "
                f"{', '.join(map(str, place))} unpacks to far more than the {self._n_bytes:,} "
                "bytes of a chunk"
            )
