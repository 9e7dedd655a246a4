"""A text to choose or to type."""

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QComboBox, QWidget


class ChoiceEditor(QComboBox):
    """Texts to choose from, beside which others can be typed; to a form a magicgui widget.

    Parameters
    ----------
    value
        What it shows first.
    choices
        What there is to choose from.

    Attributes
    ----------
    changed
        Emitted with another text.
    native
        The Qt widget.
    """

    changed = Signal(str)

    def __init__(self, value: str, choices: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.native = self
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        # A list of all choices opens; what is typed is not completed to one of them.
        self.setCompleter(None)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.addItems(choices)
        self.value = value
        self.currentTextChanged.connect(self.changed)

    @property
    def value(self) -> str:
        """The text."""
        return self.currentText().strip()

    @value.setter
    def value(self, value: str) -> None:
        self.setCurrentText(value)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Let the wheel scroll the form unless the person works on this."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()
