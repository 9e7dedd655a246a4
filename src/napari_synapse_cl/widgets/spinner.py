"""Slow the animation that napari shows while a job runs."""

from qtpy.QtWidgets import QLabel, QMainWindow, QWidget

CALM, NORMAL = 10, 100
"""Speed in percent."""


def set_spinner_speed(widget: QWidget, percent: int) -> None:
    """Set the speed of the animation beside "activity".

    Each of its pictures has the whole window composed anew. At its own speed that takes a quarter
    of a processor's core where no graphics card does it, for as long as the training lasts.

    Parameters
    ----------
    widget
        A widget docked in napari's window.
    percent
        Of its own speed.
    """
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QMainWindow):
        parent = parent.parentWidget()
    if parent is not None:
        for label in parent.statusBar().findChildren(QLabel):
            if label.movie() is not None:
                label.movie().setSpeed(percent)
