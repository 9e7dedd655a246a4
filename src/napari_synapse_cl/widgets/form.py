"""A form made from the fields of the settings."""

import html
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, FileEdit, FloatSpinBox, LineEdit, SpinBox
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from qtpy.QtCore import QLocale, Qt, Signal
from qtpy.QtGui import QDoubleValidator
from qtpy.QtWidgets import QFormLayout, QLabel, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_synapse_cl.config import SECTIONS, AugmentationConfig, Config, unit_of
from napari_synapse_cl.widgets.session import Session
from napari_synapse_cl.widgets.slider import REACH, SliderEditor

FOLDERS = {"output", "cache_dir"}
"""Settings whose path is that of a folder."""
SUGGESTIONS = {"device": ("auto", "cpu", "cuda", "mps")}
"""Values to choose from, where the type does not say."""
SHARED = ("crop_size", "seed", *AugmentationConfig.model_fields)
"""What decides how a pair looks: the preview shows what the training will see."""
SMALLEST_STEP = 1e-3
"""Numbers that are set more finely than this are typed, as in 1e-4."""
LABEL_WIDTH = 110
"""One width for all labels, so that the fields of several forms stand in line."""
BROWSE_WIDTH = 32
LARGEST_INT = 2**31 - 1

ValueWidget = Any
"""A magicgui widget: ``value``, ``changed`` and ``native``, the Qt widget."""


class Form(QWidget):
    """Settings to fill in: the essential ones in sight, others in groups that open.

    Labels, tooltips, bounds and defaults are those of :class:`~napari_synapse_cl.config.Config`.
    Each editor's Qt widget bears the name of its setting.

    Parameters
    ----------
    essential
        Names of the settings in sight.
    groups
        Names of further settings by the title of their group.
    placeholders
        Settings that may be left empty, with the text that then stands in their place.
    """

    changed = Signal()

    def __init__(
        self,
        essential: Sequence[str],
        groups: Mapping[str, Sequence[str]] | None = None,
        placeholders: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._placeholders = placeholders or {}
        self._editors: dict[str, ValueWidget] = {}
        self._labels: dict[str, QLabel] = {}
        self._shared: set[str] = set()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._rows(essential))
        for title, names in (groups or {}).items():
            group = QCollapsible(title, expandedIcon="▾", collapsedIcon="▸")
            group.setDuration(0)
            group.addWidget(self._rows(names))
            layout.addWidget(group)
        layout.addStretch()

    def editor(self, name: str) -> ValueWidget:
        """Return the magicgui widget of a setting."""
        return self._editors[name]

    def share(self, names: Sequence[str], session: Session) -> None:
        """Show some settings as the other forms of a viewer that share them do.

        Parameters
        ----------
        names
            Names of the settings.
        session
            That of the viewer.
        """
        for name in names:
            if name in session.settings:
                self._editors[name].value = session.settings[name]
            self._editors[name].changed.connect(partial(session.share, name))
        self._shared = set(names)
        session.setting_changed.connect(self._take_setting)

    def config(self, **more: Any) -> Config:
        """Return the settings that are filled in, and mark those that cannot be used.

        Parameters
        ----------
        **more
            Settings that are not in the form.

        Raises
        ------
        InputError
            If a setting is out of bounds, or settings are at odds.
        """
        values = {name: _value(name, editor) for name, editor in self._editors.items()}
        values = {
            name: value
            for name, value in values.items()
            if not (value is None and name in self._placeholders)
        }
        for name, label in self._labels.items():
            wrong = name in values and not _is_possible(name, values[name])
            label.setText(("⚠ " if wrong else "") + label_of(name))
        return Config.from_values({**values, **more})

    def _rows(self, names: Sequence[str]) -> QWidget:
        rows = QWidget()
        layout = QFormLayout(rows)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        for name in names:
            field = Config.model_fields[name]
            editor = _make_editor(name, field, self._placeholders.get(name))
            editor.native.setObjectName(name)
            label = QLabel(label_of(name))
            label.setMinimumWidth(LABEL_WIDTH)
            for widget in (label, editor.native):
                widget.setToolTip(_tooltip(field))
            editor.changed.connect(self._tell_change)
            self._editors[name], self._labels[name] = editor, label
            layout.addRow(label, editor.native)
        return rows

    def _take_setting(self, name: str, value: Any) -> None:
        if name in self._shared and self._editors[name].value != value:
            self._editors[name].value = value

    def _tell_change(self) -> None:
        self.changed.emit()


def label_of(name: str) -> str:
    """Return the name of a setting as people read it: "Learning rate"."""
    text = " ".join(word for word in name.split("_") if word != "num")
    return text[0].upper() + text[1:]


def _tooltip(field: FieldInfo) -> str:
    unit = f" In {unit_of(field)}." if unit_of(field) else ""
    # As rich text it is wrapped.
    return f"<qt>{html.escape(field.description or '')}{unit}</qt>"


def _make_editor(name: str, field: FieldInfo, placeholder: str | None) -> ValueWidget:
    annotation, default = field.annotation, field.default
    lowest, highest = _bounds(field)
    if annotation is bool:
        return CheckBox(value=default)
    if get_origin(annotation) is Literal:
        return ComboBox(choices=get_args(annotation), value=default)
    if Path in get_args(annotation):
        editor = FileEdit(mode="d" if name in FOLDERS else "r", nullable=True)
        editor.line_edit.native.setPlaceholderText(placeholder or "none")
        editor.choose_btn.text = "…"
        editor.choose_btn.native.setMaximumWidth(BROWSE_WIDTH)
        editor.choose_btn.native.setToolTip("Choose in a file dialog")
        return editor
    if annotation is int:
        low, high = max(lowest, -LARGEST_INT), min(highest, LARGEST_INT)
        return SpinBox(value=default, min=int(low), max=int(high))
    if annotation is float and name in AugmentationConfig.model_fields:
        return SliderEditor(default, lowest, highest, unit_of(field), REACH.get(name))
    if annotation is float:
        return _make_float_editor(default, lowest, highest)
    if name in SUGGESTIONS:
        return ComboBox(choices=SUGGESTIONS[name], value=default)
    editor = LineEdit(value="" if placeholder else _as_text(default))
    editor.native.setPlaceholderText(placeholder or "")
    return editor


def _make_float_editor(default: float, lowest: float, highest: float) -> ValueWidget:
    exponent = math.floor(math.log10(default)) - 1 if default > 0 else -1
    step = 10.0**exponent
    if step >= SMALLEST_STEP:
        editor = FloatSpinBox(value=default, min=lowest, max=highest, step=step)
        editor.native.setDecimals(max(0, -exponent))
        return editor
    editor = LineEdit(value=f"{default:g}")
    validator = QDoubleValidator(editor.native)
    validator.setNotation(QDoubleValidator.Notation.ScientificNotation)
    validator.setLocale(QLocale.c())
    editor.native.setValidator(validator)
    return editor


def _bounds(field: FieldInfo) -> tuple[float, float]:
    """Return the lowest and the highest value; whether they are allowed themselves is asked later.

    A spin box knows no open interval.
    """

    def bound(kinds: Sequence[str], without: float) -> float:
        values = [getattr(bound, kind, None) for bound in field.metadata for kind in kinds]
        return next((float(value) for value in values if value is not None), without)

    return bound(("ge", "gt"), -math.inf), bound(("le", "lt"), math.inf)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        # One number stands for a cube.
        same = len(value) == 3 and len(set(value)) == 1
        return str(value[0]) if same else " ".join(map(str, value))
    return str(value)


def _value(name: str, editor: ValueWidget) -> Any:
    """Return what is filled in, None for an empty field."""
    if isinstance(editor, FileEdit):
        # An empty field is the current folder to it.
        return editor.value if editor.line_edit.value.strip() else None
    if isinstance(editor, LineEdit):
        parts = editor.value.replace(",", " ").split()
        several = get_origin(Config.model_fields[name].annotation) is tuple
        return (parts if several else " ".join(parts)) or None
    return editor.value


def _is_possible(name: str, value: Any) -> bool:
    """Whether a setting can have this value, whatever the others are."""
    section = next(section for section in SECTIONS if name in section.model_fields)
    try:
        section.model_validate({name: value})
    except ValidationError:
        return False
    return True
