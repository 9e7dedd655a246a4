"""The layer that is selected in the viewer."""

from typing import Any

from napari.layers import Image, Layer, Points, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import counted, size
from napari_synapse_cl.widgets.layers.boxes import CONTENT_EVENTS

HINT = "select a Points, Image or Shapes layer in the layer list"


class SelectedLayer(QLabel):
    """Says which layer is selected, and what it would get features for.

    Parameters
    ----------
    viewer
        The viewer.

    Attributes
    ----------
    changed
        Emitted when another layer is selected, or it has other content.
    layer
        The layer, or None if none or several are selected.
    """

    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._selection = viewer.layers.selection
        self.layer: Layer | None = None
        self.setWordWrap(True)
        self._selection.events.active.connect(self._follow_selection)
        self._follow_selection()

    def require(self) -> Points | Image | Shapes:
        """Return the layer.

        Raises
        ------
        InputError
            If no layer is selected, several are, or one of a kind that gets no features.
        """
        layer = self.layer
        if layer is None:
            n = len(self._selection)
            raise InputError(f"{n if n else 'no'} layers are selected: {HINT}")
        if not isinstance(layer, Points | Image | Shapes):
            # Of a plugin's viewer, the type of all layers is that of napari's proxy.
            kind = layer.__class__.__name__
            raise InputError(f"the selected layer {layer.name} is a {kind} layer: {HINT}")
        return layer

    def release(self) -> None:
        """Follow the viewer no longer."""
        self._selection.events.active.disconnect(self._follow_selection)
        self._follow(None)

    def _follow_selection(self, event: Any = None) -> None:
        self._follow(self._selection.active)
        self._show()
        self.changed.emit()

    def _follow(self, layer: Layer | None) -> None:
        if self.layer is not None:
            for emitter in self._emitters(self.layer):
                emitter.disconnect(self._on_content)
        self.layer = layer
        if layer is not None:
            for emitter in self._emitters(layer):
                emitter.connect(self._on_content)

    def _emitters(self, layer: Layer) -> list[Any]:
        names = ("name", *CONTENT_EVENTS, "features")
        return [getattr(layer.events, name) for name in names if hasattr(layer.events, name)]

    def _on_content(self, event: Any = None) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        try:
            layer = self.require()
        except InputError as error:
            self.setText(f"{str(error)[:1].upper()}{str(error)[1:]}.")
            return
        self.setText(f"{layer.name}: {_what_for(layer)}")


def _what_for(layer: Points | Image | Shapes) -> str:
    """Say what a layer gets features for."""
    match layer:
        case Points():
            return f"one vector for each of {counted(len(layer.data), 'point')}"
        case Shapes():
            return "a map of the box drawn in it"
        case Image() if layer.rgb or layer.ndim != 3:
            return "no map, for a 3D volume of grey values is needed"
        case _:
            level = layer.data[0] if layer.multiscale else layer.data
            return f"a map of the whole volume, {size(level.shape)} voxels"
