"""Docks of ours in napari's window: opened once each, as tabs, scrolling as a whole."""

from typing import Any

from npe2 import PluginManager
from qtpy.QtCore import QEvent, QMargins, QObject, QSize, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from napari_synapse_cl.widgets.look import PLUGIN, bare, main_window_of
from napari_synapse_cl.widgets.session import session_of

MINIMUM_WIDTH = 380
"""In a narrower dock the title is clipped."""
BORDER = 1


class DockWidget(QWidget):
    """A widget that is docked in a viewer, and scrolls as a whole where room is scarce.

    Attributes
    ----------
    body
        Layout of its parts.
    """

    menu_name: str
    """What it is called in the menu, and the title of its tab."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.session = session_of(viewer)
        self._released = False
        self._page = QWidget()
        self.body = QVBoxLayout(self._page)
        bare(QVBoxLayout(self)).addWidget(scrolling(self._page))
        self.setMinimumWidth(MINIMUM_WIDTH)
        self._settling = QTimer(self, singleShot=True, interval=0, timeout=self._settle)

    def release(self) -> None:
        """End what runs, when the dock is closed."""
        raise NotImplementedError

    @property
    def is_released(self) -> bool:
        """Whether the dock that it was in is closed."""
        return self._released

    def hold(self) -> None:
        """Begin again what :meth:`release` has ended, when the widget is docked once more."""

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Leave the room to the viewer's canvas."""
        return QSize(MINIMUM_WIDTH, self._page.sizeHint().height())

    def event(self, event: QEvent) -> bool:
        """Notice that it is docked, and that its dock is closed: then it has no parent."""
        handled = super().event(event)
        if event.type() == QEvent.Type.ParentChange:
            closed = self.parent() is None
            if closed and not self._released:
                self.release()
            elif not closed:
                # napari places the dock after it has put the widget into it.
                self._settling.start()
                if self._released:
                    self.hold()
            self._released = closed
        return handled

    def _settle(self) -> None:
        """Join the other docks of ours as a tab: one above the other they outgrow the screen."""
        dock, window = dock_of(self), main_window_of(self)
        if dock is None or window is None:
            return
        dock.setWindowTitle(self.menu_name)
        others = [dock_of(widget) for widget in window.findChildren(DockWidget)]
        fixed = [other for other in others if other not in (None, dock) and not other.isFloating()]
        if fixed and dock not in window.tabifiedDockWidgets(fixed[-1]):
            window.tabifyDockWidget(fixed[-1], dock)
        dock.raise_()


def open_dock(viewer: Any, name: str) -> Any:
    """Open a widget of this plugin, or bring it to the front if it is open, and return it.

    However it was opened, from the menu or by a script, there is no second one beside it.

    Parameters
    ----------
    name
        Its name in the menu.
    """
    for widget in viewer.window.dock_widgets.values():
        if getattr(widget, "menu_name", None) == name:
            dock = dock_of(widget)
            dock.show()
            dock.raise_()
            return widget
    manifest = PluginManager.instance().get_manifest(PLUGIN)
    [found] = [w for w in manifest.contributions.widgets or () if w.display_name == name]
    widget = found.get_callable()(viewer)
    # As the menu calls it, which then hides and shows this one.
    viewer.window.add_dock_widget(widget, name=f"{name} ({manifest.display_name})", tabify=True)
    return widget


def dock_of(widget: QWidget) -> Any:
    """Return the dock that a widget is in, None if it is in none."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent


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


class FittingArea(QScrollArea):
    """A scroll area no higher than what is in it, which yields where room is scarce."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__()
        _scroll(self, widget)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        widget.installEventFilter(self)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the size of what is in it, and of the border that napari's style sheet draws."""
        return self.widget().sizeHint().grownBy(QMargins(0, BORDER, 0, BORDER))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Notice that what is in it has another size now."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)
