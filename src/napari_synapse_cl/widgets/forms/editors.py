"""The widget in which one setting is filled in: a number, a choice, a path, a text."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, FileEdit, LineEdit, SpinBox
from pydantic.fields import FieldInfo
from qtpy.QtCore import QEvent, QLocale, QObject, QSignalBlocker, Qt, Signal
from qtpy.QtGui import QDoubleValidator, QWheelEvent
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout, QLineEdit, QWidget
from superqt import QDoubleSlider

from napari_synapse_cl.config import AugmentationConfig, slider_end, unit_of
from napari_synapse_cl.widgets.forms.crop_settings import WHAT_TO_KEEP
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import label_of

SUFFIXES = {"degrees": " °"}
"""Units that are written otherwise than they are called."""
BOX_WIDTH = 124
MOST_DECIMALS = 6

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
LARGEST_INT = 2**31 - 1
ValueWidget = Any
"""A magicgui widget or its like: ``value``, ``changed`` and ``native``, the Qt widget."""


class DecimalBox(QDoubleSpinBox):
    """A number to type, with a point or a comma for the decimal mark; digits are not grouped.

    A box of Qt's own drops one of the two without a word, by the language of the machine: 0,5
    becomes 5.

    Parameters
    ----------
    lowest, highest
        Bounds of the number.
    exponent
        Of the power of ten that is one step.
    decimals
        Least number of decimals that are shown.
    unit
        Name of its unit, shown behind the number; empty for a plain number.
    """

    def __init__(
        self, lowest: float, highest: float, exponent: int, unit: str, decimals: int
    ) -> None:
        super().__init__()
        self.least_decimals = decimals
        plain = QLocale.c()
        plain.setNumberOptions(QLocale.NumberOption.OmitGroupSeparator)
        self.setLocale(plain)
        # With fewer Qt drops the mark that is typed, where there are none: 12.5 becomes 125.
        self.setDecimals(MOST_DECIMALS)
        self.setRange(lowest, highest)
        self.setSingleStep(10.0**exponent)
        self.setSuffix(SUFFIXES.get(unit, f" {unit}" if unit else ""))

    def textFromValue(self, value: float) -> str:  # noqa: N802 - Qt's name
        """Return a number with all its decimals: one may be typed, or come from elsewhere."""
        whole, _, fraction = f"{value:.{MOST_DECIMALS}f}".partition(".")
        fraction = fraction.rstrip("0").ljust(self.least_decimals, "0")
        return f"{whole}.{fraction}" if fraction else whole

    def validate(self, text: str, position: int) -> Any:
        """Return what Qt says of the text, which has a point in place of a comma now."""
        return super().validate(text.replace(",", "."), position)


class EitherMark(QDoubleValidator):
    """Takes numbers as 1e-4, with a point or a comma for the decimal mark."""

    def __init__(self, field: QLineEdit) -> None:
        super().__init__(field)
        self.setNotation(QDoubleValidator.Notation.ScientificNotation)
        self.setLocale(QLocale.c())

    def validate(self, text: str, position: int) -> Any:
        """Return what Qt says of the text, which has a point in place of a comma now."""
        return super().validate(text.replace(",", "."), position)


class NumberEditor(QWidget):
    """A number to type, and to drag if it has a slider; to a form it looks like a magicgui widget.

    Parameters
    ----------
    value
        What it shows first.
    box
        What it is typed into.
    reach
        Where the slider ends; None for no slider.

    Attributes
    ----------
    native
        The Qt widget.
    slider, box
        Its parts.
    """

    changed = Signal(float)
    """Emitted with another value."""

    def __init__(self, value: float, box: DecimalBox, reach: float | None = None) -> None:
        super().__init__()
        self.native, self.box = self, box
        self.slider = QDoubleSlider(Qt.Orientation.Horizontal)
        if reach is None:
            self.slider.hide()
        else:
            self.slider.setRange(box.minimum(), reach)
            self.slider.setSingleStep(box.singleStep())
            self.slider.setPageStep(10 * box.singleStep())
            box.setKeyboardTracking(False)
            box.setFixedWidth(BOX_WIDTH)
        for part in (self.slider, self.box):
            part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            part.installEventFilter(self)
        layout = bare(QHBoxLayout(self))
        layout.addWidget(self.slider, stretch=1)
        layout.addWidget(self.box, stretch=reach is None)
        self.setFocusProxy(self.box)
        self.value = value
        self.slider.valueChanged.connect(self._on_drag)
        self.box.valueChanged.connect(self._on_value)

    @property
    def value(self) -> float:
        """The number."""
        return float(self.box.value())

    @value.setter
    def value(self, value: float) -> None:
        self.box.setValue(float(value))
        self._show_on_slider()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Let the wheel scroll the form unless the person works on this number."""
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)

    def _on_drag(self, value: float) -> None:
        self.box.setValue(round(value, self.box.least_decimals))

    def _on_value(self, value: float) -> None:
        self._show_on_slider()
        self.changed.emit(value)

    def _show_on_slider(self) -> None:
        if self.slider.isSliderDown():
            return
        with QSignalBlocker(self.slider):
            self.slider.setValue(min(self.value, self.slider.maximum()))


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
