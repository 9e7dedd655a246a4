"""napari's colours, for what Qt's style sheet does not reach."""

from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtGui import QColor

MARK = "⚠ "
"""Stands before what cannot be used, and before warnings."""
MARK_COLOR = "#d55e00"
"""Of what cannot be used; told from the text in light and dark themes (Okabe and Ito)."""
COLORS = {
    "orange": ("#d55e00", "#e69f00"),
    "blue": ("#0072b2", "#56b4e9"),
    "green": ("#00795a", "#35c49a"),
    "purple": ("#a8487f", "#e29cc6"),
}
"""Colours for light and for dark themes that are told apart by colour-blind people too."""


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
        self._of_dark = theme.type != "light"

    def named(self, name: str, opacity: float = 1.0) -> QColor:
        """Return one of :data:`COLORS` as it is told from the theme's background.

        Parameters
        ----------
        name
            Its name, or "text" for that of the theme.
        opacity
            From 0 to 1.
        """
        color = QColor(self.text) if name == "text" else QColor(COLORS[name][self._of_dark])
        color.setAlphaF(opacity)
        return color
