"""The volumes that a training works on beside the chosen one."""

from collections.abc import Callable
from functools import partial
from typing import Any

from napari.layers import Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QToolButton, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_synapse_cl.widgets.layers.boxes import ChosenVolumes, VolumePair, content_emitters
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import button


class VolumeList(QWidget):
    """A row for each volume that is listed, and a button that lists the chosen one.

    Parameters
    ----------
    volumes
        The list; it outlives the widget.
    chosen
        Returns the chosen volume, None while a layer is missing.

    Attributes
    ----------
    add_button
        Lists the chosen volume.
    """

    changed = Signal()
    """Emitted when another set of volumes is listed, or the content of their layers changes."""

    def __init__(self, volumes: ChosenVolumes, chosen: Callable[[], VolumePair | None]) -> None:
        super().__init__()
        self._volumes = volumes
        self._chosen = chosen
        self._followed: list[Layer] = []
        self._rows: list[tuple[VolumePair, QWidget, QElidingLabel]] = []
        self.add_button = button(
            "Add volume",
            "<qt>Train on several volumes at once: this notes the chosen volume and its synapses; "
            "then choose the next above. The training uses the chosen one and those noted.</qt>",
            self._add,
        )
        self._layout = bare(QVBoxLayout(self), 0)
        self._layout.addWidget(self.add_button, alignment=Qt.AlignmentFlag.AlignLeft)
        volumes.changed.connect(self._on_change)
        self._show_rows()

    @property
    def texts(self) -> list[str]:
        """What the rows say."""
        return [label.text() for _, _, label in self._rows]

    @property
    def remove_buttons(self) -> list[QToolButton]:
        """One for each row."""
        return [row.findChild(QToolButton) for _, row, _ in self._rows]

    def pairs(self) -> list[VolumePair]:
        """Return the volumes to train on: those listed, and the chosen one if it is not."""
        chosen = self._chosen()
        listed = self._volumes.listed
        return [*listed, chosen] if chosen is not None and chosen not in listed else list(listed)

    def refresh(self) -> None:
        """Take notice that another volume is chosen."""
        chosen = self._chosen()
        self.add_button.setEnabled(chosen is not None and chosen not in self._volumes.listed)

    def _add(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            self._volumes.add(chosen)

    def _on_change(self) -> None:
        self._show_rows()
        self.changed.emit()

    def _show_rows(self) -> None:
        for _, row, _ in self._rows:
            self._layout.removeWidget(row)
            row.hide()
            # Its own button may have been clicked just now.
            row.deleteLater()
        self._rows = [self._make_row(pair) for pair in self._volumes.listed]
        for number, (_, row, _) in enumerate(self._rows):
            self._layout.insertWidget(number, row)
        self._follow([layer for pair in self._volumes.listed for layer in pair])
        self._name_rows()
        self.refresh()

    def _make_row(self, pair: VolumePair) -> tuple[VolumePair, QWidget, QElidingLabel]:
        row, label, cross = QWidget(), QElidingLabel(), QToolButton()
        label.setElideMode(Qt.TextElideMode.ElideMiddle)
        label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        cross.setText("×")
        cross.setAutoRaise(True)
        cross.setToolTip("Train on this volume no longer")
        cross.clicked.connect(partial(self._volumes.remove, pair))
        layout = bare(QHBoxLayout(row))
        layout.addWidget(label, stretch=1)
        layout.addWidget(cross)
        return pair, row, label

    def _name_rows(self, event: Any = None) -> None:
        for pair, _, label in self._rows:
            text = f"{pair.image.name} · {pair.points.name}"
            label.setText(text)
            label.setToolTip(f"{text}: trained on too")

    def _follow(self, layers: list[Layer]) -> None:
        for layer in self._followed:
            layer.events.name.disconnect(self._name_rows)
            for emitter in content_emitters(layer):
                emitter.disconnect(self._tell_content)
        self._followed = layers
        for layer in layers:
            layer.events.name.connect(self._name_rows)
            for emitter in content_emitters(layer):
                emitter.connect(self._tell_content)

    def _tell_content(self, event: Any = None) -> None:
        self.changed.emit()
