"""A form made from the fields of the settings."""

import html
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, get_origin

from magicgui.widgets import FileEdit, LineEdit
from pydantic.fields import FieldInfo
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget

from napari_synapse_cl.config import Config, is_url, possible_value, unit_of
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.downloads import in_full
from napari_synapse_cl.widgets.forms.crop_settings import RELATED, odds
from napari_synapse_cl.widgets.forms.editors import (
    BACK,
    SettingLabel,
    ValueWidget,
    as_editor_value,
    as_text,
    entry_of,
    holds,
    make_editor,
    parts_of,
    typed_roles,
    typed_values,
)
from napari_synapse_cl.widgets.layouts import Group, Rows, bare
from napari_synapse_cl.widgets.look import MARK, MARK_COLOR, in_words, label_of, sentence
from napari_synapse_cl.widgets.session import Session

NAMES = {"label_column", "cell_column"}
"""Settings that are one text, whatever is in it."""


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
    """

    changed = Signal()
    """Emitted when a setting has been filled in."""

    def __init__(
        self,
        essential: Sequence[str],
        groups: Mapping[str, Sequence[str]] | None = None,
        placeholders: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._names = list(essential)
        self._placeholders = placeholders or {}
        self._editors: dict[str, ValueWidget] = {}
        self._labels: dict[str, SettingLabel] = {}
        self._groups: dict[Group, tuple[str, Sequence[str]]] = {}
        self._group_of: dict[str, Group] = {}
        self._problems: dict[str, str] = {}
        self._odds: dict[str, str] = {}
        self._usual: dict[str, Any] = {}
        self._usual_of = ""
        self._session: Session | None = None
        self._shared: set[str] = set()
        layout = bare(QVBoxLayout(self), 2)
        layout.addWidget(self._rows(essential))
        for title, names in (groups or {}).items():
            group = Group(title, partial(self._rows, names))
            group.setToolTip(f"<qt>{', '.join(map(label_of, names))}</qt>")
            self._groups[group] = (title, names)
            self._group_of |= dict.fromkeys(names, group)
            self._names += names
            layout.addWidget(group)
        layout.addStretch()

    @property
    def names(self) -> list[str]:
        """Names of the settings in the form."""
        return list(self._names)

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with the settings that cannot be used, by their names."""
        return {**self._odds, **self._problems}

    def editor(self, name: str) -> ValueWidget:
        """Return the widget of a setting: ``value``, ``changed``, and ``native`` for Qt's part."""
        if name in self._group_of:
            self._group_of[name].fill()
        return self._editors[name]

    def share(self, names: Sequence[str], session: Session) -> None:
        """Show some settings as the other forms of a viewer that share them do.

        Parameters
        ----------
        session
            That of the viewer.
        """
        self._session, self._shared = session, set(names)
        for name in names:
            self._take_setting(name, session.settings[name])
        session.settings.changed.connect(self._take_setting)

    def compare_with(self, values: Mapping[str, Any], whose: str) -> None:
        """Mark what differs from these values from now on, and offer to set it back to them.

        Parameters
        ----------
        whose
            What has these values, as in "Normal".
        """
        self._usual, self._usual_of = dict(values), whose
        for name in self._usual:
            self._mark(name)

    def search(self, text: str) -> None:
        """Show the settings alone whose label, name or description holds all words of a text."""
        words = text.lower().split()
        for group in self._groups if words else ():
            group.fill()
        for name, editor in self._editors.items():
            about = f"{label_of(name)} {name} {Config.model_fields[name].description}".lower()
            rows = editor.native.parentWidget().layout()
            rows.setRowVisible(editor.native, all(word in about for word in words))
        for group, (_, names) in self._groups.items():
            found = [n for n in names if not (words and self._editors[n].native.isHidden())]
            group.setVisible(bool(found))
            (group.expand if words and found else group.collapse)(animate=False)

    def reveal(self, name: str) -> None:
        """Bring a setting into sight and the cursor into it."""
        if name in self._group_of:
            self._group_of[name].expand(animate=False)
        native = self._editors[name].native
        area = native.parentWidget()
        while area is not None:
            if isinstance(area, QScrollArea):
                # What has just been opened has no place before it is laid out.
                QTimer.singleShot(0, partial(area.ensureWidgetVisible, native))
            area = area.parentWidget()
        entry_of(self._editors[name]).setFocus()

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
        names = (name for name in self.names if name not in left_out)
        values = {name: self.filled_in(name) for name in names}
        values = {
            name: value
            for name, value in values.items()
            if not (value is None and name in self._placeholders)
        }
        return Config.from_values({**values, **more})

    def _rows(self, names: Sequence[str]) -> QWidget:
        rows = Rows()
        for name in names:
            field = Config.model_fields[name]
            editor = make_editor(name, field, self._placeholders.get(name))
            editor.native.setObjectName(name)
            label = SettingLabel(label_of(name))
            label.setBuddy(entry_of(editor))
            label.set_back.connect(partial(self._set_back, name))
            for part in parts_of(editor):
                part.setAccessibleName(label_of(name))
                part.setAccessibleDescription(field.description or "")
            for widget in (label, editor.native):
                widget.setToolTip(tooltip_of(field))
            editor.changed.connect(partial(self._on_edit, name))
            self._editors[name], self._labels[name] = editor, label
            rows.form.addRow(label, editor.native)
            if self._session is not None and name in self._shared:
                self._show(name, self._session.settings[name])
            if name in self._usual or name in self.problems:
                self._mark(name)
        return rows

    def filled_in(self, name: str) -> Any:
        """Return what is filled in, None for an empty field."""
        editor = self._editors.get(name)
        if editor is None:
            # Nobody has unfolded its group yet.
            if self._session is not None and name in self._shared:
                return self._session.settings[name]
            return Config.model_fields[name].default
        if isinstance(editor, FileEdit):
            text = in_full(editor.line_edit.value.strip())
            # An empty field is the current folder to it, and a URL a folder in that.
            return (text if is_url(text) else editor.value) if text else None
        if name == "roles":
            return typed_roles(editor.value) or None
        if name in NAMES:
            return editor.value.strip() or None
        if isinstance(editor, LineEdit):
            annotation = Config.model_fields[name].annotation
            parts = typed_values(editor.value, fractions=holds(annotation, float))
            several = len(parts) > 1 or get_origin(annotation) is tuple
            return (parts if several else " ".join(parts)) or None
        return editor.value

    def _on_edit(self, name: str, value: Any = None) -> None:
        before = set(self._odds)
        self._check(name)
        # What was at odds with others may be so no longer.
        self._pass_on({name, *before} - self.problems.keys())
        self.changed.emit()

    def _check(self, name: str) -> None:
        """Note and mark what is wrong with a setting, and what it is at odds with."""
        self._problems.pop(name, None)
        try:
            self._possible(name)
        except InputError as error:
            self._problems[name] = str(error)
        before = self._odds
        related = [n for n in RELATED if n in self._names and n not in self._problems]
        self._odds = odds({n: self._possible(n) for n in related})
        for changed in {name, *before, *self._odds}:
            self._mark(changed)

    def _pass_on(self, names: Collection[str]) -> None:
        """Tell the other forms of what is shared with them."""
        if self._session is not None:
            for name in self._shared.intersection(names):
                self._session.settings.set(name, self._possible(name))

    def _possible(self, name: str) -> Any:
        """Return what a field means; an empty one that may be left empty means the default."""
        value = self.filled_in(name)
        if value is None and name in self._placeholders:
            return Config.model_fields[name].default
        return possible_value(name, value)

    def _mark(self, name: str) -> None:
        problem, field = self.problems.get(name), Config.model_fields[name]
        mark, text, tip = MARK if problem else "", label_of(name), tooltip_of(field, problem)
        if self._is_unusual(name):
            usual = as_text(name, self._usual[name]) or "nothing"
            text = f"<b>{text}</b> {BACK}"
            back = html.escape(f"{self._usual_of}: {usual}. {BACK} sets it back.")
            tip = tip.replace("</qt>", f"<br><b>{back}</b></qt>")
        if name in self._editors:
            self._labels[name].show_text(mark + text)
            self._labels[name].setStyleSheet(f"color: {MARK_COLOR}" if problem else "")
            for widget in (self._labels[name], self._editors[name].native):
                widget.setToolTip(tip)
        for group, (title, names) in self._groups.items():
            group.setText((MARK if any(n in self.problems for n in names) else "") + title)

    def _is_unusual(self, name: str) -> bool:
        """Whether a setting differs from what it is compared with."""
        if name not in self._usual:
            return False
        try:
            return bool(self._possible(name) != self._usual[name])
        except InputError:
            return True

    def _set_back(self, name: str) -> None:
        self._show(name, self._usual[name])

    def _take_setting(self, name: str, value: Any) -> None:
        if name in self._shared:
            self._show(name, value)

    def _show(self, name: str, value: Any) -> None:
        """Show a value in a field, if that is made."""
        if name not in self._editors:
            if name in RELATED:
                self._check(name)
            self.changed.emit()
            return
        try:
            shown = possible_value(name, self.filled_in(name))
        except InputError as error:
            shown = error
        # What is being typed is not put into other words.
        if shown != value and isinstance(value, str) and is_url(value):
            self._editors[name].line_edit.value = value
        elif shown != value:
            self._editors[name].value = as_editor_value(name, self._editors[name], value)


def tooltip_of(field: FieldInfo, problem: str | None = None) -> str:
    """Say what a setting does, in which unit, and what is wrong with what is filled in."""
    unit = f" In {unit_of(field)}." if unit_of(field) else ""
    wrong = f"<b>{MARK}{html.escape(sentence(problem))}</b><br>" if problem else ""
    # As rich text it is wrapped.
    return f"<qt>{wrong}{html.escape(in_words(field.description or ''))}{unit}</qt>"
