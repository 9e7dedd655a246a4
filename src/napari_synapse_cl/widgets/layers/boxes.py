"""Combo boxes of layers, and which layers belong together.

Boxes of labels are in sight where the settings make use of them.
"""

import html
from collections.abc import Callable
from typing import Any, NamedTuple

from napari.layers import Image, Labels, Layer, Points
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QLabel

from napari_synapse_cl.widgets.layers.taking import mismatch
from napari_synapse_cl.widgets.layers.voxels import is_opened_with
from napari_synapse_cl.widgets.layouts import Paragraph
from napari_synapse_cl.widgets.look import MARK, ChoiceBox, link, sentence

CONTENT_EVENTS = ("data", "scale", "translate", "rotate", "shear", "affine", "units")
"""Of a layer: what it holds and where."""
PAINT_EVENTS = ("paint", "labels_update", "set_data")
"""Of labels: strokes of a brush and, with other slices that are shown, their being undone."""

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


class LayerBox(ChoiceBox):
    """A choice of the viewer's layers of one kind; it follows the layer list.

    Parameters
    ----------
    empty
        What to call the choice of no layer. Without it there is no such choice.
    chooses_first
        Whether the first layer is chosen while nobody has chosen any.
    """

    layer_changed = Signal()
    """Emitted when another layer is chosen."""
    content_changed = Signal()
    """Emitted when data, transform or units of the chosen layer change."""
    painted = Signal()
    """Emitted when labels may have been painted into the array of the chosen layer."""

    def __init__(
        self, viewer: Any, kind: type[Layer], empty: str = "", *, chooses_first: bool = True
    ) -> None:
        super().__init__()
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

    @property
    def layers(self) -> list[Layer]:
        """What there is to choose from."""
        return list(self._layers)

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer, if it is in the list, or none where that is a choice."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))
        elif layer is None and self._empty:
            self.setCurrentIndex(len(self._layers))

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
    """

    changed = Signal()
    """Emitted when other layers are chosen, they come into use or go out of it, or have other data
    or another place."""
    painted = Signal()
    """Emitted when labels in use may have been painted."""

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
            box.setAccessibleName(label.text())
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


class PairNote(Paragraph):
    """Chooses the volume that points were opened with, and warns of a pair that does not fit."""

    def __init__(self, box: LayerBox) -> None:
        super().__init__()
        self._box = box
        self._points: Points | None = None
        self.linkActivated.connect(self._put_right)
        for changed in (box.layer_changed, box.content_changed):
            changed.connect(self.check)
        self.hide()

    def follow(self, points: Points | None) -> None:
        """Choose the volume of other points, if it is there."""
        self._points = points
        self._put_right()

    def check(self) -> None:
        """Look at the pair that is chosen now."""
        image, points = self._box.layer, self._points
        problem = mismatch(image, points) if image is not None and points is not None else None
        right = None if problem is None else self._right()
        use = "" if right is None else link("#", f"Use {html.escape(right.name)}")
        self.setText(f"{MARK}{html.escape(sentence(problem or ''))} {use}")
        self.setVisible(problem is not None)

    def _right(self) -> Layer | None:
        """Return the volume that the points were opened with."""
        points = self._points
        if points is None:
            return None
        return next((image for image in self._box.layers if is_opened_with(points, image)), None)

    def _put_right(self, link: str = "") -> None:
        if (right := self._right()) is not None:
            self._box.choose(right)
        self.check()


class VolumePair(NamedTuple):
    """An image and the synapses in it."""

    image: Image
    points: Points


class ChosenVolumes(QObject):
    """What the widgets of one viewer were told of its layers; removed layers are forgotten.

    Parameters
    ----------
    layers
        The viewer's list of layers.

    Attributes
    ----------
    listed
        Volumes that are trained on beside the one that is chosen in the widget.
    """

    changed = Signal()
    """Emitted when another set of volumes is listed."""
    labels_changed = Signal(object)
    """Emitted with an image when other layers of labels belong to it."""

    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.listed: list[VolumePair] = []
        self._labels: dict[Image, dict[str, Labels]] = {}
        layers.events.removed.connect(self._on_removed)

    def add(self, pair: VolumePair) -> None:
        """List a volume, if it is not listed yet."""
        if pair not in self.listed:
            self.listed.append(pair)
            self.changed.emit()

    def remove(self, pair: VolumePair) -> None:
        """List a volume no longer."""
        self.listed.remove(pair)
        self.changed.emit()

    def labels_of(self, image: Image | None) -> dict[str, Labels]:
        """Return the layers of labels over an image, by the names "labels" and "segmentation"."""
        return {} if image is None else dict(self._labels.get(image, {}))

    def choose_labels(self, image: Image, name: str, layer: Labels | None) -> None:
        """Say which layer holds labels of an image, if any."""
        before = self.labels_of(image)
        after = {key: value for key, value in before.items() if key != name}
        if layer is not None:
            after[name] = layer
        if after != before:
            self._labels[image] = after
            self.labels_changed.emit(image)

    def _on_removed(self, event: Any) -> None:
        gone: Layer = event.value
        self._labels.pop(gone, None)
        for image, chosen in list(self._labels.items()):
            for name in [name for name, layer in chosen.items() if layer == gone]:
                self.choose_labels(image, name, None)
        left = [pair for pair in self.listed if gone not in pair]
        if len(left) < len(self.listed):
            self.listed = left
            self.changed.emit()
