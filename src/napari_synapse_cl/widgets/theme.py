"""napari's colours, for what Qt's style sheet does not reach."""

from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtGui import QColor


class Colors:
    """Colours of the theme that a viewer has now.

    Parameters
    ----------
    viewer
        The viewer.
    """

    def __init__(self, viewer: Any) -> None:
        theme = get_theme(viewer.theme)
        self.background = QColor(*theme.background.as_rgb_tuple())
        self.foreground = QColor(*theme.foreground.as_rgb_tuple())
        self.text = QColor(*theme.text.as_rgb_tuple())
        self.training = QColor("#d55e00" if theme.type == "light" else "#e69f00")
        self.validation = QColor("#0072b2" if theme.type == "light" else "#56b4e9")
        self.crosshair = self.training
