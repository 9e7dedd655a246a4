"""All transforms of a view in a row: drawn, applied, and said in words."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_synapse_cl.augmentations.base import (
    IntensityTransform,
    SectionTransform,
    SpatialTransform,
    Transform,
    stream,
)
from napari_synapse_cl.augmentations.resampling import resample
from napari_synapse_cl.augmentations.transforms import INTENSITY, SECTIONS, SPATIAL
from napari_synapse_cl.config import IN_GREY_UNITS, AugmentationConfig

Drawn = tuple[Transform, ...]
"""What was drawn for one view: the transforms that are on, in the order of their application."""


def draw(
    config: AugmentationConfig,
    seed: int,
    epoch: int,
    synapses: Sequence[int],
    view: int,
    spreads: Sequence[float] | None = None,
) -> list[Drawn]:
    """Draw one view of each synapse, as training with `seed` sees it in `epoch`.

    Every transform of every view has a stream of random numbers of its own: what is drawn depends
    neither on the batch nor on which other transforms there are, and no state has to be kept to go
    on with a training or to show a view again.

    Parameters
    ----------
    config
        The ranges to draw from.
    epoch
        Epoch, counted from 1; 0 is the fixed pair of the validation.
    synapses
        Row of each synapse in its table.
    view
        1 or 2.
    spreads
        Of the grey values around each synapse, where ranges count in them.

    Raises
    ------
    ValueError
        If ranges count in spreads and these are not given.
    """
    if spreads is None and config.grey_unit == "spread":
        raise ValueError("ranges count in the spread of grey values, which is not given")
    transforms = [one for one in (*SECTIONS, *SPATIAL, *INTENSITY) if one.is_on(config)]
    absolute = {spread: in_grey_values(config, spread) for spread in set(spreads or ())}
    configs = [absolute[one] for one in spreads] if spreads else [config] * len(synapses)
    return [
        tuple(
            one.draw(ranges, stream(seed, epoch, int(synapse), view, one.name))
            for one in transforms
        )
        for synapse, ranges in zip(synapses, configs, strict=True)
    ]


def in_grey_values(config: AugmentationConfig, spread: float) -> AugmentationConfig:
    """Return settings whose ranges count in grey values, after such as count in a spread.

    Parameters
    ----------
    config
        Settings of any unit.
    spread
        Standard deviation of the grey values, which lie in [0, 1].
    """
    if config.grey_unit == "absolute":
        return config
    ranges = {name: getattr(config, name) * spread for name in IN_GREY_UNITS}
    return config.model_copy(update={**ranges, "grey_unit": "absolute"})


def draw_pair(
    config: AugmentationConfig,
    seed: int,
    epoch: int,
    synapses: Sequence[int],
    spreads: Sequence[float] | None = None,
) -> tuple[list[Drawn], list[Drawn]]:
    """Draw both views of each synapse; see :func:`draw`."""
    first, second = (draw(config, seed, epoch, synapses, view, spreads) for view in (1, 2))
    return first, second


def apply(
    crops: Tensor,
    drawn: Sequence[Drawn],
    shape: Sequence[int],
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Make one view of each crop.

    Its sections are changed, it is resampled, and intensities are changed and cut off beyond
    [0, 1].

    Parameters
    ----------
    crops
        ``(B, 1, D, H, W)`` float32 in [0, 1], with context around the view.
    drawn
        What was drawn for B views, with the same settings.
    shape
        Size of the views along z, y, x; at most that of the crops, and as even or odd.
    voxel_size
        Voxel size along z, y, x, in any unit.

    Returns
    -------
    Tensor
        ``(B, 1, *shape)`` float32 in [0, 1], on the device of the crops.
    """
    for records in _by_transform(drawn):
        transform = type(records[0])
        if issubclass(transform, SectionTransform):
            crops = transform.apply(crops, records, voxel_size)
    views = resample(crops, affine_matrices(drawn, voxel_size), shape)
    for records in _by_transform(drawn):
        transform = type(records[0])
        if issubclass(transform, IntensityTransform):
            views = transform.apply(views, records)
    return views.clamp_(0, 1)


def affine_matrices(
    drawn: Sequence[Drawn], voxel_size: Sequence[float] = (1.0, 1.0, 1.0)
) -> NDArray[np.float64]:
    """Return what maps a view's voxel offsets from its centre to those in the crop.

    Parameters
    ----------
    drawn
        What was drawn for B views, with the same settings.
    voxel_size
        Voxel size along z, y, x, in any unit.

    Returns
    -------
    numpy.ndarray
        ``(B, 3, 4)`` float64, a matrix on (z, y, x) vectors and what is added after it.
    """
    matrices, shifts = np.tile(np.eye(3), (len(drawn), 1, 1)), np.zeros((len(drawn), 3, 1))
    # A place in the view goes through what is applied last first.
    for records in reversed(list(_by_transform(drawn))):
        transform = type(records[0])
        if issubclass(transform, SpatialTransform):
            one = transform.matrices(records)
            matrices = one @ matrices
            shifts = one @ shifts + transform.shifts(records)[:, :, None]
    size = np.array(voxel_size, dtype=np.float64)
    return np.concatenate([matrices * size / size[:, None], shifts / size[:, None]], axis=2)


def _by_transform(drawn: Sequence[Drawn]) -> Iterator[tuple[Any, ...]]:
    """Yield, for each transform, what was drawn of it for each view."""
    if len({tuple(map(type, one)) for one in drawn}) > 1:
        raise ValueError("the views of a batch are drawn with the same settings")
    return zip(*drawn, strict=True)


def describe(drawn: Drawn) -> str:
    """Say in words what was drawn for a view: "rotated 11.3° about z, …; flipped x; …"."""
    words = {type(one): one.describe() for one in drawn}
    replaced = {one.instead_of for one in drawn}
    transforms = (one for one in (*SECTIONS, *SPATIAL, *INTENSITY) if one.name not in replaced)
    said = (words.get(one, one.off) for one in transforms)
    return "; ".join(text for text in said if text)


def plain_values(drawn: Drawn) -> dict[str, Any]:
    """Return what was drawn for a view by name, as JSON holds it."""
    values = {name: value for one in drawn for name, value in vars(one).items()}
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain
