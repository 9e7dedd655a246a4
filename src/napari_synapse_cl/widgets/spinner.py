"""Slow the animation that napari shows while a job runs."""

from qtpy.QtWidgets import QLabel, QWidget

from napari_synapse_cl.widgets.docks import main_window_of

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
    window = main_window_of(widget)
    if window is not None:
        for label in window.statusBar().findChildren(QLabel):
            if label.movie() is not None:
                label.movie().setSpeed(percent)
