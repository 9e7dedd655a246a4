"""Points of a map, sorted so that a lasso finds those inside it at once. No Qt in here."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

AT_ONCE = 2**17
"""Points that are looked at together."""


@dataclass(frozen=True)
class MapPoints:
    """The points of a map that are drawn, in ascending order of y.

    In that order an edge of a polygon concerns the points of one slice alone, so what lies inside
    is found in a time that does not grow with the number of edges; and no class is drawn above
    all others, as would be in the order of a table that is sorted.
    """

    x: np.ndarray
    y: np.ndarray
    """``(m,)`` float64, all finite; float32 would have to be converted at each search."""
    rows: np.ndarray
    """``(m,)`` int64, of each the row in the table."""
    n: int
    """Rows of the table."""

    @classmethod
    def of(cls, positions: np.ndarray, visible: np.ndarray) -> Self:
        """Return the points that are drawn; it takes a tenth of a second for a million.

        Parameters
        ----------
        positions
            ``(n, 2)`` x and y; a point whose position is not finite is not drawn.
        visible
            ``(n,)`` bool.
        """
        rows = np.flatnonzero(visible & np.isfinite(positions[:, 0]) & np.isfinite(positions[:, 1]))
        rows = rows[np.argsort(positions[rows, 1])]
        x, y = (positions[rows, i].astype(np.float64) for i in (0, 1))
        return cls(x, y, rows, len(positions))

    @cached_property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """Least x and y, and largest x and y; None where there is no point."""
        if not len(self.rows):
            return None
        return float(self.x.min()), float(self.y[0]), float(self.x.max()), float(self.y[-1])

    def parts_in_box(
        self, left: float, low: float, right: float, high: float
    ) -> Iterator[np.ndarray]:
        """Yield the ascending numbers of the points in a box, its border included, in parts.

        They are numbers among the points that are drawn, not rows. What is done part by part stays
        in the processor's cache; for all points at once a thread would fetch new memory each time.
        """
        first, last = np.searchsorted(self.y, low, "left"), np.searchsorted(self.y, high, "right")
        for i in range(int(first), int(last), AT_ONCE):
            x = self.x[i : min(i + AT_ONCE, int(last))]
            yield i + np.flatnonzero((x >= left) & (x <= right))

    def _numbers_in_box(self, *box: float) -> np.ndarray:
        return np.concatenate([np.empty(0, np.int64), *self.parts_in_box(*box)])

    def in_box(self, left: float, low: float, right: float, high: float) -> np.ndarray:
        """Return the ascending rows in a box, its border included."""
        return self._in_order(self.rows[self._numbers_in_box(left, low, right, high)])

    def in_polygon(self, corners: np.ndarray) -> np.ndarray:
        """Return the ascending rows inside a polygon, which may cross itself.

        Inside is what a ray to the right leaves through an odd number of edges.

        Parameters
        ----------
        corners
            ``(k, 2)`` x and y; the last is joined to the first.
        """
        corners = np.asarray(corners, np.float64)
        if len(corners) < 3:
            return np.empty(0, np.int64)
        numbers = self._numbers_in_box(*corners.min(axis=0), *corners.max(axis=0))
        x, y = self.x[numbers], self.y[numbers]
        inside = np.zeros(len(x), bool)
        ends = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
        # From the lower end to the upper: an edge cuts what lies on it alike in both directions.
        falls = ends[:, 0, 1] > ends[:, 1, 1]
        ends[falls] = ends[falls, ::-1]
        # A corner belongs to the edge above it alone, or a ray through it would count it twice.
        slices = np.searchsorted(y, ends[:, :, 1], "left")
        for ((x0, y0), (x1, y1)), (first, last) in zip(ends, slices, strict=True):
            if first < last:
                cut = x0 + (y[first:last] - y0) * ((x1 - x0) / (y1 - y0))
                inside[first:last] ^= x[first:last] < cut
        return self._in_order(self.rows[numbers[inside]])

    def nearest(self, x: float, y: float, reach: float) -> int | None:
        """Return the row of the point nearest to a place, None if there is none within reach."""
        numbers = self._numbers_in_box(x - reach, y - reach, x + reach, y + reach)
        squares = (self.x[numbers] - x) ** 2 + (self.y[numbers] - y) ** 2
        if not len(squares) or squares.min() > reach**2:
            return None
        return int(self.rows[numbers[squares.argmin()]])

    def _in_order(self, rows: np.ndarray) -> np.ndarray:
        """Return rows in ascending order: of many that is found sooner so than by sorting."""
        found = np.zeros(self.n, bool)
        found[rows] = True
        return np.flatnonzero(found)
