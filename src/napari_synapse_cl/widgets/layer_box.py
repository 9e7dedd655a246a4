"""A combo box of layers."""

from typing import Any

from napari.layers import Labels, Layer, Points
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

CONTENT_EVENTS = ("data", "scale", "translate", "rotate", "shear", "affine", "units")
"""Of a layer: what it holds and where."""
PAINT_EVENTS = ("paint", "labels_update", "set_data")
"""Of labels: strokes of a brush and, with other slices that are shown, their being undone."""


class LayerBox(QComboBox):
    """A choice of the viewer's layers of one kind; it follows the layer list.

    Parameters
    ----------
    viewer
        The viewer.
    kind
        Class of the layers.
    empty
        What to call the choice of no layer. Without it there is no such choice.
    chooses_first
        Whether the first layer is chosen while nobody has chosen any.

    Attributes
    ----------
    layer_changed
        Emitted when another layer is chosen.
    content_changed
        Emitted when data, transform or units of the chosen layer change.
    painted
        Emitted when labels may have been painted into the array of the chosen layer.
    """

    layer_changed = Signal()
    content_changed = Signal()
    painted = Signal()

    def __init__(
        self, viewer: Any, kind: type[Layer], empty: str = "", *, chooses_first: bool = True
    ) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self._list = viewer.layers
        self._kind = kind
        self._empty = empty
        self._chooses_first = chooses_first
        self._chose_none = not chooses_first
        self._layers: list[Layer] = []
        self._followed: Layer | None = None
        self.layer_changed.connect(self._follow_content)
        for event in self._list_events():
            event.connect(self._refresh)
        self.currentIndexChanged.connect(self._tell_change)
        self._refresh()

    @property
    def layer(self) -> Layer | None:
        """The chosen layer, None if there is none of this kind or none was chosen."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer, if it is in the list, or none where that is a choice."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))
        elif layer is None and self._empty:
            self.setCurrentIndex(len(self._layers))

    def release(self) -> None:
        """Follow the layer list and the layers no longer."""
        self._follow(None)
        for event in self._list_events():
            event.disconnect(self._refresh)
        for layer in self._layers:
            layer.events.name.disconnect(self._refresh)

    def _list_events(self) -> list[Any]:
        events = self._list.events
        return [events.inserted, events.removed, events.reordered]

    def _follow_content(self) -> None:
        self._follow(self.layer)

    def _follow(self, layer: Layer | None) -> None:
        for emitter in content_emitters(self._followed):
            emitter.disconnect(self._tell_content)
        for emitter in _paint_emitters(self._followed):
            emitter.disconnect(self._tell_paint)
        self._followed = layer
        for emitter in content_emitters(layer):
            emitter.connect(self._tell_content)
        for emitter in _paint_emitters(layer):
            emitter.connect(self._tell_paint)

    def _tell_content(self, event: Any = None) -> None:
        self.content_changed.emit()

    def _tell_paint(self, event: Any = None) -> None:
        self.painted.emit()

    def _refresh(self, event: Any = None) -> None:
        before = self.layer
        self._layers = [layer for layer in self._list if isinstance(layer, self._kind)]
        self.blockSignals(True)
        self.clear()
        for layer in self._layers:
            layer.events.name.connect(self._refresh)
            self.addItem(layer.name)
        if self._empty:
            self.addItem(self._empty)
        if before in self._layers:
            self.setCurrentIndex(self._layers.index(before))
        elif self._chose_none or not self._chooses_first:
            self.setCurrentIndex(len(self._layers))
        self.blockSignals(False)
        if self.layer is not before:
            self.layer_changed.emit()

    def _tell_change(self) -> None:
        # Where there was nothing to choose from, the first layer that comes is chosen.
        self._chose_none = self.layer is None
        self.layer_changed.emit()


def content_emitters(layer: Layer | None) -> list[Any]:
    """Return what tells that a layer has other content, or lies elsewhere."""
    if layer is None:
        return []
    names = (*CONTENT_EVENTS, *(["features"] if isinstance(layer, Points) else []))
    return [getattr(layer.events, name) for name in names]


def _paint_emitters(layer: Layer | None) -> list[Any]:
    if not isinstance(layer, Labels):
        return []
    return [getattr(layer.events, name) for name in PAINT_EVENTS]
