"""A form made from the fields of the settings."""

import html
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, get_origin

from magicgui.widgets import FileEdit, LineEdit
from pydantic.fields import FieldInfo
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_synapse_cl.config import AugmentationConfig, Config, possible_value, unit_of
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets.editors import ValueWidget, as_editor_value, make_editor
from napari_synapse_cl.widgets.session import Session
from napari_synapse_cl.widgets.theme import MARK, MARK_COLOR

SHARED = ("crop_size", "seed", *AugmentationConfig.model_fields)
"""What decides how a pair looks: the preview shows what the training will see."""
LABEL_WIDTH = 118
"""One width for all labels, so that the fields of several forms stand in line."""


class Form(QWidget):
    """Settings to fill in: the essential ones in sight, others in groups that open.

    Labels, tooltips, bounds and defaults are those of :class:`~napari_synapse_cl.config.Config`.
    Each editor's Qt widget bears the name of its setting. What cannot be used is marked as it is
    filled in, and its group too.

    Parameters
    ----------
    essential
        Names of the settings in sight.
    groups
        Names of further settings by the title of their group.
    placeholders
        Settings that may be left empty, with the text that then stands in their place.

    Attributes
    ----------
    changed
        Emitted when a setting has been filled in.
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
        self._groups: dict[QCollapsible, tuple[str, Sequence[str]]] = {}
        self._problems: dict[str, str] = {}
        self._session: Session | None = None
        self._shared: set[str] = set()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._rows(essential))
        for title, names in (groups or {}).items():
            group = QCollapsible(title, expandedIcon="▾", collapsedIcon="▸")
            group.setDuration(0)
            group.layout().setContentsMargins(0, 0, 0, 0)
            group.addWidget(self._rows(names))
            self._groups[group] = (title, names)
            layout.addWidget(group)
        layout.addStretch()

    @property
    def names(self) -> list[str]:
        """Names of the settings in the form."""
        return list(self._editors)

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with the settings that cannot be used, by their names."""
        return dict(self._problems)

    def editor(self, name: str) -> ValueWidget:
        """Return the widget of a setting: ``value``, ``changed``, and ``native`` for Qt's part."""
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
        self._session, self._shared = session, set(names)
        for name in names:
            self._take_setting(name, session.settings[name])
        session.settings.changed.connect(self._take_setting)

    def config(self, *, left_out: Sequence[str] = (), **more: Any) -> Config:
        """Return the settings that are filled in.

        Parameters
        ----------
        left_out
            Settings that have their defaults, whatever is filled in.
        **more
            Settings that are not in the form, or stand in place of what is filled in.

        Raises
        ------
        InputError
            If a setting is out of bounds, or settings are at odds.
        """
        names = (name for name in self._editors if name not in left_out)
        values = {name: self._filled_in(name) for name in names}
        values = {
            name: value
            for name, value in values.items()
            if not (value is None and name in self._placeholders)
        }
        return Config.from_values({**values, **more})

    def _rows(self, names: Sequence[str]) -> QWidget:
        rows = QWidget()
        layout = QFormLayout(rows)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(3)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        for name in names:
            field = Config.model_fields[name]
            editor = make_editor(name, field, self._placeholders.get(name))
            editor.native.setObjectName(name)
            label = QLabel(label_of(name))
            label.setMinimumWidth(LABEL_WIDTH)
            for widget in (label, editor.native):
                widget.setToolTip(tooltip_of(field))
            editor.changed.connect(partial(self._on_edit, name))
            self._editors[name], self._labels[name] = editor, label
            layout.addRow(label, editor.native)
        return rows

    def _filled_in(self, name: str) -> Any:
        """Return what is filled in, None for an empty field."""
        editor = self._editors[name]
        if isinstance(editor, FileEdit):
            # An empty field is the current folder to it.
            return editor.value if editor.line_edit.value.strip() else None
        if isinstance(editor, LineEdit):
            parts = editor.value.replace(",", " ").split()
            several = len(parts) > 1 or get_origin(Config.model_fields[name].annotation) is tuple
            return (parts if several else " ".join(parts)) or None
        return editor.value

    def _on_edit(self, name: str, value: Any = None) -> None:
        value = self._filled_in(name)
        try:
            if not (value is None and name in self._placeholders):
                value = possible_value(name, value)
        except InputError as error:
            self._problems[name] = str(error)
        else:
            self._problems.pop(name, None)
            if name in self._shared and self._session is not None:
                self._session.settings.set(name, value)
        self._mark(name)
        self.changed.emit()

    def _mark(self, name: str) -> None:
        problem = self._problems.get(name)
        field = Config.model_fields[name]
        self._labels[name].setText((MARK if problem else "") + label_of(name))
        self._labels[name].setStyleSheet(f"color: {MARK_COLOR}" if problem else "")
        for widget in (self._labels[name], self._editors[name].native):
            widget.setToolTip(tooltip_of(field, problem))
        for group, (title, names) in self._groups.items():
            group.setText((MARK if any(n in self._problems for n in names) else "") + title)

    def _take_setting(self, name: str, value: Any) -> None:
        if name not in self._shared:
            return
        try:
            shown = possible_value(name, self._filled_in(name))
        except InputError as error:
            shown = error
        # What is being typed is not put into other words.
        if shown != value:
            self._editors[name].value = as_editor_value(name, self._editors[name], value)


def label_of(name: str) -> str:
    """Return the name of a setting as people read it: "Learning rate"."""
    if title := Config.model_fields[name].title:
        return title
    text = " ".join(word for word in name.split("_") if word != "num")
    return text[0].upper() + text[1:]


def tooltip_of(field: FieldInfo, problem: str | None = None) -> str:
    """Say what a setting does, in which unit, and what is wrong with what is filled in."""
    unit = f" In {unit_of(field)}." if unit_of(field) else ""
    wrong = f"<b>{MARK}{html.escape(problem)}.</b><br>" if problem else ""
    # As rich text it is wrapped.
    return f"<qt>{wrong}{html.escape(field.description or '')}{unit}</qt>"
