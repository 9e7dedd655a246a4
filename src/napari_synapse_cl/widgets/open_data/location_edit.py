"""A field for a path or a URL, with buttons that open a file dialog."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget


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
    changed
        Emitted when something else stands in the field.
    line, file_button, folder_button
        Its parts.
    """

    changed = Signal()

    def __init__(self, placeholder: str, title: str, *, folders: bool) -> None:
        super().__init__()
        self._title = title
        self.line = QLineEdit()
        self.line.setPlaceholderText(placeholder)
        self.line.textChanged.connect(self._tell_change)
        self.file_button = QPushButton("File …")
        self.file_button.clicked.connect(self._choose_file)
        self.folder_button = QPushButton("Folder …")
        self.folder_button.clicked.connect(self._choose_folder)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
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
