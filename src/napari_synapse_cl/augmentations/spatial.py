"""Rotations, flips, magnifications, and where the centre lies: what moves voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import acos, copysign, cos, degrees, pi, sin, sqrt
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from napari_synapse_cl.augmentations.base import (
    Random,
    SpatialTransform,
    balanced_factor,
    decimal,
    stream,
)
from napari_synapse_cl.config import AugmentationConfig


@dataclass(frozen=True)
class Rotation(SpatialTransform):
    """Rotation about x, then y, then z, in physical space."""

    angles: tuple[float, ...]
    """About z, y, x in degrees."""

    name: ClassVar[str] = "rotation"
    settings: ClassVar[tuple[str, ...]] = ("rotation_range",)
    off: ClassVar[str] = "not rotated"

    @classmethod
    def is_on(cls, config: AugmentationConfig) -> bool:
        """Return whether it changes views: not where all rotations are drawn from."""
        return super().is_on(config) and not config.uniform_rotation

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw each angle evenly."""
        return cls(tuple(config.rotation_range * (2 * one - 1) for one in random(3)))

    def describe(self) -> str:
        """Say how far it rotates about each axis."""
        angles = (
            f"{decimal(angle, 1)}° about {axis}"
            for angle, axis in zip(self.angles, "zyx", strict=True)
        )
        return f"rotated {', '.join(angles)}"

    @classmethod
    def matrices(cls, drawn: Sequence[Self]) -> NDArray[np.float64]:
        """Return ``(B, 3, 3)`` float64."""
        return rotations(np.array([one.angles for one in drawn]))

    @classmethod
    def reach(cls, config: AugmentationConfig, extent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(3,)``, the farthest of what rotations within the range see."""
        return np.array(_reach(config.rotation_range, tuple(extent.tolist())))


def rotations(angles: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rotations Rz @ Ry @ Rx, ``(B, 3, 3)`` float64 on (z, y, x) vectors.

    Parameters
    ----------
    angles
        ``(B, 3)``, about z, y, x in degrees.
    """
    radians = np.deg2rad(angles.astype(np.float64))
    cos, sin = np.cos(radians), np.sin(radians)
    matrices = np.tile(np.eye(3), (3, len(angles), 1, 1))
    for axis in range(3):
        i, j = (other for other in range(3) if other != axis)
        matrices[axis, :, i, i] = matrices[axis, :, j, j] = cos[:, axis]
        matrices[axis, :, i, j] = -sin[:, axis]
        matrices[axis, :, j, i] = sin[:, axis]
    return matrices[0] @ matrices[1] @ matrices[2]


# The preview asks again at every change of a setting.
@lru_cache(maxsize=256)
def _reach(rotation_range: float, extent: tuple[float, ...]) -> tuple[float, ...]:
    if rotation_range >= 90:
        return (float(np.linalg.norm(extent)),) * 3
    steps = np.linspace(-rotation_range, rotation_range, 31)
    angles = np.array(list(product(steps, repeat=3)))
    farthest = (np.abs(rotations(angles)) @ np.array(extent)).max(axis=0)
    return tuple(farthest.tolist())


@dataclass(frozen=True)
class UniformRotation(SpatialTransform):
    """Rotation drawn evenly from SO(3), in physical space.

    Three angles, each drawn evenly from all there are, do not do so: they turn the axes of the
    view too often near those of the volume.
    """

    quaternion: tuple[float, ...]
    """Of length 1: the cosine of half the angle, and the axis along z, y, x times its sine."""

    name: ClassVar[str] = "uniform_rotation"
    settings: ClassVar[tuple[str, ...]] = ("uniform_rotation",)
    instead_of: ClassVar[str] = Rotation.name

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw an even unit quaternion, as Shoemake (1992), Graphics Gems III.6."""
        share, one, two = random(3)
        one, two = 2 * pi * one, 2 * pi * two
        low, high = sqrt(1 - share), sqrt(share)
        return cls((low * sin(one), low * cos(one), high * sin(two), high * cos(two)))

    def describe(self) -> str:
        """Say the angle, of at most 180°, and the axis."""
        w, *along = (copysign(1, self.quaternion[0]) * one for one in self.quaternion)
        length = sqrt(sum(one**2 for one in along)) or 1.0
        axis = ", ".join(decimal(one / length, 2) for one in along)
        return f"rotated {degrees(2 * acos(min(w, 1))):.1f}° about the axis z, y, x = {axis}"

    @classmethod
    def matrices(cls, drawn: Sequence[Self]) -> NDArray[np.float64]:
        """Return ``(B, 3, 3)`` float64."""
        w, a, b, c = np.array([one.quaternion for one in drawn]).T
        rows = (
            (1 - 2 * (b * b + c * c), 2 * (a * b - w * c), 2 * (a * c + w * b)),
            (2 * (a * b + w * c), 1 - 2 * (a * a + c * c), 2 * (b * c - w * a)),
            (2 * (a * c - w * b), 2 * (b * c + w * a), 1 - 2 * (a * a + b * b)),
        )
        return np.moveaxis(np.array(rows), 2, 0)

    @classmethod
    def reach(cls, config: AugmentationConfig, extent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(3,)``, half the diagonal of the view along each axis."""
        return np.full(3, np.linalg.norm(extent))


@dataclass(frozen=True)
class Flip(SpatialTransform):
    """Flips along some of the axes."""

    flips: tuple[bool, ...]
    """Whether it flips along z, y, x."""

    name: ClassVar[str] = "flip"
    settings: ClassVar[tuple[str, ...]] = ("flip_prob",)
    off: ClassVar[str] = "not flipped"

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw for each axis whether it flips."""
        return cls(tuple(one < config.flip_prob for one in random(3)))

    def describe(self) -> str:
        """Say along which axes it flips."""
        flipped = [axis for axis, flip in zip("zyx", self.flips, strict=True) if flip]
        return f"flipped {', '.join(flipped)}" if flipped else self.off

    @classmethod
    def matrices(cls, drawn: Sequence[Self]) -> NDArray[np.float64]:
        """Return ``(B, 3, 3)`` float64."""
        signs = 1 - 2 * np.array([one.flips for one in drawn], dtype=np.float64)
        return signs[:, :, None] * np.eye(3)


@dataclass(frozen=True)
class Scale(SpatialTransform):
    """A magnification, the same along all axes in physical space."""

    scale: float
    """How much larger tissue appears."""

    name: ClassVar[str] = "scale"
    settings: ClassVar[tuple[str, ...]] = ("scale_range",)

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the magnification, as often larger as smaller."""
        (one,) = random(1)
        return cls(balanced_factor(config.scale_range, one))

    def describe(self) -> str:
        """Say the magnification."""
        return f"magnified ×{self.scale:.2f}"

    @classmethod
    def matrices(cls, drawn: Sequence[Self]) -> NDArray[np.float64]:
        """Return ``(B, 3, 3)`` float64."""
        scales = np.array([one.scale for one in drawn])
        return np.eye(3) / scales[:, None, None]

    @classmethod
    def reach(cls, config: AugmentationConfig, extent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(3,)``, as far as the smallest magnification sees."""
        return extent * (1 + config.scale_range)


@dataclass(frozen=True)
class Shift(SpatialTransform):
    """The centre of the view lies elsewhere than the position of the synapse."""

    shift: tuple[float, ...]
    """How far along z, y, x of the volume, in nm."""

    name: ClassVar[str] = "shift"
    settings: ClassVar[tuple[str, ...]] = ("shift_range",)

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the centre evenly from a ball."""
        volume, height, turn = random(3)
        # The share of a ball within a radius grows with its cube, and that of a sphere below a
        # height with the height (Archimedes).
        radius, along = config.shift_range * volume ** (1 / 3), 2 * height - 1
        across = sqrt(1 - along**2)
        direction = (along, across * sin(2 * pi * turn), across * cos(2 * pi * turn))
        return cls(tuple(radius * one for one in direction))

    def describe(self) -> str:
        """Say how far it moves along each axis."""
        moves = (f"{decimal(n, 0)} nm along {a}" for n, a in zip(self.shift, "zyx", strict=True))
        return f"shifted {', '.join(moves)}"

    @classmethod
    def matrices(cls, drawn: Sequence[Self]) -> NDArray[np.float64]:
        """Return ``(B, 3, 3)`` float64, nothing turned."""
        return np.tile(np.eye(3), (len(drawn), 1, 1))

    @classmethod
    def shifts(cls, drawn: Sequence[Self]) -> NDArray[np.float64]:
        """Return ``(B, 3)`` float64."""
        return np.array([one.shift for one in drawn])

    @classmethod
    def reach(cls, config: AugmentationConfig, extent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(3,)``, as far as the view and the ball reach together."""
        return extent + config.shift_range


JITTER = "centre_jitter"
"""The key of the random streams by which centres are moved."""


def draw_jitters(
    reach: float, seed: int, synapses: Sequence[int], n: int, voxel_size: Sequence[float]
) -> NDArray[np.int64]:
    """Draw how far from each synapse `n` crops of it lie: ``(B, n, 3)`` int64 voxels along z, y, x.

    What is drawn for a synapse depends on the seed and on its row alone.

    Parameters
    ----------
    reach
        Radius of the ball that centres are drawn from, in nm.
    seed
        Seed of the streams.
    synapses
        Row of each of B synapses in its table.
    voxel_size
        Along z, y, x in nm.
    """
    ball = AugmentationConfig(shift_range=reach)
    moves = [
        [Shift.draw(ball, stream(seed, 0, int(row), number, JITTER)).shift for number in range(n)]
        for row in synapses
    ]
    offsets = np.reshape(moves, (len(synapses), n, 3)) / np.asarray(voxel_size, float)
    return np.rint(offsets).astype(np.int64)
