"""Make the pair of views of one synapse as a training sees it.

PyTorch is imported on first use, in the worker thread.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image

from napari_synapse_cl import __version__
from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.config import Config, CropConfig
from napari_synapse_cl.data.crops.cutting import Crop, CropState
from napari_synapse_cl.data.crops.sources import StreamedCrops
from napari_synapse_cl.data.grey_spread import measure_spreads
from napari_synapse_cl.data.intensity import crop_warnings, to_unit_range
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.system.words import VoxelSize
from napari_synapse_cl.widgets.forms.crop_settings import SHARED
from napari_synapse_cl.widgets.jobs.child import NetworkReader
from napari_synapse_cl.widgets.layers.features import METADATA_KEY
from napari_synapse_cl.widgets.layers.taking import LayerData, dataset_of
from napari_synapse_cl.widgets.layers.voxels import geometry_within

NOTHING_KEPT = (
    "Nothing of what is to be kept lies in this crop: it is shown as it is, and training leaves it "
    "out."
)


@dataclass(frozen=True, eq=False)
class PairRequest:
    """What decides how a pair looks."""

    data: LayerData
    """The layers."""
    config: Config
    """Ranges of the augmentations, size of the crops and seed."""
    epoch: int
    """Epoch of the training, counted from 1; 0 is the fixed pair of the validation."""
    row: int
    """Number of the synapse, counted from 0."""
    pretrained: str | None = None
    """Network that the training starts from; crops have its voxel size where the settings name none
    and it is known."""
    first_size: VoxelSize | None = None
    """Else the voxel size along z, y, x in nm of the first volume of the training; None for that of
    this volume."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A crop and two views of it."""

    request: PairRequest
    """What was asked for."""
    voxel: tuple[int, int, int]
    """z, y, x of the synapse in the volume."""
    voxel_size: tuple[float, float, float]
    """Voxel size of crop and views along z, y, x in nm; cubes of 1 where it is not known."""
    stride: tuple[float, float, float]
    """Voxels of the volume from one voxel of the crop to the next, along z, y, x."""
    crop: np.ndarray
    """``(D, H, W)`` float32 in [0, 1]."""
    views: tuple[np.ndarray, np.ndarray]
    """Two arrays like `crop`."""
    descriptions: tuple[str, str]
    """What was drawn for each view, in words."""
    drawn: tuple[dict[str, Any], dict[str, Any]]
    """What was drawn for each view, by name, as plain values."""
    warnings: tuple[str, ...]
    """What may be wrong with it, in words."""
    spread: float | None = None
    """Standard deviation of the grey values of the volume, where ranges count in it."""


class PairMaker:
    """Makes pairs; what it has learnt of the layers it keeps for the next."""

    def __init__(self) -> None:
        self._kept: _Kept | None = None
        self._known_spread: tuple[LayerData, str, float] | None = None
        self._networks = NetworkReader()

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
        source, index, cut = self._cut(request)
        voxel_size = source.voxel_size or (1.0, 1.0, 1.0)
        z, y, x = source.positions.voxels[index].tolist()
        voxel = (z, y, x)

        import torch

        from napari_synapse_cl.augmentations import composition
        from napari_synapse_cl.augmentations.resampling import centre_crop

        try:
            crops = torch.from_numpy(to_unit_range(cut.voxels[None], cut.window)[:, None])
            spread = self._spread(source, request)
            spreads = None if spread is None else [spread]
            first, second = composition.draw_pair(
                config, config.seed, request.epoch, [row], spreads
            )
            views = make_views(crops, (first, second), config.crop_size, voxel_size)
        except RuntimeError as error:
            raise JobError(f"the views could not be made: {error}") from error
        part = source.parts[0]
        crop = centre_crop(crops, config.crop_size)[0, 0].numpy()
        return Pair(
            request=request,
            voxel=voxel,
            crop=crop,
            views=views,
            descriptions=(composition.describe(first[0]), composition.describe(second[0])),
            drawn=(composition.plain_values(first[0]), composition.plain_values(second[0])),
            spread=spread,
            voxel_size=voxel_size,
            stride=source.stride(0),
            warnings=(NOTHING_KEPT,)
            if cut.state == CropState.EMPTY
            else crop_warnings(
                voxel,
                data.volume.shape,
                crop,
                views,
                reach=part.reach(config.crop_size, source.voxel_size),
                context=part.reach(source.shape, source.voxel_size),
                borders=config.borders,
            ),
        )

    def forget(self) -> None:
        """Keep nothing of the layers, which may have been removed."""
        self._kept = self._known_spread = None

    def end(self) -> None:
        """Let go of everything."""
        self.forget()
        self._networks.end()

    def _spread(self, source: StreamedCrops, request: PairRequest) -> float | None:
        """Return how far the grey values of the volume spread, as a training measures it."""
        if request.config.grey_unit == "absolute":
            return None
        # The context that rotations need, say, changes nothing.
        key, known = f"{_of_crops(request.config)} {source.voxel_size}", self._known_spread
        if known is not None and known[0] is request.data and known[1] == key:
            return known[2]
        (spread,) = measure_spreads(source, request.config.crop_size, 1)
        self._known_spread = (request.data, key, spread)
        return spread

    def _cut(self, request: PairRequest) -> tuple[StreamedCrops, int, Crop]:
        """Return what has cut the crop of the synapse, the synapse's index there, and the crop.

        A crop that holds nothing to learn from is shown too.
        """
        try:
            crops = self._streamed(request)
            index = np.flatnonzero(crops.positions.rows == request.row)
            if not index.size:
                raise InputError(_left_out(request))
            synapse = int(index[0])
            crop = next(crops.cut([synapse]))
            if crop.state == CropState.NOT_FINITE:
                raise InputError(crops.problem(synapse))
            return crops, synapse, crop
        except (InputError, JobError):
            raise
        # Lazy volumes raise whatever their files and servers do, and the cause is the same.
        except Exception as error:
            raise JobError(f"{request.data.volume.name} could not be read: {error}") from error

    def _streamed(self, request: PairRequest) -> StreamedCrops:
        network_size = self._networks.voxel_size_of(request.pretrained) or request.first_size
        config = request.config
        settings = (_of_crops(config), network_size)
        # The window's thread may forget what is kept at any time.
        kept = self._kept
        if kept is None or not kept.fits(request.data, settings, config):
            dataset = dataset_of([request.data], config, network_size)
            crops = dataset.streamed(config, dataset.context(config))
            kept = _Kept(request.data, settings, crops)
            self._kept = kept
        return kept.crops


@dataclass(frozen=True, eq=False)
class _Kept:
    """What cuts crops of some layers with some settings."""

    data: LayerData
    settings: tuple[str, VoxelSize | None]
    crops: StreamedCrops

    def fits(self, data: LayerData, settings: tuple[str, VoxelSize | None], config: Config) -> bool:
        """Return whether it cuts what is asked for."""
        if self.data is not data or self.settings != settings:
            return False
        voxel_size = self.crops.voxel_size or (1.0, 1.0, 1.0)
        return self.crops.shape == context_shape(config.crop_size, config, voxel_size)


def _left_out(request: PairRequest) -> str:
    """Say why a synapse has no crop."""
    synapses = request.data.placed
    if request.config.borders == "exclude" and synapses.inside(request.data.volume)[request.row]:
        return (
            f"the crop of synapse {request.row} reaches outside the volume, so it is left out; "
            "choose other borders than exclude to see it"
        )
    return f"synapse {request.row} lies outside the volume"


def _of_crops(config: Config) -> str:
    """Return what of the settings decides how crops are cut, but for how large they are."""
    names = {*CropConfig.model_fields, "voxel_size", "roles"}
    return config.model_dump_json(include=names)


def make_views(
    crops: Any, pair: Any, shape: Sequence[int], voxel_size: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return both views of one crop, each made on a thread of its own.

    Parameters
    ----------
    crops
        ``(1, 1, D, H, W)`` float32 tensor in [0, 1], with context.
    pair
        What was drawn for the first view, and for the second.
    shape
        Size of the views along z, y, x.
    voxel_size
        Voxel size along z, y, x, in any unit.
    """
    from napari_synapse_cl.augmentations import composition

    def view_of(drawn: Any) -> np.ndarray:
        return composition.apply(crops, drawn, shape, voxel_size)[0, 0].numpy()

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


def view_layers(image: Image, pair: Pair) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """Return data and keywords of two image layers that line up with the volume.

    Each voxel of a view lies where that voxel of the unaugmented crop lies in the volume.

    Parameters
    ----------
    image
        The layer that the crop was cut from; its transforms, units and axis labels are taken over.
    """
    return [
        (
            view,
            {
                "name": f"View {number} · synapse {pair.request.row} · epoch {pair.request.epoch}",
                "contrast_limits": (0, 1),
                "metadata": {METADATA_KEY: _provenance(image, pair, number)},
                **_geometry(image, pair),
            },
        )
        for number, view in enumerate(pair.views, start=1)
    ]


def _geometry(image: Image, pair: Pair) -> dict[str, Any]:
    """Return the transforms of the image, moved to the first voxel of the crop."""
    before = np.array(pair.crop.shape) // 2 * np.array(pair.stride)
    return geometry_within(image, np.array(pair.voxel) - before, pair.stride)


def _provenance(image: Image, pair: Pair, number: int) -> dict[str, Any]:
    request = pair.request
    return {
        "image": image.name,
        "synapse": request.row,
        "voxel": list(pair.voxel),
        "seed": request.config.seed,
        "epoch": request.epoch,
        "view": number,
        "drawn": pair.drawn[number - 1],
        "settings": request.config.model_dump(mode="json", include=set(SHARED)),
        "napari-synapse-cl": __version__,
    }
