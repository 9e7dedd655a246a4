"""The dock widget "Explore features"."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Points
from napari.viewer import Viewer
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets.base import LayersWidget
from napari_synapse_cl.widgets.button_rows import Buttons
from napari_synapse_cl.widgets.explore.controls import ColumnChoice, Ordering
from napari_synapse_cl.widgets.explore.gallery.crops import Crops
from napari_synapse_cl.widgets.explore.gallery.gallery import Gallery
from napari_synapse_cl.widgets.explore.honesty import HonestyLine
from napari_synapse_cl.widgets.explore.opening import TableOpener, look_at
from napari_synapse_cl.widgets.explore.panels import Panels
from napari_synapse_cl.widgets.explore.place import PlaceReader
from napari_synapse_cl.widgets.explore.pooler import Pooler
from napari_synapse_cl.widgets.explore.reporting import Reporter, Shown
from napari_synapse_cl.widgets.explore.sources import Choice, Request, choices_of, read
from napari_synapse_cl.widgets.explore.state import MOST_FRAMED, Exploration
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import (
    EXPLORE,
    ChoiceBox,
    button,
    expected,
    paragraph,
    sentence,
    tell,
    telling,
)

if TYPE_CHECKING:
    from napari_synapse_cl.features.vectors import VectorTable

NO_VECTORS = (
    "the layer {} has no feature vectors: extract features for it, or open a feature table whose "
    "rows have some"
)
NOTHING = "Choose points with features, or open a feature table."


class ExploreWidget(LayersWidget):
    """Look at synapses by their feature vectors: which are alike, which are odd, what they are.

    Attributes
    ----------
    state
        What is explored.
    gallery
        Its crops.
    """

    menu_name = EXPLORE
    explored = Signal()
    """Emitted when vectors have been read."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.state = Exploration()
        self.crops = Crops()
        self.gallery = Gallery(viewer, self.state, self.crops)
        self.vector_box = ChoiceBox(n_letters=4)
        self.opener = TableOpener(viewer, self)
        places = PlaceReader(viewer, self.state, self.image_box)
        self.tools = Panels(self.state, self.gallery, places)
        self.similar, self.labelling = self.tools.similar, self.tools.labelling
        self.map_button = button(
            "Map",
            "<qt>Open a map of the vectors beside the viewer: near each other lies what is "
            "alike</qt>",
            self._open_map,
        )
        self.ordering = Ordering(self.state)
        self.pooler = Pooler(viewer, self.state)
        self.reporter = Reporter(self, self.state)
        self.color_box = ColumnChoice(self.state, "Colours of the layer", "Colour by")
        self.honesty = HonestyLine(self.state)
        self.status = paragraph(selectable=True)
        self.note = paragraph()
        self._choices: list[Choice] = []
        self._columns: Any = None
        self._reader = LatestOnly(read)
        self._limits: Image | None = None
        self._close_map: Callable[[], None] | None = None
        self._set_tooltips()
        self._lay_out()
        self._connect()
        self._on_points()

    def explore(self, points: Points, image: Image | None = None) -> None:
        """Explore the points of a layer, in a volume if there is one."""
        if image is not None:
            self.image_box.choose(image)
        self.points_box.choose(points)
        self._show_choices()

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        self.gallery.follow_theme()

    def release(self) -> None:
        """Let go of layers, vectors and crops, when the dock is closed."""
        super().release()
        self._reader.forget()
        self.opener.release()
        self.pooler.release()
        self.reporter.release()
        self.honesty.release()
        self.tools.release()
        self.ordering.release()
        self.gallery.release()
        self._follow_limits(None)
        self.crops.follow(None, None, None)
        self.state.leave()
        if self._close_map is not None:
            self._close_map()
        self._choices, self._columns = [], None

    def hold(self) -> None:
        """Explore what is chosen again, when the widget is docked once more."""
        self._on_points()

    def _set_tooltips(self) -> None:
        self.image_box.setToolTip("Image layer with the volume that crops are cut from")
        self.points_box.setToolTip("Points layer whose features are explored")
        self.vector_box.setToolTip("The vector that is explored, however many columns it takes")
        self.color_box.setAccessibleName("Colour")
        self.color_box.setToolTip(
            "<qt>Column by which the points are coloured, in the viewer too; its cells stand "
            "below the pictures</qt>"
        )

    def _open_map(self) -> None:
        # It needs pandas, which vectors need too, but no dock that opens.
        from napari_synapse_cl.widgets.explore.map.dock import close_map, open_map

        open_map(self.viewer, self.state)
        self._close_map = partial(close_map, self.viewer, self.state)

    def _lay_out(self) -> None:
        self.vector_box.setAccessibleName("Vector")
        vector = bare(QHBoxLayout(), 4)
        vector.addWidget(self.vector_box, stretch=1)
        vector.addWidget(self.opener.button)
        self.add_row("Vector", vector)
        self.note.hide()
        self.tools.add_button(self.map_button)
        self.body.addWidget(self.tools)
        self.body.addWidget(
            Buttons(
                (self.ordering.box, self.ordering.direction_button, self.color_box),
                (self.pooler.box, self.reporter.button),
            )
        )
        self.body.addWidget(self.honesty)
        self.body.addWidget(self.gallery, stretch=1)
        self.body.addWidget(self.note)
        self.body.addWidget(self.status)

    def _connect(self) -> None:
        self.points_box.layer_changed.connect(self._on_points)
        self.points_box.content_changed.connect(self._show_choices)
        self.image_box.layer_changed.connect(self._follow_volume)
        self.image_box.content_changed.connect(self._follow_volume)
        self.vector_box.activated.connect(self._read)
        self.color_box.chosen.connect(self._color)
        self.tools.told.connect(self._tell)
        self.tools.marked.connect(self._color_by_marks)
        self.tools.clustered.connect(self.state.color_by)
        self._reader.done.connect(self._show_vectors)
        self._reader.failed.connect(self._on_failure)
        for source in (self.opener, self.pooler):
            source.opened.connect(self.explore)
            source.failed.connect(self._on_failure)
            source.told.connect(self._tell)
        self.reporter.told.connect(self._tell)
        self.reporter.asked.connect(self._report)
        self.gallery.activated.connect(self._go_to)
        self.crops.changed.connect(self._show_note)
        self.state.outdated.connect(self._read)
        self.state.moved.connect(self._on_moved)
        self.state.rows_changed.connect(self._on_rows)
        self.state.selected_changed.connect(self._tell_selected)
        self.state.colors_changed.connect(self._show_color)

    def _on_points(self) -> None:
        """Explore the points that are chosen now."""
        if self.is_released:
            return
        self._choices, self._columns = [], None
        self._reader.forget()
        self.state.leave()
        self._show_choices()

    def _show_choices(self) -> None:
        """Offer the vectors of the points, and read the last of them if there are others."""
        layer = self.points_box.layer
        columns = None if layer is None else layer.features.columns
        # Points that are dragged tell so for each pixel.
        if self.is_released or (columns is not None and columns is self._columns):
            return
        self._columns = columns
        choices = choices_of(layer)
        if choices and choices == self._choices:
            return
        chosen = self.vector_box.currentText()
        self._choices = choices
        texts = [choice.text for choice in choices]
        with QSignalBlocker(self.vector_box):
            self.vector_box.clear()
            self.vector_box.addItems(texts)
            self.vector_box.setCurrentIndex(texts.index(chosen) if chosen in texts else 0)
        for index, choice in enumerate(choices):
            self.vector_box.setItemData(index, choice.origin, Qt.ItemDataRole.ToolTipRole)
        if choices:
            self._read()
            return
        self.state.leave()
        self.status.setText(NOTHING if layer is None else sentence(NO_VECTORS.format(layer.name)))

    def _read(self) -> None:
        """Read the vector that is chosen."""
        layer, index = self.points_box.layer, self.vector_box.currentIndex()
        if layer is None or not 0 <= index < len(self._choices) or self.is_released:
            return
        choice = self._choices[index]
        try:
            before = self.state.vectors if self.state.layer == layer else None
            request = Request.of(layer, self.image_box.layer, choice, before)
        except InputError as error:
            self._on_failure(error)
            return
        self.status.setText(f"Reading {choice.text} …")
        self._reader.ask(request)

    def _show_vectors(self, found: "tuple[Request, VectorTable]") -> None:
        request, vectors = found
        layer: Points = request.layer
        if self.is_released or layer != self.points_box.layer:
            return
        if len(layer.data) != len(vectors.values):
            # Points came or went meanwhile.
            self._read()
            return
        if vectors is not self.state.vectors:
            column = self.color_box.column
            self.state.explore(layer, vectors)
            self._follow_volume()
            self.color_box.choose(column)
            self._color()
        text = f"{self.state.n:,} points with {request.choice.text}"
        if vectors.n_blank:
            text += (
                f"; {vectors.n_blank:,} of them without a vector, or with one "
                "that is not finite: nothing is found of these"
            )
        if vectors.extent is None:
            text += "; how large their crops were is not known, so that of the pictures is a guess"
        self._tell(text)
        self.explored.emit()

    def _go_to(self, row: int) -> None:
        """Have the viewer look at the point of a row."""
        if self.state.layer is not None:
            look_at(self.viewer, self.state.layer, row)

    def _report(self) -> None:
        column = self.labelling.labels.column
        with telling():
            self.reporter.ask(Shown.of(self.state, self.image_box.layer, column))

    def _color(self) -> None:
        if self.state.layer is not None:
            self.state.color_by(self.color_box.column)

    def _show_color(self) -> None:
        """Show by which column the points are coloured, wherever that was chosen."""
        if self.state.layer is not None:
            self.color_box.choose(self.state.color_column)
            self.gallery.label_column = self.state.color_column

    def _color_by_marks(self, column: str) -> None:
        """Colour by marks from the first of them on, unless one looks at something else."""
        if self.color_box.column is None:
            self.state.color_by(column)

    def _follow_volume(self) -> None:
        """Cut crops from the volume that is chosen now."""
        if self.is_released or self.state.vectors is None:
            return
        image = self.image_box.layer
        self._follow_limits(image)
        self.crops.follow(image, self.state.layer, self.state.vectors.extent)

    def _follow_limits(self, image: Image | None) -> None:
        if self._limits is not None:
            self._limits.events.contrast_limits.disconnect(self.gallery.repaint_soon)
        self._limits = image
        if image is not None:
            image.events.contrast_limits.connect(self.gallery.repaint_soon)

    def _on_rows(self) -> None:
        self.crops.forget()
        if self.state.layer is None:
            self._follow_limits(None)
            self.crops.follow(None, None, None)

    def _on_moved(self) -> None:
        self.crops.forget()
        self.gallery.repaint_soon()
        self._tell("points were moved: their vectors are still those of where they were")

    def _show_note(self) -> None:
        self.note.setText(sentence(self.crops.problem) if self.crops.problem else "")
        self.note.setVisible(bool(self.crops.problem))

    def _tell_selected(self) -> None:
        n = len(self.state.selected)
        if n > MOST_FRAMED:
            self._tell(f"{n:,} points are selected; the viewer frames {MOST_FRAMED:,} at most")

    def _tell(self, text: str) -> None:
        self.status.setText(sentence(text))

    def _on_failure(self, error: Exception) -> None:
        self.status.setText(sentence(str(expected(error))))
        tell(error)
