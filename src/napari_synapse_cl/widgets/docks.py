"""Open another widget of this plugin in the same window."""

from typing import Any

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
