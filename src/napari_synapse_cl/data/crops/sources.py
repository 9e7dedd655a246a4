"""Where crops come from: cut as they are read, or from a cache of crops that were cut."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from napari_synapse_cl.config import CropConfig, is_url
from napari_synapse_cl.data.crops.cutting import REASONS, Crop, CropState, Cutter
from napari_synapse_cl.data.intensity import to_unit_range
from napari_synapse_cl.data.parts import Part, Positions
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
