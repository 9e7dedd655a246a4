"""Crops are cut once, into a memory-mapped cache."""

import hashlib
import json
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike

from napari_synapse_cl.data.arrays import bounded
from napari_synapse_cl.data.crops.cutting import CUBES, REASONS, CropState
from napari_synapse_cl.data.crops.sources import VERSION, CropSource, StreamedCrops, crop_settings
from napari_synapse_cl.data.intensity import to_unit_range
from napari_synapse_cl.data.parts import Positions
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.runs.events import Control, Event, Message, Progress
from napari_synapse_cl.system.files import (
    check_unpacked,
    create_array,
    open_array,
    read_json,
    replacing,
    write_json,
)
from napari_synapse_cl.system.folder_lock import HeldError, Hold
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.system.words import triple

CUT_AT_ONCE = 16
WAIT_SECONDS = 0.5
"""Between two looks whether another job has cut the crops."""
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile)
HASH = "sha256"
"""In the index: a hash of the rest of it. Caches of older versions have none."""
SUMS = "sums.npy"
"""The CRC-32 of each crop with its window and state; caches of older versions have none."""


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
            index = _read_index(folder)
            crops, windows, states = (
                open_array(folder / f"{name}.npy", "r") for name in ("crops", "windows", "states")
            )
            self._crops = bounded(crops)
            self._windows, self._states = np.array(windows), np.array(states)
            self._sums = np.array(open_array(folder / SUMS, "r")) if HASH in index else None
            n = len(crops)
            if crops.ndim != 4 or self._windows.shape != (n, 2) or self._states.shape != (n,):
                raise ValueError("its arrays do not fit each other")
            if self._sums is not None and self._sums.shape != (n,):
                raise ValueError("its check sums do not fit its crops")
            if n and int(self._states.max()) > max(CropState):
                raise ValueError("its states are damaged")
            packed = folder / "positions.npz"
            check_unpacked(packed)
            # np.load leaves a damaged file open.
            with packed.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                placed = dict(file)
            if placed["voxels"].shape != (n, 3) or placed["rows"].shape != (n,):
                raise ValueError("its positions do not fit its crops")
            self.settings = dict(index["settings"])
            self.n_rows = int(index["n_rows"])
            size = index["voxel_size"]
            self.voxel_size = triple(size) if size else None
            self.image_sizes = tuple(map(triple, index.get("image_sizes", ())))
            self.positions = Positions(
                placed["voxels"], placed["rows"], int(index["n_outside"]), placed.get("volumes")
            )
        # What is cut off or was written by something else is damaged in many ways.
        except (*DAMAGE, OSError) as error:
            why = reason(error) if isinstance(error, OSError) else error
            raise InputError(f"{folder} is no folder of crops: {why}") from None
        self._folder = folder
        self._trusted = np.full(n, self._sums is None)
        n_missing = int((self._states == CropState.MISSING).sum())
        if n_missing:
            raise InputError(f"{n_missing} of {len(self._states)} crops in {folder} were not cut")
        _, z, y, x = self._crops.shape
        self.shape = (z, y, x)
        # What is left out is told before it is read.
        self._check(np.flatnonzero(self._states != CropState.GOOD))

    def read_usable(self, synapses: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the crops of those synapses that can be used, and which these are."""
        usable = np.asarray(synapses, dtype=np.int64)
        usable = usable[self._states[usable] == CropState.GOOD]
        self._check(usable)
        return to_unit_range(self._crops[usable], self._windows[usable])[:, None], usable

    def _check(self, synapses: np.ndarray) -> None:
        """Compare crops with their check sums when they are first read.

        Raises
        ------
        InputError
            If one differs.
        """
        for synapse in synapses[~self._trusted[synapses]]:
            assert self._sums is not None
            crop = (self._crops[synapse], self._windows[synapse], self._states[synapse])
            if _sum(*crop) != self._sums[synapse]:
                raise InputError(
                    f"the crops in {self._folder} are damaged: that of synapse {synapse} does not "
                    "match its check sum. A training on the volume cuts it anew; of crops that are "
                    "named as --crops take a copy, or have them cut again"
                )
            self._trusted[synapse] = True

    def states(self) -> np.ndarray | None:
        """Return the :class:`CropState` of each crop, ``(N,)`` uint8."""
        return self._states

    def close(self) -> None:
        """Let go of the file; nothing can be read any more."""
        self._crops = np.empty((0, *self.shape), np.uint8)

    def problem(self, synapse: int) -> str:
        """Say in a sentence why the crop of a synapse cannot be used."""
        voxel = ", ".join(map(str, self.positions.voxels[synapse].tolist()))
        return f"the crop around z, y, x = {voxel} {REASONS[CropState(self._states[synapse])]}"


def fill_cache(
    source: StreamedCrops, folder: Path, n_rows: int, told: list[str] | None = None
) -> Iterator[Progress]:
    """Check the crops that are in a cache and cut those that are missing; yield how far it is.

    It can be broken off at any instant, and goes on with the crops that are missing. Those that are
    there are read once, and cut anew if they do not match their check sums.

    Parameters
    ----------
    source
        Cuts the crops.
    folder
        Of the cache.
    n_rows
        Rows of the table of synapses.
    told
        What is cut anew, since it was damaged, is appended to it in words.

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
        is_checked = _is_checked(folder)
        crops = _open_or_create(folder / "crops.npy", (n, *source.shape), source.dtype)
        windows = _open_or_create(folder / "windows.npy", (n, 2), np.dtype(float))
        states = _open_or_create(folder / "states.npy", (n,), np.dtype(np.uint8))
        sums = _open_or_create(folder / SUMS, (n,), np.dtype(np.uint32))
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
        arrays = (crops, windows, states, sums)
        n_damaged = yield from _check(*arrays, is_checked=is_checked)
        if n_damaged and told is not None:
            told.append(
                f"{n_damaged:,} of {n:,} crops in {folder} do not match their check sums, so "
                "they are cut anew: make sure that its disk is sound"
            )
        write_json(folder / "index.json", {**index, HASH: _hash_of(index)})
    except OSError as error:
        raise InputError(f"cannot write the crops to {folder}: {reason(error)}") from None
    missing = np.flatnonzero(states == CropState.MISSING).tolist()
    n_done = n - len(missing)
    for first in range(0, len(missing), CUT_AT_ONCE):
        some = missing[first : first + CUT_AT_ONCE]
        for synapse, crop in zip(some, source.cut(some), strict=True):
            crops[synapse] = crop.voxels
            windows[synapse] = crop.window
            sums[synapse] = _sum(crops[synapse], windows[synapse], crop.state)
            # Marked after it is written, so that a mark never stands for a crop that is not there.
            states[synapse] = crop.state
            n_done += 1
            yield Progress("cutting crops", n_done, n)
    for array in arrays:
        array.flush()


def cut_crops(
    source: StreamedCrops, folder: Path, n_rows: int, control: Control
) -> Iterator[Event]:
    """Fill a cache as :func:`fill_cache` does, once nobody else fills it, until the job ends.

    Raises
    ------
    InputError, JobError
        As that.
    """
    hold = yield from _hold(folder, control)
    if hold is None:
        return
    told: list[str] = []
    with hold:
        for progress in fill_cache(source, folder, n_rows, told):
            yield progress
            yield from control.pauses()
            if control.stopping:
                break
    for text in told:
        yield Message(text, "warning")


def _hold(folder: Path, control: Control) -> Generator[Message, None, Hold | None]:
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


def cache_size(source: StreamedCrops) -> float:
    """Return the size in GiB of a cache of these crops."""
    return len(source) * float(np.prod(source.shape)) * source.dtype.itemsize / GIB


def _read_index(folder: Path) -> dict[str, Any]:
    """Return what describes a cache.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is damaged, or that of another version.
    """
    index = read_json(folder / "index.json")
    if not isinstance(index, dict) or index.get("version") != VERSION:
        raise ValueError("it was written by another version")
    rest = {name: value for name, value in index.items() if name != HASH}
    if index.get(HASH, _hash_of(rest)) != _hash_of(rest):
        raise ValueError("its index is damaged: it does not match its hash")
    return index


def _is_checked(folder: Path) -> bool:
    """Whether a cache has check sums: all but those of older versions, which are sound."""
    try:
        return HASH in _read_index(folder)
    except (OSError, ValueError):
        return True


def _hash_of(index: dict[str, Any]) -> str:
    plain = json.dumps(index, sort_keys=True, default=list)
    return hashlib.sha256(plain.encode()).hexdigest()


def _sum(crop: np.ndarray, window: np.ndarray, state: ArrayLike) -> int:
    """Return the check sum of a crop, with its window and its state."""
    so_far = zlib.crc32(np.asarray(window, dtype="<f8").tobytes())
    so_far = zlib.crc32(np.asarray(state, dtype=np.uint8).tobytes(), so_far)
    return zlib.crc32(np.ascontiguousarray(crop).data, so_far)


def _check(
    crops: np.ndarray,
    windows: np.ndarray,
    states: np.ndarray,
    sums: np.ndarray,
    *,
    is_checked: bool,
) -> Generator[Progress, None, int]:
    """Mark crops that do not match their check sums as missing; return how many these are.

    Older caches are given their check sums. One that is broken off has marked nothing.
    """
    there = np.flatnonzero(states != CropState.MISSING).tolist()
    damaged = []
    for n_done, synapse in enumerate(there, start=1):
        found = _sum(crops[synapse], windows[synapse], states[synapse])
        if not is_checked:
            sums[synapse] = found
        elif found != sums[synapse]:
            damaged.append(synapse)
        yield Progress("checking crops", n_done, len(there))
    states[damaged] = CropState.MISSING
    return len(damaged)


def _open_or_create(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap:
    """Open a ``.npy`` file for reading and writing; start it anew where it does not fit."""
    with suppress(OSError, ValueError):
        found = open_array(path, "r+")
        if found.shape == shape and found.dtype == dtype:
            return found
        # Windows begins no file anew that is mapped.
        del found
    return create_array(path, shape, dtype)
