"""Cut crops around positions: once, into a memory-mapped cache, or from the volume as they come."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_synapse_cl.data.arrays import bounded
from napari_synapse_cl.data.intensities import intensity_range, sample_blocks
from napari_synapse_cl.data.synapses import Positions
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.files import create_array, write_json

GIB = 2**30


class CropSource(Protocol):
    """Crops of one size around the synapses of a table."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size of a crop along z, y, x."""

    @property
    def positions(self) -> Positions:
        """Where the crops were cut."""

    def __len__(self) -> int:
        """Return the number of synapses."""

    def read(self, synapses: Sequence[int]) -> np.ndarray:
        """Return the crops of some synapses, ``(B, 1, D, H, W)`` float32 in [0, 1]."""


def cut_crop(volume: Volume, centre: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Cut a crop around a voxel, reflected where it reaches beyond the volume.

    Parameters
    ----------
    volume
        The volume to cut from.
    centre
        z, y, x of the voxel at index ``shape // 2`` of the crop.
    shape
        Size of the crop along z, y, x.

    Returns
    -------
    numpy.ndarray
        ``(D, H, W)``, in the type of the volume.

    Raises
    ------
    InputError
        If the crop holds a value that is not finite.
    """
    slices, picks = [], []
    for c, want, n in zip(centre, shape, volume.shape, strict=True):
        # Reflection at the outer faces of the border voxels, repeated as often as needed.
        index = (np.arange(want) + c - want // 2) % (2 * n)
        index = np.where(index < n, index, 2 * n - 1 - index)
        slices.append(slice(int(index.min()), int(index.max()) + 1))
        picks.append(index - index.min())
    crop = np.asarray(volume.array[tuple(slices)])
    if crop.dtype.kind == "f" and not np.isfinite(crop).all():
        raise InputError(
            f"{volume.name} holds values that are not finite (NaN or infinite) around "
            f"z, y, x = {', '.join(str(c) for c in centre)}; replace them or leave the synapse out"
        )
    return crop if crop.shape == tuple(shape) else crop[np.ix_(*picks)]


class StreamedCrops:
    """Crops that are cut from the volume each time they are read."""

    def __init__(self, volume: Volume, positions: Positions, shape: tuple[int, int, int]) -> None:
        self.volume = volume
        self.positions = positions
        self.shape = shape
        self.intensities = intensity_range(volume)

    def __len__(self) -> int:
        return len(self.positions.voxels)

    def cut(self, synapse: int) -> np.ndarray:
        """Return the crop of one synapse, ``(D, H, W)`` in the type of the volume."""
        return cut_crop(self.volume, self.positions.voxels[synapse].tolist(), self.shape)

    def read(self, synapses: Sequence[int]) -> np.ndarray:
        """Return the crops of some synapses, ``(B, 1, D, H, W)`` float32 in [0, 1]."""
        crops = np.empty((len(synapses), *self.shape), self.volume.array.dtype)
        for crop, synapse in zip(crops, synapses, strict=True):
            crop[:] = self.cut(synapse)
        return to_unit_range(crops, self.intensities)[:, None]


class CachedCrops:
    """Crops read from the folder that :func:`fill_cache` filled.

    Raises
    ------
    InputError
        If the folder is no such cache, or it is not filled.
    """

    def __init__(self, folder: Path) -> None:
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            self._crops = bounded(np.load(folder / "crops.npy", mmap_mode="r"))
            n_missing = int((~np.load(folder / "done.npy")).sum())
            voxels, rows = np.load(folder / "positions.npy"), np.load(folder / "rows.npy")
            self.positions = Positions(voxels, rows, int(index["n_outside"]))
            self.intensities: tuple[float, float] = tuple(index["intensities"])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folder} is no folder of crops: {error}") from None
        if n_missing:
            raise InputError(f"{n_missing} of {len(rows)} crops in {folder} have not been cut")
        _, z, y, x = self._crops.shape
        self.shape: tuple[int, int, int] = (z, y, x)

    def __len__(self) -> int:
        return int(self._crops.shape[0])

    def read(self, synapses: Sequence[int]) -> np.ndarray:
        """Return the crops of some synapses, ``(B, 1, D, H, W)`` float32 in [0, 1]."""
        crops = self._crops[np.asarray(synapses, dtype=np.int64)]
        return to_unit_range(crops, self.intensities)[:, None]


def cache_folder(source: StreamedCrops, parent: Path) -> Path:
    """Return the folder in `parent` for the cache of these crops, named by what they are."""
    identity = json.dumps(_identity(source), sort_keys=True)
    return parent / f"crops-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def fill_cache(source: StreamedCrops, folder: Path) -> Iterator[int]:
    """Cut the crops that are missing in a cache; yield after each how many there are.

    It can be broken off at any instant, and goes on with the crops that are missing.

    Raises
    ------
    InputError
        If the cache cannot be written, or a crop cannot be cut.
    """
    shape = (len(source), *source.shape)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        crops = _open_or_create(folder / "crops.npy", shape, source.volume.array.dtype)
        done = _open_or_create(folder / "done.npy", shape[:1], np.dtype(bool))
        np.save(folder / "positions.npy", source.positions.voxels)
        np.save(folder / "rows.npy", source.positions.rows)
        index = {"n_outside": source.positions.n_outside, "intensities": source.intensities}
        write_json(folder / "index.json", index)
    except OSError as error:
        raise InputError(f"cannot write the crops to {folder}: {error.strerror}") from None
    missing = np.flatnonzero(~done)
    for n_done, synapse in enumerate(missing, start=len(source) - len(missing) + 1):
        crops[synapse] = source.cut(int(synapse))
        # Marked after it is written, so that a mark never stands for a crop that is not there.
        done[synapse] = True
        yield n_done
    crops.flush()
    done.flush()


def cache_size(source: StreamedCrops) -> float:
    """Return the size in GiB of a cache of these crops."""
    return len(source) * float(np.prod(source.shape)) * source.volume.array.dtype.itemsize / GIB


def to_unit_range(crops: np.ndarray, intensities: tuple[float, float]) -> np.ndarray:
    """Map the range `intensities` to [0, 1] in float32; values beyond it are clipped."""
    low, high = intensities
    unit = crops.astype(np.float32)
    unit -= np.float32(low)
    unit /= np.float32(high - low)
    return np.clip(unit, 0, 1, out=unit)


def _identity(source: StreamedCrops) -> dict[str, Any]:
    """Say which crops these are: files by name, size and time of change, others by a sample."""
    volume, voxels = source.volume, source.positions.voxels
    identity: dict[str, Any] = {
        "shape": source.shape,
        "volume": [*volume.shape, str(volume.array.dtype)],
        "positions": hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).hexdigest(),
    }
    file = None if volume.location is None else Path(volume.location)
    if file is not None and file.is_file():
        stat = file.stat()
        identity["file"] = [str(file.absolute()), stat.st_size, stat.st_mtime_ns]
    else:
        sample = hashlib.sha256()
        for block in sample_blocks(volume):
            sample.update(np.ascontiguousarray(block).tobytes())
        identity["sample"] = sample.hexdigest()
    return identity


def _open_or_create(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap:
    """Open a ``.npy`` file for reading and writing; start it anew where it does not fit."""
    try:
        found = np.load(path, mmap_mode="r+", allow_pickle=False)
        if found.shape == shape and found.dtype == dtype:
            return found
    except (OSError, ValueError):
        pass
    return create_array(path, shape, dtype)
