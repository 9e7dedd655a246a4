"""Clicks in the viewer, in whatever mode its layers are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

REACH = 4
"""Pixels that the mouse may move between press and release of a click."""
LEFT_BUTTON = 1


@dataclass(frozen=True)
class Click:
    """Where the mouse was pressed.

    Attributes
    ----------
    position
        In the viewer's world.
    view_direction
        Of the camera, in the world; None in 2D.
    dims_displayed
        Which dimensions the viewer shows.
    """

    position: np.ndarray
    view_direction: np.ndarray | None
    dims_displayed: list[int]


class Clicks:
    """Tells of clicks with the left button in a viewer, and not of drags.

    Parameters
    ----------
    viewer
        The viewer.
    tell
        Is called with each :class:`Click`.
    """

    def __init__(self, viewer: Any, tell: Callable[[Click], None]) -> None:
        self._callbacks = viewer.mouse_drag_callbacks
        self._tell = tell
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
