"""Ask what is to become of a training when napari is closed."""

from collections.abc import Callable
from typing import Literal

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QMainWindow, QMessageBox, QWidget

from napari_synapse_cl.widgets.look import main_window_of

Answer = Literal["stop", "leave", "cancel"]
QUESTION = "A training is running. What should become of it?"
DETAILS = (
    "“Stop and keep” ends it after the step that is under way and saves a checkpoint; it can be "
    "continued later. “Let it run on” leaves it to itself; “Attach to a run …” shows it again."
)


class ClosingGuard(QObject):
    """Asks, once napari's window is about to close, unless nothing runs or nobody sees the window.

    Parameters
    ----------
    widget
        A widget docked in the window.
    is_running
        Returns whether there is something to ask about.
    leave
        Lets it run on.
    """

    def __init__(
        self, widget: QWidget, is_running: Callable[[], bool], leave: Callable[[], None]
    ) -> None:
        super().__init__(widget)
        # Its window is not kept: that would stay in memory with the widget.
        self._widget = widget
        self._is_running = is_running
        self._leave = leave

    def watch(self) -> None:
        """Watch the window that the widget is docked in now."""
        if (window := main_window_of(self._widget)) is not None:
            window.installEventFilter(self)

    def release(self) -> None:
        """Watch no window."""
        if (window := main_window_of(self._widget)) is not None:
            window.removeEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Ask before the window is closed; hold the event back if it should stay open."""
        if (
            event.type() == QEvent.Type.Close
            and isinstance(watched, QMainWindow)
            and _is_closed_by_a_person(watched)
            and self._is_running()
        ):
            answer = ask(watched)
            if answer == "cancel":
                event.ignore()
                return True
            if answer == "leave":
                self._leave()
        return False


def _is_closed_by_a_person(window: QMainWindow) -> bool:
    """Whether someone sees what is closed; a program closes the canvas before the window."""
    return window.isVisible() and getattr(window, "_qt_viewer", window).isVisible()


def ask(parent: QWidget) -> Answer:
    """Ask whether a training is to be stopped, left to itself, or napari to stay open."""
    box = QMessageBox(QMessageBox.Icon.Question, "Close napari", QUESTION, parent=parent)
    box.setInformativeText(DETAILS)
    stop = box.addButton("Stop and keep", QMessageBox.ButtonRole.AcceptRole)
    leave = box.addButton("Let it run on", QMessageBox.ButtonRole.AcceptRole)
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(stop)
    box.setEscapeButton(cancel)
    box.exec()
    clicked = box.clickedButton()
    box.deleteLater()
    if clicked is stop:
        return "stop"
    return "leave" if clicked is leave else "cancel"
