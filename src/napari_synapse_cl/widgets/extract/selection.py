"""The layer that is selected, and what becomes of features of its points."""

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Layer, Points, Shapes
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, QSignalBlocker, Signal
from qtpy.QtWidgets import QFileDialog, QLabel, QWidget

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.files import safe_name
from napari_synapse_cl.system.words import counted, size
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layers.boxes import CONTENT_EVENTS
from napari_synapse_cl.widgets.layers.features import color_by, feature_match, own_legend
from napari_synapse_cl.widgets.layouts import Paragraph, Rows
from napari_synapse_cl.widgets.look import LABEL_WIDTH, ChoiceBox, button, expected, paragraph, tell

AS_THEY_ARE = "as they are"

ON_LAYER, ON_NEW_LAYER = "the selected Points layer", "a new Points layer"

HINT = "select a Points, Image or Shapes layer in the layer list"

FILTERS = ("CSV (*.csv)", "Parquet (*.parquet)", "NumPy (*.npz)", "AnnData (*.h5ad)")


class SelectedLayer(Paragraph):
    """Says which layer is selected, and what it would get features for.

    Attributes
    ----------
    layer
        The layer, or None if none or several are selected.
    """

    changed = Signal()
    """Emitted when another layer is selected, or it has other content."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._selection = viewer.layers.selection
        self.layer: Layer | None = None
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


class ColumnBox(ChoiceBox):
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
    """Colours the points of a layer by the column that is chosen.

    For as long as a layer has its colours, their column is chosen when it is selected again.

    Attributes
    ----------
    legend
        Says what the colours mean.
    """

    def __init__(self) -> None:
        super().__init__(AS_THEY_ARE, with_features=True)
        self.legend = paragraph(selectable=True)
        self._layer: Points | None = None
        self._colored: WeakKeyDictionary[Any, tuple[str, str, np.ndarray]] = WeakKeyDictionary()
        self.activated.connect(self._color)

    def show_columns(self, layer: Layer | None) -> None:
        """Offer the columns of a layer; of another layer the one that it is coloured by, if any."""
        points = layer if isinstance(layer, Points) else None
        is_other = points is not self._layer
        self._layer = points
        if is_other:
            with QSignalBlocker(self):
                self.setCurrentIndex(0)
        super().show_columns(points)
        if is_other and points is not None:
            self._recall(points)
        if self.column is None:
            self._tell_own()

    def color(self, column: str) -> None:
        """Choose a column of the layer, and colour by it."""
        self.setCurrentText(column)
        self._color()

    def color_other(self, layer: Points, column: str) -> str:
        """Colour a layer by a column, and return what the colours mean, as rich text."""
        legend = color_by(layer, column).as_html()
        self._colored[_itself(layer)] = column, legend, layer.face_color.copy()
        return legend

    def _color(self, index: Any = None) -> None:
        if self._layer is not None and self.column is not None:
            self._tell(self.color_other(self._layer, self.column))
        else:
            self._tell_own()

    def _recall(self, layer: Points) -> None:
        """Choose the column that a layer is coloured by, unless it has other colours now."""
        column, legend, colors = self._colored.get(_itself(layer), ("", "", None))
        if colors is not None and np.array_equal(colors, layer.face_color):
            with QSignalBlocker(self):
                self.setCurrentText(column)
            self._tell(legend)

    def _tell_own(self) -> None:
        legend = None if self._layer is None else own_legend(self._layer)
        self._tell(legend.as_html() if legend else "")

    def _tell(self, text: str) -> None:
        self.legend.setText(text)
        self.legend.setVisible(bool(text))


def _itself(layer: Layer) -> Layer:
    """Return a layer in place of the proxy of it that napari gives to plugins."""
    return getattr(layer, "__wrapped__", layer)


def _sorted_out(names: list[str]) -> tuple[list[str], list[str], list[str]]:
    components: list[str] = []
    others: list[str] = []
    channels: list[str] = []
    for name in names:
        match = feature_match(name)
        kind = others if match is None else components if match["component"] else channels
        kind.append(name)
    return components, others, channels


class PointsPanel(Rows):
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
        self.place_box = ChoiceBox()
        self.color_box = ColorBox()
        self.label_box = ColumnBox("no labels", with_features=False, preferred="class")
        self.compare_button = button(
            "Compare network layers",
            "<qt>Which network layer? Measure how well each tells synapses apart, and choose the "
            "best. Those that are ticked are compared, or all convolutions if only one is.</qt>",
        )
        self.place_box.addItems([ON_LAYER, ON_NEW_LAYER])
        self.place_box.setToolTip("Which Points layer gets the columns of features")
        self.color_box.setToolTip("Colour the points by one of their columns, now")
        self.label_box.setToolTip(
            "<qt>Column with labels, such as classes: network layers are then compared by how well "
            "they tell these too</qt>"
        )
        for name, box in (
            ("Columns on", self.place_box),
            ("Points coloured", self.color_box),
            ("Labels", self.label_box),
        ):
            box.setAccessibleName(name)
            label = QLabel(name)
            label.setMinimumWidth(LABEL_WIDTH)
            self.form.addRow(label, box)
        self.form.insertRow(2, self.color_box.legend)
        self.form.addRow(self.compare_button)

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


class Exporter(QObject):
    """Asks for a file and writes a layer to it, in a worker."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._window = parent
        self._writer = LatestOnly(_write_points)
        self._writer.done.connect(self._on_done)
        self._writer.failed.connect(self._on_failure)

    def export(self, layer: Layer | None) -> None:
        """Ask where to save a layer, and save it there."""
        if not isinstance(layer, Points):
            tell(InputError("select the Points layer whose features are to be saved"))
            return
        chosen, filter_ = QFileDialog.getSaveFileName(
            self._window,
            "Save points with features",
            f"{safe_name(layer.name)}.csv",
            ";;".join(FILTERS),
        )
        if not chosen:
            return
        path = Path(chosen)
        if not path.suffix:
            path = path.with_suffix(filter_.rpartition("*")[2].rstrip(")") or ".csv")
        data, state, _ = layer.as_layer_data_tuple()
        self._writer.ask(str(path), data.copy(), {**state, "features": layer.features.copy()})

    def _on_done(self, paths: list[str]) -> None:
        show_info(f"Saved {', '.join(paths)}.")

    def _on_failure(self, error: Exception) -> None:
        tell(expected(error))


def _write_points(*arguments: Any) -> list[str]:
    # Formats of tables take longer to import than a dock should to open.
    from napari_synapse_cl.widgets.layers.files import write_points

    return write_points(*arguments)
