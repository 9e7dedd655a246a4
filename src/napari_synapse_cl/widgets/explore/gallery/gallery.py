"""A wall of crops, one slice of each; only those in sight are painted, or cut."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QRect, Qt, QTimer, Signal
from qtpy.QtGui import (
    QImage,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QWheelEvent,
)

from napari_synapse_cl.data import pd
from napari_synapse_cl.widgets.explore.gallery.crops import Crops
from napari_synapse_cl.widgets.explore.gallery.planes import Planes
from napari_synapse_cl.widgets.explore.gallery.wall import GAP, Wall
from napari_synapse_cl.widgets.explore.sources import among
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.look import Colors

FRAME = 3
WHEEL_STEP = 120
"""What Qt counts for one notch of a wheel."""
HOVER_MS = 500
"""How long the mouse rests on a crop until its three planes are shown."""
STEPS = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}


class Gallery(Wall):
    """The rows that an exploration shows, in its order, as pictures that can be selected.

    Parameters
    ----------
    viewer
        Its theme gives the colours.

    Attributes
    ----------
    rows
        ``(m,)`` int64, those that are shown: the order without what is hidden.
    label_column
        The column whose cells stand below the pictures, None for none.
    struck_out
        ``(n,)`` bool, rows that are crossed out.
    """

    activated = Signal(int)
    """Emitted with the row that was chosen by a click or a key."""

    digit_pressed = Signal(int)
    """Emitted with a digit that was typed; Delete counts as 0."""

    strike_pressed = Signal()
    undo_pressed = Signal()
    redo_pressed = Signal()

    def __init__(self, viewer: Any, state: Exploration, crops: Crops) -> None:
        super().__init__()
        self._viewer, self._state, self._crops = viewer, state, crops
        self._colors = Colors(viewer)
        self.label_column: str | None = None
        self.struck_out = np.empty(0, bool)
        self._anchor = self._current = 0
        self._depths: dict[int, int] = {}
        self._wheel = 0
        self._planes = Planes(self, crops)
        self._hovered: int | None = None
        self._hover = QTimer(self, singleShot=True, interval=HOVER_MS, timeout=self._show_planes)
        self.setAccessibleName("Gallery of crops")
        self.viewport().setMouseTracking(True)
        for changed in (state.rows_changed, state.order_changed, state.colors_changed):
            changed.connect(self._show_rows)
        state.ordered.connect(self._show_first)
        state.selected_changed.connect(self._on_selection)
        state.columns_changed.connect(self.repaint_soon)
        crops.changed.connect(self.repaint_soon)

    def picture(self, row: int) -> np.ndarray | None:
        """Return the slice that is shown of a row, ``(H, W)``; None so far, empty if there is none.

        After the wheel has been turned over it that is another than the middle one.
        """
        depth = self._depths.get(row, 0)
        if depth and (whole := self._crops.whole(row)) is not None:
            return whole[len(whole) // 2 + depth] if len(whole) else np.empty((0, 0))
        return self._crops.slice_of(row)

    def show_row(self, row: int) -> None:
        """Scroll so that a row is in sight, if it is shown at all."""
        [places] = np.nonzero(self.rows == row)
        if len(places):
            self.scroll_to(int(places[0]))

    def go_on(self) -> None:
        """Select the row that comes after the one that is selected."""
        [places] = np.nonzero(np.isin(self.rows, self._state.selected))
        if len(places) and places[-1] + 1 < len(self.rows):
            self._choose(int(places[-1]) + 1, Qt.KeyboardModifier.NoModifier)

    def repaint_soon(self) -> None:
        """Paint what is in sight anew."""
        self.viewport().update()

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        self._colors = Colors(self._viewer)
        self.repaint_soon()

    def release(self) -> None:
        """Show nothing above the window any more."""
        self._hover.stop()
        self._planes.hide()

    def _show_rows(self) -> None:
        state = self._state
        is_all = not state.hidden
        self.rows = state.order if is_all else state.order[state.visible[state.order]]
        self._current = min(self._current, max(len(self.rows) - 1, 0))
        self._anchor = min(self._anchor, self._current)
        self._depths.clear()
        self.fit()
        self.repaint_soon()

    def _show_first(self) -> None:
        self._current = self._anchor = 0
        self.verticalScrollBar().setValue(0)

    def _on_selection(self) -> None:
        # What one person clicks in the viewer is to be seen here.
        if len(self._state.selected) == 1:
            self.show_row(int(self._state.selected[0]))
        self.repaint_soon()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint what is in sight, and have cut what is missing of it."""
        painter = QPainter(self.viewport())
        painter.fillRect(self.viewport().rect(), self._colors.background)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        places = self.in_sight
        rows = self.rows[places.start : places.stop].tolist()
        selected = among(np.array(rows, np.int64), self._state.selected).tolist()
        labels = self._labels(rows)
        for place, row, is_selected, label in zip(places, rows, selected, labels, strict=True):
            self._paint(painter, place, row, is_selected, label)
        self._crops.want(rows)

    def _labels(self, rows: list[int]) -> list[str]:
        name = self.label_column
        if name is None or name not in self._state.column_names:
            return [""] * len(rows)
        cells = self._state.column(name).iloc[rows]
        return ["" if is_blank(cell) else str(cell) for cell in cells]

    def _paint(
        self, painter: QPainter, place: int, row: int, is_selected: bool, label: str
    ) -> None:
        rect, state = self.rectangle(place), self._state
        values = self.picture(row)
        if values is not None and values.size:
            grey = self._crops.grey(values)
            height, width = grey.shape
            image = QImage(grey.data, width, height, width, QImage.Format.Format_Grayscale8)
            painter.drawImage(self._within(rect, height, width), image)
        else:
            painter.fillRect(rect, self._colors.foreground)
            painter.setPen(self._colors.text)
            text = str(row)
            if values is not None and self._crops.is_there:
                text = "not read" if self._crops.problem else "outside"
            painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, text)
        if state.color_column is not None:
            painter.setPen(QPen(_color(state.colors[row]), FRAME))
            painter.drawLine(rect.left(), rect.bottom() - 1, rect.right(), rect.bottom() - 1)
        if row < len(self.struck_out) and self.struck_out[row]:
            for color, width in ((self._colors.background, 2 * FRAME), (self._colors.text, FRAME)):
                painter.setPen(QPen(color, width))
                painter.drawLine(rect.topLeft(), rect.bottomRight())
                painter.drawLine(rect.bottomLeft(), rect.topRight())
        if is_selected:
            # In no colour that a class may have, and told from white and black pictures alike.
            for color, inset in ((self._colors.text, 1), (self._colors.background, FRAME + 1)):
                painter.setPen(QPen(color, FRAME))
                painter.drawRect(rect.adjusted(inset, inset, -inset - 1, -inset - 1))
        self._caption(painter, place, rect, row, label)

    def _caption(self, painter: QPainter, place: int, rect: QRect, row: int, label: str) -> None:
        metrics = self.fontMetrics()
        below = QRect(rect.left(), rect.bottom() + 1, rect.width(), metrics.height())
        score = self._score(place, row)
        if depth := self._depths.get(row, 0):
            score = f"z {depth:+d}".replace("-", "−")
        painter.setPen(self._colors.text)
        left, right = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight
        painter.drawText(below, left, score)
        room = below.width() - metrics.horizontalAdvance(score) - GAP
        elided = metrics.elidedText(label, Qt.TextElideMode.ElideRight, room)
        painter.drawText(below, right, elided)

    def _score(self, place: int, row: int) -> str:
        state = self._state
        if state.scores is None:
            return ""
        # What is hidden has a score too.
        at = place if len(self.rows) == len(state.order) else int((state.order == row).argmax())
        score = state.scores[at]
        return "" if not np.isfinite(score) else f"{score:z.2f}".replace("-", "−")

    def _within(self, rect: QRect, height: int, width: int) -> QRect:
        """Return the part of a square in which voxels have their proportions."""
        tall, wide = np.array([height, width]) * self._crops.proportions[1:]
        scale = rect.width() / max(tall, wide)
        inner = QRect(0, 0, round(wide * scale), round(tall * scale))
        inner.moveCenter(rect.center())
        return inner

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Select what is clicked: Ctrl adds it or takes it away, Shift all up to it."""
        place = self.place_at(event.pos())
        self._hide_planes()
        if event.button() == Qt.MouseButton.LeftButton and place is not None:
            self._choose(place, event.modifiers())

    def _choose(self, place: int, modifiers: Any) -> None:
        row = int(self.rows[place])
        self._current = place
        if modifiers & Qt.KeyboardModifier.ShiftModifier:
            low, high = sorted((self._anchor, place))
            chosen = self.rows[low : high + 1]
            if modifiers & Qt.KeyboardModifier.ControlModifier:
                chosen = np.union1d(self._state.selected, chosen)
        else:
            self._anchor = place
            chosen = np.array([row])
            if modifiers & Qt.KeyboardModifier.ControlModifier:
                chosen = np.setxor1d(self._state.selected, chosen)
        self._state.select(chosen)
        self.activated.emit(row)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Go to another picture with arrows, select all with Ctrl+A, tell of other keys."""
        key, modifiers = event.key(), event.modifiers()
        if key in STEPS and len(self.rows):
            right, down = STEPS[key]
            place = self._current + right + down * self.n_columns
            if 0 <= place < len(self.rows):
                shift = modifiers & Qt.KeyboardModifier.ShiftModifier
                self._choose(place, shift)
                self.scroll_to(place)
        elif event.matches(QKeySequence.StandardKey.Undo):
            self.undo_pressed.emit()
        elif event.matches(QKeySequence.StandardKey.Redo):
            self.redo_pressed.emit()
        elif key == Qt.Key.Key_X and not modifiers:
            self.strike_pressed.emit()
        elif key == Qt.Key.Key_Delete:
            self.digit_pressed.emit(0)
        elif Qt.Key.Key_0 <= key <= Qt.Key.Key_9 and not event.isAutoRepeat():
            self.digit_pressed.emit(key - Qt.Key.Key_0)
        elif key == Qt.Key.Key_A and modifiers & Qt.KeyboardModifier.ControlModifier:
            self._state.select(self.rows)
        else:
            super().keyPressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Go through the depth of the crop under the mouse; elsewhere scroll."""
        place = self.place_at(event.position().toPoint())
        depth = self._crops.shape[0]
        if place is None or not self._crops.is_there or depth == 1:
            super().wheelEvent(event)
            return
        self._hide_planes()
        self._wheel += event.angleDelta().y()
        steps = int(self._wheel / WHEEL_STEP)
        self._wheel -= steps * WHEEL_STEP
        row = int(self.rows[place])
        reached = self._depths.get(row, 0) + steps
        self._depths[row] = min(max(reached, -(depth // 2)), depth - 1 - depth // 2)
        self.repaint_soon()
        event.accept()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Show three planes of the crop that the mouse rests on."""
        place = self.place_at(event.pos())
        if place != self._hovered:
            self._hide_planes()
            self._hovered = place
            if place is not None and self._crops.is_there:
                self._hover.start()

    def leaveEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Show no planes any more."""
        super().leaveEvent(event)
        self._hide_planes()

    def _hide_planes(self) -> None:
        self._hover.stop()
        self._hovered = None
        self._planes.hide()

    def _show_planes(self) -> None:
        if self._hovered is not None and self._hovered < len(self.rows):
            rect = self.rectangle(self._hovered)
            corner = self.viewport().mapToGlobal(rect.bottomLeft())
            self._planes.show_row(int(self.rows[self._hovered]), corner, self._colors)


def is_blank(cell: Any) -> bool:
    """Whether a cell of a table holds no value."""
    return bool(pd.api.types.is_scalar(cell) and pd.isna(cell))


def _color(rgba: np.ndarray) -> Any:
    from qtpy.QtGui import QColor

    return QColor(*rgba[:3].tolist())
