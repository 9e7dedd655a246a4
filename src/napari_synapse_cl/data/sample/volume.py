"""Procedural electron-microscopy volume with two structural classes of synapse."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_synapse_cl.data.sample.neuropil import draw_neuropil
from napari_synapse_cl.data.sample.shapes import (
    REACH,
    Floats,
    Ints,
    ball,
    random_frames,
    smooth_noise,
)
from napari_synapse_cl.data.sample.synapses import CLASSES, draw_synapses

SPACING = 44
"""Least distance between two synapses, voxels."""
MARGIN = 24
"""Least distance between a synapse and the faces of the volume, voxels."""
VOXEL_SIZE = (10.0, 10.0, 10.0)
"""Edge lengths of a voxel along z, y, x, nanometres."""

_MID_GREY = 0.52
_NOISE = 0.035
_SLAB = 8
_STAINING_CONTRAST = 0.04
_STAINING_BRIGHTNESS = 0.02
_SHELLS = (4.5, 7.0, 9.5, 12.0, 14.5, REACH + 0.5)


@dataclass(frozen=True)
class Sample:
    """A volume with its annotated synapses.

    Attributes
    ----------
    image : (Z, Y, X) uint8
        Grey values.
    synapses : pandas.DataFrame
        One row per synapse: ``z``, ``y``, ``x`` (int, voxels) and ``class`` (str).
    voxel_size : tuple of float
        Edge lengths of a voxel along z, y, x, in nanometres.
    """

    image: NDArray[np.uint8]
    synapses: pd.DataFrame
    voxel_size: tuple[float, float, float]


def make_sample(
    seed: int = 0, *, shape: tuple[int, int, int] = (192, 320, 320), n_synapses: int = 160
) -> Sample:
    """Make a volume of neuropil holding synapses of two classes in equal numbers.

    The classes differ in structure (presynaptic density, cleft, postsynaptic density, size and
    number of vesicles) but not in the distribution of grey values around the synapse.

    Parameters
    ----------
    seed : int
        Determines the result, bit for bit.
    shape : tuple of int
        Size of the volume along z, y, x, voxels.
    n_synapses : int
        Number of synapses, at least 2.

    Returns
    -------
    Sample
        The volume and its annotations.

    Raises
    ------
    ValueError
        If there are fewer than 2 synapses, or the volume has no room for that many.
    """
    if n_synapses < 2:
        raise ValueError(f"A sample needs at least 2 synapses, not {n_synapses}.")
    rng = np.random.default_rng(seed)
    positions = _place_synapses(rng, shape, n_synapses)
    classes = rng.permutation(np.resize(CLASSES, n_synapses)).tolist()
    frames = random_frames(rng, positions)
    tone = draw_neuropil(rng, shape, frames)
    draw_synapses(rng, tone, frames, classes)
    _equalise(tone, positions)
    image = _acquire(rng, tone)
    table = pd.DataFrame(positions, columns=["z", "y", "x"]).assign(**{"class": classes})
    return Sample(image, table, VOXEL_SIZE)


def _place_synapses(rng: np.random.Generator, shape: Sequence[int], count: int) -> Ints:
    """Random voxels at least `SPACING` apart and `MARGIN` from the faces, shape (count, 3).

    Random starts are pushed apart until nobody is too close, which packs more densely than
    drawing positions one after another would.
    """
    low = np.full(3, MARGIN)
    high = np.array(shape) - 1 - MARGIN
    no_room = ValueError(
        f"There is no room for {count} synapses {SPACING} voxels apart and {MARGIN} voxels from "
        f"the faces of a volume of shape {tuple(shape)}; use fewer synapses or a larger volume."
    )
    # No packing of spheres fills more than 74 % of space.
    if (high < low).any() or count * np.pi / 6 * SPACING**3 > 0.74 * np.prod(
        high - low + float(SPACING)
    ):
        raise no_room
    for _ in range(20):
        points = rng.uniform(low, high, (count, 3))
        for _ in range(400):
            voxels = np.rint(points).astype(np.int64)
            if len(cKDTree(voxels).query_pairs(SPACING - 1e-6, output_type="ndarray")) == 0:
                return voxels
            first, second = cKDTree(points).query_pairs(SPACING + 2, output_type="ndarray").T
            apart = points[first] - points[second]
            length = np.linalg.norm(apart, axis=1, keepdims=True)
            push = 0.5 * (SPACING + 2 - length) * apart / np.maximum(length, 1e-6)
            np.add.at(points, first, push)
            np.add.at(points, second, -push)
            points = np.clip(points, low, high)
    raise no_room


def _equalise(tone: Floats, positions: Ints) -> None:
    """Give every synapse the same distribution of grey values, shell by shell, in place.

    Grey values are remapped monotonically, so structure stays while the amount of dark material
    no longer tells the classes apart. Neighbouring shells share their mappings smoothly and the
    outermost one fades into the untouched surroundings.
    """
    offsets = ball(REACH)
    radius = np.sqrt((offsets**2).sum(1))
    where = tuple((positions[:, None] + offsets).transpose(2, 0, 1))
    grey = tone[where]
    weights = [np.interp(radius, _SHELLS, hat) for hat in np.eye(len(_SHELLS))]
    for _ in range(2):
        # The last shell is the rim, which keeps its grey values.
        remapped = weights[-1] * grey
        for weight in weights[:-1]:
            used = np.flatnonzero(weight)
            remapped[:, used] += weight[used] * _match(grey[:, used], weight[used] > 0.5)
        grey = remapped
    tone[where] = grey


def _match(grey: Floats, core: NDArray[np.bool_]) -> Floats:
    """Remap every row so that its quantiles over `core` become their mean over all rows."""
    quantiles = np.quantile(grey[:, core], np.linspace(0, 1, 65), axis=1).T
    target = quantiles.mean(axis=0)
    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(lambda row, own: np.interp(row, own, target), grey, quantiles))
    return np.array(rows, np.float32)


def _acquire(rng: np.random.Generator, tone: Floats) -> NDArray[np.uint8]:
    """Image grey values with uneven staining and microscope noise."""
    contrast, brightness = (smooth_noise(rng, tone.shape, 4) for _ in range(2))
    image = np.empty(tone.shape, np.uint8)

    def acquire(slab: slice, noise: Floats) -> None:
        grey = tone[slab] - np.float32(_MID_GREY)
        grey *= 1 + _STAINING_CONTRAST * np.clip(contrast[slab], -2, 2)
        grey += _STAINING_BRIGHTNESS * np.clip(brightness[slab], -2, 2)
        # Averaging neighbours correlates the noise slightly, as a scanned beam does.
        noise = noise[1:] + noise[:-1]
        noise = noise[:, 1:] + noise[:, :-1]
        noise = noise[:, :, 1:] + noise[:, :, :-1]
        noise *= _NOISE / np.sqrt(8)
        grey += noise
        grey += np.float32(_MID_GREY)
        np.clip(grey, 0, 1, out=grey)
        grey *= 255
        image[slab] = np.rint(grey, out=grey)

    depth, height, width = tone.shape
    # Slabs fit the processor's cache. Their noise is drawn in order, while others are worked on.
    planes = rng.standard_normal((1, height + 1, width + 1), dtype=np.float32)
    with ThreadPoolExecutor() as pool:
        slabs = []
        for start in range(0, depth, _SLAB):
            slab = slice(start, min(start + _SLAB, depth))
            more = rng.standard_normal((slab.stop - start, height + 1, width + 1), dtype=np.float32)
            planes = np.concatenate([planes[-1:], more])
            slabs.append(pool.submit(acquire, slab, planes))
        for one in slabs:
            one.result()
    return image
