"""How parts of our docks lie: layouts, areas that scroll, the order of the tab key."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from qtpy.QtCore import QEvent, QMargins, QObject, QSize, Qt
from qtpy.QtGui import QResizeEvent, QShowEvent
from qtpy.QtWidgets import (
    QFormLayout,
    QLabel,
    QLayout,
    QScrollArea,
    QSizePolicy,
    QWidget,
)
from superqt import QCollapsible

from napari_synapse_cl.widgets.button_rows import Buttons

BORDER = 1
"""Around what scrolls, by napari's style sheet, in pixels."""
PADDING = 16
"""Above and below a text, in pixels."""
QWIDGETSIZE_MAX = 2**24 - 1
"""Qt's name for no bound."""


def bare(layout: Any, spacing: int | None = None) -> Any:
    """Return a layout without margins, and with so many pixels between what is in it."""
    layout.setContentsMargins(0, 0, 0, 0)
    if spacing is not None:
        layout.setSpacing(spacing)
    return layout


def scrolling(widget: QWidget) -> QScrollArea:
    """Return a scroll area, as wide as it must be, around a form."""
    return Area(widget)


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
        # A path may be one word that is longer than the line.
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        # What holds a text that can be read as it is needs no keys.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the height of its lines in the present font."""
        height = self._n_lines * self.widget().fontMetrics().lineSpacing() + PADDING
        return QSize(super().sizeHint().width(), height)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the height of its lines in the present font."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())


class Area(QScrollArea):
    """A scroll area as wide as what is in it must be: it scrolls in height alone."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__()
        _scroll(self, widget)
        widget.installEventFilter(self)

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


class FittingArea(Area):
    """A scroll area no higher than what is in it, which yields where room is scarce.

    Parameters
    ----------
    widget
        What is in it.
    least_lines
        So many lines of it are always shown, if it has as many; None for what Qt leaves.
    """

    def __init__(self, widget: QWidget, least_lines: int | None = None) -> None:
        super().__init__(widget)
        self._least_lines = least_lines
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        # It scrolls to the input that has the focus.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the size of what is in it, and of the border that napari's style sheet draws."""
        hint = self.widget().sizeHint()
        # Fields take two lines where there is no room beside their labels.
        height = max(hint.height(), self.widget().heightForWidth(self.viewport().width()))
        return QSize(hint.width(), height).grownBy(QMargins(0, BORDER, 0, BORDER))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the least lines in the present font."""
        least = super().minimumSizeHint()
        if self._least_lines is None:
            return least
        lines = self._least_lines * self.widget().fontMetrics().lineSpacing() + 2 * BORDER
        return QSize(least.width(), min(self.sizeHint().height(), lines))


class Paragraph(QLabel):
    """A text that wraps, and asks for as much height as it takes at its width.

    A label of Qt's own asks for one line where the layout around does not go by the width, and is
    cut off there.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self._is_placed = False
        self.setWordWrap(True)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the height at the present width."""
        return self._as_high_as_it_is(super().sizeHint())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the height at the present width."""
        return self._as_high_as_it_is(super().minimumSizeHint())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Notice that it takes more lines, or fewer."""
        super().resizeEvent(event)
        if not self._is_placed or event.size().width() != event.oldSize().width():
            self._is_placed = True
            self.updateGeometry()

    def _as_high_as_it_is(self, hint: QSize) -> QSize:
        if not self._is_placed or not self.text():
            return hint
        return QSize(hint.width(), self.heightForWidth(max(self.width(), hint.width())))


class Group(QCollapsible):
    """Fields that are folded away below a title, and made when they are first unfolded.

    Parameters
    ----------
    title
        Stands on the button that unfolds them.
    make
        Makes the fields.
    """

    def __init__(self, title: str, make: Callable[[], QWidget]) -> None:
        super().__init__(title, expandedIcon="▾", collapsedIcon="▸")
        self._make: Callable[[], QWidget] | None = make
        self.setDuration(0)
        self.layout().setContentsMargins(0, 0, 0, 0)
        self._show(is_open=False)
        self.toggled.connect(self._show)

    def fill(self) -> None:
        """Make the fields, unless they are there."""
        if self._make is not None:
            make, self._make = self._make, None
            self.addWidget(make())
            tab_in_order(self)

    def expand(self, animate: bool = True) -> None:
        """Unfold the fields."""
        self.fill()
        super().expand(animate)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Draw the marks anew in the colour of another theme: they are pictures."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._draw_marks()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Draw the marks in the colour of the theme, which is known now."""
        super().showEvent(event)
        self._draw_marks()

    def _draw_marks(self) -> None:
        self.toggleButton().ensurePolished()
        self.setExpandedIcon("▾")
        self.setCollapsedIcon("▸")

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Leave the height to the layout: what is in it takes more lines where it is narrow."""
        return False

    def _show(self, is_open: bool) -> None:
        # Else the tab key would lead through fields that nobody sees.
        self.content().setVisible(is_open)
        self.content().setMaximumHeight(QWIDGETSIZE_MAX)


class Rows(QWidget):
    """Fields with labels before them, or above where there is no room beside.

    Attributes
    ----------
    form
        Their layout.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_placed = False
        self.form = bare(QFormLayout(self))
        self.form.setVerticalSpacing(3)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        self.form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the height at the present width: not every layout around asks for that."""
        return QSize(self.form.sizeHint().width(), self._height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the height at the present width, and for the widest label or field."""
        return QSize(self.form.minimumSize().width(), self._height())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Notice that rows have become two, or one."""
        super().resizeEvent(event)
        if not self._is_placed or event.size().width() != event.oldSize().width():
            self._is_placed = True
            self.updateGeometry()

    def _height(self) -> int:
        if not self._is_placed:
            return int(self.form.sizeHint().height())
        return int(self.form.heightForWidth(max(self.width(), self.form.minimumSize().width())))


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
    elif isinstance(part, Buttons):
        yield from part.buttons
    elif part.layout() is not None:
        yield from _inputs(part.layout())
