"""Flips, magnifications, and where the centre lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin, sqrt
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
