"""Cut the crop around a position, and make of it what the network sees."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod

import numpy as np
from numpy.typing import ArrayLike

from napari_synapse_cl.augmentations.base import reflected
from napari_synapse_cl.config import CropConfig
from napari_synapse_cl.data.crops.masks import blend, keep_mask
from napari_synapse_cl.data.crops.recipes import Recipe
from napari_synapse_cl.data.crops.resampling import Resampling
from napari_synapse_cl.data.intensity import (
    Window,
    crop_problem,
    crop_window,
    inverted,
    volume_window,
)
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import Triple, VoxelSize, size, triple

CUBES = (1.0, 1.0, 1.0)
MOST_VOXELS = 2**31
"""Of an image in one crop; the memory would not hold many more."""


class CropState(IntEnum):
    """Whether a crop was cut, and whether a network can learn from it."""

    MISSING = 0
    GOOD = 1
    CONSTANT = 2
    NOT_FINITE = 3
    EMPTY = 4
    """Nothing of it is kept."""


REASONS = {
    CropState.CONSTANT: "is constant",
    CropState.NOT_FINITE: "holds values that are not finite (NaN or infinite)",
    CropState.EMPTY: "holds nothing of what is to be kept",
}


@dataclass(frozen=True)
class Crop:
    """A crop as the network sees it."""

    voxels: np.ndarray
    """``(D, H, W)``, in the type of the image."""
    window: Window
    """Grey values that become 0 and 1."""
    state: CropState
    """Whether a network can learn from it."""


class Cutter:
    """Cuts crops of one volume.

    Parameters
    ----------
    config
        What crops are made of it. Whether one can be used, and its own grey values, are seen in
        the part of it that is as large as ``crop_size``.
    shape
        Size of a crop along z, y, x.
    voxel_size
        Voxel size of a crop along z, y, x in nm; None for that of the image.
    partners
        Names of the positions that there will be for each synapse.

    Raises
    ------
    InputError
        If the image has no contrast, a crop would take far too much of it, or what is to be kept
        cannot be told from its labels.
    """

    def __init__(
        self,
        part: Part,
        config: CropConfig,
        shape: Triple,
        voxel_size: VoxelSize | None,
        partners: Collection[str] = (),
    ) -> None:
        self.part = part
        self.shape = shape
        self._config = config
        have = part.voxel_size or CUBES
        want = have if voxel_size is None else voxel_size
        self._resampling = Resampling(shape, have, want)
        if prod(self._resampling.source_shape) > MOST_VOXELS:
            raise InputError(
                f"a crop of {size(shape)} voxels of {size(want)} nm takes "
                f"{size(self._resampling.source_shape)} voxels of {part.volume.name}, which no "
                "memory holds: check voxel_size and network_voxel_size, or choose a smaller "
                "crop_size or weaker augmentations"
            )
        self._recipe = recipe_of(part, config, partners)
        self._window = volume_window(part.volume, config.intensity, config.percentiles)
        self._centre = centre_of(shape, config.crop_size)

    @property
    def dtype(self) -> np.dtype:
        """Type of the crops' voxels."""
        dtype, config = self.part.volume.array.dtype, self._config
        covers = config.borders == "constant" or not self._recipe.keeps_everything
        # What becomes black or white of z-scores can be no value of the image's type.
        is_beyond = covers and config.intensity == "z-score" and config.background != 0.5
        return dtype if dtype.kind in "ui" and not is_beyond else np.dtype(np.float32)

    def cut(self, voxel: Sequence[int], partners: Mapping[str, ArrayLike]) -> Crop:
        """Cut the crop around a voxel.

        Parameters
        ----------
        voxel
            z, y, x of the voxel at index ``shape // 2`` of the crop.
        partners
            Positions in voxels of what the synapse connects, by name.
        """
        resampling, recipe, volume = self._resampling, self._recipe, self.part.volume
        region = cut_crop(volume, voxel, resampling.source_shape)
        if crop_problem(region) == "not finite":
            return Crop(np.zeros(self.shape, self.dtype), (0.0, 1.0), CropState.NOT_FINITE)
        voxels = _as_type(resampling.apply(region), self.dtype)
        centre = voxels[self._centre]
        state = CropState.GOOD if crop_problem(centre) is None else CropState.CONSTANT
        window = self._window or crop_window(centre, self._config.intensity)
        window = inverted(window) if self._config.invert else window
        grey = _grey(window, self._config.background)
        if self._config.borders == "constant":
            filled = region.astype(self.dtype, copy=False)
            region = fill_outside(filled, voxel, volume.shape, grey)
            voxels = _as_type(resampling.apply(region), self.dtype)
        if recipe.keeps_everything:
            return Crop(voxels, window, state)
        weight = resampling.apply(self._mask(voxel, partners).astype(np.float32))
        if not weight[self._centre].any():
            return Crop(voxels, window, CropState.EMPTY)
        voxels = blend(voxels, weight, grey, self._config.background_alpha)
        return Crop(voxels, window, state)

    def _mask(self, voxel: Sequence[int], partners: Mapping[str, ArrayLike]) -> np.ndarray:
        """Return what is kept of a crop, in voxels of the image."""
        part, shape = self.part, self._resampling.source_shape
        z, y, x = (n // 2 for n in shape)
        objects = {
            name: part.segmentation.at(place)
            for name, place in partners.items()
            if part.segmentation is not None
        }
        return keep_mask(
            None if part.labels is None else part.labels.cut(voxel, shape),
            None if part.segmentation is None else part.segmentation.cut(voxel, shape),
            self._recipe,
            (z, y, x),
            objects,
            part.voxel_size or CUBES,
        )


def recipe_of(part: Part, config: CropConfig, partners: Collection[str]) -> Recipe:
    """Return what is kept of the crops of a volume.

    Parameters
    ----------
    partners
        Names of the positions that there are for each synapse.

    Raises
    ------
    InputError
        If there is no such part, or labels or positions that it needs are missing.
    """
    recipe = Recipe.parse(config.keep, part.roles, config.keep_nearest, config.keep_margin)
    has_labels, has_segmentation = part.labels is not None, part.segmentation is not None
    recipe.check_volumes(part.volume.name, has_labels, has_segmentation)
    recipe.check_partners(partners, has_labels)
    return recipe


def cut_crop(volume: Volume, centre: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Cut a ``(D, H, W)`` crop around a voxel, reflected where it reaches beyond the volume.

    Parameters
    ----------
    volume
        The volume to cut from.
    centre
        z, y, x of the voxel at index ``shape // 2`` of the crop.
    shape
        Size of the crop along z, y, x.
    """
    slices, picks = [], []
    for c, want, n in zip(centre, shape, volume.shape, strict=True):
        index = reflected(np.arange(want) + c - want // 2, n)
        slices.append(slice(int(index.min()), int(index.max()) + 1))
        picks.append(index - index.min())
    crop = np.asarray(volume.array[tuple(slices)])
    return crop if crop.shape == tuple(shape) else crop[np.ix_(*picks)]


def fill_outside(
    crop: np.ndarray, centre: Sequence[int], volume_shape: Sequence[int], value: float
) -> np.ndarray:
    """Return a crop, ``(D, H, W)``, with a grey value where it reaches beyond the volume.

    Parameters
    ----------
    crop
        What :func:`cut_crop` returned.
    centre
        z, y, x of the voxel at index ``shape // 2`` of the crop.
    volume_shape
        Size of the volume along z, y, x.
    """
    inside = []
    for c, want, n in zip(centre, crop.shape, volume_shape, strict=True):
        index = np.arange(want) + c - want // 2
        inside.append((index >= 0) & (index < n))
    if all(along.all() for along in inside):
        return crop
    z, y, x = inside
    filled = np.full_like(crop, round(value) if crop.dtype.kind in "ui" else value)
    is_inside = z[:, None, None] & y[:, None] & x
    filled[is_inside] = crop[is_inside]
    return filled


def centre_of(shape: Sequence[int], size: Sequence[int]) -> tuple[slice, slice, slice]:
    """Return where the central part of some size lies in a crop."""
    return triple(
        slice(max(0, (have - want) // 2), max(0, (have - want) // 2) + min(have, want))
        for have, want in zip(shape, size, strict=True)
    )


def unusable_counts(states: np.ndarray) -> dict[CropState, int]:
    """Return how many crops cannot be used, by the reason; those that there are."""
    counts = {state: int((states == state).sum()) for state in REASONS}
    return {state: n for state, n in counts.items() if n}


def _as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return resampled values in the type that crops are kept in."""
    if values.dtype == dtype or dtype.kind == "f":
        return values.astype(dtype, copy=False)
    info = np.iinfo(dtype)
    return np.clip(np.rint(values), info.min, info.max).astype(dtype)


def _grey(window: Window, share: float) -> float:
    low, high = window
    return low + share * (high - low)
