"""The map of vectors as a dock of its own, on the other side of the viewer from the gallery."""

from typing import Any

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QDockWidget, QVBoxLayout, QWidget

from napari_synapse_cl.widgets.base import MARGIN, Yielding
from napari_synapse_cl.widgets.explore.map.panel import MapPanel
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.layouts import bare, scrolling, tab_in_order
from napari_synapse_cl.widgets.look import dock_of, main_window_of

MAP = "Map of vectors"
LAYER_LIST = "layer list"
"""What napari calls the dock that the map stands beside, as a tab."""


class MapDock(QWidget):
    """A map that ends what runs when its dock is closed.

    Parameters
    ----------
    viewer
        The viewer, or the proxy of it that napari gives to plugins.
    exploration
        What is explored.

    Attributes
    ----------
    panel
        The map.
    """

    def __init__(self, viewer: Any, exploration: Exploration) -> None:
        super().__init__()
        self.exploration = exploration
        self._viewer = viewer
        self.panel = MapPanel(viewer, exploration)
        page = QWidget()
        inner = Yielding(page)
        inner.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        inner.addWidget(self.panel)
        area = scrolling(page)
        bare(QVBoxLayout(self)).addWidget(area)
        tab_in_order(self.panel)
        viewer.events.theme.connect(self._on_theme)

    def event(self, event: QEvent) -> bool:
        """Notice that its dock is closed: then it has no parent."""
        handled = super().event(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._viewer.events.theme.disconnect(self._on_theme)
            self.panel.release()
            # Another is made when it is wanted again.
            self.deleteLater()
        return handled

    def _on_theme(self, event: Any = None) -> None:
        self.panel.follow_theme()


def open_map(viewer: Any, exploration: Exploration) -> MapDock:
    """Open the map of what is explored, or bring it to the front if it is open, and return it."""
    widget = _map_of(viewer, exploration)
    if widget is None:
        widget = MapDock(viewer, exploration)
        viewer.window.add_dock_widget(widget, name=MAP, area="left", add_vertical_stretch=False)
        _stand_beside_layers(widget)
    dock = dock_of(widget)
    dock.show()
    # napari places a dock after it has put the widget into it.
    QTimer.singleShot(0, dock.raise_)
    return widget


def close_map(viewer: Any, exploration: Exploration) -> None:
    """Close the map of what is explored, if it is open."""
    widget = _map_of(viewer, exploration)
    if widget is not None:
        viewer.window.remove_dock_widget(widget)


def _map_of(viewer: Any, exploration: Exploration) -> MapDock | None:
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, MapDock) and widget.exploration is exploration:
            return widget
    return None


def _stand_beside_layers(widget: QWidget) -> None:
    """Take the place of the list of layers as a tab: below it there is no room for a map."""
    dock, window = dock_of(widget), main_window_of(widget)
    if window is None:
        return
    for other in window.findChildren(QDockWidget):
        if other.windowTitle() == LAYER_LIST and not other.isFloating():
            window.tabifyDockWidget(other, dock)
