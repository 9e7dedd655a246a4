"""The choice of layers of labels, in sight where the settings make use of them."""

from collections.abc import Callable
from typing import Any

from napari.layers import Image, Labels
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QLabel

from napari_synapse_cl.widgets.layer_box import LayerBox

ROWS = {
    "labels": (
        "Structures",
        "<qt>Labels layer of structures, such as clefts, vesicles and mitochondria; "
        "<i>Roles</i> under Masks says which of its values are what</qt>",
    ),
    "segmentation": (
        "Cells",
        "<qt>Labels layer in which each cell has a value of its own; it tells the pre- and "
        "the postsynaptic cell</qt>",
    ),
}


class LabelBoxes(QObject):
    """The rows "Structures" and "Cells" of a widget; all widgets choose the same for one image.

    Parameters
    ----------
    widget
        A :class:`~napari_synapse_cl.widgets.base.LayersWidget`.
    used
        Returns which are of use, as :func:`~.crop_settings.label_layers_used` does.
    may_change
        Signal at which that is asked anew.

    Attributes
    ----------
    changed
        Emitted when other layers are chosen, they come into use or go out of it, or have other data
        or another place.
    painted
        Emitted when labels in use may have been painted.
    """

    changed = Signal()
    painted = Signal()

    def __init__(self, widget: Any, used: Callable[[], set[str]], may_change: Any) -> None:
        super().__init__(widget)
        self._used = used
        self._volumes = widget.session.volumes
        self._image_box = widget.image_box
        self.boxes: dict[str, LayerBox] = {}
        self._row_labels: dict[str, QLabel] = {}
        for name, (title, tooltip) in ROWS.items():
            box = LayerBox(widget.viewer, Labels, "none", chooses_first=False)
            label = widget.label(title)
            for part in (label, box):
                part.setToolTip(tooltip)
                part.hide()
            widget.rows.addRow(label, box)
            self.boxes[name] = box
            self._row_labels[name] = label
            box.layer_changed.connect(self._remember)
            box.content_changed.connect(self._tell_change)
            box.painted.connect(self._tell_paint)
        self._in_use: set[str] = set()
        self._is_recalling = False
        may_change.connect(self._show_rows)
        self._image_box.layer_changed.connect(self._recall)
        self._volumes.labels_changed.connect(self._on_choice)
        self._recall()
        self._show_rows()

    def of(self, image: Image | None) -> dict[str, Labels]:
        """Return the layers of labels over an image that are of use, as keywords of ``take``."""
        chosen = self._volumes.labels_of(image)
        return {name: layer for name, layer in chosen.items() if name in self._in_use}

    def release(self) -> None:
        """Follow the layers no longer."""
        self._volumes.labels_changed.disconnect(self._on_choice)
        for box in self.boxes.values():
            box.release()

    def _show_rows(self) -> None:
        in_use = self._used()
        for name, box in self.boxes.items():
            for part in (self._row_labels[name], box):
                part.setVisible(name in in_use)
        if in_use != self._in_use:
            self._in_use = in_use
            self.changed.emit()

    def _remember(self) -> None:
        image = self._image_box.layer
        if self._is_recalling or image is None:
            return
        for name, box in self.boxes.items():
            self._volumes.choose_labels(image, name, box.layer)

    def _on_choice(self, image: Image) -> None:
        if image == self._image_box.layer:
            self._recall()
        self._tell_change()

    def _recall(self) -> None:
        chosen = self._volumes.labels_of(self._image_box.layer)
        self._is_recalling = True
        for name, box in self.boxes.items():
            box.choose(chosen.get(name))
        self._is_recalling = False

    def _tell_change(self) -> None:
        if self._in_use:
            self.changed.emit()

    def _tell_paint(self) -> None:
        if self._in_use:
            self.painted.emit()
