"""Mirror images and quarter turns that a crop looks the same size under."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Literal

import numpy as np
from torch import Tensor

Averaging = Literal["none", "flips", "flips+rotations"]


@dataclass(frozen=True)
class Symmetry:
    """An exchange of axes, then flips along some: together the symmetries of a cuboid.

    Attributes
    ----------
    axes
        Which of the axes z, y, x comes first, second and third.
    flips
        Along which of them, as they are then, is flipped.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, crops: Tensor) -> Tensor:
        """Return the image of ``(B, C, D, H, W)`` crops under the symmetry, as a view or a copy."""
        turned = crops.permute(0, 1, *(2 + axis for axis in self.axes))
        return turned.flip(self._flipped) if self._flipped else turned

    def undo(self, maps: Tensor) -> Tensor:
        """Return what :meth:`apply` maps to `maps`."""
        straight = maps.flip(self._flipped) if self._flipped else maps
        return straight.permute(0, 1, *(2 + int(axis) for axis in np.argsort(self.axes)))

    @property
    def _flipped(self) -> list[int]:
        return [2 + axis for axis, flip in enumerate(self.flips) if flip]


def symmetries(
    averaging: Averaging,
    shape: Sequence[int],
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    downsampling: Sequence[int] = (1, 1, 1),
) -> list[Symmetry]:
    """Return the symmetries to average over, the identity first.

    Parameters
    ----------
    averaging
        "none" for the identity alone, "flips" for the 8 mirror images, "flips+rotations" for these
        with every exchange of axes that agree in all that follows: 48 in all for a cube.
    shape
        Size of the crops along z, y, x.
    voxel_size
        Along z, y, x, in any unit.
    downsampling
        Of the network along z, y, x: one that shrinks an axis less was made for another axis.
    """
    if averaging == "none":
        return [Symmetry((0, 1, 2), (False, False, False))]
    alike = [
        (size, round(float(length), 6), factor)
        for size, length, factor in zip(shape, voxel_size, downsampling, strict=True)
    ]
    orders = permutations(range(3)) if averaging == "flips+rotations" else [(0, 1, 2)]
    sides = (False, True)
    return [
        Symmetry((order[0], order[1], order[2]), flips)
        for order in orders
        if [alike[axis] for axis in order] == alike
        for flips in product(sides, sides, sides)
    ]
