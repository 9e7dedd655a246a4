"""Buttons in rows that fit the width they are given."""

from collections.abc import Sequence

from qtpy.QtCore import QEvent, QRect, QSize
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

GAP = 4
"""Between buttons, in pixels."""
APART = 16
"""Between buttons that are to lie apart, in pixels."""


class Buttons(QWidget):
    """Rows of buttons and the like, which go on in further rows where they have no room.

    Parameters
    ----------
    rows
        The buttons of each row; what follows None lies apart.
    """

    def __init__(self, *rows: Sequence[QWidget | None]) -> None:
        super().__init__()
        self._rows = rows
        self._is_placed = False
        for one in self.buttons:
            one.setParent(self)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the width of the widest row, and for the height at the present width."""
        width = max(_width_of(row) for row in self._rows)
        return QSize(width, self._height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the width of the widest button, and for the height at the present width."""
        width = max(one.sizeHint().width() for one in self.buttons)
        return QSize(width, self._height())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Place the buttons."""
        super().resizeEvent(event)
        self._is_placed = True
        self._place()
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()

    def event(self, event: QEvent) -> bool:
        """Notice that a button says something else."""
        if event.type() == QEvent.Type.LayoutRequest:
            self._place()
            self.updateGeometry()
        return super().event(event)

    @property
    def buttons(self) -> list[QWidget]:
        """All of them, row by row."""
        return [one for row in self._rows for one in row if one is not None]

    def _height(self) -> int:
        lines = self._lines()
        return len(lines) * (self._line_height + GAP) - GAP

    @property
    def _line_height(self) -> int:
        return max(one.sizeHint().height() for one in self.buttons)

    def _lines(self) -> list[list[QWidget | None]]:
        """Return what stands beside each other at the present width."""
        if not self._is_placed:
            return [list(row) for row in self._rows]
        lines: list[list[QWidget | None]] = []
        for row in self._rows:
            line: list[QWidget | None] = []
            for one in row:
                if one is not None and any(line) and _width_of([*line, one]) > self.width():
                    # It lies apart in a line of its own too.
                    n = len(line) - (line[-1] is None)
                    lines.append(line[:n])
                    line = line[n:]
                line.append(one)
            lines.append(line)
        return lines

    def _place(self) -> None:
        y, height = 0, self._line_height
        for line in self._lines():
            x = 0
            for one, width in zip(line, self._shared_out(line), strict=True):
                if one is not None:
                    one.setGeometry(QRect(x, y, width, height))
                x += width + (0 if one is None else GAP)
            y += height + GAP

    def _shared_out(self, line: Sequence[QWidget | None]) -> list[int]:
        """Return how wide what stands in a line becomes: alike, where all words have room so."""
        asked = [APART if one is None else one.sizeHint().width() for one in line]
        if line[0] is None:
            return [self.width() - _width_of(line) + APART, *asked[1:]]
        n = sum(one is not None for one in line)
        room = self.width() - APART * (len(line) - n) - GAP * (n - 1)
        alike = room // n
        if all(alike >= width for one, width in zip(line, asked, strict=True) if one is not None):
            return [APART if one is None else alike for one in line]
        more = max(0, self.width() - _width_of(line)) // n
        return [n + (0 if one is None else more) for one, n in zip(line, asked, strict=True)]


def _width_of(line: Sequence[QWidget | None]) -> int:
    """Return how wide what stands beside each other is at least."""
    widths = [APART if one is None else GAP + one.sizeHint().width() for one in line]
    return sum(widths) - GAP
