"""Choose a network's layers: which there are is read from its file by another process."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QVBoxLayout,
    QWidget,
)

from napari_synapse_cl.config import Config, is_url
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture, NetworkInfo
from napari_synapse_cl.system.downloads import in_full, packaged
from napari_synapse_cl.system.words import size
from napari_synapse_cl.widgets.extract.layer_table import LayerTable
from napari_synapse_cl.widgets.forms.form import Form
from napari_synapse_cl.widgets.jobs.child import NetworkReader
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import button, expected, paragraph, sentence

NO_NETWORK = "Choose a checkpoint or a run, or take the network that comes with the program."
ALL = "All {} layers of the network"


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
        The layers; not in sight before a network is known.
    all_box
        Ticked where every layer is in sight.
    note
        Says how the network was trained, or that there is none.
    packaged_buttons
        Take a network that comes with the program, where there is none yet.
    """

    changed = Signal()
    """Emitted when another network is known."""

    def __init__(self, form: Form, session: Any) -> None:
        super().__init__()
        self._form = form
        self._settings = session.settings
        self._voxel_size: tuple[float, float, float] | None = None
        self.info: NetworkInfo | None = None
        self._awaiting: Callable[[], Any] | None = None
        self.table = LayerTable()
        self.all_box = QCheckBox()
        self.all_box.setToolTip(
            "<qt>Also those between the ends of the stages. On tissue that no network was trained "
            "on, the end of the last stage told most.</qt>"
        )
        self.all_box.toggled.connect(self.table.show_all)
        self.note = paragraph()
        self.packaged_buttons = [
            button(f"Use {name}", "", partial(self._take_packaged, name)) for name in packaged()
        ]
        self._process = NetworkReader()
        self._reader = LatestOnly(self._process.read)
        # With napari the widget is closed without a word.
        self.destroyed.connect(self._process.end)
        layout = bare(QVBoxLayout(self), 2)
        for one in (self.table, self.all_box, self.note, *self.packaged_buttons):
            layout.addWidget(one)
        layout.addStretch(1)
        tip = "<qt>Choose a run in the table of runs, in place of a checkpoint file</qt>"
        self.run_button = button("Runs …", tip)
        checkpoint = form.editor("checkpoint")
        checkpoint.native.layout().addWidget(self.run_button)
        # What comes late would be reached last by Tab.
        form.setTabOrder(checkpoint.choose_btn.native, self.run_button)
        self._show()
        self.table.choose(self._wanted(Architecture()))
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
            raise InputError("no network layer is ticked: tick one or more in their list")
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

    def when_known(self, act: Callable[[], Any]) -> None:
        """Call what needs the network's layers once these are known, unless it is changed first."""
        if self.info is not None:
            act()
        else:
            self._awaiting = act

    def release(self) -> None:
        """End the reading of a checkpoint that is under way."""
        self._reader.forget()
        self._process.end()

    def show_voxel_size(self, voxel_size: tuple[float, float, float] | None) -> None:
        """Show in nm how far layers see, on a volume of this voxel size."""
        if voxel_size != self._voxel_size:
            self._voxel_size = voxel_size
            self._show()

    def _take_packaged(self, name: str, checked: bool = False) -> None:
        self._form.editor("checkpoint").line_edit.value = name

    def _on_network(self) -> None:
        self.info = self._awaiting = None
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
        chosen = self._wanted(info.architecture)
        self._show()
        # Ticked before may be layers that the default network does not have.
        self.table.choose(chosen)
        self.changed.emit()
        act, self._awaiting = self._awaiting, None
        if act is not None:
            act()

    def _wanted(self, architecture: Architecture) -> tuple[int, ...]:
        """Return the layers that someone has chosen, else what is recommended."""
        known = self._settings.is_set("layer_num")
        return self._settings["layer_num"] if known else architecture.stage_ends[-1:]

    def _on_no_info(self, error: Exception) -> None:
        self.note.setText(sentence(str(expected(error))))

    def _show(self) -> None:
        info = self.info
        architecture = Architecture() if info is None else info.architecture
        trained = None if info is None else info.crop_size
        crop_size = self._crop_size() or trained or Config().crop_size
        voxel_size = self._voxel_size or (None if info is None else info.voxel_size)
        self.table.show_network(architecture, crop_size, voxel_size)
        self.all_box.setText(ALL.format(len(architecture.layers)))
        self.table.setVisible(info is not None)
        self.all_box.setVisible(info is not None)
        if info is None:
            self.note.setText(NO_NETWORK)
        else:
            self.note.setText(f"Trained on crops of {size(trained)} voxels." if trained else "")
        for one in self.packaged_buttons:
            one.setVisible(info is None)
        self.note.setVisible(bool(self.note.text()))

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
