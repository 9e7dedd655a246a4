"""Procedural electron-microscopy volume with two structural classes of synapse."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_synapse_cl.data.sample.neuropil import (
    CLEFT,
    CYTOPLASM,
    DENSITY,
    MEMBRANE,
    MEMBRANE_DEPTH,
    REACH,
    Doubles,
    Floats,
    Frames,
    Ints,
    ball,
    draw_neuropil,
    random_frames,
    rotate,
    smooth_noise,
    squared_length,
    with_vesicle,
)
from napari_synapse_cl.data.sample.storage import VOXEL_SIZE, Sample

SPACING = 44
"""Least distance between two synapses, voxels."""
MARGIN = 24
"""Least distance between a synapse and the faces of the volume, voxels."""

_MID_GREY = 0.52
_NOISE = 0.035
_SLAB = 8
_STAINING_CONTRAST = 0.04
_STAINING_BRIGHTNESS = 0.02
_SHELLS = (4.5, 7.0, 9.5, 12.0, 14.5, REACH + 0.5)

CLASSES = ("tbar", "plaque")
N_STEPS = 5
"""In which a sample is made."""


@dataclass(frozen=True)
class _Disc:
    """Cylinder standing on the membrane: centre (along normal, two tangents), radius, height."""

    centre: tuple[float, float, float]
    radius: float
    half_height: float

    def cover(self, local: Floats) -> Floats:
        """Share of every voxel inside the disc, with edges a voxel and a half wide."""
        height, v, u = (local[:, k] - c for k, c in enumerate(self.centre))
        across = (self.radius - np.sqrt(v * v + u * u)) / 1.5 + 0.5
        along = (self.half_height - np.abs(height)) / 1.5 + 0.5
        return np.clip(across, 0, 1) * np.clip(along, 0, 1)


@dataclass(frozen=True)
class _Anatomy:
    """What distinguishes the synapse classes: cleft width, densities and vesicles."""

    cleft: float
    densities: list[_Disc]
    vesicle_radius: float
    vesicle_count: int
    obstacle: _Disc


def _tbar(rng: np.random.Generator) -> _Anatomy:
    """Draw up a platform on a pedestal, many small vesicles, and separate postsynaptic puncta."""
    foot = MEMBRANE_DEPTH
    platform = _Disc((foot + 6.5, 0, 0), rng.uniform(4.8, 5.6), 1.3)
    pedestal = _Disc((foot + 3, 0, 0), 1.7, 3.0)
    angles = rng.uniform(0, 2 * np.pi) + np.arange(4) * np.pi / 2
    puncta = [_Disc((foot - 2.8, 5.5 * np.cos(a), 5.5 * np.sin(a)), 1.9, 1.2) for a in angles]
    obstacle = _Disc((foot + 4, 0, 0), platform.radius + 1, 5.5)
    return _Anatomy(2.4, [platform, pedestal, *puncta], 2.1, int(rng.integers(26, 34)), obstacle)


def _plaque(rng: np.random.Generator) -> _Anatomy:
    """Draw up a broad plate of density along a wide cleft and a few large vesicles."""
    foot = MEMBRANE_DEPTH
    plate = _Disc((foot - 3.9, 0, 0), rng.uniform(7.0, 8.0), 1.3)
    return _Anatomy(4.2, [plate], 3.9, int(rng.integers(7, 10)), _Disc((foot, 0, 0), 12, 3.0))


_ANATOMY = {"tbar": _tbar, "plaque": _plaque}


def draw_synapses(
    rng: np.random.Generator, tone: Floats, frames: Frames, classes: Sequence[str]
) -> None:
    """Draw every synapse into its own ball of radius `REACH`, in place."""
    offsets = ball(REACH + 1)
    # What is random is drawn in order; then the balls, which do not touch, are filled side by side.
    anatomies = [_ANATOMY[name] for name in classes]
    drawn = [(anatomy := make(rng), _scatter_vesicles(rng, anatomy)) for make in anatomies]

    def draw(position: Ints, origin: Doubles, axes: Doubles, own: tuple[_Anatomy, Floats]) -> None:
        where = tuple((position + offsets).T)
        local = rotate(position - origin + offsets, axes).astype(np.float32)
        radius = np.sqrt(squared_length(local))
        weight = np.clip((REACH - radius) / 3, 0, 1)
        tone[where] += weight * (_synapse_tone(local, *own) - tone[where])

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, frames.positions, frames.origins, frames.axes, drawn))


def _synapse_tone(local: Floats, anatomy: _Anatomy, centres: Floats) -> Floats:
    """Grey value at every local coordinate of one synapse, given its vesicles' centres."""
    apart = np.full(len(local), np.inf, np.float32)
    for centre in centres:
        np.minimum(apart, squared_length(local - centre), out=apart)
    cytoplasm = np.full(len(local), CYTOPLASM, np.float32)
    tone = with_vesicle(cytoplasm, np.sqrt(apart) - np.float32(anatomy.vesicle_radius))

    height = local[:, 0] - MEMBRANE_DEPTH
    lateral = np.sqrt(local[:, 1] ** 2 + local[:, 2] ** 2)
    # The cleft narrows towards its rim, where it meets the surrounding membranes.
    gap = 1.0 + (anatomy.cleft - 1.0) * np.clip((13 - lateral) / 3, 0, 1)
    leaflet = np.abs(height) - gap / 2
    tone += np.clip(0.5 - leaflet, 0, 1) * (CLEFT - tone)
    tone += np.exp(-0.5 * (leaflet / 1.0) ** 2) * (MEMBRANE - tone)
    for density in anatomy.densities:
        tone += density.cover(local) * (DENSITY - tone)
    return tone


def _scatter_vesicles(rng: np.random.Generator, anatomy: _Anatomy) -> Floats:
    """Non-overlapping vesicle centres in the presynaptic cell, clear of its density."""
    radius = anatomy.vesicle_radius
    spots = rng.uniform(-13, 13, (1500, 3)).astype(np.float32)
    inside = squared_length(spots) < (13.5 - radius) ** 2
    inside &= spots[:, 0] > MEMBRANE_DEPTH + anatomy.cleft / 2 + radius + 0.8
    spots = spots[inside & (anatomy.obstacle.cover(spots) == 0)]
    spacing = (2 * radius + 0.7) ** 2
    centres = spots[:1]
    for spot in spots[1:]:
        if len(centres) == anatomy.vesicle_count:
            break
        if squared_length(centres - spot).min() > spacing:
            centres = np.concatenate([centres, spot[None]])
    return centres


def make_sample(
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = (192, 320, 320),
    n_synapses: int = 160,
    tell: Callable[[int], None] = lambda n_done: None,
) -> Sample:
    """Make a volume of neuropil holding synapses of two classes in equal numbers.

    The classes differ in structure (presynaptic density, cleft, postsynaptic density, size and
    number of vesicles) but not in the distribution of grey values around the synapse.

    Parameters
    ----------
    seed
        Determines the result, bit for bit.
    shape
        Size of the volume along z, y, x, voxels.
    n_synapses
        At least 2.
    tell
        Is called with how many of the :data:`N_STEPS` steps are done.

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
    tell(1)
    tone = draw_neuropil(rng, shape, frames)
    tell(2)
    draw_synapses(rng, tone, frames, classes)
    tell(3)
    _equalise(tone, positions)
    tell(4)
    image = _acquire(rng, tone)
    tell(N_STEPS)
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
