"""Open packages of the BioImage Model Zoo: which file in them holds a PyTorch state dict.

Of what a package describes this is taken, and the pooling that tensors do not tell. None of its
code is run, and none of the zoo's libraries is needed.
"""

import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.system.downloads import DESCRIPTIONS, is_url
from napari_synapse_cl.system.files import check_unpacked, read_yaml, sha256_of

LARGEST_DESCRIPTION = 2**22
"""Bytes; those of the zoo have some thousands."""
POOLING = "downsample_factors"
"""What VGG3D's argument is called that says how each stage is pooled."""
_STATE_DICT = "pytorch_state_dict"


def is_package(path: Path) -> bool:
    """Whether a file is a package, or the description of one that is unpacked around it.

    Raises
    ------
    OSError
        If it cannot be read.
    zipfile.BadZipFile
        If it is a damaged archive.
    """
    if path.name in DESCRIPTIONS:
        return path.is_file()
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return _description_in(archive) is not None


@contextmanager
def weights_of(package: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield what holds the state dict of a package, unpacked for as long, and what is said of it.

    Parameters
    ----------
    package
        For which :func:`is_package` holds.

    Yields
    ------
    file
        Its hash is the one that the package tells, if it does.
    said
        The pooling under ``downsample_factors``, if the package names it as VGG3D takes it.

    Raises
    ------
    InputError
        If the package has no such file, leads out of itself, or is damaged. One that is raised
        inside names the package and its file in place of the one that was unpacked.
    """
    with TemporaryDirectory() as folder:
        is_unpacked = package.name in DESCRIPTIONS
        try:
            entry = _entry(package if is_unpacked else _take(package, None, Path(folder)))
            source = str(entry["source"])
            if is_unpacked:
                weights = _beside(package, source)
            else:
                weights = _take(package, source, Path(folder))
            if entry.get("sha256") not in (None, sha256_of(weights)):
                raise ValueError(f"damaged: {source} in it does not match its hash")
        except ValueError as error:
            raise InputError(f"{package} is {error}") from None
        # Entries tell their check sums, sizes and methods, each of which may be wrong.
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            raise InputError(f"{package} is damaged, or encrypted: download it again") from None
        except OSError as error:
            raise InputError(f"{package} cannot be unpacked: {reason(error)}") from None
        try:
            yield weights, _said(entry)
        except InputError as error:
            told = str(error).replace(str(weights), f"{source} in {package}")
            raise InputError(told) from None


def _description_in(archive: zipfile.ZipFile) -> str | None:
    names = set(archive.namelist())
    return next((name for name in DESCRIPTIONS if name in names), None)


def _take(package: Path, name: str | None, folder: Path) -> Path:
    """Unpack an entry, without a name the description, under a name that leads nowhere else."""
    try:
        check_unpacked(package)
    except ValueError as error:
        raise ValueError(f"no package that is read: {error}") from None
    with zipfile.ZipFile(package) as archive:
        found = _description_in(archive) if name is None else name
        if found not in archive.namelist():
            raise ValueError(f"incomplete: {found} is not in it")
        if name is None and archive.getinfo(found).file_size > LARGEST_DESCRIPTION:
            raise ValueError(f"no package that is read: its {found} is too large")
        target = folder / ("description" if name is None else "weights.pt")
        with archive.open(found) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file)
    return target


def _beside(description: Path, source: str) -> Path:
    """Return a file of an unpacked package."""
    folder = description.parent.resolve()
    file = (folder / source).resolve()
    if not file.is_relative_to(folder):
        raise ValueError(f"no package that is read: its weights {source} are outside of its folder")
    if not file.is_file():
        raise ValueError(f"incomplete: {source} is not beside it")
    return file


def _said(entry: dict[str, Any]) -> dict[str, Any]:
    architecture = entry.get("architecture")
    # Format 0.4 has the arguments beside the architecture.
    within = architecture.get("kwargs") if isinstance(architecture, dict) else None
    arguments = within or entry.get("kwargs")
    pooling = arguments.get(POOLING) if isinstance(arguments, dict) else None
    return {} if pooling is None else {POOLING: pooling}


def _entry(description: Path) -> dict[str, Any]:
    """Return what a description tells of its state dict."""
    try:
        content = read_yaml(description)
    except ValueError as error:
        raise ValueError(f"damaged: its description cannot be read: {error}") from None
    if not isinstance(content, dict) or content.get("type") != "model":
        kind = content.get("type") if isinstance(content, dict) else None
        raise ValueError(f"a package of the type {kind!r:.50} and not of a model")
    weights = content.get("weights")
    entry = weights.get(_STATE_DICT) if isinstance(weights, dict) else None
    if not isinstance(entry, dict) or not isinstance(entry.get("source"), str):
        formats = ", ".join(map(str, weights)) if isinstance(weights, dict) else ""
        raise ValueError(
            f"a model whose weights are there as {formats or 'nothing'} and not as {_STATE_DICT}, "
            "which is needed"
        )
    if is_url(entry["source"]):
        raise ValueError(f"a model whose weights lie elsewhere: name {entry['source']} itself")
    return {**entry, "source": str(PurePosixPath(entry["source"]))}
