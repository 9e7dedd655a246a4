"""The dock widget "Augmentation preview"."""

from typing import Any

from napari.viewer import Viewer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSpinBox

from napari_synapse_cl.config import AugmentationConfig
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.widgets.base import LayersWidget, scrolling
from napari_synapse_cl.widgets.editors import LARGEST_INT
from napari_synapse_cl.widgets.form import SHARED, Form
from napari_synapse_cl.widgets.latest import Latest
from napari_synapse_cl.widgets.layers import LayerData
from napari_synapse_cl.widgets.messages import sentence
from napari_synapse_cl.widgets.pairs import Pair, PairMaker
from napari_synapse_cl.widgets.pictures import PairPictures

ESSENTIAL = ("crop_size", "seed")
GROUPS = {"Augmentation": tuple(AugmentationConfig.model_fields)}


class PreviewWidget(LayersWidget):
    """Show a synapse and the two views of it that a training compares.

    Parameters
    ----------
    viewer
        The viewer it is docked in.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.synapse_box = QSpinBox()
        self.synapse_box.setToolTip(
            "Number of the point, counted from 0. A point that is selected in the layer is taken."
        )
        self.previous_button, self.next_button = QPushButton("◂"), QPushButton("▸")
        self.epoch_box = QSpinBox()
        self.epoch_box.setRange(0, LARGEST_INT)
        self.epoch_box.setValue(1)
        self.epoch_box.setToolTip(
            "<qt>Each epoch draws anew, counted from 1. 0 is what the validation sees.</qt>"
        )
        self.form = Form(ESSENTIAL, GROUPS)
        self.form.share(SHARED, self.session)
        self.pictures = PairPictures(viewer)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self._data: LayerData | None = None
        self._points: Any = None
        self._maker = PairMaker()
        self._requests = Latest(self._maker.make)
        self._requests.done.connect(self._show)
        self._requests.failed.connect(self._show_error)
        self._lay_out()
        self.image_box.layer_changed.connect(self._on_layers)
        self.points_box.layer_changed.connect(self._on_layers)
        self.previous_button.clicked.connect(self.synapse_box.stepDown)
        self.next_button.clicked.connect(self.synapse_box.stepUp)
        for box in (self.synapse_box, self.epoch_box):
            box.valueChanged.connect(self.redraw)
        self.form.changed.connect(self.redraw)
        self._on_layers()

    def redraw(self) -> None:
        """Ask for the pair that the form describes."""
        try:
            if self._data is None:
                self._data = self.take_layers()
            config = self.form.config()
        except InputError as error:
            self._show_error(error)
            return
        self.status.setText("Drawing …")
        self._requests.ask(self._data, config, self.epoch_box.value(), self.synapse_box.value())

    def follow_theme(self) -> None:
        """Show the pictures on the background of the viewer's theme."""
        self.pictures.follow_theme()

    def release(self) -> None:
        """Let go of the viewer."""
        super().release()
        self._requests.forget()
        self._maker.forget()
        self._data = None
        self._follow_points(None)

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self.synapse_box, stretch=1)
        row.addWidget(self.previous_button)
        row.addWidget(self.next_button)
        self.add_row("Synapse", row)
        self.add_row("Epoch", self.epoch_box)
        self.body.addWidget(scrolling(self.form), stretch=1)
        self.body.addWidget(self.pictures, stretch=2)
        self.body.addWidget(self.status)

    def _on_layers(self) -> None:
        points = self.points_box.layer
        self._follow_points(points)
        n_points = 0 if points is None else len(points.data)
        self.synapse_box.blockSignals(True)
        self.synapse_box.setRange(0, max(n_points - 1, 0))
        self.synapse_box.setSuffix(f" of {n_points}" if n_points else "")
        self.synapse_box.blockSignals(False)
        self._data = None
        self._maker.forget()
        self.redraw()

    def _follow_points(self, points: Any) -> None:
        if self._points is not None:
            self._points.events.data.disconnect(self._on_data)
            self._points.selected_data.events.items_changed.disconnect(self._on_selection)
        self._points = points
        if points is not None:
            points.events.data.connect(self._on_data)
            points.selected_data.events.items_changed.connect(self._on_selection)

    def _on_data(self, event: Any = None) -> None:
        self._on_layers()

    def _on_selection(self, event: Any = None) -> None:
        selected = self._points.selected_data
        if len(selected) == 1:
            self.synapse_box.setValue(next(iter(selected)))

    def _show(self, pair: Pair) -> None:
        if self._data is None:
            return
        self.pictures.show_pair(pair, self._data.voxel_size or (1.0, 1.0, 1.0))
        first, second = pair.descriptions
        self.status.setText(f"<b>View 1:</b> {first}.<br><b>View 2:</b> {second}.")

    def _show_error(self, error: Exception) -> None:
        if not isinstance(error, InputError | JobError):
            raise error
        self.pictures.clear_pair()
        self.status.setText(sentence(str(error)))
