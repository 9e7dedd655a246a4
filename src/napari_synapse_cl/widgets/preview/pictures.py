"""A crop and its two views, side by side as slices through one movable centre."""

from typing import Any

import numpy as np
from qtpy.QtCore import QPoint, QRect, QSize, Qt, Signal
from qtpy.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_synapse_cl.widgets.look import Colors

COLUMNS = ("Original", "View 1", "View 2")
AXES = ("z", "y", "x")
GAP = 3
"""Pixels between pictures."""
SMALLEST_PICTURE = 64
CROSSHAIR_OPACITY = 190
"""Of 255."""
WHEEL_STEP = 120
"""What Qt counts for one notch of a wheel."""
SMOOTH_BELOW = 3
"""Voxels that are painted larger than this many pixels are painted as squares."""

Voxel = tuple[int, int, int]


class PairPictures(QWidget):
    """Three columns (original, view 1, view 2) by three rows (slices across z, y and x).

    All show the intensities from 0 to 1, and all voxels in their physical proportions. A click or
    drag moves the crosshair, in which the slices of all pictures meet; the wheel steps through the
    slices.

    Parameters
    ----------
    viewer
        Its theme gives the colours.
    """

    centre_changed = Signal()
    """Emitted when the crosshair was moved."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._colors = Colors(viewer)
        self._volumes: tuple[np.ndarray, ...] = ()
        self._size = np.ones(3)
        self._centre: Voxel = (0, 0, 0)
        self._dragged: tuple[str, str] | None = None
        self._wheel = 0
        self.setCursor(Qt.CursorShape.CrossCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setToolTip(
            "<qt>Slices across z, y and x through the crosshair. Click or drag to move it in all "
            "pictures; turn the wheel to step through the slices.</qt>"
        )

    @property
    def centre(self) -> Voxel:
        """Voxel of the views in which all slices meet: z, y, x."""
        return self._centre

    def show_pair(
        self,
        crop: np.ndarray,
        views: tuple[np.ndarray, np.ndarray],
        voxel_size: tuple[float, float, float],
    ) -> None:
        """Show a pair; the crosshair stays where it is if the size does.

        Parameters
        ----------
        crop, views
            ``(D, H, W)`` float32 in [0, 1].
        voxel_size
            Voxel size along z, y, x, in any unit.
        """
        is_new = not self._volumes or self._volumes[0].shape != crop.shape
        self._volumes = (crop, *views)
        self._size = np.array(voxel_size) / min(voxel_size)
        if is_new:
            self.reset_centre()
        self.update()

    def clear_pair(self) -> None:
        """Show nothing."""
        self._volumes = ()
        self.update()

    def reset_centre(self) -> None:
        """Move the crosshair to the synapse."""
        if self._volumes:
            z, y, x = (n // 2 for n in self._volumes[0].shape)
            self.move_centre((z, y, x))

    def move_centre(self, voxel: Voxel) -> None:
        """Move the crosshair to a voxel, or to the nearest there is."""
        if not self._volumes:
            return
        shape = self._volumes[0].shape
        z, y, x = (min(max(v, 0), n - 1) for v, n in zip(voxel, shape, strict=True))
        self._centre = (z, y, x)
        self.update()
        self.centre_changed.emit()

    def picture(self, column: str, axis: str) -> np.ndarray | None:
        """Return the slice of a column across an axis, ``(H, W)``; None if nothing is shown."""
        if not self._volumes:
            return None
        i = AXES.index(axis)
        return np.take(self._volumes[COLUMNS.index(column)], self._centre[i], axis=i)

    def rectangle(self, column: str, axis: str) -> QRect:
        """Return where the picture of a column across an axis is painted; null if nowhere."""
        if not self._volumes:
            return QRect()
        z, y, x = np.array(self._volumes[0].shape) * self._size
        widths, heights = {"z": x, "y": x, "x": y}, {"z": y, "y": z, "x": z}
        margin = self.fontMetrics().height() + GAP
        room_right = self.width() - margin - 2 * GAP
        room_down = self.height() - margin - 2 * GAP
        scale = max(min(room_right / (3 * max(x, y)), room_down / (y + 2 * z)), 0)
        wide = int(max(x, y) * scale)
        left = margin + max((room_right - 3 * wide) // 2, 0)
        before = [int(heights[a] * scale) + GAP for a in AXES[: AXES.index(axis)]]
        width, height = int(widths[axis] * scale), int(heights[axis] * scale)
        return QRect(
            int(left + COLUMNS.index(column) * (wide + GAP) + (wide - width) // 2),
            int(margin + sum(before)),
            width,
            height,
        )

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        self._colors = Colors(self._viewer)
        self.update()

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Leave room for nine pictures and their labels."""
        side = 3 * (SMALLEST_PICTURE + GAP) + self.fontMetrics().height()
        return QSize(side, side)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint pictures, crosshair and labels."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), self._colors.background)
        if not self._volumes:
            return
        for column in COLUMNS:
            for axis in AXES:
                self._paint_picture(painter, column, axis)
        self._paint_labels(painter)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Move the crosshair to where a picture was clicked."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._dragged = self._picture_at(event.pos())
            self._move_to(event.pos())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Let the crosshair follow a drag, within the picture it began in."""
        self._move_to(event.pos())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """End a drag."""
        self._dragged = None

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Step through the slices of the picture under the mouse."""
        found = self._picture_at(event.position().toPoint())
        if found is None:
            event.ignore()
            return
        self._wheel += event.angleDelta().y()
        steps = int(self._wheel / WHEEL_STEP)
        self._wheel -= steps * WHEEL_STEP
        centre = list(self._centre)
        centre[AXES.index(found[1])] += steps
        self.move_centre((centre[0], centre[1], centre[2]))
        event.accept()

    def _paint_picture(self, painter: QPainter, column: str, axis: str) -> None:
        picture = self.picture(column, axis)
        assert picture is not None
        rect = self.rectangle(column, axis)
        height, width = picture.shape
        grey = np.rint(picture * 255).astype(np.uint8, order="C")
        image = QImage(grey.data, width, height, width, QImage.Format.Format_Grayscale8)
        painter.setRenderHint(
            QPainter.RenderHint.SmoothPixmapTransform, rect.width() < SMOOTH_BELOW * width
        )
        painter.drawImage(rect, image)
        down, right = (i for i in range(3) if AXES[i] != axis)
        shape = self._volumes[0].shape
        x = rect.left() + int((self._centre[right] + 0.5) * rect.width() / shape[right])
        y = rect.top() + int((self._centre[down] + 0.5) * rect.height() / shape[down])
        color = self._colors.named("orange")
        color.setAlpha(CROSSHAIR_OPACITY)
        painter.setPen(color)
        painter.drawLine(rect.left(), y, rect.right(), y)
        painter.drawLine(x, rect.top(), x, rect.bottom())

    def _paint_labels(self, painter: QPainter) -> None:
        painter.setPen(self._colors.text)
        middle = Qt.AlignmentFlag.AlignCenter
        thick = self.fontMetrics().height()
        for column in COLUMNS:
            rect = self.rectangle(column, "z")
            painter.drawText(QRect(rect.left(), 0, rect.width(), thick), middle, column)
        for i, axis in enumerate(AXES):
            rect = self.rectangle(COLUMNS[0], axis)
            painter.save()
            painter.translate(rect.left() - GAP - thick, rect.bottom())
            painter.rotate(-90)
            text = f"{axis} = {self._centre[i]}"
            painter.drawText(QRect(0, 0, rect.height(), thick), middle, text)
            painter.restore()

    def _picture_at(self, point: QPoint) -> tuple[str, str] | None:
        for column in COLUMNS:
            for axis in AXES:
                if self.rectangle(column, axis).contains(point):
                    return column, axis
        return None

    def _move_to(self, point: QPoint) -> None:
        if self._dragged is None or not self._volumes:
            return
        rect = self.rectangle(*self._dragged)
        axis = AXES.index(self._dragged[1])
        down, right = (i for i in range(3) if i != axis)
        shape = self._volumes[0].shape
        centre = list(self._centre)
        centre[right] = (point.x() - rect.left()) * shape[right] // rect.width()
        centre[down] = (point.y() - rect.top()) * shape[down] // rect.height()
        self.move_centre((centre[0], centre[1], centre[2]))
