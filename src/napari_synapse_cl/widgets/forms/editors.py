"""The widget in which one setting is filled in, and how what is typed is read."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, FileEdit, LineEdit, SpinBox
from pydantic.fields import FieldInfo
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeyEvent, QMouseEvent, QWheelEvent
from qtpy.QtWidgets import QComboBox, QLabel, QWidget

from napari_synapse_cl.config import AugmentationConfig, slider_end, unit_of
from napari_synapse_cl.widgets.forms.crop_settings import WHAT_TO_KEEP
from napari_synapse_cl.widgets.forms.numbers import (
    DecimalBox,
    EitherMark,
    NumberEditor,
    RoomForNumber,
)
from napari_synapse_cl.widgets.look import LABEL_WIDTH, label_of

LINE_WIDTH = 100
"""Of a field to type into at least, in pixels."""

FOLDERS = {"output", "cache_dir"}
"""Settings whose path is that of a folder."""
LOCATIONS = {"pretrained", "checkpoint"}
"""Settings that are a path or a URL."""
LENGTHS = {"crop_size", "voxel_size", "network_voxel_size"}
"""Settings with a length along z, y, x, of which one number stands for a cube."""
SUGGESTIONS = {"device": ("auto", "cpu", "cuda", "mps")}
"""Values to choose from, where the type does not say."""
CHOICES = {"keep": WHAT_TO_KEEP}
"""Values to choose from, beside which others are typed."""
SLIDERS = {
    *AugmentationConfig.model_fields,
    "presynaptic_shift",
    "keep_margin",
    "background",
    "background_alpha",
}
"""Numbers whose effect is looked at while they are dragged."""
SMALLEST_STEP = 1e-3
"""Numbers that are set more finely than this are typed, as in 1e-4."""
BROWSE_WIDTH = 32
BACK = "↺"
"""Sets a setting back."""
LARGEST_INT = 2**31 - 1
ValueWidget = Any
"""A magicgui widget or its like: ``value``, ``changed`` and ``native``, the Qt widget."""


class SettingLabel(QLabel):
    """The name of a setting; where it ends in :data:`BACK`, that is a button."""

    set_back = Signal()
    """Emitted when it is clicked, or pressed with a key."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.setMinimumWidth(LABEL_WIDTH)

    def show_text(self, text: str) -> None:
        """Show a text."""
        self.setText(text)
        policy = Qt.FocusPolicy.TabFocus if self._has_button else Qt.FocusPolicy.NoFocus
        self.setFocusPolicy(policy)
        self.setAccessibleDescription("Set back" if self._has_button else "")

    @property
    def _has_button(self) -> bool:
        return self.text().endswith(BACK)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Notice a click on the button."""
        end = self.sizeHint().width()
        start = end - self.fontMetrics().horizontalAdvance(f" {BACK}")
        if self._has_button and start <= event.position().x() <= end:
            self.set_back.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Notice that the button is pressed with a key."""
        if self._has_button and event.key() in (Qt.Key.Key_Space, Qt.Key.Key_Return):
            self.set_back.emit()
        else:
            super().keyPressEvent(event)


def make_editor(name: str, field: FieldInfo, placeholder: str | None = None) -> ValueWidget:
    """Return a widget in which a setting is filled in, at first with its default.

    Parameters
    ----------
    field
        Its type, bounds, unit and default.
    placeholder
        What stands in the field when it is empty, if it may be.
    """
    annotation, default = field.annotation, field.default
    lowest, highest = _bounds(field)
    if annotation is bool:
        return CheckBox(value=default)
    if get_origin(annotation) is Literal:
        return ComboBox(choices=get_args(annotation), value=default)
    if Path in get_args(annotation) or name in LOCATIONS:
        return _make_path_editor(name, placeholder)
    if annotation is int:
        low, high = max(lowest, -LARGEST_INT), min(highest, LARGEST_INT)
        return _with_unit(SpinBox(value=default, min=int(low), max=int(high)), field)
    if annotation is float and name in SLIDERS:
        return _make_slider(field, default, lowest, highest)
    if annotation is float:
        return _make_float_editor(field, default, lowest, highest)
    if name in SUGGESTIONS:
        return ComboBox(choices=SUGGESTIONS[name], value=default)
    if name in CHOICES:
        return ChoiceEditor(default, CHOICES[name])
    editor = LineEdit(value="" if placeholder else as_text(name, default))
    editor.native.setPlaceholderText(placeholder or "")
    editor.native.setMinimumWidth(LINE_WIDTH)
    return editor


def parts_of(editor: ValueWidget) -> list[QWidget]:
    """Return what a person fills in of a widget; the button that browses says what it is for."""
    if isinstance(editor, FileEdit):
        return [editor.line_edit.native]
    if isinstance(editor, NumberEditor):
        return [editor.box, editor.slider]
    return [editor.native]


def entry_of(editor: ValueWidget) -> QWidget:
    """Return where a value is typed or chosen."""
    return parts_of(editor)[0]


def as_editor_value(name: str, editor: ValueWidget, value: Any) -> Any:
    """Return a setting's value as its widget takes it."""
    if isinstance(editor, LineEdit):
        return f"{value:g}" if isinstance(value, float) else as_text(name, value)
    if isinstance(editor, ComboBox) and value not in editor.choices:
        # Such as cuda:1.
        editor.choices = (*editor.choices, value)
    return value


def as_text(name: str, value: Any) -> str:
    """Return a setting's value as people type it."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        is_cube = name in LENGTHS and len(set(value)) == 1
        parts = value[:1] if is_cube else value
        return " ".join(part if isinstance(part, str) else f"{part:g}" for part in parts)
    return str(value)


def _make_path_editor(name: str, placeholder: str | None) -> ValueWidget:
    editor = FileEdit(mode="d" if name in FOLDERS else "r", nullable=True)
    editor.line_edit.native.setPlaceholderText(placeholder or "none")
    editor.line_edit.native.setMinimumWidth(LINE_WIDTH)
    editor.choose_btn.text = "…"
    editor.choose_btn.native.setMaximumWidth(BROWSE_WIDTH)
    editor.choose_btn.native.setToolTip("Choose in a file dialog")
    editor.choose_btn.native.setAccessibleName(f"{label_of(name)}: choose in a file dialog")
    return editor


def _make_float_editor(
    field: FieldInfo, default: float, lowest: float, highest: float
) -> ValueWidget:
    exponent = math.floor(math.log10(default)) - 1 if default > 0 else -1
    step = 10.0**exponent
    if step >= SMALLEST_STEP:
        box = DecimalBox(lowest, highest, exponent, unit_of(field), max(0, -exponent))
        return NumberEditor(default, box)
    editor = LineEdit(value=f"{default:g}")
    editor.native.setValidator(EitherMark(editor.native))
    return editor


def _make_slider(field: FieldInfo, default: float, lowest: float, highest: float) -> ValueWidget:
    end = slider_end(field)
    reach = highest if end is None else end
    exponent = round(math.log10((reach - lowest) / 100))
    box = DecimalBox(lowest, highest, exponent, unit_of(field), max(1, -exponent))
    return NumberEditor(default, box, reach)


def _with_unit(editor: ValueWidget, field: FieldInfo) -> ValueWidget:
    RoomForNumber(editor.native)
    if unit_of(field):
        editor.native.setSuffix(f" {unit_of(field)}")
    return editor


def _bounds(field: FieldInfo) -> tuple[float, float]:
    """Return the lowest and the highest value; whether they are allowed themselves is asked later.

    A spin box knows no open interval.
    """

    def bound(kinds: Sequence[str], without: float) -> float:
        values = [getattr(bound, kind, None) for bound in field.metadata for kind in kinds]
        return next((float(value) for value in values if value is not None), without)

    return bound(("ge", "gt"), -math.inf), bound(("le", "lt"), math.inf)


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
    native
        The Qt widget.
    """

    changed = Signal(str)
    """Emitted with another text."""

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


def typed_values(text: str, *, fractions: bool) -> list[str]:
    """Return the values in a text, between which stand blanks or commas: "8, 8, 4" and "8,8,4".

    Parameters
    ----------
    fractions
        Whether they may have decimals: then the comma in "8,5" is the decimal mark.
    """
    words = text.replace(";", " ").split()
    if fractions:
        words = [re.sub(r"^([+-]?\d*),(\d+(?:e[+-]?\d+)?),?$", r"\1.\2", word) for word in words]
    return " ".join(words).replace(",", " ").split()


def holds(annotation: Any, kind: type) -> bool:
    """Whether values of a type are in a setting of an annotation, or parts of them."""
    return annotation is kind or any(holds(part, kind) for part in get_args(annotation))


def typed_roles(text: str) -> list[str]:
    """Return roles as the setting takes them, however they were spaced: "cleft=7, vesicles=6, 8".

    What is no role is left as it is, for the setting to complain of.
    """
    parts = re.split(r"[\s,;]+(?=\w+=)", re.sub(r"\s*=\s*", "=", text.strip()))
    return [re.sub(r"[\s,;]+", ",", part.strip(" ,;")) for part in parts if part.strip(" ,;")]
