"""Choose a synapse or a position, by clicks in the viewer in whatever mode its layers are."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image, Points
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QLabel, QPushButton, QSpinBox, QStackedLayout, QWidget

from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.widgets.button_rows import Buttons
from napari_synapse_cl.widgets.layers.voxels import in_units_of
from napari_synapse_cl.widgets.look import button

REACH = 4
"""Pixels that the mouse may move between press and release of a click."""
LEFT_BUTTON = 1

NO_POSITION = "Click in the viewer"


@dataclass(frozen=True)
class Click:
    """Where the mouse was pressed."""

    position: np.ndarray
    """In the viewer's world."""
    view_direction: np.ndarray | None
    """Of the camera, in the world; None in 2D."""
    dims_displayed: list[int]
    """Which dimensions the viewer shows."""


class Clicks:
    """Tells of clicks with the left button in a viewer, and not of drags.

    Parameters
    ----------
    tell
        Is called with each :class:`Click`.
    """

    def __init__(self, viewer: Any, tell: Callable[[Click], None]) -> None:
        self._callbacks = viewer.mouse_drag_callbacks
        self._tell = tell
        self.hold()

    def hold(self) -> None:
        """Tell of clicks from now on."""
        self._callbacks.append(self._follow_mouse)

    def release(self) -> None:
        """Tell of no more clicks."""
        if self._follow_mouse in self._callbacks:
            self._callbacks.remove(self._follow_mouse)

    def _follow_mouse(self, viewer: Any, event: Any) -> Iterator[None]:
        if event.button != LEFT_BUTTON:
            return
        start = np.array(event.pos)
        click = Click(
            np.array(event.position),
            None if event.view_direction is None else np.array(event.view_direction),
            list(event.dims_displayed),
        )
        yield
        while event.type == "mouse_move":
            if np.abs(np.array(event.pos) - start).max() > REACH:
                return
            yield
        self._tell(click)


class SynapsePicker(QWidget):
    """A number to step through the points, or the position that was clicked.

    Parameters
    ----------
    viewer
        Clicks in it choose.

    Attributes
    ----------
    number_box, previous_button, next_button, random_button
        For points.
    position_label
        Without them.
    position
        z, y, x in voxels of the image, where there are no points; None until one was clicked.
    """

    changed = Signal()
    """Emitted when another synapse or position was chosen."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._image: Image | None = None
        self._points: Points | None = None
        self.position: np.ndarray | None = None
        self.number_box = QSpinBox()
        self.number_box.setAccessibleName("Number of the synapse")
        self.number_box.setToolTip(
            "<qt>Number of the point, counted from 0. Clicking a point in the viewer chooses it "
            "too, in any mode, and so does selecting it.</qt>"
        )
        self.previous_button = _step_button(
            self, "Previous synapse", "◂", self.number_box.stepDown, "Ctrl+Alt+Left"
        )
        self.next_button = _step_button(
            self, "Next synapse", "▸", self.number_box.stepUp, "Ctrl+Alt+Right"
        )
        tip = "Another synapse, drawn at random"
        self.random_button = button("Random", tip, self._choose_another)
        self.position_label = QLabel(NO_POSITION)
        self.position_label.setToolTip("Voxel of the volume that was clicked last")
        self.number_box.valueChanged.connect(self._tell_change)
        self._clicks = Clicks(viewer, self._on_click)
        self._lay_out()

    @property
    def row(self) -> int:
        """Number of the synapse, 0 for a position."""
        return 0 if self._points is None else self.number_box.value()

    def follow(self, image: Image | None, points: Points | None) -> None:
        """Choose from these layers."""
        if image is not self._image:
            self._set_position(None)
        self._image = image
        if self._points is not None:
            self._points.selected_data.events.items_changed.disconnect(self._on_selection)
        self._points = points
        if points is not None:
            points.selected_data.events.items_changed.connect(self._on_selection)
        self._choices.setCurrentIndex(1 if points is None else 0)
        self.count_points()

    def count_points(self) -> None:
        """Take notice that there are more points, or fewer."""
        n_points = 0 if self._points is None else len(self._points.data)
        with QSignalBlocker(self.number_box):
            self.number_box.setRange(0, max(n_points - 1, 0))
            self.number_box.setSuffix(f" of {n_points}" if n_points else "")
        for one in (self.previous_button, self.next_button, self.random_button):
            one.setEnabled(n_points > 1)

    def release(self) -> None:
        """Let go of the viewer and the layers."""
        self._clicks.release()
        self.follow(None, None)

    def hold(self) -> None:
        """Hear of the viewer's clicks again."""
        self._clicks.hold()

    def _lay_out(self) -> None:
        numbers = Buttons(
            (self.number_box, self.previous_button, self.next_button, self.random_button)
        )
        self._choices = QStackedLayout(self)
        self._choices.addWidget(numbers)
        self._choices.addWidget(self.position_label)

    def _choose_another(self) -> None:
        highest = self.number_box.maximum()
        other = random.randrange(highest)
        self.number_box.setValue(other if other < self.number_box.value() else other + 1)

    def _on_selection(self, event: Any = None) -> None:
        assert self._points is not None
        selected = self._points.selected_data
        if len(selected) == 1:
            self.number_box.setValue(next(iter(selected)))

    def _on_click(self, click: Click) -> None:
        if self._points is not None:
            self._choose_clicked_point(self._points, click)
        elif self._image is not None and self._image.ndim == 3:
            self._choose_clicked_position(self._image, click)

    def _choose_clicked_point(self, points: Points, click: Click) -> None:
        index = points.get_value(
            in_units_of(points, click.position, self._viewer.dims.units),
            view_direction=click.view_direction,
            dims_displayed=click.dims_displayed,
            world=True,
        )
        if index is not None:
            self.number_box.setValue(int(index))

    def _choose_clicked_position(self, image: Image, click: Click) -> None:
        if len(click.dims_displayed) == 3:
            self._set_position(None, "Show slices (2D) to click a position")
        else:
            world = in_units_of(image, click.position, self._viewer.dims.units)
            self._set_position(nearest_voxel(image.world_to_data(world)))
        self.changed.emit()

    def _set_position(self, position: np.ndarray | None, instead: str = NO_POSITION) -> None:
        self.position = position
        where = instead if position is None else ", ".join(f"{p:.0f}" for p in position)
        self.position_label.setText(where if position is None else f"z, y, x = {where}")

    def _tell_change(self) -> None:
        self.changed.emit()


def _step_button(
    parent: QWidget, name: str, text: str, step: Callable[[], None], keys: str
) -> QPushButton:
    """Return a button that a person may press by keys too."""
    made = button(text, f"{name} ({QKeySequence(keys).toString()})", step)
    made.setAccessibleName(name)
    QShortcut(QKeySequence(keys), parent, made.click)
    return made
