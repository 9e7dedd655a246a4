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
HEADER_BYTES = 1024
FIELDS = {
    "size": (0, "3", "i4"),
    "mode": (12, "", "i4"),
    "start": (16, "3", "i4"),
    "intervals": (28, "3", "i4"),
    "cell": (40, "3", "f4"),
    "axes": (64, "3", "i4"),
    "range": (76, "2", "f4"),
    "n_extended": (92, "", "i4"),
    "imod_stamp": (152, "", "i4"),
    "imod_flags": (156, "", "i4"),
    "origin": (196, "3", "f4"),
}
"""Where what is read of the header lies, how many there are of it, and its type."""
TYPES = {1: "i2", 2: "f4", 6: "u2", 12: "f2"}
COMPLEX = (3, 4)
IMOD_STAMP = 1146047817
"""What IMOD writes where it says whether bytes are signed."""


def open_mrc(path: Path) -> Found:
    """Open an MRC file, memory-mapped.

    Raises
    ------
    InputError
        If it is none, is cut off, or holds no real grey values.
    """
    with path.open("rb") as file:
        content = file.read(HEADER_BYTES)
    if len(content) < HEADER_BYTES:
        raise InputError(f"{path} is cut off: it is shorter than the header of an MRC file")
    order = next((order for order in "<>" if _is_plausible(_fields(content, order))), None)
    if order is None:
        raise InputError(f"{path} is no MRC file, or its header is damaged")
    header = _fields(content, order)
    dtype = np.dtype(order + _dtype(header, path).str[1:])
    shape = tuple(int(n) for n in header["size"][::-1])
    start = HEADER_BYTES + int(header["n_extended"])
    missing = start + prod(shape) * dtype.itemsize - path.stat().st_size
    if missing > 0:
        raise InputError(f"{path} is cut off: {missing} bytes of its voxels are missing")
    messages = _messages(header, path.name, -missing)
    stored = bounded(np.memmap(path, dtype, "r", start, shape))
    size = _voxel_size(header)
    # Which of x, y, z (1, 2, 3) columns, rows and sections lie along.
    x, y, z = (int(axis) for axis in header["axes"])
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
    places = [*header["start"], *np.nan_to_num(header["origin"])]
    if any(places):
        messages += (
            (
                f"{name} tells an origin, which is not used: positions count from its first voxel",
                "info",
            ),
        )
    return messages


def _fields(content: bytes, order: str) -> np.void:
    layout: Any = {
        "names": list(FIELDS),
        "formats": [f"{n}{order}{kind}" for _, n, kind in FIELDS.values()],
        "offsets": [place for place, _, _ in FIELDS.values()],
        "itemsize": HEADER_BYTES,
    }
    header: np.void = np.frombuffer(content, np.dtype(layout))[0]
    return header


def _is_plausible(header: np.void) -> bool:
    return (
        0 <= header["mode"] < 128
        and bool((header["size"] > 0).all() and (header["size"] < 2**24).all())
        and 0 <= header["n_extended"] < 2**30
    )


def _dtype(header: np.void, path: Path) -> np.dtype[Any]:
    mode = int(header["mode"])
    if mode in COMPLEX:
        raise InputError(f"{path} holds complex values (mode {mode}); grey values are needed")
    if mode == 0:
        return np.dtype("i1" if _has_signed_bytes(header) else "u1")
    if mode not in TYPES:
        raise InputError(
            f"{path} holds values of the MRC mode {mode}; 0, 1, 2, 6 and 12 can be read"
        )
    return np.dtype(TYPES[mode])


def _has_signed_bytes(header: np.void) -> bool:
    """Whether bytes are signed, as MRC2014 has it, which many EM programs do not."""
    if header["imod_stamp"] == IMOD_STAMP:
        return bool(header["imod_flags"] & 1)
    low, high = header["range"]
    return not (low >= 0 and high > 127)


def _voxel_size(header: np.void) -> VoxelSize | None:
    if (header["intervals"] <= 0).any():
        return None
    in_angstrom = (header["cell"].astype(float) / header["intervals"])[::-1]
    # What programs write that do not know.
    is_unset = np.allclose(in_angstrom, 1, rtol=1e-6)
    return None if is_unset else size_in_nm(np.round(in_angstrom, 6), "angstrom")
