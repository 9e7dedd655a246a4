"""Where widgets are docked: open another one of this plugin, find napari's window."""

from typing import Any

from qtpy.QtWidgets import QMainWindow, QWidget

PLUGIN = "napari-synapse-cl"
TRAIN, PREVIEW, EXTRACT = "Train contrastive", "Augmentation preview", "Extract features"


def open_dock(viewer: Any, name: str) -> Any:
    """Open a widget of this plugin, or bring it to the front if it is open.

    Parameters
    ----------
    viewer
        The viewer.
    name
        Its name in the menu.

    Returns
    -------
    QWidget
        The widget.
    """
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name, tabify=True)
    dock.show()
    dock.raise_()
    return widget


def main_window_of(widget: QWidget) -> QMainWindow | None:
    """Return napari's window that a widget is docked in, also if its dock floats."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QMainWindow):
        parent = parent.parentWidget()
    return parent
