"""The tools above the gallery, each in a tab, and the keys of the gallery that use them."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Signal

from napari_synapse_cl.widgets.explore.cluster_panel import ClusterPanel
from napari_synapse_cl.widgets.explore.controls import Tools
from napari_synapse_cl.widgets.explore.gallery.gallery import Gallery
from napari_synapse_cl.widgets.explore.labelling.label_panel import LabelPanel
from napari_synapse_cl.widgets.explore.labelling.marks import Marks
from napari_synapse_cl.widgets.explore.odd_panel import OddPanel
from napari_synapse_cl.widgets.explore.place import PlaceReader
from napari_synapse_cl.widgets.explore.similar import SimilarPanel
from napari_synapse_cl.widgets.explore.state import Exploration


class Panels(Tools):
    """All tools of an exploration.

    Attributes
    ----------
    similar, clusters, labelling, odd
        Their pages.
    """

    told = Signal(str)
    """Emitted with what happened in one of them, in words."""
    marked = Signal(str)
    """Emitted with the name of a column that a person has just filled in."""
    clustered = Signal(str)
    """Emitted with the name of a column with new clusters."""

    def __init__(self, state: Exploration, gallery: Gallery, places: PlaceReader) -> None:
        super().__init__()
        self._state, self._gallery = state, gallery
        self.similar = SimilarPanel(state, places)
        self.clusters = ClusterPanel(state)
        self.labelling = LabelPanel(state)
        self.odd = OddPanel(state)
        self._all = (self.similar, self.clusters, self.labelling, self.odd)
        self.add("Similar", self.similar, "Find what is like some")
        self.add("Clusters", self.clusters, "Find clusters, and look at what they are")
        self.add("Label", self.labelling, "Label some, and have the rest predicted")
        self.add("Odd", self.odd, "Find what is odd, and strike out what is wrong")
        for panel in self._all:
            panel.told.connect(self.told)
        for marks in (self.labelling.labels, self.odd.struck):
            marks.changed.connect(partial(self._on_marks, marks))
        self.clusters.written.connect(self.clustered)
        self.labelling.labelled.connect(self._go_on)
        self.odd.struck_one.connect(self._go_on)
        self.odd.struck.changed.connect(self._cross_out)
        gallery.digit_pressed.connect(self._on_digit)
        gallery.strike_pressed.connect(self._on_strike)
        gallery.undo_pressed.connect(lambda: self._marks.undo())
        gallery.redo_pressed.connect(lambda: self._marks.redo())

    def release(self) -> None:
        """Look for nothing any more."""
        for panel in self._all:
            panel.release()

    @property
    def _marks(self) -> Marks:
        """What is undone in the gallery: what the tool in front gives."""
        return self.odd.struck if self.page is self.odd else self.labelling.labels

    def _on_marks(self, marks: Marks) -> None:
        if marks.can_undo and marks.column in self._state.column_names:
            self.marked.emit(marks.column)

    def _on_digit(self, digit: int) -> None:
        self.show_page(self.labelling)
        self.labelling.press(digit)

    def _on_strike(self) -> None:
        self.show_page(self.odd)
        self.odd.strike()

    def _cross_out(self) -> None:
        self._gallery.struck_out = self.odd.struck.values
        self._gallery.repaint_soon()

    def _go_on(self) -> None:
        """Select what comes next, when one crop was marked."""
        if len(self._state.selected) == 1:
            self._gallery.go_on()
