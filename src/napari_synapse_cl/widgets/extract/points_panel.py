"""What becomes of features of points: where they go, colours, and labels to compare layers by."""

from typing import Any

from napari.layers import Layer, Points
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QWidget

from napari_synapse_cl.widgets.extract.columns import color_by
from napari_synapse_cl.widgets.forms.form import LABEL_WIDTH
from napari_synapse_cl.widgets.layers.features import feature_match

AS_THEY_ARE = "as they are"

ON_LAYER, ON_NEW_LAYER = "the selected layer", "a new Points layer"


class ColumnBox(QComboBox):
    """A choice of the columns of a Points layer, or of none of them.

    Parameters
    ----------
    none
        What to call the choice of none.
    with_features
        Whether the columns that extractions have added can be chosen too: principal components
        first, then others, then channels.
    preferred
        A column that is chosen at first, where there is one of this name.
    """

    def __init__(self, none: str, *, with_features: bool, preferred: str | None = None) -> None:
        super().__init__()
        self._with_features = with_features
        self._preferred = preferred
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.addItem(none)

    @property
    def column(self) -> str | None:
        """The chosen column."""
        return self.currentText() if self.currentIndex() > 0 else None

    def show_columns(self, layer: Layer | None) -> None:
        """Offer the columns of a layer; the choice stays where it can."""
        names = [str(n) for n in layer.features.columns] if isinstance(layer, Points) else []
        components, others, channels = _sorted_out(names)
        offered = [*components, *others, *channels] if self._with_features else others
        if offered == [self.itemText(i) for i in range(1, self.count())]:
            return
        had = self.count() > 1
        chosen = self.column if had else self._preferred
        with QSignalBlocker(self):
            for index in range(self.count() - 1, 0, -1):
                self.removeItem(index)
            self.addItems(offered)
            self.setCurrentIndex(offered.index(chosen) + 1 if chosen in offered else 0)


class ColorBox(ColumnBox):
    """Colours the points of a layer by the column that is chosen."""

    def __init__(self) -> None:
        super().__init__(AS_THEY_ARE, with_features=True)
        self._layer: Points | None = None
        self.activated.connect(self._color)

    def show_columns(self, layer: Layer | None) -> None:
        """Offer the columns of a layer; of another layer none is chosen at first."""
        points = layer if isinstance(layer, Points) else None
        if points is not self._layer:
            self._layer = points
            with QSignalBlocker(self):
                self.setCurrentIndex(0)
        super().show_columns(points)

    def _color(self, index: Any = None) -> None:
        if self._layer is not None and self.column is not None:
            color_by(self._layer, self.column)


def _sorted_out(names: list[str]) -> tuple[list[str], list[str], list[str]]:
    components: list[str] = []
    others: list[str] = []
    channels: list[str] = []
    for name in names:
        match = feature_match(name)
        kind = others if match is None else components if match["component"] else channels
        kind.append(name)
    return components, others, channels


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
