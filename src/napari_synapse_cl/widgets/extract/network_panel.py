"""Choose a network's layers: which there are is read from its file by another process."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHeaderView,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_synapse_cl.config import Config, is_url
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture, Layer, NetworkInfo
from napari_synapse_cl.system.downloads import in_full
from napari_synapse_cl.system.words import size
from napari_synapse_cl.widgets import base
from napari_synapse_cl.widgets.forms.form import Form
from napari_synapse_cl.widgets.jobs.child import NetworkReader
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.look import bare, button, expected, paragraph, sentence

COLUMNS = ("Layer", "Ch", "Map", "Sees")
MINIMUM_HEIGHT = 120
STYLE = """
QTreeView::indicator { border: 1px solid rgba(128, 128, 128, 180); border-radius: 2px; }
QTreeView::indicator:checked { background: #4e6fd9; }
"""
"""On dark themes napari's boxes to tick are as dark as what is around them."""

NO_NETWORK = "Layers of the default network; choose a checkpoint or a run."


class LayerTable(QTreeWidget):
    """A row for each layer of a network: what it is, how fine its map, how far it sees."""

    changed = Signal()
    """Emitted when other layers have been chosen."""

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


class NetworkPanel(QWidget):
    """The layers of the network that a form names, to tick.

    Parameters
    ----------
    form
        Has the settings checkpoint, network and crop_size.
    session
        That of the viewer; the layers are a setting of it.

    Attributes
    ----------
    table
        The layers.
    note
        Says which network they are of.
    """

    changed = Signal()
    """Emitted when another network is known."""

    def __init__(self, form: Form, session: Any) -> None:
        super().__init__()
        self._form = form
        self._settings = session.settings
        self._voxel_size: tuple[float, float, float] | None = None
        self.info: NetworkInfo | None = None
        self.table = LayerTable()
        self.note = paragraph(NO_NETWORK)
        self._process = NetworkReader()
        self._reader = LatestOnly(self._process.read)
        # With napari the widget is closed without a word.
        self.destroyed.connect(self._process.end)
        layout = bare(QVBoxLayout(self), 2)
        layout.addWidget(self.table, stretch=1)
        layout.addWidget(self.note)
        tip = "<qt>Choose the folder of a run, in place of a checkpoint file</qt>"
        self.run_button = button("Run …", tip, self._ask_run)
        form.editor("checkpoint").native.layout().addWidget(self.run_button)
        self._show()
        self.table.choose(self._settings["layer_num"])
        self._reader.done.connect(self._on_info)
        self._reader.failed.connect(self._on_no_info)
        self.table.changed.connect(self._keep_choice)
        self._settings.changed.connect(self._take_choice)
        for name in ("checkpoint", "network"):
            form.editor(name).changed.connect(self._on_network)
        form.editor("crop_size").changed.connect(self._show)

    @property
    def checkpoint(self) -> str | Path | None:
        """The file, its URL or the run folder that is filled in."""
        editor = self._form.editor("checkpoint")
        text = in_full(editor.line_edit.value.strip())
        if is_url(text):
            return str(text)
        return Path(editor.value) if text else None

    @property
    def chosen(self) -> tuple[int, ...]:
        """Indices of the layers that are ticked.

        Raises
        ------
        InputError
            If none is.
        """
        if not self.table.chosen:
            raise InputError("no layer is ticked: tick one or more in the list of layers")
        return self.table.chosen

    def require_checkpoint(self) -> str | Path:
        """Return the file or run folder that is filled in.

        Raises
        ------
        InputError
            If there is none.
        """
        if self.checkpoint is None:
            raise InputError("there is no checkpoint: choose the file of a network, or a run")
        return self.checkpoint

    def read_info(self, config: Config) -> NetworkInfo:
        """Return what there is to know of the network that settings name.

        For a worker, since it may have to be read first.
        """
        assert config.checkpoint is not None
        return self.info or NetworkReader().read(config.checkpoint, config.network)

    def release(self) -> None:
        """End the reading of a checkpoint that is under way."""
        self._reader.forget()
        self._process.end()

    def show_voxel_size(self, voxel_size: tuple[float, float, float] | None) -> None:
        """Show in nm how far layers see, on a volume of this voxel size."""
        if voxel_size != self._voxel_size:
            self._voxel_size = voxel_size
            self._show()

    def _ask_run(self) -> None:
        start = base.runs_folder()
        chosen = QFileDialog.getExistingDirectory(self, "Folder of a run", str(start))
        if chosen:
            self._form.editor("checkpoint").value = Path(chosen)

    def _on_network(self) -> None:
        self.info = None
        checkpoint = self.checkpoint
        if checkpoint is not None and (is_url(str(checkpoint)) or Path(checkpoint).exists()):
            self.note.setText("Looking into the checkpoint …")
            self._reader.ask(checkpoint, self._form.editor("network").value)
            return
        self._reader.forget()
        self._form.editor("network").native.setEnabled(True)
        self._show()

    def _on_info(self, info: NetworkInfo) -> None:
        self.info = info
        self._form.editor("network").native.setEnabled(len(info.networks) > 1)
        self._show()
        # Ticked before may be layers that the default network does not have.
        self.table.choose(self._settings["layer_num"])
        self.changed.emit()

    def _on_no_info(self, error: Exception) -> None:
        self.note.setText(sentence(str(expected(error))))

    def _show(self) -> None:
        info = self.info
        architecture = Architecture() if info is None else info.architecture
        trained = None if info is None else info.crop_size
        crop_size = self._crop_size() or trained or Config().crop_size
        voxel_size = self._voxel_size or (None if info is None else info.voxel_size)
        self.table.show_network(architecture, crop_size, voxel_size)
        if info is None:
            self.note.setText(NO_NETWORK)
        else:
            text = f"{len(architecture.layers)} layers"
            self.note.setText(
                f"{text}; trained on crops of {size(trained)} voxels." if trained else f"{text}."
            )

    def _crop_size(self) -> tuple[int, int, int] | None:
        """Return the size of the crops that is filled in, if it is a possible one."""
        try:
            config = Config.from_values({"crop_size": self._form.editor("crop_size").value.split()})
        except InputError:
            return None
        return config.crop_size

    def _keep_choice(self) -> None:
        if self.table.chosen:
            self._settings.set("layer_num", self.table.chosen)

    def _take_choice(self, name: str, value: Any) -> None:
        if name == "layer_num":
            self.table.choose(value)
