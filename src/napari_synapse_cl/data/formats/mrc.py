"""MRC files, as the programs of electron tomography write them (Cheng et al. 2015, MRC2014)."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.data.arrays import ReadArray, Region, bounded
from napari_synapse_cl.data.formats.places import Found, Messages, size_in_nm
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import VoxelSize

SUFFIXES = (".mrc", ".rec", ".st", ".map", ".mrcs")
TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
COMPLEX = (3, 4)
IMOD_STAMP = 1146047817
"""What IMOD writes where it says whether bytes are signed."""
_IMOD_PLACE = 40
"""Where that lies, in bytes of the header's second extra space."""


def open_mrc(path: Path) -> Found:
    """Open an MRC file, memory-mapped.

    Raises
    ------
    InputError
        If it is none, is cut off, or holds no real grey values.
    """
    # The window imports this module, and may open no such file.
    from mrcfile.dtypes import HEADER_DTYPE

    with path.open("rb") as file:
        content = file.read(HEADER_DTYPE.itemsize)
    if len(content) < HEADER_DTYPE.itemsize:
        raise InputError(f"{path} is cut off: it is shorter than the header of an MRC file")
    # What a machine stamp says is left out, or wrong, in files of many programs.
    headers = (np.frombuffer(content, HEADER_DTYPE.newbyteorder(order))[0] for order in "<>")
    header = next(filter(_is_plausible, headers), None)
    if header is None:
        raise InputError(f"{path} is no MRC file, or its header is damaged")
    dtype = _dtype(header, path)
    shape = header[["nz", "ny", "nx"]].item()
    start = HEADER_DTYPE.itemsize + int(header["nsymbt"])
    missing = start + prod(shape) * dtype.itemsize - path.stat().st_size
    if missing > 0:
        raise InputError(f"{path} is cut off: {missing} bytes of its voxels are missing")
    messages = _messages(header, path.name, -missing)
    stored = bounded(np.memmap(path, dtype, "r", start, shape))
    size = _voxel_size(header)
    # Which of x, y, z (1, 2, 3) columns, rows and sections lie along.
    x, y, z = header[["mapc", "mapr", "maps"]].item()
    if sorted((x, y, z)) != [1, 2, 3] or (x, y, z) == (1, 2, 3):
        return Found(stored, voxel_size=size, messages=messages)
    along = [{x: 2, y: 1, z: 0}[axis] for axis in (3, 2, 1)]

    def read(region: Region) -> np.ndarray:
        key: list[Any] = [None] * 3
        for axis, part in zip(along, region, strict=True):
            key[axis] = part
        return np.transpose(stored[tuple(key)], along)

    turned = ReadArray(tuple(shape[axis] for axis in along), dtype, read, path.name)
    return Found(turned, voxel_size=size, messages=messages)


def _messages(header: np.void, name: str, n_beyond: int) -> Messages:
    """Say what of a file was not used."""
    messages: Messages = ()
    if n_beyond > 0:
        messages += (
            (
                f"{name} has {n_beyond:,} bytes more than its header tells of, which are not read: "
                "if the image looks shifted, its extended header has another size than it says",
                "warning",
            ),
        )
    start = header[["nxstart", "nystart", "nzstart"]].item()
    if any(start) or any(np.nan_to_num(header["origin"].item())):
        messages += (
            (
                f"{name} tells an origin, which is not used: positions count from its first voxel",
                "info",
            ),
        )
    return messages


def _is_plausible(header: np.void) -> bool:
    return (
        0 <= header["mode"] < 128
        and all(0 < n < 2**24 for n in header[["nx", "ny", "nz"]].item())
        and 0 <= header["nsymbt"] < 2**30
    )


def _dtype(header: np.void, path: Path) -> np.dtype[Any]:
    mode = int(header["mode"])
    if mode in COMPLEX:
        raise InputError(f"{path} holds complex values (mode {mode}); grey values are needed")
    if mode not in TYPES:
        raise InputError(
            f"{path} holds values of the MRC mode {mode}; 0, 1, 2, 6 and 12 can be read"
        )
    kind = "u1" if mode == 0 and not _has_signed_bytes(header) else TYPES[mode]
    return np.dtype(kind).newbyteorder(_order(header))


def _order(header: np.void) -> Any:
    return header.dtype["mode"].byteorder


def _has_signed_bytes(header: np.void) -> bool:
    """Whether bytes are signed, as MRC2014 has it, which many EM programs do not."""
    stamp, flags = np.frombuffer(header["extra2"], f"{_order(header)}i4", 2, _IMOD_PLACE)
    if stamp == IMOD_STAMP:
        return bool(flags & 1)
    return not (header["dmin"] >= 0 and header["dmax"] > 127)


def _voxel_size(header: np.void) -> VoxelSize | None:
    intervals = np.array(header[["mz", "my", "mx"]].item())
    if (intervals <= 0).any():
        return None
    in_angstrom = np.array(header["cella"].item()[::-1]) / intervals
    # What programs write that do not know.
    is_unset = np.allclose(in_angstrom, 1, rtol=1e-6)
    return None if is_unset else size_in_nm(np.round(in_angstrom, 6), "angstrom")
