"""The dock widget "Augmentation preview"."""

from functools import partial

from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QSpinBox

from napari_synapse_cl.config import VolumeConfig, settings_without_effect
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets.base import LayersWidget
from napari_synapse_cl.widgets.button_rows import GAP, Buttons
from napari_synapse_cl.widgets.forms.crop_settings import (
    ESSENTIAL_AUGMENTATION,
    GROUPS,
    MORE_AUGMENTATION,
    PLACEHOLDERS,
    SHARED,
    label_layers_of,
)
from napari_synapse_cl.widgets.forms.editors import LARGEST_INT
from napari_synapse_cl.widgets.forms.form import Form
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layers.boxes import LabelBoxes
from napari_synapse_cl.widgets.layers.taking import LayerData, take, take_position
from napari_synapse_cl.widgets.layers.voxels import voxel_size_of
from napari_synapse_cl.widgets.layouts import scrolling
from napari_synapse_cl.widgets.look import (
    MARK,
    PREVIEW,
    TRAIN,
    button,
    expected,
    open_dock,
    paragraph,
    sentence,
)
from napari_synapse_cl.widgets.preview.pairs import Pair, PairMaker, PairRequest, view_layers
from napari_synapse_cl.widgets.preview.picker import SynapsePicker
from napari_synapse_cl.widgets.preview.pictures import PairPictures

ESSENTIAL = (*ESSENTIAL_AUGMENTATION, "crop_size", "seed")
FURTHER = {**MORE_AUGMENTATION, **GROUPS}
PATIENCE = 400
"""Milliseconds without a picture after which the person is told to wait."""


class PreviewWidget(LayersWidget):
    """Show a synapse and the two views of it that a training compares.

    Attributes
    ----------
    pair
        What is shown, None if nothing is.
    """

    menu_name = PREVIEW
    without_points = "none: click in the viewer"
    pair_shown = Signal()
    """Emitted when another pair is shown."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.points_box.setToolTip(
            "Points layer with one point for each synapse, or none to click a position"
        )
        self.picker = SynapsePicker(viewer)
        self.epoch_box = QSpinBox()
        self.epoch_box.setRange(0, LARGEST_INT)
        self.epoch_box.setValue(1)
        self.new_pair_button = button(
            "New pair",
            "<qt>Draw the pair of the next epoch. Seed, epoch and synapse decide what is drawn, "
            "so a pair can be seen again, and a training with this seed sees the same.</qt>",
            self.epoch_box.stepUp,
        )
        self.add_button = button(
            "Add pair as layers",
            "<qt>Add both views as Image layers where the synapse is; what was drawn stands in "
            "their metadata.</qt>",
            self.add_layers,
        )
        self.add_button.setEnabled(False)
        self.train_button = button(
            "Train with these settings",
            "<qt>Open “Train contrastive” with these layers. Both forms share the settings.</qt>",
            self.open_training,
        )
        self.form = Form(ESSENTIAL, FURTHER, PLACEHOLDERS)
        self.form.share(SHARED, self.session)
        self.label_boxes = LabelBoxes(self, partial(label_layers_of, self.form), self.form.changed)
        self.pictures = PairPictures(viewer)
        tip = "Move the crosshair back to the synapse"
        self.centre_button = button("Centre", tip, self.pictures.reset_centre)
        self.origin, self.warnings, self.status = paragraph(), paragraph(), paragraph()
        self.pair: Pair | None = None
        self._asked: PairRequest | None = None
        self._data: LayerData | None = None
        self._maker = PairMaker()
        self._requests = LatestOnly(self._maker.make, tell_overtaken=True)
        self._slow = QTimer(self, singleShot=True, interval=PATIENCE, timeout=self._tell_to_wait)
        self._set_tooltips()
        self._lay_out()
        self._connect()
        self._on_layers()

    @property
    def up_to_date(self) -> bool:
        """Whether what is shown is what the form describes."""
        return self.pair is not None and self.pair.request is self._asked

    def redraw(self) -> None:
        """Ask for the pair that the form describes, unless the dock is closed."""
        if self.is_released:
            return
        try:
            if self._data is None:
                self._data = self.take_layers()
            config = self.form.config()
        except InputError as error:
            self._requests.forget()
            self._show_error(error)
            return
        listed = self.session.volumes.listed
        self._asked = PairRequest(
            self._data,
            config,
            self.epoch_box.value(),
            self.picker.row,
            self.session.settings["pretrained"],
            voxel_size_of(listed[0].image) if listed else None,
        )
        self._requests.ask(self._asked)
        self._slow.start()

    def take_layers(self) -> LayerData:
        """Return what a pair needs of the chosen layers, or of a position in the image layer."""
        image, points = self.image_box.layer, self.points_box.layer
        if points is None:
            return take_position(image, self.picker.position, **self.label_boxes.of(image))
        return take(image, points, **self.label_boxes.of(image))

    def add_layers(self) -> None:
        """Add the views to the viewer as layers where the synapse is, and show that place."""
        image = self.image_box.layer
        if self.pair is None or not isinstance(image, Image):
            return
        for data, keywords in view_layers(image, self.pair):
            self.viewer.add_image(data, **keywords)
        world = image.data_to_world(self.pair.voxel)
        n_dims = self.viewer.dims.ndim
        self.viewer.dims.set_point(range(n_dims - 3, n_dims), world)

    def open_training(self) -> None:
        """Open or raise the training's dock, with the same layers; it shares the settings."""
        widget = open_dock(self.viewer, TRAIN)
        widget.image_box.choose(self.image_box.layer)
        widget.points_box.choose(self.points_box.layer)

    def follow_theme(self) -> None:
        """Show the pictures in the colours of the viewer's theme."""
        self.pictures.follow_theme()

    def release(self) -> None:
        """Draw no more pairs and hear of no more clicks, when the dock is closed."""
        super().release()
        self._slow.stop()
        self._requests.forget()
        self._maker.end()
        self._data = self._asked = self.pair = None
        self.picker.release()

    def hold(self) -> None:
        """Hear of clicks and draw again, when the widget is docked once more."""
        self.picker.hold()
        self._on_layers()

    def _set_tooltips(self) -> None:
        self.epoch_box.setToolTip(
            "<qt>Each epoch draws anew, counted from 1. 0 is what the validation sees.</qt>"
        )
        self.origin.setToolTip("<qt>These decide what was drawn; the position is in voxels.</qt>")
        self.status.setToolTip("<qt>What was drawn for each view, within the settings below</qt>")
        self.warnings.setToolTip("<qt>What a network would see here without knowing better</qt>")

    def _lay_out(self) -> None:
        epoch, below = QHBoxLayout(), QHBoxLayout()
        epoch.setSpacing(GAP)
        self.epoch_box.setAccessibleName("Epoch")
        epoch.addWidget(self.epoch_box, stretch=1)
        epoch.addWidget(self.new_pair_button)
        below.addWidget(self.origin, stretch=1)
        below.addWidget(self.centre_button)
        self.add_row("Synapse", self.picker)
        self.add_row("Epoch", epoch)
        for label in (self.warnings, self.status):
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.warnings.hide()
        self.body.addWidget(self.pictures, stretch=3)
        self.body.addLayout(below)
        self.body.addWidget(self.warnings)
        self.body.addWidget(self.status)
        self.body.addWidget(scrolling(self.form), stretch=1)
        self.body.addWidget(Buttons((self.add_button, self.train_button)))

    def _connect(self) -> None:
        self._requests.done.connect(self._show)
        self._requests.failed.connect(self._show_error)
        for box in (self.image_box, self.points_box):
            box.layer_changed.connect(self._on_layers)
            box.content_changed.connect(self._on_content)
        self.label_boxes.changed.connect(self._take_anew)
        self.label_boxes.painted.connect(self.redraw)
        self.session.volumes.changed.connect(self.redraw)
        self.session.settings.changed.connect(self._on_setting)
        self.picker.changed.connect(self._on_synapse)
        self.epoch_box.valueChanged.connect(self.redraw)
        self.form.changed.connect(self.redraw)

    def _on_layers(self) -> None:
        """Take the chosen layers, when others were chosen."""
        image, points = self.image_box.layer, self.points_box.layer
        self.picker.follow(image, points)
        self._take_anew()

    def _on_content(self) -> None:
        """Take the chosen layers anew, when what they hold has changed."""
        self.picker.count_points()
        self._take_anew()

    def _on_synapse(self) -> None:
        if self.points_box.layer is None:
            self._data = None
        self.redraw()

    def _on_setting(self, name: str) -> None:
        # The others are in the form.
        if name == "pretrained":
            self.redraw()

    def _take_anew(self) -> None:
        self._data = None
        self._maker.forget()
        self.redraw()

    def _show(self, pair: Pair) -> None:
        self._slow.stop()
        self.pair = pair
        self.pictures.show_pair(pair.crop, pair.views, pair.voxel_size)
        request = pair.request
        spread = "" if pair.spread is None else f" · spread of grey values {pair.spread:.3f}"
        self.origin.setText(
            f"Seed {request.config.seed} · epoch {request.epoch} · synapse {request.row} at "
            f"{', '.join(map(str, pair.voxel))}{spread}"
        )
        # Layers are in place of what names a volume.
        vain = settings_without_effect(request.config, left_out=VolumeConfig.model_fields)
        texts = [*pair.warnings, *map(sentence, vain)]
        self.warnings.setText("<br>".join(MARK + text for text in texts))
        self.warnings.setVisible(bool(texts))
        first, second = pair.descriptions
        self.status.setText(f"<b>View 1:</b> {first}.<br><b>View 2:</b> {second}.")
        self.add_button.setEnabled(True)
        self.pair_shown.emit()

    def _show_error(self, error: Exception) -> None:
        expected(error)
        self._slow.stop()
        self.pair = None
        self.pictures.clear_pair()
        self.origin.clear()
        self.warnings.hide()
        self.add_button.setEnabled(False)
        self.status.setText(sentence(str(error)))

    def _tell_to_wait(self) -> None:
        self.origin.setText("Drawing …")
