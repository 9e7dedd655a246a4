"""A map of points that is moved, zoomed, pointed at and selected in with mouse and keys."""

from typing import Any, Literal

import numpy as np
from qtpy.QtCore import QEvent, QPointF, Qt, Signal
from qtpy.QtGui import QKeyEvent, QMouseEvent, QWheelEvent

from napari_synapse_cl.widgets.explore.map.surface import MapSurface

Mode = Literal["move", "lasso", "rectangle", "click"]
"""What the left button of the mouse does."""
Change = Literal["replace", "add", "remove"]
"""What becomes of the selection."""
REACH = 8
"""How far from a dot the mouse may be, in pixels."""
LEAST_DRAG = 4
"""Pixels from which on the mouse is dragged; less is a click."""
STEP = 0.1
"""How far a key moves the map, as a share of its size."""
ZOOM = 1.2
"""How much larger a turn of the wheel, or a key, shows the map."""
TURN = 120
"""What Qt calls one step of a wheel, in eighths of a degree."""
KEYS = {
    Qt.Key.Key_Left: (STEP, 0.0),
    Qt.Key.Key_Right: (-STEP, 0.0),
    Qt.Key.Key_Up: (0.0, STEP),
    Qt.Key.Key_Down: (0.0, -STEP),
}
"""By which share of its size what is shown moves right and down."""


class MapCanvas(MapSurface):
    """A map in which points are picked.

    The wheel zooms where the mouse is, and the middle or the right button moves the map, whatever
    the left one does.

    Parameters
    ----------
    viewer
        Its theme gives the colours.
    """

    picked = Signal(object, str)
    """Emitted with ascending int64 rows, and "replace", "add" or "remove": what becomes of the
    selection."""

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer)
        self._mode: Mode = "move"
        self._path: list[QPointF] = []
        self._grip: QPointF | None = None
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleDescription(
            "Arrow keys move the map, plus and minus zoom, Home shows all, Escape ends a lasso"
        )
        self.set_mode("move")

    def set_mode(self, mode: Mode) -> None:
        """Set what the left button of the mouse does."""
        self._mode = mode
        self._end_drag()

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Begin a drag."""
        left = event.button() == Qt.MouseButton.LeftButton
        self._end_drag()
        if left and self._mode != "move":
            self._path = [event.position()]
        else:
            self._grip = event.position()
            self.setCursor(Qt.CursorShape.ClosedHandCursor)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Move the map, draw on, or tell what lies under the mouse."""
        at, view = event.position(), self.view
        if view is None:
            return
        if self._grip is not None:
            moved, self._grip = at - self._grip, at
            self.look(view.moved(moved.x(), moved.y()))
        elif not self._path:
            row = self._row_at(at)
            self._hover(-1 if row is None else row)
        elif self._mode != "click":
            self._path = [*self._path, at] if self._mode == "lasso" else [self._path[0], at]
            self._set_outline(self._corners())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Pick what was surrounded, or clicked."""
        path, corners = self._path, self._corners()
        self._end_drag()
        if not path or self.picture is None:
            return
        change = change_of(event.modifiers())
        spread = [max(abs(p.x() - path[0].x()), abs(p.y() - path[0].y())) for p in path]
        if max(spread) >= LEAST_DRAG:
            self.picked.emit(self._rows_inside(corners), change)
            return
        row = self._row_at(path[0])
        # A click beside all dots selects nothing, unless it was to change what is selected.
        if row is not None or change == "replace":
            self.picked.emit(np.array([] if row is None else [row], np.int64), change)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Zoom where the mouse is."""
        self.zoom(ZOOM ** (event.angleDelta().y() / TURN), event.position())
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Move and zoom; keys that mean nothing here are left to what is around."""
        key, view = event.key(), self.view
        if key == Qt.Key.Key_Escape and self._path:
            self._end_drag()
        elif key == Qt.Key.Key_Home:
            self.fit()
        elif key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom(ZOOM)
        elif key == Qt.Key.Key_Minus:
            self.zoom(1 / ZOOM)
        elif key in KEYS and view is not None:
            right, down = KEYS[Qt.Key(key)]
            self.look(view.moved(right * self.width(), down * self.height()))
        else:
            super().keyPressEvent(event)

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Tell that the mouse points at nothing."""
        super().leaveEvent(event)
        self._hover(-1)

    def _end_drag(self) -> None:
        self._path, self._grip = [], None
        self._set_outline([])
        shapes = Qt.CursorShape
        shape = {"move": shapes.OpenHandCursor, "click": shapes.ArrowCursor}.get(self._mode)
        self.setCursor(shape or shapes.CrossCursor)

    def _corners(self) -> list[QPointF]:
        """Return those of what was dragged, in pixels."""
        if self._mode == "rectangle" and len(self._path) == 2:
            a, b = self._path
            return [a, QPointF(b.x(), a.y()), b, QPointF(a.x(), b.y())]
        return self._path

    def _rows_inside(self, corners: list[QPointF]) -> np.ndarray:
        view, picture = self.view, self.picture
        if view is None or picture is None:
            return np.empty(0, np.int64)
        places = np.array([view.place(corner.x(), corner.y()) for corner in corners])
        if self._mode == "rectangle":
            return picture.points.in_box(*places.min(axis=0), *places.max(axis=0))
        return picture.points.in_polygon(places)

    def _row_at(self, at: QPointF) -> int | None:
        view, picture = self.view, self.picture
        if view is None or picture is None:
            return None
        return picture.points.nearest(*view.place(at.x(), at.y()), REACH / view.scale)


def change_of(modifiers: Qt.KeyboardModifier) -> Change:
    """Return what becomes of the selection by the keys that are held: Shift adds, Alt removes.

    So does Ctrl, for many a desktop moves windows with Alt.
    """
    keys = Qt.KeyboardModifier
    if modifiers & (keys.AltModifier | keys.ControlModifier):
        return "remove"
    return "add" if modifiers & keys.ShiftModifier else "replace"


def changed(selected: np.ndarray, rows: np.ndarray, change: str) -> np.ndarray:
    """Return the ascending rows that are selected after a pick."""
    if change == "replace":
        return rows
    return (np.union1d if change == "add" else np.setdiff1d)(selected, rows)
