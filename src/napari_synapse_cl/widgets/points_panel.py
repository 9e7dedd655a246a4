"""What becomes of features of points: where they go, colours, and labels to compare layers by."""

from napari.layers import Layer, Points
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QWidget

from napari_synapse_cl.widgets.color_box import ColorBox, ColumnBox
from napari_synapse_cl.widgets.form import LABEL_WIDTH

ON_LAYER, ON_NEW_LAYER = "the selected layer", "a new Points layer"


class PointsPanel(QWidget):
    """Choices that make sense for a Points layer alone.

    Attributes
    ----------
    place_box
        Which layer gets the columns.
    color_box
        Colours the points.
    label_box
        Column of labels.
    compare_button
        Compares layers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place_box = QComboBox()
        self.color_box = ColorBox()
        self.label_box = ColumnBox("no labels", with_features=False, preferred="class")
        self.compare_button = QPushButton("Compare layers")
        self.place_box.addItems([ON_LAYER, ON_NEW_LAYER])
        self.place_box.setToolTip("Which layer gets the columns of features")
        self.color_box.setToolTip("Colour the points by one of their columns, now")
        self.label_box.setToolTip(
            "<qt>Column with labels, such as classes: layers are then compared by how well they "
            "tell these too</qt>"
        )
        self.compare_button.setToolTip(
            "<qt>Which layer? Measure how well each tells synapses apart, and choose the best. The "
            "layers that are ticked are compared, or all convolutions if only one is.</qt>"
        )
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.setColumnMinimumWidth(0, LABEL_WIDTH)
        layout.setColumnStretch(1, 1)
        for row, name in enumerate(("Columns on", "Points coloured", "Labels")):
            layout.addWidget(QLabel(name), row, 0)
        layout.addWidget(self.place_box, 0, 1, 1, 2)
        layout.addWidget(self.color_box, 1, 1, 1, 2)
        layout.addWidget(self.label_box, 2, 1)
        layout.addWidget(self.compare_button, 2, 2)

    @property
    def on_new_layer(self) -> bool:
        """Whether features go to a new layer."""
        return self.place_box.currentText() == ON_NEW_LAYER

    def follow(self, layer: Layer | None) -> None:
        """Offer the columns of a layer, if it has points."""
        for box in (self.place_box, self.color_box, self.label_box):
            box.setEnabled(isinstance(layer, Points))
        self.color_box.show_columns(layer)
        self.label_box.show_columns(layer)
