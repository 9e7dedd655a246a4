"""Flips along each axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from napari_synapse_cl.augmentations.base import Random, SpatialTransform
from napari_synapse_cl.config import AugmentationConfig


@dataclass(frozen=True)
class Flip(SpatialTransform):
    """Flips along some of the axes.

    Attributes
    ----------
    flips
        Whether it flips along z, y, x.
    """

    flips: tuple[bool, ...]

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
