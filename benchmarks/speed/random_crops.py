"""Crops that are in memory, of random bytes."""

from collections.abc import Sequence

import numpy as np

from napari_synapse_cl.data.crops.sources import CropSource
from napari_synapse_cl.data.parts import Positions


class RandomCrops(CropSource):
    """The same random bytes for every synapse."""

    def __init__(self, n: int, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.positions = Positions(np.zeros((n, 3), int), np.arange(n), 0)
        self._crop = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def read_usable(self, synapses: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return it as many times."""
        crop = self._crop.astype(np.float32) / 255
        return np.repeat(crop[None, None], len(synapses), axis=0), np.asarray(synapses)

    def states(self) -> None:
        """Return nothing: all can be used."""

    def problem(self, synapse: int) -> str:
        """Return nothing: all can be used."""
        return ""
