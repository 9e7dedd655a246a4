"""Three planes through the middle of a crop, above the window."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QPoint, QRect, Qt
from qtpy.QtGui import QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QWidget

from napari_synapse_cl.widgets.explore.gallery.crops import Crops
from napari_synapse_cl.widgets.look import Colors

LONGEST = 180
"""Pixels of the longest side of a crop."""
GAP = 4
NAMES = ("across z", "across y", "across x")


class Planes(QWidget):
    """Slices of a crop across z, y and x beside each other, in their physical proportions.

    Parameters
    ----------
    parent
        What it is shown above.
    """

    def __init__(self, parent: QWidget, crops: Crops) -> None:
        super().__init__(parent, Qt.WindowType.ToolTip)
        self.setAttribute(Qt.WidgetAttribute.WA_ShowWithoutActivating)
        self._crops = crops
        self._row: int | None = None
        self._colors: Colors | None = None
        crops.changed.connect(self._fit)

    @property
    def row(self) -> int | None:
        """The row whose crop is shown, None if none is."""
        return self._row if self.isVisible() else None

    def show_row(self, row: int, corner: QPoint, colors: Colors) -> None:
        """Show the planes of a row's crop as soon as they are there.

        Parameters
        ----------
        corner
            Where the upper left corner comes to lie on the screen, if there is room.
        """
        self._row, self._colors, self._corner = row, colors, corner
        self._fit()

    def hide(self) -> None:
        """Show nothing."""
        self._row = None
        super().hide()

    def _fit(self) -> None:
        """Take as much room as the planes need, once the crop is there."""
        crop = None if self._row is None else self._crops.whole(self._row)
        if crop is None or not crop.size:
            return
        rects = self._rectangles(crop)
        width = max(rect.right() for rect in rects) + GAP
        height = max(rect.bottom() for rect in rects) + GAP
        self.resize(width, height)
        screen = self.screen().availableGeometry()
        x = min(self._corner.x(), screen.right() - width)
        y = min(self._corner.y(), screen.bottom() - height)
        self.move(max(x, screen.left()), max(y, screen.top()))
        self.show()
        self.update()

    def _rectangles(self, crop: np.ndarray) -> list[QRect]:
        """Return where the slices across z, y and x are painted."""
        sizes = np.array(crop.shape) * self._crops.proportions
        z, y, x = np.maximum(sizes * LONGEST / sizes.max(), 1).round().astype(int).tolist()
        top = self.fontMetrics().height() + GAP
        texts = [self.fontMetrics().horizontalAdvance(name) for name in NAMES]
        widest = np.maximum([x, x, y], texts).tolist()
        lefts = np.cumsum([GAP, *(w + GAP for w in widest[:2])]).tolist()
        shapes = ((x, y), (x, z), (y, z))
        return [QRect(left, top, *shape) for left, shape in zip(lefts, shapes, strict=True)]

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint the planes, and what they are."""
        crop = None if self._row is None else self._crops.whole(self._row)
        if crop is None or not crop.size or self._colors is None:
            return
        painter = QPainter(self)
        painter.fillRect(self.rect(), self._colors.background)
        painter.setPen(self._colors.text)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        for axis, (rect, name) in enumerate(zip(self._rectangles(crop), NAMES, strict=True)):
            values: Any = np.take(crop, crop.shape[axis] // 2, axis=axis)
            grey = self._crops.grey(values)
            height, width = grey.shape
            image = QImage(grey.data, width, height, width, QImage.Format.Format_Grayscale8)
            painter.drawText(rect.left(), rect.top() - GAP, name)
            painter.drawImage(rect, image)
