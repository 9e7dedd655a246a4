"""Views of synapses, as they go into a network."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl import augmentations
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops import CropSource
from napari_synapse_cl.training.prefetching import Prefetching


class Views:
    """Makes views of crops on a device; the same of the same synapses and epoch every time.

    Parameters
    ----------
    crops
        Crops with the context that the augmentations need.
    config
        Size of the views, augmentations and their seed.
    device
        Where they are made.
    voxel_size
        Voxel size along z, y, x, in any unit.
    """

    def __init__(
        self,
        crops: CropSource,
        config: Config,
        device: torch.device,
        voxel_size: tuple[float, float, float],
    ) -> None:
        self._crops = crops
        self._config = config
        self._device = device
        self._voxel_size = voxel_size
        self._prefetching = Prefetching(self._read_to_memory)

    def reading_ahead(self, coming: Iterator[np.ndarray]) -> AbstractContextManager[None]:
        """Within this context, read crops before they are asked for.

        Parameters
        ----------
        coming
            The synapses whose views will be asked for, in order.
        """
        return self._prefetching.following(coming)

    def expect(self, coming: Iterator[np.ndarray]) -> None:
        """Read ahead in another order from here on."""
        self._prefetching.expect(coming)

    def augmented(self, synapses: np.ndarray, epoch: int) -> Tensor:
        """Return ``(2n, 1, D, H, W)``, two views of n synapses, all first before all second."""
        config, crops = self._config, self._read(synapses)
        rows = self._crops.positions.rows[synapses]
        pair = augmentations.draw_pair(config, config.seed, epoch, rows)
        views = [
            augmentations.apply(crops, view, config.crop_size, self._voxel_size) for view in pair
        ]
        return torch.cat(views).contiguous(memory_format=torch.channels_last_3d)

    def plain(self, synapses: np.ndarray) -> Tensor:
        """Return ``(n, 1, D, H, W)``, the crops as they are."""
        crops = augmentations.centre_crop(self._read(synapses), self._config.crop_size)
        return crops.contiguous(memory_format=torch.channels_last_3d)

    def _read(self, synapses: np.ndarray) -> Tensor:
        crops = self._prefetching.read(synapses)
        return crops.to(self._device, non_blocking=self._device.type == "cuda")

    def _read_to_memory(self, synapses: np.ndarray) -> Tensor:
        crops = torch.from_numpy(self._crops.read(synapses.tolist()))
        # From pinned memory a GPU takes them without being waited for.
        return crops.pin_memory() if self._device.type == "cuda" else crops
