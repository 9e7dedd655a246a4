"""Crops are cut once, into a memory-mapped cache."""

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from napari_synapse_cl.control import Control
from napari_synapse_cl.data.arrays import bounded
from napari_synapse_cl.data.crop_identity import VERSION, crop_settings
from napari_synapse_cl.data.crops import CropSource, StreamedCrops
from napari_synapse_cl.data.cutting import CUBES, REASONS, CropState
from napari_synapse_cl.data.labels import VoxelSize
from napari_synapse_cl.data.synapses import Positions
from napari_synapse_cl.data.windows import to_unit_range
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.events import Message
from napari_synapse_cl.files import create_array, remove_partial, replacing, write_json
from napari_synapse_cl.holding import HeldError, Hold

GIB = 2**30
FILES = ("index.json", "positions.npz", "states.npy", "windows.npy", "crops.npy")
"""All that a cache holds."""
CUT_AT_ONCE = 16
WAIT_SECONDS = 0.5
"""Between two looks whether another job has cut the crops."""
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile)


class CachedCrops(CropSource):
    """Crops read from the folder that :func:`fill_cache` filled.

    Attributes
    ----------
    settings
        Those of the crops' section that they were cut with.
    voxel_size
        Their voxel size along z, y, x in nm, or None where it is not known.
    image_sizes
        Likewise of each volume they were cut from; none where that was not written down.
    n_rows
        Rows of the table of synapses.

    Raises
    ------
    InputError
        If the folder is no such cache, or it is not filled.
    """

    def __init__(self, folder: Path) -> None:
        inner = [] if (folder / "index.json").exists() else sorted(folder.glob("crops-*"))
        if inner:
            raise InputError(f"{folder} is no folder of crops; {inner[0]} in it is one")
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            if index.get("version") != VERSION:
                raise ValueError("it was written by another version")
            self._crops = bounded(np.load(folder / "crops.npy", mmap_mode="r"))
            self._states: np.ndarray = np.load(folder / "states.npy")
            self._windows: np.ndarray = np.load(folder / "windows.npy")
            with np.load(folder / "positions.npz") as file:
                placed = dict(file)
            self.settings = dict(index["settings"])
            self.n_rows = int(index["n_rows"])
            size = index["voxel_size"]
            self.voxel_size = _triple(size) if size else None
            self.image_sizes = tuple(map(_triple, index.get("image_sizes", ())))
            self.positions = Positions(
                placed["voxels"], placed["rows"], int(index["n_outside"]), placed.get("volumes")
            )
        # What is cut off or was written by something else is damaged in many ways.
        except (*DAMAGE, OSError) as error:
            raise InputError(f"{folder} is no folder of crops: {error}") from None
        n_missing = int((self._states == CropState.MISSING).sum())
        if n_missing:
            raise InputError(f"{n_missing} of {len(self._states)} crops in {folder} were not cut")
        _, z, y, x = self._crops.shape
        self.shape = (z, y, x)

    def read_usable(self, synapses: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the crops of those synapses that can be used, and which these are."""
        usable = np.asarray(synapses, dtype=np.int64)
        usable = usable[self._states[usable] == CropState.GOOD]
        return to_unit_range(self._crops[usable], self._windows[usable])[:, None], usable

    def states(self) -> np.ndarray | None:
        """Return the :class:`CropState` of each crop, ``(N,)`` uint8."""
        return self._states

    def problem(self, synapse: int) -> str:
        """Say in a sentence why the crop of a synapse cannot be used."""
        voxel = ", ".join(map(str, self.positions.voxels[synapse].tolist()))
        return f"the crop around z, y, x = {voxel} {REASONS[CropState(self._states[synapse])]}"


def fill_cache(source: StreamedCrops, folder: Path, n_rows: int) -> Iterator[int]:
    """Cut the crops that are missing in a cache; yield, as they come, how many there are.

    It can be broken off at any instant, and goes on with the crops that are missing.

    Parameters
    ----------
    source
        Cuts the crops.
    folder
        Of the cache.
    n_rows
        Rows of the table of synapses.

    Raises
    ------
    InputError
        If the cache cannot be written.
    JobError
        If a volume cannot be read.
    """
    n = len(source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        crops = _open_or_create(folder / "crops.npy", (n, *source.shape), source.dtype)
        windows = _open_or_create(folder / "windows.npy", (n, 2), np.dtype(float))
        states = _open_or_create(folder / "states.npy", (n,), np.dtype(np.uint8))
        positions = source.positions
        placed: dict[str, Any] = {"voxels": positions.voxels, "rows": positions.rows}
        if positions.volumes is not None:
            placed["volumes"] = positions.volumes
        # Another run may be reading the same cache.
        with replacing(folder / "positions.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, **placed)
        index = {
            "version": VERSION,
            "n_rows": n_rows,
            "n_outside": positions.n_outside,
            "settings": crop_settings(source.config),
            "voxel_size": source.voxel_size,
            "image_sizes": [part.voxel_size or CUBES for part in source.parts],
        }
        write_json(folder / "index.json", index)
    except OSError as error:
        raise InputError(f"cannot write the crops to {folder}: {error.strerror}") from None
    missing = np.flatnonzero(states == CropState.MISSING).tolist()
    n_done = n - len(missing)
    for first in range(0, len(missing), CUT_AT_ONCE):
        some = missing[first : first + CUT_AT_ONCE]
        for synapse, crop in zip(some, source.cut(some), strict=True):
            crops[synapse] = crop.voxels
            windows[synapse] = crop.window
            # Marked after it is written, so that a mark never stands for a crop that is not there.
            states[synapse] = crop.state
            n_done += 1
            yield n_done
    for array in (crops, windows, states):
        array.flush()


def hold_cache(folder: Path, control: Control) -> Generator[Message, None, Hold | None]:
    """Hold the folder of a cache once nobody else fills it; return None if the job ends before.

    Raises
    ------
    InputError
        If it cannot be written to.
    """
    told = False
    while not control.stopping:
        try:
            return Hold(folder, "folder of crops")
        except HeldError as error:
            if not told:
                yield Message(f"{error.holder} cuts the same crops into {folder}: waiting for it")
            told = True
            control.wait_for_stop(WAIT_SECONDS)
    return None


def remove_crops(folder: Path) -> None:
    """Remove a cache; files that are not of it stay, and the folder with them."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
        remove_partial(folder / name)
    with suppress(OSError):
        folder.rmdir()


def cache_size(source: StreamedCrops) -> float:
    """Return the size in GiB of a cache of these crops."""
    return len(source) * float(np.prod(source.shape)) * source.dtype.itemsize / GIB


def _triple(lengths: Sequence[float]) -> VoxelSize:
    z, y, x = lengths
    return (z, y, x)


def _open_or_create(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap:
    """Open a ``.npy`` file for reading and writing; start it anew where it does not fit."""
    try:
        found = np.load(path, mmap_mode="r+", allow_pickle=False)
        if found.shape == shape and found.dtype == dtype:
            return found
    except (OSError, ValueError):
        pass
    return create_array(path, shape, dtype)
