"""Which layers belong together: volumes to train on, and the labels over each image."""

from typing import Any, NamedTuple

from napari.layers import Image, Labels, Layer, Points
from qtpy.QtCore import QObject, Signal


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
    changed
        Emitted when another set of volumes is listed.
    labels_changed
        Emitted with an image when other layers of labels belong to it.
    listed
        Volumes that are trained on beside the one that is chosen in the widget.
    """

    changed = Signal()
    labels_changed = Signal(object)

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
