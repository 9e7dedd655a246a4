"""Which part of a map is shown, and where in the window a place of it lies."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

MARGIN = 0.05
"""Around all points when all are shown, as a share of their extent."""
MOST_ZOOMED = 10_000.0
"""How much larger than all points together they can be shown."""


@dataclass(frozen=True)
class View:
    """Which part of a map is shown: x and y of its middle, pixels per unit, and its size."""

    x: float
    y: float
    scale: float
    width: int
    height: int

    @classmethod
    def of(cls, bounds: tuple[float, float, float, float], width: int, height: int) -> Self:
        """Return the view in which all points are in sight.

        Parameters
        ----------
        bounds
            As of :class:`~napari_synapse_cl.widgets.explore.map.points.MapPoints`.
        width, height
            In pixels.
        """
        left, low, right, high = bounds
        # All at one place is a map too.
        extent = max((right - left) / width, (high - low) / height) or 1 / min(width, height)
        middle = left / 2 + right / 2, low / 2 + high / 2
        return cls(*middle, 1 / (extent * (1 + 2 * MARGIN)), width, height)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Least x and y, and largest x and y that are in sight."""
        dx, dy = self.width / self.scale / 2, self.height / self.scale / 2
        return self.x - dx, self.y - dy, self.x + dx, self.y + dy

    def to_pixels(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels to the right and down of the upper left corner."""
        right = (x - self.x) * self.scale + self.width / 2
        return right, (self.y - y) * self.scale + self.height / 2

    def place(self, right: float, down: float) -> tuple[float, float]:
        """Return x and y at a pixel."""
        x = self.x + (right - self.width / 2) / self.scale
        return x, self.y - (down - self.height / 2) / self.scale

    def moved(self, right: float, down: float) -> Self:
        """Return the view when what is shown has moved by so many pixels."""
        return replace(self, x=self.x - right / self.scale, y=self.y + down / self.scale)

    def zoomed(self, factor: float, right: float, down: float) -> Self:
        """Return the view that shows all larger, but a pixel at the same place."""
        x, y = self.place(right, down)
        new = replace(self, scale=self.scale * factor)
        new_x, new_y = new.place(right, down)
        return replace(new, x=new.x + x - new_x, y=new.y + y - new_y)

    def resized(self, width: int, height: int) -> Self:
        """Return the view with the same middle and scale in another size."""
        return replace(self, width=width, height=height)
