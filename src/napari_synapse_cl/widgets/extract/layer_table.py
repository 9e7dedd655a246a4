"""The layers of a network as a table, to tick."""

from collections.abc import Iterable, Sequence

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QHeaderView, QTreeWidget, QTreeWidgetItem

from napari_synapse_cl.models.architecture import Architecture, Layer
from napari_synapse_cl.system.words import size

COLUMNS = ("Network layer", "Ch", "Map", "Sees")
MOST_ROWS = 12
"""In sight at once; the others are scrolled to."""
STYLE = """
QTreeView::indicator { border: 1px solid rgba(128, 128, 128, 180); border-radius: 2px; }
QTreeView::indicator:checked { background: #4e6fd9; }
"""
"""On dark themes napari's boxes to tick are as dark as what is around them."""


class LayerTable(QTreeWidget):
    """A row for each layer of a network: what it is, how fine its map, how far it sees.

    In sight are the end of each stage and what is ticked, or all of them.
    """

    changed = Signal()
    """Emitted when other layers have been chosen."""

    def __init__(self) -> None:
        super().__init__()
        self._layers: tuple[Layer, ...] = ()
        self._ends: tuple[int, ...] = ()
        self._all = False
        self.setAccessibleName("Network layers")
        self.setHeaderLabels(COLUMNS)
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setStyleSheet(STYLE)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, tip in enumerate(
            (
                "Index into the network's features, and what it is: what a stage puts out at "
                "its end, or a part of it. Tick one or more.",
                "Channels: numbers it puts out for each element of its map",
                "Elements of its map of one crop",
                "Voxels that one element depends on: the receptive field",
            )
        ):
            self.headerItem().setToolTip(column, tip)
        self.itemChanged.connect(self._tell_change)

    @property
    def chosen(self) -> tuple[int, ...]:
        """Indices of the layers that are ticked."""
        rows = (self.topLevelItem(row) for row in range(self.topLevelItemCount()))
        return tuple(
            layer.index
            for layer, row in zip(self._layers, rows, strict=True)
            if row.checkState(0) == Qt.CheckState.Checked
        )

    def choose(self, indices: Iterable[int]) -> None:
        """Tick these layers alone, as far as the network has them, and show the first."""
        wanted = set(indices)
        before = self.chosen
        with QSignalBlocker(self):
            for layer in self._layers:
                item = self.topLevelItem(layer.index)
                state = Qt.CheckState.Checked if layer.index in wanted else Qt.CheckState.Unchecked
                item.setCheckState(0, state)
        self._show_rows()
        if self.chosen != before:
            self.changed.emit()

    def show_network(
        self,
        architecture: Architecture,
        crop_size: Sequence[int],
        voxel_size: Sequence[float] | None,
    ) -> None:
        """List the layers of a network; those that are ticked stay so, where there are as many.

        Parameters
        ----------
        crop_size
            Along z, y, x in voxels, for the size of the maps.
        voxel_size
            Along z, y, x in nm, or None where it is not known.
        """
        chosen = self.chosen
        with QSignalBlocker(self):
            if architecture.layers != self._layers:
                self.clear()
                self._layers, self._ends = architecture.layers, architecture.stage_ends
                self.addTopLevelItems([self._make_item(layer) for layer in self._layers])
            for layer in self._layers:
                self._describe(self.topLevelItem(layer.index), layer, crop_size, voxel_size)
        if self.chosen != chosen:
            self.choose(chosen)
        self._show_rows()

    def show_all(self, every: bool) -> None:
        """Show every layer, or the ends of stages and what is ticked."""
        self._all = every
        self._show_rows()

    def _make_item(self, layer: Layer) -> QTreeWidgetItem:
        name = f"{layer.index} · {layer.name}"
        if layer.index in self._ends:
            best = ", recommended" if layer.index == self._ends[-1] else ""
            name = f"{layer.index} · stage {self._ends.index(layer.index) + 1}{best}"
        item = QTreeWidgetItem([name, str(layer.channels)])
        item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
        item.setCheckState(0, Qt.CheckState.Unchecked)
        for column in range(1, len(COLUMNS)):
            item.setTextAlignment(
                column, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            )
        return item

    def _describe(
        self,
        item: QTreeWidgetItem,
        layer: Layer,
        crop_size: Sequence[int],
        voxel_size: Sequence[float] | None,
    ) -> None:
        elements = [n // s for n, s in zip(crop_size, layer.stride, strict=True)]
        item.setText(2, _short(elements))
        item.setText(3, _short(layer.receptive_field) + _in_nm(layer, voxel_size, " = "))
        sentence = (
            f"{layer} · map of {size(elements)} elements · sees "
            f"{_short(layer.receptive_field)} voxels{_in_nm(layer, voxel_size, ' = ')}"
        )
        for column in range(len(COLUMNS)):
            item.setToolTip(column, f"<qt>{sentence}</qt>")

    def _show_rows(self) -> None:
        chosen = self.chosen
        wanted = {layer.index for layer in self._layers} if self._all else {*self._ends, *chosen}
        for layer in self._layers:
            self.topLevelItem(layer.index).setHidden(layer.index not in wanted)
        # Just as high as its rows: what is below it comes near, and nothing scrolls in vain.
        row = self.sizeHintForRow(self._ends[0]) if self._ends else 0
        rows = row * min(len(wanted), MOST_ROWS)
        self.setFixedHeight(self.header().sizeHint().height() + rows + 2 * self.frameWidth())
        if chosen:
            self.scrollToItem(self.topLevelItem(chosen[0]), QTreeWidget.ScrollHint.PositionAtCenter)

    def _tell_change(self, item: QTreeWidgetItem, column: int) -> None:
        self.changed.emit()


def _short(lengths: Sequence[int]) -> str:
    """Return a size in few characters: "20³", "16×40×40"."""
    if len(set(lengths)) == 1:
        return f"{lengths[0]}³" if lengths else ""
    return "×".join(map(str, lengths))


def _in_nm(layer: Layer, voxel_size: Sequence[float] | None, before: str) -> str:
    """Return the receptive field in nm, empty where voxels have no known size."""
    if voxel_size is None:
        return ""
    lengths = [n * s for n, s in zip(layer.receptive_field, voxel_size, strict=True)]
    if max(lengths) - min(lengths) < 0.5:
        return f"{before}{lengths[0]:.0f} nm"
    return before + "×".join(f"{length:.0f}" for length in lengths) + " nm"
