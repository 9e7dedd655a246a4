"""How parts of our docks lie: layouts, areas that scroll, the order of the tab key."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from qtpy.QtCore import QEvent, QMargins, QObject, QSize, Qt
from qtpy.QtWidgets import QLabel, QLayout, QScrollArea, QSizePolicy, QWidget

BORDER = 1
"""Around what scrolls, by napari's style sheet, in pixels."""
PADDING = 16
"""Above and below a text, in pixels."""


def bare(layout: Any, spacing: int | None = None) -> Any:
    """Return a layout without margins, and with so many pixels between what is in it."""
    layout.setContentsMargins(0, 0, 0, 0)
    if spacing is not None:
        layout.setSpacing(spacing)
    return layout


def scrolling(widget: QWidget) -> QScrollArea:
    """Return a scroll area, as wide as it must be, around a form."""
    area = QScrollArea()
    _scroll(area, widget)
    return area


def _scroll(area: QScrollArea, widget: QWidget) -> None:
    area.setWidget(widget)
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFrameShape(QScrollArea.Shape.NoFrame)


class SteadyText(QScrollArea):
    """A place of so many lines for a text: a longer one scrolls, and nothing around it jumps."""

    def __init__(self, text: QLabel, n_lines: int) -> None:
        super().__init__()
        self._n_lines = n_lines
        text.setAlignment(Qt.AlignmentFlag.AlignTop)
        _scroll(self, text)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        # What holds a text that can be read as it is needs no keys.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the height of its lines in the present font."""
        height = self._n_lines * self.widget().fontMetrics().lineSpacing() + PADDING
        return QSize(super().sizeHint().width(), height)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the height of its lines in the present font."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())


class FittingArea(QScrollArea):
    """A scroll area no higher than what is in it and as wide, which yields where room is scarce."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__()
        _scroll(self, widget)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        # It scrolls to the input that has the focus.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        widget.installEventFilter(self)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the size of what is in it, and of the border that napari's style sheet draws."""
        return self.widget().sizeHint().grownBy(QMargins(0, BORDER, 0, BORDER))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the width of what is in it: it scrolls in height alone."""
        bar = self.verticalScrollBar()
        beside = bar.sizeHint().width() if bar.isVisibleTo(self) else 0
        width = self.widget().minimumSizeHint().width() + beside + 2 * BORDER
        return QSize(width, super().minimumSizeHint().height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Notice that what is in it has another size now."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


def tab_in_order(page: QWidget) -> None:
    """Let the tab key lead through the inputs as they are laid out, not as they were made."""
    inputs = list(_inputs(page))
    for one, following in pairwise(inputs):
        QWidget.setTabOrder(one, following)


def _inputs(part: QWidget | QLayout) -> Iterator[QWidget]:
    if isinstance(part, QLayout):
        for i in range(part.count()):
            item = part.itemAt(i)
            inner = item.widget() or item.layout()
            if inner is not None:
                yield from _inputs(inner)
        return
    if isinstance(part, QScrollArea):
        yield from _inputs(part.widget())
    elif part.focusPolicy() & Qt.FocusPolicy.TabFocus:
        yield part
    elif part.layout() is not None:
        yield from _inputs(part.layout())
