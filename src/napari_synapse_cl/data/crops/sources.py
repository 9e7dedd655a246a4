"""Where crops come from, cut as they are read or once for a cache; and what identifies them."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np

from napari_synapse_cl.config import CropConfig, is_url
from napari_synapse_cl.data.crops.cutting import REASONS, Crop, CropState, Cutter, cut_crop
from napari_synapse_cl.data.formats.locations import METADATA, Location, parse, split_file
from napari_synapse_cl.data.formats.slices import slice_files
from napari_synapse_cl.data.formats.stores import Store
from napari_synapse_cl.data.intensity import sample_blocks, to_unit_range
from napari_synapse_cl.data.parts import Part, Positions
from napari_synapse_cl.data.volumes import AlignedLabels, Volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import VoxelSize, triple

THREADS = 8
"""Crops that are read at a time of volumes on servers, which answer late."""


class CropSource(ABC):
    """Crops of one size around the synapses of a table."""

    shape: tuple[int, int, int]
    """Size of a crop along z, y, x."""
    positions: Positions
    """Where the crops are."""

    def __len__(self) -> int:
        return len(self.positions.voxels)

    def read(self, synapses: Sequence[int]) -> np.ndarray:
        """Return the crops of some synapses, ``(B, 1, D, H, W)`` float32 in [0, 1].

        Raises
        ------
        InputError
            If one of them cannot be used.
        """
        crops, usable = self.read_usable(synapses)
        if len(usable) < len(synapses):
            raise InputError(self.problem(int(np.setdiff1d(synapses, usable)[0])))
        return crops

    @abstractmethod
    def read_usable(self, synapses: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the crops of those synapses that can be used.

        Returns
        -------
        crops
            ``(B, 1, D, H, W)`` float32 in [0, 1].
        synapses
            ``(B,)``, which of the synapses they are.
        """

    @abstractmethod
    def states(self) -> np.ndarray | None:
        """Return the :class:`CropState` of each crop, ``(N,)`` uint8; None if it is not known."""

    @abstractmethod
    def problem(self, synapse: int) -> str:
        """Say in a sentence why the crop of a synapse cannot be used."""

    def close(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Let go of files that may be removed; nothing can be read any more."""


class StreamedCrops(CropSource):
    """Crops that are cut from their volumes each time they are read.

    Parameters
    ----------
    positions
        Where to cut.
    config
        What crops are made of what is cut.
    shape
        Size of a crop along z, y, x.
    voxel_size
        Voxel size of the crops along z, y, x in nm; None for that of the images.

    Raises
    ------
    InputError
        If a volume has no contrast, or what is to be kept cannot be told from its labels.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        positions: Positions,
        config: CropConfig,
        shape: tuple[int, int, int],
        voxel_size: VoxelSize | None = None,
    ) -> None:
        self.parts = tuple(parts)
        self.positions = positions
        self.config = config
        self.shape = shape
        self.voxel_size = voxel_size
        partners = list(positions.partners)
        self._cutters = [Cutter(part, config, shape, voxel_size, partners) for part in parts]
        remote = any(part.volume.location and is_url(part.volume.location) for part in parts)
        self._n_threads = THREADS if remote else 1

    def around(self, positions: Positions) -> Self:
        """Return crops of the same volumes at other positions; no voxel is read for that."""
        others = copy(self)
        others.positions = positions
        return others

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels of all crops."""
        return np.result_type(*(cutter.dtype for cutter in self._cutters))

    def cut(self, synapses: Sequence[int]) -> Iterator[Crop]:
        """Yield the crops of some synapses, in their order."""
        if self._n_threads == 1 or len(synapses) == 1:
            yield from map(self._cut, synapses)
            return
        with ThreadPoolExecutor(self._n_threads) as pool:
            yield from pool.map(self._cut, synapses)

    def read_usable(self, synapses: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the crops of those synapses that can be used, and which these are."""
        cut = list(self.cut(synapses))
        good = [i for i, crop in enumerate(cut) if crop.state == CropState.GOOD]
        crops = np.empty((len(good), *self.shape), self.dtype)
        for target, i in zip(crops, good, strict=True):
            target[:] = cut[i].voxels
        windows = np.array([cut[i].window for i in good], dtype=float).reshape(-1, 2)
        return to_unit_range(crops, windows)[:, None], np.asarray(synapses)[good]

    def states(self) -> np.ndarray | None:
        """Return None: a crop has to be cut for its state to be known."""
        return None

    def stride(self, volume: int) -> tuple[float, float, float]:
        """Return how many voxels of a volume make one of its crops, along z, y, x."""
        have = self.parts[volume].voxel_size
        if have is None or self.voxel_size is None:
            return (1.0, 1.0, 1.0)
        return triple(want / length for want, length in zip(self.voxel_size, have, strict=True))

    def problem(self, synapse: int) -> str:
        """Say in a sentence why the crop of a synapse cannot be used."""
        name = self.parts[self._volume_of(synapse)].volume.name
        voxel = ", ".join(map(str, self.positions.voxels[synapse].tolist()))
        reason = REASONS[self._cut(synapse).state]
        return f"the crop around z, y, x = {voxel} in {name} {reason}"

    def _volume_of(self, synapse: int) -> int:
        volumes = self.positions.volumes
        return 0 if volumes is None else int(volumes[synapse])

    def _cut(self, synapse: int) -> Crop:
        partners: Mapping[str, np.ndarray] = {
            name: places[synapse] for name, places in self.positions.partners.items()
        }
        voxel = self.positions.voxels[synapse].tolist()
        return self._cutters[self._volume_of(synapse)].cut(voxel, partners)


VERSION = 2
"""Of the files in a cache; others are not read."""
LOOKED_AT = 8
"""Crops of a volume that is a folder which are looked at, to see whether it has changed."""
LOOKED_AT_SHAPE = (16, 16, 16)


def cache_folder(source: StreamedCrops, parent: Path) -> Path:
    """Return the folder in `parent` for the cache of these crops, named by what they are."""
    identity = json.dumps(_identity(source), sort_keys=True)
    return parent / f"crops-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def crop_settings(config: CropConfig) -> dict[str, Any]:
    """Return the settings, in plain types, that crops cannot be changed in once they are cut."""
    names = set(CropConfig.model_fields) - {"crop_size", "network_voxel_size"}
    return config.model_dump(mode="json", include=names)


def _identity(source: StreamedCrops) -> dict[str, Any]:
    """Say which crops these are."""
    places = hashlib.sha256()
    positions = source.positions
    arrays = (positions.voxels, positions.volumes, *positions.partners.values())
    for array in arrays:
        places.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return {
        "version": VERSION,
        "shape": source.shape,
        "crop_size": source.config.crop_size,
        "settings": crop_settings(source.config),
        "voxel_size": source.voxel_size,
        "positions": places.hexdigest(),
        "parts": [_part(part, _some_of(positions, i)) for i, part in enumerate(source.parts)],
    }


def _some_of(positions: Positions, volume: int) -> np.ndarray:
    """Return where a few of the crops of a volume lie."""
    voxels = positions.voxels
    if positions.volumes is not None:
        voxels = voxels[positions.volumes == volume]
    n = len(voxels)
    return voxels[np.unique(np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(int))]


def _part(part: Part, places: np.ndarray) -> dict[str, Any]:
    def labels_of(labels: AlignedLabels | None) -> Any:
        if labels is None:
            return None
        blocks = (labels.cut(place, LOOKED_AT_SHAPE) for place in places.tolist())
        aligned = [labels.scale.tolist(), labels.start.tolist()]
        return [*_voxels_of(labels.volume, blocks), *aligned]

    blocks = (cut_crop(part.volume, place, LOOKED_AT_SHAPE) for place in places.tolist())
    return {
        "image": _voxels_of(part.volume, blocks),
        "voxel_size": part.voxel_size,
        "labels": labels_of(part.labels),
        "segmentation": labels_of(part.segmentation),
        "roles": dict(part.roles),
    }


def _voxels_of(volume: Volume, blocks: Iterable[np.ndarray]) -> list[Any]:
    """Say which voxels these are: those of a file by it, others by some blocks of them."""
    # How values were read is part of what they are; of most formats there is nothing to tell.
    described: list[Any] = [
        *volume.shape,
        str(volume.array.dtype),
        *(text for text, _ in volume.messages),
    ]
    if volume.location is not None:
        described += fingerprint(volume.location)
        if not Path(volume.location).is_dir():
            return described
        # Of a folder only what describes it was looked at, and chunks may have been written anew.
    else:
        blocks = sample_blocks(volume)
    sample = hashlib.sha256()
    for block in blocks:
        sample.update(np.ascontiguousarray(block).tobytes())
    return [*described, sample.hexdigest()]


def fingerprint(location: str) -> list[Any]:
    """Return values, for JSON, that change when the volume at a location does.

    Of a file its path, size and time of change. Of a folder the same of its metadata, or the number
    of slices and the same of the first and last; voxels that are changed in place are not seen.
    Of a URL its metadata.

    Raises
    ------
    InputError
        If there is nothing at this location, or a server cannot be reached.
    """
    place = parse(location)
    if place.is_remote:
        return _remote_fingerprint(place)
    path = Path(place.base).absolute()
    found = split_file(path)
    if found is not None:
        file, inner = found
        return [str(file), inner, *_stat(file)]
    if not path.is_dir():
        raise InputError(f"there is no volume {location}")
    documents = [path / name for name in METADATA if (path / name).is_file()]
    if documents:
        return [str(path), *((file.name, *_stat(file)) for file in documents)]
    slices = slice_files(path)
    if slices:
        return [str(path), len(slices), *_stat(slices[0]), *_stat(slices[-1])]
    for folder, _ in place.enclosing():
        # A level of a precomputed volume is described in the folder around it.
        info = Path(folder.base).absolute() / "info"
        if info.is_file():
            return [str(path), "info", *_stat(info)]
    return [str(path), *_stat(path)]


def _remote_fingerprint(place: Location) -> list[Any]:
    for around in (place, *(folder for folder, _ in place.enclosing())):
        documents = Store(around).read_bytes(METADATA)
        if documents:
            content = b"\n".join(documents[name] for name in sorted(documents))
            return [place.text, hashlib.sha256(content).hexdigest()]
    raise InputError(f"there is no volume {place.text}")


def _stat(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return (stat.st_size, stat.st_mtime_ns)
