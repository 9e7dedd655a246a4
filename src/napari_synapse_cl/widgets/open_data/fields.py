"""The fields of "Open data": what is to be opened, and how it is to be read."""

from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QStyle,
    QVBoxLayout,
    QWidget,
)

from napari_synapse_cl.config import Config, VolumeConfig, absolute
from napari_synapse_cl.data.opening import TABLES
from napari_synapse_cl.data.volumes import FILE_SUFFIXES
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets.forms.form import Form, tooltip_of
from napari_synapse_cl.widgets.layers.parts import whole_of
from napari_synapse_cl.widgets.layouts import FittingArea, Group, Rows, bare
from napari_synapse_cl.widgets.look import LABEL_WIDTH, MARK, button, label_of, paragraph, sentence
from napari_synapse_cl.widgets.open_data.jobs import is_dataset
from napari_synapse_cl.widgets.open_data.sessions import Use

LOOK_DELAY_MS = 300
"""What is typed is looked at when no key has been pressed for so long."""
IN_FORM = ("voxel_size", "position_columns", "position_unit", "position_voxel_size")
UNIT = "position_unit"
SWAPPED = "the volume and the table of synapses seem to stand in each other's fields"
DATASET_NOTE = (
    "A dataset: it says itself which volumes, tables and labels belong together. Voxel size and "
    "how positions are written hold where it does not say them."
)
OF_VOLUMES = (*FILE_SUFFIXES, ".zarr", ".n5")


class LocationEdit(QWidget):
    """A line to type into, and buttons for a file and, where that is possible, a folder.

    Parameters
    ----------
    name
        What stands before it.
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
    told = Signal(str)
    """Emitted with what to tell of what was chosen."""

    def __init__(self, name: str, placeholder: str, title: str, *, folders: bool = True) -> None:
        super().__init__()
        self.name = name
        self._title = title
        self.line = QLineEdit()
        self.line.setAccessibleName(name)
        self.line.setPlaceholderText(placeholder)
        self.line.textChanged.connect(self._tell_change)
        self.file_button = self._button("a file", "SP_FileIcon", self._choose_file)
        self.folder_button = self._button("a folder", "SP_DirIcon", self._choose_folder)
        row = bare(QHBoxLayout(self), 2)
        row.addWidget(self.line, stretch=1)
        row.addWidget(self.file_button)
        row.addWidget(self.folder_button)
        self.folder_button.setVisible(folders)

    def _button(self, what: str, icon: str, clicked: Callable[[], None]) -> QPushButton:
        """Return a button to choose with; in words it would leave no room for the path."""
        made = button("", f"Choose {what} …", clicked)
        made.setIcon(self.style().standardIcon(QStyle.StandardPixmap[icon]))
        made.setAccessibleName(f"{self.name}: choose {what}")
        return made

    @property
    def text(self) -> str:
        """What stands in the field, without spaces around it."""
        return self.line.text().strip()

    @text.setter
    def text(self, text: str) -> None:
        self.line.setText(text)

    def _choose_file(self) -> None:
        self._take(QFileDialog.getOpenFileName(self, self._title, self.text)[0])

    def _choose_folder(self) -> None:
        self._take(QFileDialog.getExistingDirectory(self, self._title, self.text))

    def _take(self, path: str) -> None:
        # Empty where the dialog was cancelled.
        if path:
            whole, text = whole_of(Path(path))
            self.text = str(whole)
            self.told.emit(text)

    def _tell_change(self) -> None:
        self.changed.emit()


class Offer(QWidget):
    """A sentence and a button that does what it offers; not there while there is nothing to offer.

    Parameters
    ----------
    answer
        What stands on the button.
    accept
        Is called when it is clicked.

    Attributes
    ----------
    label, button
        Its parts.
    """

    def __init__(self, answer: str, accept: Callable[[], Any]) -> None:
        super().__init__()
        self.label = paragraph()
        self.label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.button = button(answer, clicked=lambda: accept())
        row = bare(QHBoxLayout(self), 4)
        row.addWidget(self.label, stretch=1)
        row.addWidget(self.button)
        self.make("")

    def make(self, text: str) -> None:
        """Offer something else, or nothing: an empty text."""
        self.label.setText(text)
        self.button.setAccessibleDescription(text)
        self.setVisible(bool(text))


class Fields(QWidget):
    """What is to be opened, with a note where it is a dataset, and an offer where it is swapped.

    Attributes
    ----------
    places
        Fields for paths and URLs, by the names of their settings.
    form
        How voxels and positions are to be read.
    swap_offer, note
        Its other parts.
    """

    entered = Signal()
    """Emitted when Return is pressed in a field."""

    def __init__(self) -> None:
        super().__init__()
        self.places = {
            "image": LocationEdit("Volume", "path or URL", "Open a volume or a dataset"),
            "synapses": LocationEdit(
                "Synapses", "none", "Open positions of synapses", folders=False
            ),
        }
        self.swap_offer = Offer("Swap", self.swap)
        self.form = Form(
            IN_FORM[:1],
            {"Reading positions": IN_FORM[1:]},
            {
                "voxel_size": "as the file says",
                "position_columns": "as their names say",
                "position_voxel_size": "that of the volume",
            },
        )
        for name in IN_FORM:
            self.form.editor(name).native.setAccessibleName(label_of(name))
        self._labels = {
            "labels": LocationEdit("Structures", "none", "Open labels of structures"),
            "segmentation": LocationEdit("Cells", "none", "Open labels of cells"),
        }
        self.note = paragraph(DATASET_NOTE)
        self.note.hide()
        self._timer = QTimer(self, singleShot=True, interval=LOOK_DELAY_MS, timeout=self.look)
        self._lay_out()
        self.places |= self._labels
        for place in self.places.values():
            place.changed.connect(self._timer.start)
        for line in self.findChildren(QLineEdit):
            line.returnPressed.connect(self.entered)

    @property
    def what(self) -> VolumeConfig:
        """What is to be opened; settings of a run to name a dataset.

        Raises
        ------
        InputError
            If no volume is named, or a field cannot be used.
        """
        self.look()
        texts = {name: place.text or None for name, place in self.places.items()}
        if not texts["image"]:
            raise InputError("no volume is named: type its path or URL, or choose a file")
        if self._are_swapped():
            raise InputError(f"{SWAPPED}: swap them")
        values = self.form.config().model_dump(include=set(IN_FORM), exclude_unset=True)
        if is_dataset(texts["image"]):
            return Config.from_values({**values, "dataset": texts["image"]})
        return VolumeConfig.model_validate({**values, **texts})

    @property
    def use(self) -> Use:
        """What stands in the fields, for another time."""
        places = {name: p.text and absolute(p.text) for name, p in self.places.items()}
        values = {name: str(self.form.editor(name).value) for name in IN_FORM}
        return {name: text for name, text in {**places, **values}.items() if text}

    @use.setter
    def use(self, use: Use) -> None:
        for name, place in self.places.items():
            place.text = use.get(name, "")
        for name in IN_FORM:
            self.form.editor(name).value = use.get(name, "auto" if name == UNIT else "")
        self.look()

    def swap(self) -> None:
        """Put what stands under Volume under Synapses, and the other way round."""
        volume, synapses = self.places["image"], self.places["synapses"]
        volume.text, synapses.text = synapses.text, volume.text
        self.look()

    def look(self) -> None:
        """Recognise a dataset, and files that stand in each other's fields."""
        self._timer.stop()
        self.swap_offer.make(f"{MARK}{sentence(SWAPPED)}" if self._are_swapped() else "")
        found = is_dataset(self.places["image"].text)
        self.note.setVisible(found)
        for part in (self._synapses_row, self._labels_group):
            part.setEnabled(not found)

    def _are_swapped(self) -> bool:
        return are_swapped(self.places["image"].text, self.places["synapses"].text)

    def _lay_out(self) -> None:
        self._labels_group = Group("Labels", partial(_rows, self._labels))
        # Its fields are there already, and belong to something.
        self._labels_group.fill()
        self._synapses_row = _rows({"synapses": self.places["synapses"]})
        scrolled = QWidget()
        inside = bare(QVBoxLayout(scrolled), 3)
        inside.addWidget(_rows({"image": self.places["image"]}))
        for part in (self._synapses_row, self.form, self._labels_group):
            inside.addWidget(part)
        body = bare(QVBoxLayout(self))
        body.addWidget(FittingArea(scrolled))
        # Within, their lines would not be counted: a scroll area asks for no height for a width.
        body.addWidget(self.swap_offer)
        body.addWidget(self.note)


def _rows(fields: dict[str, LocationEdit]) -> QWidget:
    """Return labelled fields, by the names of their settings."""
    made = Rows()
    for name, field in fields.items():
        label = QLabel(field.name)
        label.setMinimumWidth(LABEL_WIDTH)
        for widget in (label, field.line):
            widget.setToolTip(tooltip_of(Config.model_fields[name]))
        made.form.addRow(label, field)
    return made


def are_swapped(volume: str, synapses: str) -> bool:
    """Whether one of two locations is, by its name, what the other ought to be."""
    is_table, is_volume = _suffix(volume) in TABLES, _suffix(synapses) in OF_VOLUMES
    return (is_table and _suffix(synapses) not in TABLES) or (
        is_volume and _suffix(volume) not in OF_VOLUMES
    )


def name_of(location: str) -> str:
    """Return the last part of a path or URL."""
    return PurePosixPath(location.replace("\\", "/").rstrip("/")).name or location


def _suffix(location: str) -> str:
    # A sheet of a book is named behind it.
    return PurePosixPath(location.partition("#")[0].rstrip("/")).suffix.lower()
