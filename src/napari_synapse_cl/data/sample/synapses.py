"""Synapses of two structural classes for the procedural sample volume."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from napari_synapse_cl.data.sample.shapes import (
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
    rotate,
    squared_length,
    with_vesicle,
)

CLASSES = ("tbar", "plaque")


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
