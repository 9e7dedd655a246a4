"""Squares in lines and columns that scroll, as many as there may be."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPoint, QRect, QSize, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QAbstractScrollArea, QFrame, QSizePolicy

SIDE = 84
"""Least width of a square, in pixels."""
GAP = 4
LEAST_HEIGHT = 170


class Wall(QAbstractScrollArea):
    """Places for squares, with a line of text below each; nothing is made for what is not in sight.

    Attributes
    ----------
    rows
        ``(m,)`` int64, what is shown in each place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows = np.empty(0, np.int64)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setMinimumHeight(LEAST_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._first = 0
        self.verticalScrollBar().valueChanged.connect(self._note_first)

    @property
    def n_columns(self) -> int:
        """How many pictures stand beside each other."""
        return max(1, (self.viewport().width() - GAP) // (SIDE + GAP))

    @property
    def in_sight(self) -> range:
        """Places, counted from 0 in `rows`, of what is to be seen now."""
        first = self.verticalScrollBar().value() // self._line
        last = (self.verticalScrollBar().value() + self.viewport().height()) // self._line
        n = self.n_columns
        return range(min(first * n, len(self.rows)), min((last + 1) * n, len(self.rows)))

    def rectangle(self, place: int) -> QRect:
        """Return where a picture is painted, in pixels of the viewport."""
        line, column = divmod(place, self.n_columns)
        side = self._side
        y = GAP + line * self._line - self.verticalScrollBar().value()
        return QRect(GAP + column * (side + GAP), y, side, side)

    def place_at(self, point: QPoint) -> int | None:
        """Return the place of the picture at a point of the viewport."""
        column = (point.x() - GAP) // (self._side + GAP)
        line = (point.y() + self.verticalScrollBar().value() - GAP) // self._line
        place = line * self.n_columns + column
        if not (0 <= column < self.n_columns and 0 <= place < len(self.rows)):
            return None
        return int(place) if self.rectangle(place).contains(point) else None

    @property
    def _side(self) -> int:
        n = self.n_columns
        return max(SIDE, (self.viewport().width() - GAP) // n - GAP)

    @property
    def _line(self) -> int:
        """Height of a line of pictures, with what stands below them."""
        return self._side + self.fontMetrics().height() + 2 * GAP

    def fit(self) -> None:
        """Scroll as far as there are rows."""
        n_lines = -(-len(self.rows) // self.n_columns)
        bar = self.verticalScrollBar()
        bar.setRange(0, max(0, n_lines * self._line + GAP - self.viewport().height()))
        bar.setSingleStep(self._line // 2)
        bar.setPageStep(max(self._line, self.viewport().height() // self._line * self._line))

    def scroll_to(self, place: int) -> None:
        """Have a place in sight."""
        rect, bar = self.rectangle(place), self.verticalScrollBar()
        below = rect.top() + self._line - self.viewport().height()
        if rect.top() < 0:
            bar.setValue(bar.value() + rect.top() - GAP)
        elif below > 0:
            bar.setValue(bar.value() + min(below, rect.top()))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for two pictures beside each other."""
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(2 * (SIDE + GAP) + GAP + bar, LEAST_HEIGHT)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Keep in sight what was first."""
        super().resizeEvent(event)
        first = self._first
        self.fit()
        self.verticalScrollBar().setValue(first // self.n_columns * self._line)

    def _note_first(self) -> None:
        self._first = self.in_sight.start
