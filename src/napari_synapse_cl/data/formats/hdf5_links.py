"""What an HDF5 file may lead to: datasets of its own, and of files in its folder.

A file that came from elsewhere can name any file of this machine as the place of its voxels.
"""

from pathlib import Path
from typing import Any

from napari_synapse_cl.errors import InputError

MOST_LINKS = 32
"""From one to the next; more are a circle."""
HOW = "; copy that dataset into one file, as h5repack and h5copy do"


def check_path(file: Any, path: Path, inner: str) -> None:
    """Check where the links on a path in a file lead, before any of them is followed.

    Parameters
    ----------
    file
        The file, or a group of it.
    path
        Where it lies.
    inner
        Path in it.

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
