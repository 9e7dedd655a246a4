"""A map of points: what was set, its pictures from a thread, and what is painted above them."""

from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QPainter, QPaintEvent, QPen, QPolygonF, QResizeEvent, QShowEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_synapse_cl.widgets.explore.map.picture import Painter, Picture, Request, diameter
from napari_synapse_cl.widgets.explore.map.points import MapPoints
from napari_synapse_cl.widgets.explore.map.view import MOST_ZOOMED, View
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.look import Colors, expected

LEAST_HEIGHT, LIKED_HEIGHT = 150, 320
"""In pixels."""
RING_GAP = 3.0
"""Between the dot that is pointed at and the ring around it, in pixels."""


class MapSurface(QWidget):
    """Dots, or their density where there are many, in the part of the map that is in sight.

    Pictures are drawn in a thread. Until one is there the last is shown where it belongs in the
    present view, so a move is followed at once.

    Parameters
    ----------
    viewer
        Its theme gives the colours.
    """

    hovered = Signal(int)
    """Emitted with the row under the mouse, -1 when there is none any more."""
    drawn = Signal()
    """Emitted when the picture is that of all that was set."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._message = ""
        self._painter = Painter()
        self._pictures = LatestOnly(self._painter.paint, tell_overtaken=True)
        self._pictures.done.connect(self._show_picture)
        self._pictures.failed.connect(expected)
        self._soon = QTimer(self, singleShot=True, interval=0, timeout=self._ask)
        self._view: View | None = None
        self._hovered = -1
        self._outline: list[QPointF] = []
        self.set_positions(np.empty((0, 2), np.float32))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(LEAST_HEIGHT, LEAST_HEIGHT)
        self.setAccessibleName("Map of vectors")

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for room to see something."""
        return QSize(LIKED_HEIGHT, LIKED_HEIGHT)

    @property
    def picture(self) -> Picture | None:
        """What was drawn last, of which more may be seen."""
        return self._picture

    @property
    def view(self) -> View | None:
        """What is in sight; None until something is drawn."""
        if self._view is not None or self._picture is None:
            return self._view
        return self._picture.view

    @property
    def is_up_to_date(self) -> bool:
        """Whether the picture shows all that was set."""
        asked = self._asked
        return not self._soon.isActive() and asked is not None and asked is self._answered

    def set_positions(self, positions: np.ndarray) -> None:
        """Show other points, all in sight; none is selected, and all are visible.

        Parameters
        ----------
        positions
            ``(n, 2)`` float32 x and y. A row whose position is not finite is not drawn.
        """
        n = len(positions)
        self._positions = np.asarray(positions)
        self._visible = np.ones(n, bool)
        self._colors = np.zeros((n, 4), np.uint8)
        self._selected = np.zeros(n, bool)
        # Rows of other points are no longer what can be picked.
        self._picture: Picture | None = None
        self._asked: Request | None = None
        self._answered: Request | None = None
        self._hover(-1)
        self.fit()

    def set_colors(self, colors: np.ndarray) -> None:
        """Give each row a colour.

        Parameters
        ----------
        colors
            ``(n, 4)`` uint8 red, green, blue and opacity; an opacity of 0 stands for no value.
        """
        self._colors = np.asarray(colors)
        self._soon.start()

    def set_visible(self, visible: np.ndarray) -> None:
        """Draw some of the rows alone, ``(n,)`` bool; others cannot be picked either."""
        if not np.array_equal(visible, self._visible):
            self._visible = np.array(visible, bool)
            self._hover(-1)
            self._soon.start()

    def set_selected(self, rows: np.ndarray) -> None:
        """Show which rows are selected, and dim the others."""
        selected = np.zeros(len(self._positions), bool)
        selected[rows] = True
        if not np.array_equal(selected, self._selected):
            self._selected = selected
            self._soon.start()

    def set_message(self, text: str) -> None:
        """Say something in place of points."""
        self._message = text
        self.update()

    def fit(self) -> None:
        """Show all points that are visible, also when the window has another size."""
        self._view = None
        self._soon.start()

    def zoom(self, factor: float, at: QPointF | None = None) -> None:
        """Show all larger, but what is at a pixel stays there; the middle without one."""
        view, picture = self.view, self._picture
        if view is None or picture is None:
            return
        whole = View.of(picture.points.bounds or (0.0, 0.0, 0.0, 0.0), view.width, view.height)
        # Never so small that all is lost in one pixel, nor larger than float32 tells apart.
        scale = np.clip(view.scale * factor, whole.scale / 4, whole.scale * MOST_ZOOMED)
        place = at or QPointF(view.width / 2, view.height / 2)
        self.look(view.zoomed(float(scale) / view.scale, place.x(), place.y()))

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        self._soon.start()
        self.update()

    def release(self) -> None:
        """Draw no more, when the dock is closed."""
        self._soon.stop()
        self._pictures.forget()
        self._asked = None

    def look(self, view: View) -> None:
        """Show another part of the map."""
        self._view = view
        self._soon.start()
        self.update()

    def _ask(self) -> None:
        """Have a picture drawn of what was set."""
        if not self.isVisible() or not self.width() or not self.height():
            return
        colors = Colors(self._viewer)
        blank, ring = colors.named("grey", 0.6).getRgb(), colors.text.getRgb()
        self._asked = Request(
            self._positions,
            self._visible,
            self._colors,
            self._selected,
            self._view,
            self.width(),
            self.height(),
            self.devicePixelRatioF(),
            blank,
            ring,
        )
        self._pictures.ask(self._asked)

    def _show_picture(self, picture: Picture) -> None:
        # What another table's points looked like may come last.
        if picture.request.positions is not self._positions:
            return
        self._picture, self._answered = picture, picture.request
        self.update()
        if self.is_up_to_date:
            self.drawn.emit()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Draw what was set while it was hidden."""
        super().showEvent(event)
        self._soon.start()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Draw as much as there is room for."""
        super().resizeEvent(event)
        if self._view is not None:
            self._view = self._view.resized(self.width(), self.height())
        self._soon.start()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draw the last picture where it belongs, and what is dragged."""
        colors = Colors(self._viewer)
        painter = QPainter(self)
        painter.fillRect(self.rect(), colors.background)
        view, picture = self.view, self._picture
        if picture is None or view is None or not len(picture.points.rows):
            painter.setPen(colors.text)
            box = self.rect().adjusted(8, 8, -8, -8)
            painter.drawText(
                box, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self._message
            )
            return
        left, _, _, high = picture.view.box
        x, y = view.to_pixels(np.array([left]), np.array([high]))
        scale = view.scale / picture.view.scale
        size = scale * picture.view.width, scale * picture.view.height
        # As long as it has its size, it is moved by whole pixels, and stays as sharp as it is.
        corner = (float(x[0]), float(y[0])) if scale != 1 else (round(x[0]), round(y[0]))
        painter.drawImage(QRectF(*corner, *size), picture.image)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_hovered(painter, colors, picture.points, view)
        if self._outline:
            painter.setPen(QPen(colors.text, 1, Qt.PenStyle.DashLine))
            painter.setBrush(colors.named("text", 0.1))
            painter.drawPolygon(QPolygonF(self._outline))

    def _paint_hovered(
        self, painter: QPainter, colors: Colors, points: MapPoints, view: View
    ) -> None:
        if self._hovered < 0:
            return
        x, y = view.to_pixels(*self._positions[self._hovered].astype(np.float64))
        radius = diameter(self._picture.n_in_sight if self._picture else 1) / 2 + RING_GAP
        painter.setPen(QPen(colors.text, 2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawEllipse(QPointF(float(x), float(y)), radius, radius)

    def _hover(self, row: int) -> None:
        if row != self._hovered:
            self._hovered = row
            self.hovered.emit(row)
            self.update()

    def _set_outline(self, corners: list[QPointF]) -> None:
        """Paint what is dragged, in pixels."""
        self._outline = corners
        self.update()
