"""The dock widget that opens volumes, the positions of their synapses, and labels."""

import html
from typing import Any

from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_synapse_cl.config import Config, VolumeConfig
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.widgets.base import DockWidget
from napari_synapse_cl.widgets.forms.form import LABEL_WIDTH, Form, empty_rows, tooltip_of
from napari_synapse_cl.widgets.jobs.job import JobWorker
from napari_synapse_cl.widgets.layers.boxes import VolumePair
from napari_synapse_cl.widgets.look import (
    MARK,
    MARK_COLOR,
    OPEN,
    FittingArea,
    bare,
    button,
    paragraph,
    sentence,
    tell,
)
from napari_synapse_cl.widgets.open_data.jobs import Opened, OpenJob, is_dataset
from napari_synapse_cl.widgets.open_data.layers import in_words, layers_of

LOOK_DELAY_MS = 300
"""What is typed is looked at when no key has been pressed for so long."""
IN_FORM = ("voxel_size", "position_columns", "position_unit", "position_voxel_size")
DATASET_NOTE = (
    "A dataset: it says itself which volumes, tables and labels belong together. Voxel size and "
    "how positions are written hold where it does not say them."
)


class LocationEdit(QWidget):
    """A line to type into, and buttons for a file and, where that is possible, a folder.

    Parameters
    ----------
    placeholder
        What stands in the field when it is empty.
    title
        Title of the file dialogs.
    folders
        Whether it may be a folder too.

    Attributes
    ----------
    line, file_button, folder_button
        Its parts.
    """

    changed = Signal()
    """Emitted when something else stands in the field."""

    def __init__(self, placeholder: str, title: str, *, folders: bool) -> None:
        super().__init__()
        self._title = title
        self.line = QLineEdit()
        self.line.setPlaceholderText(placeholder)
        self.line.textChanged.connect(self._tell_change)
        self.file_button = button("File …", clicked=self._choose_file)
        self.folder_button = button("Folder …", clicked=self._choose_folder)
        row = bare(QHBoxLayout(self), 2)
        row.addWidget(self.line, stretch=1)
        row.addWidget(self.file_button)
        row.addWidget(self.folder_button)
        self.folder_button.setVisible(folders)

    @property
    def text(self) -> str:
        """What stands in the field, without spaces around it."""
        return self.line.text().strip()

    def _choose_file(self) -> None:
        self._take(QFileDialog.getOpenFileName(self, self._title, self.text)[0])

    def _choose_folder(self) -> None:
        self._take(QFileDialog.getExistingDirectory(self, self._title, self.text))

    def _take(self, path: str) -> None:
        # Empty where the dialog was cancelled.
        if path:
            self.line.setText(path)

    def _tell_change(self) -> None:
        self.changed.emit()


class OpenWidget(DockWidget):
    """Opens data of any supported format as layers.

    Attributes
    ----------
    volume, synapses, labels, segmentation
        Fields for paths and URLs.
    form
        How voxels and positions are to be read.
    open_button, cancel_button, note, status
        Its other parts.
    """

    menu_name = OPEN

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._worker: JobWorker | None = None
        self.volume = LocationEdit("path or URL", "Open a volume or a dataset", folders=True)
        self.synapses = LocationEdit("none", "Open positions of synapses", folders=False)
        self.labels = LocationEdit("none", "Open labels of structures", folders=True)
        self.segmentation = LocationEdit("none", "Open labels of cells", folders=True)
        self.form = Form(
            IN_FORM[:1],
            {"How positions are written": IN_FORM[1:]},
            {
                "voxel_size": "as the file says",
                "position_columns": "as their names say",
                "position_voxel_size": "that of the volume",
            },
        )
        self.note = paragraph(DATASET_NOTE)
        self.note.hide()
        self.open_button = button("Open", clicked=self.open)
        self.cancel_button = button("Cancel", clicked=self.cancel)
        self.status = paragraph(selectable=True)
        self._timer = QTimer(self, singleShot=True, interval=LOOK_DELAY_MS, timeout=self._look)
        self.volume.changed.connect(self._timer.start)
        self._lay_out()
        for line in self.findChildren(QLineEdit):
            line.returnPressed.connect(self.open)
        self._update()

    @property
    def is_busy(self) -> bool:
        """Whether something is being opened."""
        return self._worker is not None

    def open(self) -> None:
        """Open what the fields name, or say why that cannot be."""
        if self.is_busy:
            return
        self._look()
        try:
            job = OpenJob(self._what())
        except InputError as error:
            self._on_error(error)
            return
        worker = JobWorker(job)
        worker.yielded.connect(self._on_event)
        worker.errored.connect(self._on_error)
        worker.finished.connect(self._on_finished)
        self.destroyed.connect(job.end_soon)
        self._worker = worker
        self.status.setText("Opening …")
        self._update()
        worker.start()

    def cancel(self) -> None:
        """Wait no longer for what is being opened; nothing of it is added."""
        worker = self._worker
        if worker is None:
            return
        # A server may answer late, and it may be to another question by then.
        worker.yielded.disconnect(self._on_event)
        worker.errored.disconnect(self._on_error)
        worker.finished.disconnect(self._on_finished)
        worker.quit()
        self._worker = None
        self.status.setText("Cancelled: nothing was opened.")
        self._update()

    def release(self) -> None:
        """Wait no longer, with the dock closed."""
        self.cancel()

    def _lay_out(self) -> None:
        self._labels_group = QCollapsible("Labels", expandedIcon="▾", collapsedIcon="▸")
        self._labels_group.setDuration(0)
        self._labels_group.layout().setContentsMargins(0, 0, 0, 0)
        self._labels_group.addWidget(
            _rows(
                ("Structures", "labels", self.labels),
                ("Cells", "segmentation", self.segmentation),
            )
        )
        fields = QWidget()
        inside = bare(QVBoxLayout(fields), 3)
        inside.addWidget(_rows(("Volume", "image", self.volume)))
        self._synapses_row = _rows(("Synapses", "synapses", self.synapses))
        inside.addWidget(self._synapses_row)
        inside.addWidget(self.form)
        inside.addWidget(self._labels_group)
        buttons = QHBoxLayout()
        buttons.addWidget(self.open_button)
        buttons.addWidget(self.cancel_button)
        body = self.body
        body.addWidget(FittingArea(fields))
        # Within, its lines would not be counted: a scroll area asks for no height for a width.
        body.addWidget(self.note)
        body.addLayout(buttons)
        body.addWidget(self.status)
        body.addStretch()

    def _what(self) -> VolumeConfig:
        if not self.volume.text:
            raise InputError("no volume is named: type its path or URL, or choose a file")
        filled_in = self.form.config()
        values: dict[str, Any] = filled_in.model_dump(include=set(IN_FORM), exclude_unset=True)
        if is_dataset(self.volume.text):
            return Config.from_values({**values, "dataset": self.volume.text})
        for name in ("synapses", "labels", "segmentation"):
            text = getattr(self, name).text
            values[name] = text or None
        return VolumeConfig.model_validate({**values, "image": self.volume.text})

    def _look(self) -> None:
        """Recognise a dataset."""
        self._timer.stop()
        found = is_dataset(self.volume.text)
        self.note.setVisible(found)
        for part in (self._synapses_row, self._labels_group):
            part.setEnabled(not found)

    def _on_event(self, event: Any) -> None:
        if isinstance(event, str):
            self.status.setText(event)
            return
        added: list[dict[str, Any]] = []
        before = list(self.viewer.layers)
        try:
            for opened in event:
                added.append({})
                self._add(opened, added[-1], visible=len(added) == 1)
        except (InputError, JobError) as error:
            # One that cannot be drawn is in the list too.
            for layer in [layer for layer in self.viewer.layers if layer not in before]:
                self.viewer.layers.remove(layer)
            self._on_error(error)
            return
        if not before:
            first = added[0]["image"]
            self.viewer.dims.set_point(0, first.data_to_world((event[0].depth, 0, 0))[0])
        said = [told for opened in event for told in in_words(opened)]
        if len(event) > 1:
            for layers in added:
                self.session.volumes.add(VolumePair(layers["image"], layers["synapses"]))
            said.append((f"All {len(event)} volumes are listed for a training", "info"))
        self._tell(said)

    def _add(self, opened: Opened, layers: dict[str, Any], *, visible: bool) -> None:
        """Add the layers of a volume to the viewer, and to a dictionary by what they are."""
        for name, (data, keywords, kind) in layers_of(opened).items():
            layer = Layer.create(data, {**keywords, "visible": visible}, kind)
            layers[name] = self.viewer.add_layer(layer)
            if kind == "labels":
                layer.editable = False
                self.session.volumes.choose_labels(layers["image"], name, layer)

    def _tell(self, said: list[tuple[str, Level]]) -> None:
        lines = []
        for text, level in said:
            # Names that stand first keep their small letters.
            line = html.escape(text[0] + sentence(text)[1:])
            is_warning = level == "warning"
            lines.append(
                f"<span style='color:{MARK_COLOR}'>{MARK}{line}</span>" if is_warning else line
            )
        self.status.setText("<br>".join(lines))

    def _on_error(self, error: Exception) -> None:
        if not isinstance(error, InputError | JobError):
            self.status.setText("What was to be opened ended with an unexpected error.")
            # napari shows it with its traceback.
            raise error
        text = sentence(str(error))
        tell(type(error)(text))
        self._tell([(text, "warning")])

    def _on_finished(self) -> None:
        self._worker = None
        self._update()

    def _update(self) -> None:
        self.open_button.setEnabled(not self.is_busy)
        self.cancel_button.setEnabled(self.is_busy)


def _rows(*fields: tuple[str, str, LocationEdit]) -> QWidget:
    """Return labelled fields: what stands before each, its setting, and the field."""
    rows, layout = empty_rows()
    for text, name, field in fields:
        label = QLabel(text)
        label.setMinimumWidth(LABEL_WIDTH)
        for widget in (label, field.line):
            widget.setToolTip(tooltip_of(Config.model_fields[name]))
        layout.addRow(label, field)
    return rows
