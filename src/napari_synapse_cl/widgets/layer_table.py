"""The layers of a network, of which some are chosen."""

from collections.abc import Iterable, Sequence

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QHeaderView, QTreeWidget, QTreeWidgetItem

from napari_synapse_cl.models.architecture import Architecture, Layer
from napari_synapse_cl.words import size

COLUMNS = ("Layer", "Ch", "Map", "Sees")
MINIMUM_HEIGHT = 120
STYLE = """
QTreeView::indicator { border: 1px solid rgba(128, 128, 128, 180); border-radius: 2px; }
QTreeView::indicator:checked { background: #4e6fd9; }
"""
"""On dark themes napari's boxes to tick are as dark as what is around them."""


class LayerTable(QTreeWidget):
    """A row for each layer of a network: what it is, how fine its map, how far each element sees.

    Attributes
    ----------
    changed
        Emitted when other layers have been chosen.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._layers: tuple[Layer, ...] = ()
        self.setHeaderLabels(COLUMNS)
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setMinimumHeight(MINIMUM_HEIGHT)
        self.setStyleSheet(STYLE)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, tip in enumerate(
            (
                "Index into the network's features, and what the layer is. Tick one or more.",
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
        self._show_first_chosen()
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
        architecture
            That of the network.
        crop_size
            Along z, y, x in voxels, for the size of the maps.
        voxel_size
            Along z, y, x in nm, or None where it is not known.
        """
        chosen = self.chosen
        with QSignalBlocker(self):
            if architecture.layers != self._layers:
                self.clear()
                self._layers = architecture.layers
                self.addTopLevelItems([self._make_item(layer) for layer in self._layers])
            for layer in self._layers:
                self._describe(self.topLevelItem(layer.index), layer, crop_size, voxel_size)
        if self.chosen != chosen:
            self.choose(chosen)

    def _make_item(self, layer: Layer) -> QTreeWidgetItem:
        item = QTreeWidgetItem([f"{layer.index} · {layer.name}", str(layer.channels)])
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

    def _show_first_chosen(self) -> None:
        chosen = self.chosen
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
