"""Make the pair of views of one synapse as a training sees it.

PyTorch is imported on first use, in the worker thread.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.context import context_shape
from napari_synapse_cl.data.crop_checks import crop_warnings
from napari_synapse_cl.data.crops import StreamedCrops
from napari_synapse_cl.data.synapses import positions_inside
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.widgets.layers import LayerData


@dataclass(frozen=True, eq=False)
class PairRequest:
    """What decides how a pair looks.

    Attributes
    ----------
    data
        The layers.
    config
        Ranges of the augmentations, size of the crops and seed.
    epoch
        Epoch of the training, counted from 1; 0 is the fixed pair of the validation.
    row
        Number of the synapse, counted from 0.
    """

    data: LayerData
    config: Config
    epoch: int
    row: int


@dataclass(frozen=True, eq=False)
class Pair:
    """A crop and two views of it.

    Attributes
    ----------
    request
        What was asked for.
    voxel
        z, y, x of the synapse in the volume.
    crop
        ``(D, H, W)`` float32 in [0, 1].
    views
        Two arrays like `crop`.
    descriptions
        What was drawn for each view, in words.
    drawn
        What was drawn for each view, by name, as plain values.
    warnings
        What may be wrong with it, in words.
    """

    request: PairRequest
    voxel: tuple[int, int, int]
    crop: np.ndarray
    views: tuple[np.ndarray, np.ndarray]
    descriptions: tuple[str, str]
    drawn: tuple[dict[str, Any], dict[str, Any]]
    warnings: tuple[str, ...]


class PairMaker:
    """Makes pairs; what it has learnt of the layers it keeps for the next."""

    def __init__(self) -> None:
        self._data: LayerData | None = None
        self._crops: StreamedCrops | None = None

    def make(self, request: PairRequest) -> Pair:
        """Return the pair that a training with these settings sees.

        Raises
        ------
        InputError
            If the synapse lies outside the volume, or its crop cannot be cut.
        JobError
            If the volume could not be read, or PyTorch could not make the views.
        """
        data, config, row = request.data, request.config, request.row
        voxel_size = data.voxel_size or (1.0, 1.0, 1.0)
        context = context_shape(config.crop_size, config, voxel_size)
        cut, voxel = self._cut(data, context, row)

        import torch

        from napari_synapse_cl import augmentations

        try:
            crops = torch.from_numpy(cut)
            pair = augmentations.draw_pair(config, config.seed, request.epoch, [row])
            views = make_views(crops, pair, config.crop_size, voxel_size)
        except RuntimeError as error:
            raise JobError(f"the views could not be made: {error}") from error
        crop = augmentations.centre_crop(crops, config.crop_size)[0, 0].numpy()
        first, second = (
            {field.name: getattr(view, field.name)[0].tolist() for field in fields(view)}
            for view in pair
        )
        return Pair(
            request=request,
            voxel=voxel,
            crop=crop,
            views=views,
            descriptions=(augmentations.describe(pair[0], 0), augmentations.describe(pair[1], 0)),
            drawn=(first, second),
            warnings=crop_warnings(voxel, data.volume.shape, context, crop, views),
        )

    def forget(self) -> None:
        """Keep nothing of the layers, which may have been removed."""
        self._data = self._crops = None

    def _cut(
        self, data: LayerData, shape: tuple[int, int, int], row: int
    ) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Return the crop of one synapse as a batch, and its voxel."""
        try:
            crops = self._streamed(data, shape)
            index = np.flatnonzero(crops.positions.rows == row)
            if not index.size:
                raise InputError(f"synapse {row} lies outside the volume")
            z, y, x = crops.positions.voxels[index[0]].tolist()
            return crops.read([int(index[0])]), (z, y, x)
        except InputError:
            raise
        # Lazy volumes raise whatever their files and servers do, and the cause is the same.
        except Exception as error:
            raise JobError(f"{data.volume.name} could not be read: {error}") from error

    def _streamed(self, data: LayerData, shape: tuple[int, int, int]) -> StreamedCrops:
        # The window's thread may forget what it holds at any time.
        crops = self._crops
        if crops is None or self._data is not data:
            positions = positions_inside(data.table, data.volume.shape, name="the points layer")
            crops = StreamedCrops(data.volume, positions, shape)
            self._crops, self._data = crops, data
        crops.shape = shape
        return crops


def make_views(
    crops: Any, pair: Any, shape: Sequence[int], voxel_size: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return both views of one crop, each made on a thread of its own.

    Parameters
    ----------
    crops
        ``(1, 1, D, H, W)`` float32 tensor in [0, 1], with context.
    pair
        Parameters of both views.
    shape
        Size of the views along z, y, x.
    voxel_size
        Voxel size along z, y, x, in any unit.
    """
    from napari_synapse_cl import augmentations

    def view_of(parameters: augmentations.AugmentationParameters) -> np.ndarray:
        return augmentations.apply(crops, parameters, shape, voxel_size)[0, 0].numpy()

    # PyTorch resamples a single crop on one thread, and its other threads, while they wait for each
    # other, take time from a training that runs beside.
    with _single_threads(), ThreadPoolExecutor(2) as pool:
        one, two = pool.map(view_of, pair)
    return one, two


@contextmanager
def _single_threads() -> Iterator[None]:
    """Let threads that begin meanwhile compute alone."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
