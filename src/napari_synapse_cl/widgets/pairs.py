"""Make the pair of views of one synapse as a training sees it.

PyTorch is imported on first use, in the worker thread.
"""

from dataclasses import dataclass

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.context import context_shape
from napari_synapse_cl.data.crops import StreamedCrops
from napari_synapse_cl.data.synapses import positions_inside
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.widgets.layers import LayerData


@dataclass(frozen=True)
class Pair:
    """A crop and two views of it.

    Attributes
    ----------
    crop
        ``(D, H, W)`` float32 in [0, 1].
    views
        Two arrays like `crop`.
    descriptions
        What was drawn for each view, in words.
    """

    crop: np.ndarray
    views: tuple[np.ndarray, np.ndarray]
    descriptions: tuple[str, str]


class PairMaker:
    """Makes pairs; what it has learnt of the layers it keeps for the next."""

    def __init__(self) -> None:
        self._data: LayerData | None = None
        self._crops: StreamedCrops | None = None

    def make(self, data: LayerData, config: Config, epoch: int, row: int) -> Pair:
        """Return the pair that a training with these settings sees.

        Parameters
        ----------
        data
            The layers.
        config
            Ranges of the augmentations, size of the crops and seed.
        epoch
            Epoch of the training, counted from 1; 0 is the fixed pair of the validation.
        row
            Number of the synapse, counted from 0.

        Raises
        ------
        InputError
            If the synapse lies outside the volume, or its crop cannot be cut.
        JobError
            If PyTorch could not make the views.
        """
        import torch

        from napari_synapse_cl import augmentations

        voxel_size = data.voxel_size or (1.0, 1.0, 1.0)
        crops = self._streamed(data, context_shape(config.crop_size, config, voxel_size))
        index = np.flatnonzero(crops.positions.rows == row)
        if not index.size:
            raise InputError(f"synapse {row} lies outside the volume")
        try:
            crop = torch.from_numpy(crops.read([int(index[0])]))
            pair = augmentations.draw_pair(config, config.seed, epoch, [row])
            one, two = (
                augmentations.apply(crop, view, config.crop_size, voxel_size)[0, 0].numpy()
                for view in pair
            )
        except RuntimeError as error:
            raise JobError(f"the views could not be made: {error}") from error
        centre = augmentations.centre_crop(crop, config.crop_size)[0, 0].numpy()
        words = (augmentations.describe(pair[0], 0), augmentations.describe(pair[1], 0))
        return Pair(centre, (one, two), words)

    def forget(self) -> None:
        """Keep nothing of the layers, which may have been removed."""
        self._data = self._crops = None

    def _streamed(self, data: LayerData, shape: tuple[int, int, int]) -> StreamedCrops:
        if self._crops is None or self._data is not data:
            positions = positions_inside(data.table, data.volume.shape, name="the points layer")
            self._crops = StreamedCrops(data.volume, positions, shape)
            self._data = data
        self._crops.shape = shape
        return self._crops
