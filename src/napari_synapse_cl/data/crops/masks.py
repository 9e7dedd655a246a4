"""Which voxels of a crop are kept, and how the others are covered."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from napari_synapse_cl.data.crops.recipes import OBJECT, PRESYNAPSE, SIDES, VESICLES, Recipe
from napari_synapse_cl.system.words import Triple, triple

Side = Literal["side_1", "side_2"]
Slices = tuple[slice, slice, slice]

ROUNDING = 1e-6
"""Share by which a distance may exceed a limit, for sizes such as 0.1 that are not exact."""


def keep_mask(
    labels: np.ndarray | None,
    segmentation: np.ndarray | None,
    recipe: Recipe,
    centre: Triple,
    objects: Mapping[str, int],
    voxel_size: Sequence[float],
) -> np.ndarray:
    """Return which voxels of a crop are kept.

    Parameters
    ----------
    labels, segmentation
        ``(D, H, W)`` integers, the label volumes of structures and of cells over the crop, 0 for
        none. At least one of them, and those that the recipe needs.
    centre
        Index of the synapse in the crop.
    objects
        Labels of the segmentation under the positions "presynapse" and "postsynapse", or "side_1"
        and "side_2", of the synapse; 0 for none.
    voxel_size
        Along z, y, x in nm.

    Returns
    -------
    numpy.ndarray
        ``(D, H, W)`` bool. It can be empty: where the crop does not hold what is to be kept, or a
        position lies on nothing.

    Raises
    ------
    InputError
        If positions are missing that the recipe needs.
    """
    shape = _first(segmentation, labels).shape
    if recipe.keeps_everything:
        return np.ones(shape, bool)
    recipe.check_partners(objects, labels is not None)
    mask = np.zeros(shape, bool)
    for part in recipe.parts:
        values = recipe.values_of(part)
        if labels is not None and values:
            found = _holding(labels, values)
            mask |= nearest_component(found, centre, voxel_size) if recipe.nearest else found
        elif part == OBJECT:
            mask |= _object(labels, segmentation, recipe, centre, voxel_size)
    if segmentation is not None:
        mask |= _holding(
            segmentation,
            _kept_cells(labels, segmentation, recipe, centre, objects, voxel_size),
        )
    return grow(mask, recipe.grow_nm, voxel_size)


def presynaptic_side(
    labels: np.ndarray,
    segmentation: np.ndarray,
    recipe: Recipe,
    centre: Triple,
    objects: Mapping[str, int],
    voxel_size: Sequence[float],
) -> Side:
    """Tell which of two cells is the presynaptic one.

    The one that holds more of the vesicles nearest the synapse. If both hold as many, side_2, as
    in the published code that the presets come from.

    Parameters
    ----------
    labels, segmentation, centre, objects, voxel_size
        As for :func:`keep_mask`, with "side_1" and "side_2" in `objects`.
    recipe
        With label values of vesicles among its roles.

    Raises
    ------
    InputError
        If these are not known.
    """
    recipe.check_vesicles(has_labels=True)
    vesicles = _holding(labels, recipe.roles[VESICLES])
    cells = segmentation[nearest_component(vesicles, centre, voxel_size)]
    first, second = (int((cells == objects[side]).sum()) if objects[side] else 0 for side in SIDES)
    return "side_1" if first > second else "side_2"


def nearest_component(mask: np.ndarray, centre: Triple, voxel_size: Sequence[float]) -> np.ndarray:
    """Return the connected component of a mask that comes nearest to a voxel, if it has any.

    Voxels that share a face are connected.

    Parameters
    ----------
    mask
        ``(D, H, W)`` bool.
    centre
        Index of the voxel.
    voxel_size
        Along z, y, x in nm.
    """
    box = _box_around(mask)
    if box is None:
        return mask
    # The window imports this module, and SciPy takes longer than it may wait.
    from scipy import ndimage

    components, _ = ndimage.label(mask[box])
    z, y, x = (
        ((np.arange(along.start, along.stop, dtype=float) - c) * size) ** 2
        for along, c, size in zip(box, centre, voxel_size, strict=True)
    )
    squared = z[:, None, None] + y[:, None] + x
    squared[~mask[box]] = np.inf
    result = np.zeros_like(mask)
    result[box] = components == components.flat[squared.argmin()]
    return result


def grow(mask: np.ndarray, nm: float, voxel_size: Sequence[float]) -> np.ndarray:
    """Return a mask with all voxels whose centre is no farther from one of its own than a length.

    Parameters
    ----------
    mask
        ``(D, H, W)`` bool.
    voxel_size
        Along z, y, x in nm.
    """
    box = _box_around(mask)
    if box is None or nm <= 0:
        return mask
    limit = nm * (1 + ROUNDING)
    reach = [int(limit / size) for size in voxel_size]
    z, y, x = (
        slice(max(0, along.start - r), min(n, along.stop + r))
        for along, r, n in zip(box, reach, mask.shape, strict=True)
    )
    squared = np.where(mask[z, y, x], np.float32(0), np.float32(np.inf))
    # Squared distances add up over the axes, so each can take its own minimum. For the few voxels
    # that matter this is several times faster than SciPy's distance transform, and as exact.
    for axis, (size, r) in enumerate(zip(voxel_size, reach, strict=True)):
        squared = _lowered(squared, axis, size, r)
    result = np.zeros_like(mask)
    result[z, y, x] = squared <= limit**2
    return result


def blend(crop: np.ndarray, weight: np.ndarray, grey: float, alpha: float) -> np.ndarray:
    """Cover with grey what is not kept of a crop; integers are rounded.

    Parameters
    ----------
    crop
        ``(D, H, W)`` of any integer or floating type.
    weight
        ``(D, H, W)`` float32, from 0, not kept, to 1, kept.
    grey
        The grey value in the units of the crop, within the range of its type.
    alpha
        From 0, nothing is covered, to 1, nothing shines through.
    """
    dtype = np.result_type(crop.dtype, np.float32)
    cover = ((1 - weight) * np.float32(alpha)).astype(dtype)
    blended = crop * (1 - cover) + dtype.type(grey) * cover
    return (np.rint(blended) if crop.dtype.kind in "ui" else blended).astype(crop.dtype)


def _object(
    labels: np.ndarray | None,
    segmentation: np.ndarray | None,
    recipe: Recipe,
    centre: Triple,
    voxel_size: Sequence[float],
) -> np.ndarray:
    """Return the object that the synapse's own position lies on."""
    volume = _first(segmentation, labels)
    label = int(volume[centre])
    found = _holding(volume, [label] if label else [])
    # A cell can enter a crop in several places, while one label value has many structures.
    is_structure = segmentation is None
    return (
        nearest_component(found, centre, voxel_size) if is_structure and recipe.nearest else found
    )


def _kept_cells(
    labels: np.ndarray | None,
    segmentation: np.ndarray,
    recipe: Recipe,
    centre: Triple,
    objects: Mapping[str, int],
    voxel_size: Sequence[float],
) -> list[int]:
    """Return the labels of the segmentation that are kept."""
    cells = [objects[part] for part in recipe.cells if part in objects]
    unknown = [part for part in recipe.cells if part not in objects]
    if labels is not None and recipe.needs_vesicles(objects):
        one = presynaptic_side(labels, segmentation, recipe, centre, objects, voxel_size)
        other = SIDES[1 - SIDES.index(one)]
        cells.append(objects[one if unknown == [PRESYNAPSE] else other])
    elif unknown:
        cells += [objects[side] for side in SIDES]
    return [cell for cell in cells if cell]


def _first(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray:
    volume = other if one is None else one
    if volume is None:
        raise ValueError("a label volume is needed")
    return volume


def _holding(volume: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Return where a label volume holds one of some values; quick where these are few."""
    found = np.zeros(volume.shape, bool)
    for value in values:
        found |= volume == value
    return found


def _box_around(mask: np.ndarray) -> Slices | None:
    """Return the smallest box that holds a mask, or None if it is empty."""
    slices = []
    for others in ((1, 2), (0, 2), (0, 1)):
        held = np.flatnonzero(mask.any(axis=others))
        if not held.size:
            return None
        slices.append(slice(int(held[0]), int(held[-1]) + 1))
    return triple(slices)


def _lowered(squared: np.ndarray, axis: int, size: float, reach: int) -> np.ndarray:
    """Return squared distances that may lead along one more axis, up to `reach` voxels far."""
    result = squared.copy()
    before, after = np.moveaxis(squared, axis, 0), np.moveaxis(result, axis, 0)
    for n in range(1, min(reach, len(before) - 1) + 1):
        farther = before + np.float32((n * size) ** 2)
        np.minimum(after[n:], farther[:-n], out=after[n:])
        np.minimum(after[:-n], farther[n:], out=after[:-n])
    return result
