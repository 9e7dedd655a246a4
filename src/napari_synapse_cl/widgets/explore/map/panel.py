"""The map of what is explored: its choice, its colours, its tools and kept selections."""

import html
from typing import Any

import numpy as np
from qtpy.QtWidgets import QButtonGroup, QComboBox, QWidget

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets.base import Yielding
from napari_synapse_cl.widgets.button_rows import GAP, Buttons
from napari_synapse_cl.widgets.explore.controls import ColumnChoice
from napari_synapse_cl.widgets.explore.map.canvas import MapCanvas, Mode, changed
from napari_synapse_cl.widgets.explore.map.kept_selections import KeptSelections
from napari_synapse_cl.widgets.explore.map.legend import MapLegend
from napari_synapse_cl.widgets.explore.map.projection import Kind, Projection, Projector
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import button, paragraph, tell

MAPS: dict[str, Kind] = {
    "Principal components": "components",
    "UMAP of all": "umap",
    "UMAP of the selected": "umap of selected",
}
TOOLS: dict[str, tuple[Mode, str]] = {
    "Move": ("move", "Drag the map"),
    "Lasso": ("lasso", "Select what is surrounded"),
    "Rectangle": ("rectangle", "Select what is inside a rectangle"),
    "Click": ("click", "Select the nearest point"),
}
KEYS = "Shift adds to what is selected, Alt or Ctrl takes away. The wheel zooms."


class MapPanel(QWidget):
    """A map of vectors; what is selected and coloured in it is so in the viewer too.

    Parameters
    ----------
    viewer
        Its theme gives the colours.
    exploration
        What is explored.

    Attributes
    ----------
    canvas
        The map.
    map_box, color_box
        Which map, and the column that colours stand for.
    stop_button
        Ends a UMAP.
    tool_buttons, fit_button
        What the mouse does, by name; and show all.
    status, legend, kept
        What is shown, what colours mean, and selections under names.
    """

    def __init__(self, viewer: Any, exploration: Exploration) -> None:
        super().__init__()
        self._exploration = exploration
        self._shown: Projection | None = None
        self.canvas = MapCanvas(viewer)
        self._projector = Projector(exploration)
        self.map_box = QComboBox()
        self.color_box = ColumnChoice(exploration, "Colours of the layer", "Colour by")
        self.map_box.addItems(list(MAPS))
        self.map_box.setToolTip(
            "<qt>Principal components are there at once. UMAP keeps near vectors near each other, "
            "but distances between groups mean little; it takes seconds to hours.</qt>"
        )
        self.color_box.setToolTip("The column that colours stand for, here and in the viewer")
        self.stop_button = button("Stop", "End the UMAP; the map that is shown stays", self._stop)
        self.stop_button.setEnabled(False)
        self.tool_buttons = {
            name: button(name, f"<qt>{tip}. {KEYS}</qt>") for name, (_, tip) in TOOLS.items()
        }
        self._tools = QButtonGroup(self)
        for one in self.tool_buttons.values():
            one.setCheckable(True)
            self._tools.addButton(one)
        self.tool_buttons["Move"].setChecked(True)
        self.fit_button = button("Fit", "Show all points", self.canvas.fit)
        self.status = paragraph()
        self.legend, self.kept = MapLegend(exploration), KeptSelections(exploration)
        self._lay_out()
        self._connect()
        self._on_rows()

    @property
    def projection(self) -> Projection | None:
        """The map that is shown."""
        return self._shown

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        self.canvas.follow_theme()

    def release(self) -> None:
        """End what runs, when the dock is closed."""
        self._projector.stop()
        self.canvas.release()

    def _lay_out(self) -> None:
        self.map_box.setAccessibleName("Map")
        self.color_box.setAccessibleName("Colour of the map")
        layout = bare(Yielding(self), GAP)
        layout.addWidget(Buttons((self.map_box, self.color_box, self.stop_button)))
        layout.addWidget(Buttons((*self.tool_buttons.values(), None, self.fit_button)))
        layout.addWidget(self.canvas, stretch=1)
        layout.addWidget(self.status)
        layout.addWidget(self.legend)
        layout.addWidget(self.kept)

    def _connect(self) -> None:
        state = self._exploration
        state.rows_changed.connect(self._on_rows)
        state.selected_changed.connect(self._on_selection)
        state.colors_changed.connect(self._on_colors)
        self.map_box.activated.connect(self._on_map)
        self.color_box.chosen.connect(self._on_column)
        for name, (mode, _) in TOOLS.items():
            self.tool_buttons[name].toggled.connect(
                lambda on, mode=mode: self.canvas.set_mode(mode) if on else None
            )
        self.canvas.picked.connect(self._on_pick)
        self.canvas.hovered.connect(self._describe)
        self.canvas.drawn.connect(lambda: self._describe(-1))
        self._projector.made.connect(self._show)
        self._projector.failed.connect(self._on_failure)
        self._projector.told.connect(self.status.setText)
        # With napari the panel is closed without a word.
        self.destroyed.connect(self._projector.stop)

    def _on_rows(self) -> None:
        """Show a map of other rows; points that are left stay where they are."""
        state, shown = self._exploration, self._shown
        if state.vectors is None:
            self._projector.stop()
            self._shown = None
            self._place(np.empty((0, 2), np.float32))
            self.canvas.set_message("Nothing is explored.")
        elif shown is not None and state.rows_before is not None:
            before = state.rows_before
            positions = np.full((state.n, 2), np.nan, np.float32)
            positions[before >= 0] = shown.positions[before[before >= 0]]
            self._shown = Projection(shown.kind, positions, shown.text, state.vectors)
            self._place(positions)
        else:
            self._shown = None
            self._place(np.empty((0, 2), np.float32))
            self._ask("components")

    def _ask(self, kind: Kind) -> None:
        try:
            self._projector.ask(kind)
        except InputError as error:
            self._on_failure(error)
        self._update()

    def _on_map(self) -> None:
        self._ask(MAPS[self.map_box.currentText()])

    def _stop(self) -> None:
        self._projector.stop()
        self._update()

    def _show(self, projection: Projection) -> None:
        self._shown = projection
        self._place(projection.positions)
        self._update()

    def _on_failure(self, error: Exception) -> None:
        tell(error)
        self._update()

    def _place(self, positions: np.ndarray) -> None:
        state = self._exploration
        self.canvas.set_positions(positions)
        if len(positions) == state.n:
            self.canvas.set_selected(state.selected)
            self._on_colors()

    def _on_colors(self) -> None:
        state = self._exploration
        self.color_box.choose(state.color_column)
        if self._shown is not None and len(self._shown.positions) == state.n:
            self.canvas.set_colors(state.colors)
            self.canvas.set_visible(state.visible)

    def _on_selection(self) -> None:
        state = self._exploration
        if self._shown is not None and len(self._shown.positions) == state.n:
            self.canvas.set_selected(state.selected)

    def _on_pick(self, rows: np.ndarray, change: str) -> None:
        self._exploration.select(changed(self._exploration.selected, rows, change))

    def _on_column(self) -> None:
        self._exploration.color_by(self.color_box.column)

    def _update(self) -> None:
        """Show which map there is, and whether another is made."""
        is_busy = self._projector.is_busy_with_umap
        self.stop_button.setEnabled(is_busy)
        if not is_busy and self._shown is not None:
            kinds = list(MAPS.values())
            self.map_box.setCurrentIndex(kinds.index(self._shown.kind))
        if self._shown is None:
            self.canvas.set_message("The map is being made …")
        elif not np.isfinite(self._shown.positions).any():
            self.canvas.set_message("No point has a vector.")
        self._describe(-1)

    def _describe(self, row: int) -> None:
        """Say what is shown, or what the mouse points at."""
        picture, state = self.canvas.picture, self._exploration
        if self._projector.is_busy_with_umap or picture is None or self._shown is None:
            return
        if row >= 0:
            column = state.color_column
            text = f"Row {row}"
            if column is not None:
                text += f" · {column}: {state.column(column).iloc[row]}"
        else:
            text = f"{self._shown.text} · {picture.n_in_sight:,} of {state.n:,} in sight"
            if picture.is_density:
                text += ", as their density"
            n_without = int(np.isnan(self._shown.positions[:, 0]).sum())
            if n_without:
                text += f" · {n_without:,} are not in this map"
        self.status.setText(f"<small>{html.escape(text)}</small>")
